//! Words: white space apart, then marks split from both ends of each run, then from its inside.
//!
//! # Source
//! The rules of spaCy's English tokenizer, with which datatrove counts English words: affixes are peeled off until an
//! [exception](super::exceptions) or a bare word is left; web addresses stay whole; what is left splits at inner marks.
//!
//! # Departures
//! Emoticons are split like other marks, `US$` loses only its sign at the end of a word, and addresses are known by
//! their form alone, private networks included.

use super::classes::{
    self, ASCII, BEFORE_STOP, CLOSES, CURRENCY, Classes, DIGIT, ICON, INNER, LETTER, LOWER, OPENS,
    PUNCTUATION, QUOTE, SPACE, SYMBOL, TERMINAL, UPPER, WIDE,
};
use super::exceptions::ENGLISH;
use super::hash;

/// The bits of the stop words among a word's traits, one for each of them.
pub(crate) const STOP_WORDS: u16 = 0xff;
/// Holds a letter.
pub(crate) const ALPHABETIC: u16 = 1 << 8;
/// Holds nothing but punctuation.
pub(crate) const SYMBOLIC: u16 = 1 << 9;
/// Is one mark that ends a sentence.
const ENDS_SENTENCE: u16 = 1 << 10;
/// Holds nothing of another category than P.
const PUNCTUATED: u16 = 1 << 11;

/// No exception has more bytes: what is longer need not be hashed to know that it is none.
const LONGEST_EXCEPTION: usize = 16;

/// Units that are split from the number before them.
const UNITS: [&str; 54] = [
    "km", "km²", "km³", "m", "m²", "m³", "dm", "dm²", "dm³", "cm", "cm²", "cm³", "mm", "mm²", "mm³", "ha",
    "µm", "nm", "yd", "in", "ft", "kg", "g", "mg", "µg", "t", "lb", "oz", "m/s", "km/h", "kmh", "mph", "hPa",
    "Pa", "mbar", "mb", "MB", "kb", "KB", "gb", "GB", "tb", "TB", "T", "G", "M", "K", "%", "км", "м", "см",
    "мм", "кг", "г",
];

/// The bytes of the longest of them.
const LONGEST_UNIT: usize = 4;

/// A word of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    /// Tells it from other words.
    pub(crate) hash: u64,
    /// Its length.
    pub(crate) characters: u32,
    /// What it is.
    pub(crate) traits: u16,
}

/// Splits a text into words, behind those that `words` holds.
pub(crate) fn split_words(text: &str, words: &mut Vec<Word>) {
    let bytes = text.as_bytes();
    let mut splitter = Splitter { text, words, suffixes: Vec::new() };
    let (mut start, mut at, mut found) = (0, 0, 0);
    while at < bytes.len() {
        let (classes, length) = class_at(text, at);
        if classes & SPACE == 0 {
            found |= classes;
        } else {
            splitter.run(start, at, found);
            (start, found) = (at + length, 0);
        }
        at += length;
    }
    splitter.run(start, at, found);
}

/// How many sentences some words make: a new one begins with the first word that is no punctuation behind a mark that
/// ends sentences.
///
/// # Source
/// spaCy's `sentencizer`.
pub(crate) fn sentences(words: &[Word]) -> u64 {
    let (mut count, mut ended) = (u64::from(!words.is_empty()), false);
    for word in words {
        if word.traits & ENDS_SENTENCE != 0 {
            ended = true;
        } else if ended && word.traits & PUNCTUATED == 0 {
            count += 1;
            ended = false;
        }
    }
    count
}

/// The class and the length of the character that begins at a byte.
#[inline]
fn class_at(text: &str, at: usize) -> (Classes, usize) {
    match ASCII.get(usize::from(text.as_bytes()[at])) {
        Some(&classes) => (classes, 1),
        None => wide_class_at(text, at),
    }
}

/// The same where the character is not ASCII; apart, so that the common case stays small.
#[cold]
fn wide_class_at(text: &str, at: usize) -> (Classes, usize) {
    text[at..].chars().next().map_or((0, 1), |c| (classes::of(c), c.len_utf8()))
}

/// The class of the first character of a text; none where it is empty.
fn first(text: &str) -> Classes {
    text.chars().next().map_or(0, classes::of)
}

/// The class and length of the last character of a text.
fn last(text: &str) -> (Classes, usize) {
    text.chars().next_back().map_or((0, 0), |c| (classes::of(c), c.len_utf8()))
}

struct Splitter<'a> {
    text: &'a str,
    words: &'a mut Vec<Word>,
    /// Where each mark that was peeled from the end of a run begins and ends.
    suffixes: Vec<(usize, usize)>,
}

