//! What a character is to the rules that split and judge text, as a set of bits: one table look-up for ASCII.
//!
//! Letters, case and white space are Unicode's; the sets of punctuation are those of spaCy's English tokenizer and of
//! datatrove, stated as ranges. Departures: letters are what Unicode calls alphabetic, which adds some combining
//! marks; of the symbols, whole blocks are taken, not each assigned character.

/// A set of the classes below.
pub(super) type Classes = u16;

/// White space as Python sees it: Unicode's, and the four separators of ASCII.
pub(super) const SPACE: Classes = 1;
/// Has no case, or is small.
pub(super) const LOWER: Classes = 1 << 1;
/// Has no case, or is large.
pub(super) const UPPER: Classes = 1 << 2;
/// A digit of ASCII.
pub(super) const DIGIT: Classes = 1 << 3;
/// Is split from the beginning of a word.
pub(super) const OPENS: Classes = 1 << 4;
/// Is split from the end of a word.
pub(super) const CLOSES: Classes = 1 << 5;
/// A quotation mark.
pub(super) const QUOTE: Classes = 1 << 6;
/// A full stop behind it, at the end of a word, is split off.
pub(super) const BEFORE_STOP: Classes = 1 << 7;
/// May split a word where it stands inside.
pub(super) const INNER: Classes = 1 << 8;
/// A sign of money: split from the beginning of a word, and from its end behind a digit.
pub(super) const CURRENCY: Classes = 1 << 9;
/// A pictogram or other symbol that is a word of its own wherever it stands.
pub(super) const ICON: Classes = 1 << 10;
/// Punctuation or a control character: words of nothing else are not counted by Gopher's rules.
pub(super) const SYMBOL: Classes = 1 << 11;
/// Ends a sentence.
pub(super) const TERMINAL: Classes = 1 << 12;
/// Of Unicode's category P.
pub(super) const PUNCTUATION: Classes = 1 << 13;
/// Not ASCII.
pub(super) const WIDE: Classes = 1 << 14;

/// A letter of whatever case.
pub(super) const LETTER: Classes = LOWER | UPPER;

/// The classes of ASCII.
pub(super) static ASCII: [Classes; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte as usize] = of_ascii(byte);
        byte += 1;
    }
    table
};

/// The classes of a character.
pub(super) fn of(c: char) -> Classes {
    match ASCII.get(c as usize) {
        Some(&classes) => classes,
        None => of_wide(c),
    }
}

const fn of_ascii(byte: u8) -> Classes {
    let mut classes = match byte {
        b'a'..=b'z' => return LOWER | BEFORE_STOP,
        b'A'..=b'Z' => return UPPER,
        b'0'..=b'9' => return DIGIT | BEFORE_STOP,
        b' ' | b'\t' | b'\n' => return SPACE,
        0x0b..=0x0d | 0x1c..=0x1f => return SPACE | SYMBOL,
        _ => SYMBOL,
    };
    classes |= match byte {
        b',' | b':' => OPENS | CLOSES | BEFORE_STOP | INNER,
        b'<' | b'>' => OPENS | CLOSES | BEFORE_STOP | INNER,
        b';' | b'!' | b'?' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'_' | b'#' | b'&' => {
            OPENS | CLOSES | BEFORE_STOP
        }
        b'*' => OPENS | CLOSES | BEFORE_STOP | INNER,
        b'\'' | b'"' | b'`' => OPENS | CLOSES | QUOTE | BEFORE_STOP,
        b'=' => OPENS | INNER,
        b'%' => OPENS | BEFORE_STOP,
        b'$' => OPENS | CURRENCY,
        b'-' | b'+' => INNER | BEFORE_STOP,
        b'~' | b'.' | b'/' | b'^' => INNER,
        _ => 0,
    };
    if matches!(byte, b'.' | b'!' | b'?') {
        classes |= TERMINAL;
    }
    let is_category_s = matches!(byte, b'$' | b'+' | b'<' | b'=' | b'>' | b'^' | b'`' | b'|' | b'~');
    if byte.is_ascii_punctuation() && !is_category_s {
        classes |= PUNCTUATION;
    }
    classes
}

