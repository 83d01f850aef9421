//! `c4@1`: keeps the lines of a page that are sentences, and drops pages with too few of them.
//!
//! # Source
//! Raffel et al. 2020 (JMLR 21, 140), section 2.2, as datatrove 0.10 reads it: lines may also end in `'`, words and
//! their lengths are those of the line before citation marks are taken out, sentences are counted line by line, and
//! a line that falls earlier is not looked at for what rules out the page. The list of bad words is not applied.

use std::sync::LazyLock;

use regex::Regex;

use super::{Gate, Rule, Scratch, at_least, at_most};
use crate::clean::text::{is_space, lines, sentences};

/// See the module.
pub(super) struct C4;

const SCORES: &[&str] = &[
    "sentences",
    "lorem_ipsum_lines",
    "curly_bracket_lines",
    "lines",
    "lines_kept",
    "lines_with_long_words",
    "lines_without_end",
    "lines_too_short",
    "lines_with_javascript",
    "lines_with_policy",
    "citations",
];

const RULES: &[Rule] = &[
    at_most("max_lorem_ipsum_lines", 1, 0.0),
    at_most("max_curly_bracket_lines", 2, 0.0),
    at_least("min_sentences", 0, 5.0),
];

const MIN_WORDS: usize = 3;
const MAX_WORD_CHARACTERS: usize = 1000;

static LOREM_IPSUM: LazyLock<Regex> = LazyLock::new(|| pattern("(?i-u)lorem ipsum"));
static JAVASCRIPT: LazyLock<Regex> = LazyLock::new(|| pattern("(?i-u)javascript"));
static POLICY: LazyLock<Regex> = LazyLock::new(|| {
    pattern("(?i-u)terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies")
});
static CITATION: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[(?:\d*|edit|citation needed)\]"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant that the tests compile")
}

/// Why a line is taken out, or that it stays.
enum Fate {
    LongWord,
    NoEnd,
    TooShort,
    JavaScript,
    Policy,
    Kept,
}

/// The rules at work on one text.
#[derive(Default)]
struct Page {
    edited: String,
    lorem_ipsum: u64,
    curly_bracket: u64,
    lines: u64,
    long_word: u64,
    no_end: u64,
    too_short: u64,
    javascript: u64,
    policy: u64,
    kept: u64,
    citations: u64,
}

impl Gate for C4 {
    fn name(&self) -> &'static str {
        "c4@1"
    }

    fn scores(&self) -> &'static [&'static str] {
        SCORES
    }

    fn rules(&self) -> &'static [Rule] {
        RULES
    }

    fn measure(&self, text: &str, scratch: &mut Scratch, scores: &mut Vec<f64>) -> Option<String> {
        let mut found = 0;
        scratch.words.begin();
        let page = Page::read(text, |line| found += sentences(scratch.words.add_line(line)));
        let counts = [
            found,
            page.lorem_ipsum,
            page.curly_bracket,
            page.lines,
            page.kept,
            page.long_word,
            page.no_end,
            page.too_short,
            page.javascript,
            page.policy,
            page.citations,
        ];
        scores.extend(counts.map(|count| count as f64));
        let edited = page.finish();
        scratch.words.finish(&edited);
        Some(edited)
    }

    fn edit(&self, text: &str) -> Option<String> {
        Some(Page::read(text, |_| ()).finish())
    }
}

impl Page {
    /// Reads the lines of a text; `on_kept` sees each that stays.
    fn read(text: &str, mut on_kept: impl FnMut(&str)) -> Self {
        let mut page = Self { edited: String::with_capacity(text.len()), ..Self::default() };
        let bytes = text.as_bytes();
        // Whole pages are searched once for what hardly any line holds.
        let wanted = Wanted {
            citation: bytes.contains(&b'['),
            curly_bracket: bytes.contains(&b'{'),
            phrase: LOREM_IPSUM.is_match(text) || JAVASCRIPT.is_match(text) || POLICY.is_match(text),
        };
        for line in lines(text) {
            let line = line.trim_matches(is_space);
            page.lines += 1;
            let uncited = if wanted.citation && has_enough_words(line).is_some() {
                page.without_citations(line)
            } else {
                None
            };
            let left = uncited.as_deref().unwrap_or(line);
            match page.judge(line, left, wanted) {
                Fate::LongWord => page.long_word += 1,
                Fate::NoEnd => page.no_end += 1,
                Fate::TooShort => page.too_short += 1,
                Fate::JavaScript => page.javascript += 1,
                Fate::Policy => page.policy += 1,
                Fate::Kept => {
                    if page.kept > 0 {
                        page.edited.push('\n');
                    }
                    page.kept += 1;
                    page.edited.push_str(left);
                    on_kept(left);
                }
            }
        }
        page
    }

    fn without_citations(&mut self, line: &str) -> Option<String> {
        let found = CITATION.find_iter(line).count();
        self.citations += found as u64;
        (found > 0).then(|| CITATION.replace_all(line, "").into_owned())
    }

    /// What becomes of a line; `left` is the line without its citation marks.
    fn judge(&mut self, line: &str, left: &str, wanted: Wanted) -> Fate {
        let Some(enough_words) = has_enough_words(line) else { return Fate::LongWord };
        if !left.ends_with(['.', '?', '!', '"', '\'']) || left.ends_with("...") {
            return Fate::NoEnd;
        }
        if !enough_words {
            return Fate::TooShort;
        }
        self.lorem_ipsum += u64::from(wanted.phrase && LOREM_IPSUM.is_match(left));
        if wanted.phrase && JAVASCRIPT.is_match(left) {
            return Fate::JavaScript;
        }
        self.curly_bracket += u64::from(wanted.curly_bracket && left.contains('{'));
        if wanted.phrase && POLICY.is_match(left) {
            return Fate::Policy;
        }
        Fate::Kept
    }

    fn finish(self) -> String {
        let trimmed = self.edited.trim_matches(is_space);
        if trimmed.len() == self.edited.len() { self.edited } else { trimmed.to_owned() }
    }
}

/// What of the rarer things a page holds at all.
#[derive(Clone, Copy)]
struct Wanted {
    citation: bool,
    curly_bracket: bool,
    phrase: bool,
}

/// Whether a line has enough words, between white space; nothing where one of them is too long.
fn has_enough_words(line: &str) -> Option<bool> {
    let words = || line.split(is_space).filter(|word| !word.is_empty());
    let is_long = |word: &str| word.len() > MAX_WORD_CHARACTERS && word.chars().count() > MAX_WORD_CHARACTERS;
    if line.len() > MAX_WORD_CHARACTERS && words().any(is_long) {
        return None;
    }
    Some(words().nth(MIN_WORDS - 1).is_some())
}