impl Splitter<'_> {
    /// Splits a run between white space; `found` are the classes that occur in it.
    #[inline]
    fn run(&mut self, start: usize, end: usize, found: Classes) {
        const PLAIN: Classes = LETTER | BEFORE_STOP;
        if start == end {
            return;
        }
        if found & !(PLAIN | WIDE) == 0 {
            self.plain(start, end, found);
        } else {
            self.peel(start, end);
        }
    }

    /// A run that holds no mark, and nearly always letters alone.
    #[inline]
    fn plain(&mut self, start: usize, end: usize, found: Classes) {
        let text = &self.text[start..end];
        let hash = hash(text.as_bytes());
        if let Some(pieces) = ENGLISH.get(hash) {
            return self.pieces(start, end, pieces);
        }
        let traits = if found & LETTER == 0 { 0 } else { ALPHABETIC | stop_word(text.as_bytes()) };
        let characters = if found & WIDE == 0 { text.len() } else { text.chars().count() } as u32;
        self.words.push(Word { hash, characters, traits });
    }

    /// Peels marks from both ends of a run, in turn, until a bare word or an exception is left.
    fn peel(&mut self, mut start: usize, mut end: usize) {
        let mut exception = self.exception(start, end);
        while exception.is_none() && start < end {
            let prefix = prefix_length(&self.text[start..end]);
            if prefix > 0 {
                exception = self.exception(start + prefix, end);
                if exception.is_some() {
                    self.push(start, start + prefix);
                    start += prefix;
                    break;
                }
            }
            let suffix = suffix_length(&self.text[start + prefix..end]);
            if prefix + suffix == 0 {
                break;
            }
            if suffix > 0 {
                self.suffixes.push((end - suffix, end));
                end -= suffix;
                exception = self.exception(start, end);
                if exception.is_some() {
                    break;
                }
            }
            if prefix > 0 {
                self.push(start, start + prefix);
                start += prefix;
                exception = self.exception(start, end);
            }
        }
        match exception {
            Some(pieces) => self.pieces(start, end, pieces),
            None => self.core(start, end),
        }
        while let Some((start, end)) = self.suffixes.pop() {
            self.push(start, end);
        }
    }

    /// How a run splits, where it is an exception.
    fn exception(&self, start: usize, end: usize) -> Option<[u8; 2]> {
        if end - start > LONGEST_EXCEPTION {
            return None;
        }
        ENGLISH.get(hash(&self.text.as_bytes()[start..end]))
    }

    fn pieces(&mut self, mut start: usize, end: usize, pieces: [u8; 2]) {
        for length in pieces.into_iter().filter(|&length| length > 0).map(usize::from) {
            self.push(start, start + length);
            start += length;
        }
        self.push(start, end);
    }

    /// What is left between the marks: whole, or split at marks inside.
    fn core(&mut self, start: usize, end: usize) {
        let text = &self.text[start..end];
        let (mut from, mut at, mut before) = (0, 0, 0);
        let mut address = None;
        while at < text.len() {
            let (classes, mut length) = class_at(text, at);
            if classes & INNER != 0 {
                let inner = inner_length(text, at, before);
                if inner > 0 && *address.get_or_insert_with(|| is_address(text)) {
                    break;
                }
                if inner > 0 && at > from {
                    self.push(start + from, start + at);
                    self.push(start + at, start + at + inner);
                    from = at + inner;
                }
                length = length.max(inner);
            }
            before = classes;
            at += length;
        }
        if from < text.len() {
            self.push(start + from, end);
        }
    }

    fn push(&mut self, start: usize, end: usize) {
        let text = &self.text[start..end];
        let (mut any, mut all, mut characters) = (0, Classes::MAX, 0);
        let mut at = 0;
        while at < text.len() {
            let (classes, length) = class_at(text, at);
            any |= classes;
            all &= classes;
            characters += 1;
            at += length;
        }
        if characters == 0 {
            return;
        }
        let mut traits = if any & LETTER != 0 { ALPHABETIC | stop_word(text.as_bytes()) } else { 0 };
        for (class, is) in [(SYMBOL, SYMBOLIC), (PUNCTUATION, PUNCTUATED)] {
            traits |= if all & class != 0 { is } else { 0 };
        }
        traits |= if characters == 1 && any & TERMINAL != 0 { ENDS_SENTENCE } else { 0 };
        self.words.push(Word { hash: hash(text.as_bytes()), characters, traits });
    }
}

