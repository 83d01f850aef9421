//! What texts are made of: words, sentences, languages.

use std::sync::LazyLock;

use regex::Regex;

/// The number of runs of letters, digits and underscores.
pub(super) fn words(text: &str) -> usize {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\w+").expect("the pattern is valid"));
    WORD.find_iter(text).count()
}

/// What ends in a dot and ends no sentence, in small letters.
const ABBREVIATIONS: [&str; 32] = [
    "mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "etc", "inc", "ltd", "co", "corp", "no", "vol",
    "fig", "gen", "rep", "sen", "gov", "capt", "lt", "col", "rev", "hon", "jan", "feb", "aug", "sept", "oct",
    "dec",
];

/// The number of sentences: runs of text up to a dot, question or exclamation mark before a blank. A dot after an
/// abbreviation or an initial ends none, nor does one before a small letter.
pub(super) fn sentences(text: &str) -> usize {
    let mut count = 0;
    let mut is_open = false;
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        is_open = true;
        let bare = word.trim_end_matches(['"', '\'', ')', ']', '”', '’']);
        let ends = match bare.chars().last() {
            Some('?' | '!') => true,
            Some('.') => {
                let next_is_small = words.peek().is_some_and(|next| next.starts_with(char::is_lowercase));
                !next_is_small && !is_abbreviation(bare.trim_end_matches('.'))
            }
            _ => false,
        };
        if ends {
            count += 1;
            is_open = false;
        }
    }
    count + usize::from(is_open)
}

fn is_abbreviation(word: &str) -> bool {
    let word = word.trim_start_matches(['"', '\'', '(', '[', '“']);
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    let is_dotted = word.contains('.') && word.split('.').all(|part| part.chars().count() == 1);
    is_initial || is_dotted || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

/// The number of words in capitals. A contraction is two words, a hyphenated word one.
pub(super) fn capital_words(text: &str) -> usize {
    static WORD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?:\w[\w.-]*)?\w+(?:['’]\w+)*").expect("the pattern is valid"));
    let of_word = |word: &str| {
        let split = word.find(['\'', '’']);
        let cut = split
            .map(|at| if word[..at].ends_with(['n', 'N']) && word[at..].len() == 2 { at - 1 } else { at });
        let parts = cut.map_or((word, ""), |at| word.split_at(at));
        [parts.0, parts.1].into_iter().filter(|part| is_upper(part)).count()
    };
    WORD.find_iter(text).map(|word| of_word(word.as_str())).sum()
}

/// `str.isupper`: there is a letter with case, and none in small.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// `str.islower`.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

/// Languages by their codes of two letters and of three.
const LANGUAGES: [(&str, &str); 40] = [
    ("en", "eng"),
    ("es", "spa"),
    ("pt", "por"),
    ("ar", "ara"),
    ("hi", "hin"),
    ("fr", "fra"),
    ("ru", "rus"),
    ("de", "deu"),
    ("ja", "jpn"),
    ("it", "ita"),
    ("bn", "ben"),
    ("uk", "ukr"),
    ("th", "tha"),
    ("ur", "urd"),
    ("ta", "tam"),
    ("te", "tel"),
    ("bg", "bul"),
    ("ko", "kor"),
    ("pl", "pol"),
    ("he", "heb"),
    ("fa", "pes"),
    ("vi", "vie"),
    ("ne", "nep"),
    ("kn", "kan"),
    ("mr", "mar"),
    ("gu", "guj"),
    ("pa", "pan"),
    ("ml", "mal"),
    ("fi", "fin"),
    ("tr", "tur"),
    ("nl", "nld"),
    ("sv", "swe"),
    ("da", "dan"),
    ("cs", "ces"),
    ("el", "ell"),
    ("hu", "hun"),
    ("ro", "ron"),
    ("id", "ind"),
    ("zh", "cmn"),
    ("or", "ori"),
];

/// Whether a text is of a language. Of one that cannot be told, every text is that is not surely of another.
pub(super) fn is_of_language(text: &str, code: &str) -> bool {
    let Some(found) = whatlang::detect(text) else { return true };
    match LANGUAGES.iter().find(|(two, _)| *two == code.split('-').next().unwrap_or(code)) {
        Some((_, three)) => found.lang().code() == *three,
        None => !found.is_reliable(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: by hand.
    #[test]
    fn texts_are_counted() {
        let check = |text: &str, expected: (usize, usize, usize)| {
            assert_eq!((words(text), sentences(text), capital_words(text)), expected, "{text}");
        };
        check("One two. Three!", (3, 2, 0));
        check("Dr. Smith of the U.S. army came at 3.5 p.m. today. He left?", (16, 2, 1));
        check("", (0, 0, 0));
        check("I DON'T know WELL-KNOWN J. R. R. Tolkien", (10, 1, 7));
        check("\"Go!\" she said. no end", (5, 2, 0));
    }

    #[test]
    fn languages_are_told() {
        assert!(is_of_language("The weather is nice today and we are going for a long walk.", "en"));
        assert!(!is_of_language("Das Wetter ist heute schön und wir gehen lange spazieren.", "en"));
        assert!(is_of_language("Das Wetter ist heute schön und wir gehen lange spazieren.", "de"));
    }
}