fn of_wide(c: char) -> Classes {
    if c.is_whitespace() {
        // The next-line control is punctuation to datatrove as well.
        return WIDE | SPACE | if c == '\u{85}' { SYMBOL } else { 0 };
    }
    if c.is_alphabetic() {
        return WIDE | letter(c);
    }
    WIDE | mark(c)
        | if within(c, &SYMBOLS) || is_terminal(c) { SYMBOL } else { 0 }
        | if is_terminal(c) { TERMINAL | PUNCTUATION } else { 0 }
}

fn letter(c: char) -> Classes {
    match (c.is_lowercase(), c.is_uppercase()) {
        (true, _) => LOWER | BEFORE_STOP,
        (_, true) => UPPER,
        _ => LOWER | UPPER | BEFORE_STOP,
    }
}

/// How a character that is no letter splits words.
fn mark(c: char) -> Classes {
    match c {
        '…' => OPENS | CLOSES | BEFORE_STOP | INNER | PUNCTUATION,
        '¿' | '؟' | '¡' | '。' | '？' | '！' | '，' | '、' | '；' | '：' | '·' | '।' | '،' | '۔' | '؛'
        | '٪' => OPENS | CLOSES | BEFORE_STOP | PUNCTUATION,
        '～' => OPENS | CLOSES | BEFORE_STOP,
        '´' => OPENS | CLOSES | QUOTE | BEFORE_STOP,
        '”' | '“' | '‘' | '’' | '‚' | '„' | '»' | '«' | '「' | '」' | '『' | '』' | '（' | '）' | '〔'
        | '〕' | '【' | '】' | '《' | '》' | '〈' | '〉' | '⟦' | '⟧' => {
            OPENS | CLOSES | QUOTE | BEFORE_STOP | PUNCTUATION
        }
        '–' | '—' => OPENS | CLOSES | INNER | PUNCTUATION,
        '§' => OPENS | PUNCTUATION,
        '²' => BEFORE_STOP,
        '£' | '€' | '¥' | '฿' | '﷼' | '\u{20a0}'..='\u{20bf}' => OPENS | CURRENCY,
        _ if within(c, &ICONS) => OPENS | CLOSES | INNER | ICON,
        '\u{2010}'..='\u{2027}'
        | '\u{2030}'..='\u{205e}'
        | '\u{3001}'..='\u{3003}'
        | '\u{3008}'..='\u{301f}' => PUNCTUATION,
        _ => 0,
    }
}

/// Whether a character ends a sentence: Unicode's property Sentence_Terminal, and three signs of Khmer.
pub(super) fn is_terminal(c: char) -> bool {
    matches!(c, '.' | '!' | '?') || (!c.is_ascii() && within(c, &TERMINALS))
}

fn within(c: char, ranges: &[(u32, u32)]) -> bool {
    let code = c as u32;
    let at = ranges.partition_point(|&(_, last)| last < code);
    ranges.get(at).is_some_and(|&(first, _)| first <= code)
}

/// Signs, arrows, boxes, pictograms: the blocks in which category So prevails.
const ICONS: [(u32, u32); 16] = [
    (0xa6, 0xa6),
    (0xa9, 0xa9),
    (0xae, 0xae),
    (0xb0, 0xb0),
    (0x2100, 0x2101),
    (0x2103, 0x2106),
    (0x2116, 0x2117),
    (0x211e, 0x2123),
    (0x2195, 0x2199),
    (0x219c, 0x21f3),
    (0x2300, 0x23ff),
    (0x2440, 0x244a),
    (0x249c, 0x24e9),
    (0x2500, 0x27bf),
    (0x2800, 0x2bff),
    (0x1f000, 0x1faff),
];

/// What datatrove takes for punctuation beside ASCII's and what ends a sentence.
const SYMBOLS: [(u32, u32); 19] = [
    (0x80, 0x9f),
    (0xab, 0xab),
    (0xb4, 0xb4),
    (0xbb, 0xbb),
    (0x2013, 0x2014),
    (0x2019, 0x2019),
    (0x201c, 0x201e),
    (0x2026, 0x2026),
    (0x2236, 0x2236),
    (0x2501, 0x2501),
    (0x25ba, 0x25ba),
    (0x3001, 0x3001),
    (0x3008, 0x300d),
    (0x3010, 0x3011),
    (0xff05, 0xff05),
    (0xff08, 0xff09),
    (0xff0c, 0xff0c),
    (0xff1a, 0xff1b),
    (0xff5e, 0xff5e),
];