/// The bit of a stop word of Gopher's rules.
fn stop_word(word: &[u8]) -> u16 {
    match word {
        b"the" => 1,
        b"be" => 1 << 1,
        b"to" => 1 << 2,
        b"of" => 1 << 3,
        b"and" => 1 << 4,
        b"that" => 1 << 5,
        b"have" => 1 << 6,
        b"with" => 1 << 7,
        _ => 0,
    }
}

/// How many bytes are split from the beginning.
fn prefix_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes {
        [b'.', b'.', ..] => run_length(bytes, b'.'),
        [b'+', digit, ..] if digit.is_ascii_digit() => 0,
        [b'+', ..] => 1,
        [b'U', b'S', b'$', ..] => 3,
        [b'C' | b'A', b'$', ..] => 2,
        _ => {
            let Some(c) = text.chars().next() else { return 0 };
            if classes::of(c) & OPENS != 0 { c.len_utf8() } else { 0 }
        }
    }
}

/// How many bytes are split from the end.
fn suffix_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (classes, length) = last(text);
    let before = &text[..text.len() - length];
    match bytes {
        [.., b'.', b'.'] => return bytes.iter().rev().take_while(|&&byte| byte == b'.').count(),
        [.., b'.'] => {
            let (behind, length) = last(before);
            let initials = behind & UPPER != 0 && last(&before[..before.len() - length]).0 & UPPER != 0;
            return usize::from(behind & BEFORE_STOP != 0 || initials);
        }
        [.., b's' | b'S'] if before.ends_with('\'') => return 2,
        [.., b's' | b'S'] if before.ends_with('’') => return 4,
        _ => {}
    }
    if classes & CLOSES != 0 {
        return length;
    }
    if (classes & CURRENCY != 0 || bytes.ends_with(b"+")) && last(before).0 & DIGIT != 0 {
        return length;
    }
    match bytes.iter().rev().take(LONGEST_UNIT + 1).position(u8::is_ascii_digit) {
        Some(unit) if UNITS.contains(&&text[text.len() - unit..]) => unit,
        _ => 0,
    }
}

/// How many bytes at a place inside split a word; `before` are the classes of the character before.
fn inner_length(text: &str, at: usize, before: Classes) -> usize {
    let rest = &text[at..];
    let bytes = rest.as_bytes();
    let Some(c) = rest.chars().next() else { return 0 };
    let length = c.len_utf8();
    let next = first(&rest[length..]);
    let behind_alphanumeric = before & (LETTER | DIGIT) != 0;
    let fits = match c {
        '.' if next == ASCII[usize::from(b'.')] => return run_length(bytes, b'.'),
        '.' => before & (LOWER | QUOTE) != 0 && next & (UPPER | QUOTE) != 0,
        '…' => true,
        ',' => before & LETTER != 0 && next & LETTER != 0,
        '+' | '*' | '^' => before & DIGIT != 0 && (next & DIGIT != 0 || bytes[1..].starts_with(b"-")),
        '-' if before & DIGIT != 0 && (next & DIGIT != 0 || bytes[1..].starts_with(b"-")) => true,
        '-' | '—' => {
            let most = if c == '-' { 3 } else { 2 };
            let run = rest.chars().take_while(|&other| other == c).count();
            let fits = behind_alphanumeric && run <= most && first(&rest[run * length..]) & LETTER != 0;
            return if fits { run * length } else { 0 };
        }
        '–' | '~' | ':' | '<' | '>' | '=' | '/' => behind_alphanumeric && next & LETTER != 0,
        _ => classes::of(c) & ICON != 0,
    };
    if fits { length } else { 0 }
}

fn run_length(bytes: &[u8], of: u8) -> usize {
    bytes.iter().take_while(|&&byte| byte == of).count()
}

/// Whether a word is a web or mail address: a host with dots whose last part is of small letters, and what may stand
/// around it.
fn is_address(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.len() >= 2 && scheme.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '+' | '-' | '.'))
    };
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => rest,
        Some(_) => return false,
        None => text,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let is_port =
        |port: &str| (2..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match host.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        Some(_) => return false,
        None => host,
    };
    let Some((labels, domain)) = host.rsplit_once('.') else { return false };
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c >= '\u{a1}';
    domain.chars().count() >= 2
        && domain.chars().all(|c| classes::of(c) & LOWER != 0)
        && labels.split('.').all(|label| {
            label.starts_with(is_inner)
                && label.ends_with(is_inner)
                && label.chars().all(|c| is_inner(c) || matches!(c, '-' | '_'))
        })
}

#[cfg(test)]
mod tests;