/// What ends a sentence, beyond ASCII.
const TERMINALS: [(u32, u32); 79] = [
    (0x589, 0x589),
    (0x61d, 0x61f),
    (0x6d4, 0x6d4),
    (0x700, 0x702),
    (0x7f9, 0x7f9),
    (0x837, 0x837),
    (0x839, 0x839),
    (0x83d, 0x83e),
    (0x964, 0x965),
    (0x104a, 0x104b),
    (0x1362, 0x1362),
    (0x1367, 0x1368),
    (0x166e, 0x166e),
    (0x1735, 0x1736),
    (0x17d4, 0x17d6),
    (0x17d9, 0x17da),
    (0x1803, 0x1803),
    (0x1809, 0x1809),
    (0x1944, 0x1945),
    (0x1aa8, 0x1aab),
    (0x1b5a, 0x1b5b),
    (0x1b5e, 0x1b5f),
    (0x1b7d, 0x1b7e),
    (0x1c3b, 0x1c3c),
    (0x1c7e, 0x1c7f),
    (0x203c, 0x203d),
    (0x2047, 0x2049),
    (0x2e2e, 0x2e2e),
    (0x2e3c, 0x2e3c),
    (0x2e53, 0x2e54),
    (0x3002, 0x3002),
    (0xa4ff, 0xa4ff),
    (0xa60e, 0xa60f),
    (0xa6f3, 0xa6f3),
    (0xa6f7, 0xa6f7),
    (0xa876, 0xa877),
    (0xa8ce, 0xa8cf),
    (0xa92f, 0xa92f),
    (0xa9c8, 0xa9c9),
    (0xaa5d, 0xaa5f),
    (0xaaf0, 0xaaf1),
    (0xabeb, 0xabeb),
    (0xfe52, 0xfe52),
    (0xfe56, 0xfe57),
    (0xff01, 0xff01),
    (0xff0e, 0xff0e),
    (0xff1f, 0xff1f),
    (0xff61, 0xff61),
    (0x10a56, 0x10a57),
    (0x10f55, 0x10f59),
    (0x10f86, 0x10f89),
    (0x11047, 0x11048),
    (0x110be, 0x110c1),
    (0x11141, 0x11143),
    (0x111c5, 0x111c6),
    (0x111cd, 0x111cd),
    (0x111de, 0x111df),
    (0x11238, 0x11239),
    (0x1123b, 0x1123c),
    (0x112a9, 0x112a9),
    (0x1144b, 0x1144c),
    (0x115c2, 0x115c3),
    (0x115c9, 0x115d7),
    (0x11641, 0x11642),
    (0x1173c, 0x1173e),
    (0x11944, 0x11944),
    (0x11946, 0x11946),
    (0x11a42, 0x11a43),
    (0x11a9b, 0x11a9c),
    (0x11c41, 0x11c42),
    (0x11ef7, 0x11ef8),
    (0x11f43, 0x11f44),
    (0x16a6e, 0x16a6f),
    (0x16af5, 0x16af5),
    (0x16b37, 0x16b38),
    (0x16b44, 0x16b44),
    (0x16e98, 0x16e98),
    (0x1bc9f, 0x1bc9f),
    (0x1da88, 0x1da88),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_so_that_they_can_be_searched() {
        for ranges in [&ICONS[..], &SYMBOLS, &TERMINALS] {
            assert!(ranges.iter().all(|(first, last)| first <= last));
            assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:x?}");
        }
    }

    #[test]
    fn characters_have_the_classes_of_their_use() {
        let check = |c: char, expected: Classes| assert_eq!(of(c) & expected, expected, "{c:?}");
        check('a', LOWER);
        check('é', LOWER | WIDE);
        check('É', UPPER);
        check('漢', LETTER);
        check('\u{1f}', SPACE);
        check('\u{a0}', SPACE);
        check('。', TERMINAL | CLOSES | SYMBOL);
        check('“', OPENS | QUOTE | SYMBOL);
        check('€', CURRENCY);
        check('😀', ICON);
        assert_eq!(of('\u{200b}') & (SPACE | SYMBOL), 0, "a zero-width space is neither to datatrove");
        assert_eq!(of('$') & PUNCTUATION, 0, "a sign of money is of category S");
    }
}
