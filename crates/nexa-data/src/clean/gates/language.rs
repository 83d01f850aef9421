//! The language of a text, found by whatlang: trigrams of 70 languages that are part of the binary.
//!
//! lingua tells single words better, but its models of English alone are five times the size of all of whatlang, and
//! with a few languages only, every text is taken for one of them.

/// The language of a text and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Language {
    /// Its code of two letters, ISO 639-1.
    pub code: &'static str,
    /// From 0 to 1.
    pub confidence: f64,
}

/// Bytes that are looked at: enough to be sure, and the same cost for every long text.
const LOOKED_AT: usize = 4096;

/// The language of a text, as far as it can be told.
pub fn detect(text: &str) -> Option<Language> {
    let found = whatlang::detect(&text[..text.floor_char_boundary(LOOKED_AT)])?;
    Some(Language { code: short(found.lang().code())?, confidence: found.confidence() })
}

/// The code of two letters, which every language that whatlang knows has one of.
fn short(code: &str) -> Option<&'static str> {
    CODES.iter().find(|(long, _)| *long == code).map(|&(_, short)| short)
}

/// Whether a code is one that [`detect`] may give.
pub(crate) fn is_known(code: &str) -> bool {
    CODES.iter().any(|&(_, short)| short == code)
}

/// Every code that [`detect`] may give.
pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
    CODES.iter().map(|&(_, short)| short)
}

/// ISO 639-3 and ISO 639-1.
const CODES: [(&str, &str); 70] = [
    ("afr", "af"),
    ("aka", "ak"),
    ("amh", "am"),
    ("ara", "ar"),
    ("aze", "az"),
    ("bel", "be"),
    ("ben", "bn"),
    ("bul", "bg"),
    ("cat", "ca"),
    ("ces", "cs"),
    ("cmn", "zh"),
    ("cym", "cy"),
    ("dan", "da"),
    ("deu", "de"),
    ("ell", "el"),
    ("eng", "en"),
    ("epo", "eo"),
    ("est", "et"),
    ("fin", "fi"),
    ("fra", "fr"),
    ("guj", "gu"),
    ("heb", "he"),
    ("hin", "hi"),
    ("hrv", "hr"),
    ("hun", "hu"),
    ("hye", "hy"),
    ("ind", "id"),
    ("ita", "it"),
    ("jav", "jv"),
    ("jpn", "ja"),
    ("kan", "kn"),
    ("kat", "ka"),
    ("khm", "km"),
    ("kor", "ko"),
    ("lat", "la"),
    ("lav", "lv"),
    ("lit", "lt"),
    ("mal", "ml"),
    ("mar", "mr"),
    ("mkd", "mk"),
    ("mya", "my"),
    ("nep", "ne"),
    ("nld", "nl"),
    ("nob", "nb"),
    ("ori", "or"),
    ("pan", "pa"),
    ("pes", "fa"),
    ("pol", "pl"),
    ("por", "pt"),
    ("ron", "ro"),
    ("rus", "ru"),
    ("sin", "si"),
    ("slk", "sk"),
    ("slv", "sl"),
    ("sna", "sn"),
    ("spa", "es"),
    ("srp", "sr"),
    ("swe", "sv"),
    ("tam", "ta"),
    ("tel", "te"),
    ("tgl", "tl"),
    ("tha", "th"),
    ("tuk", "tk"),
    ("tur", "tr"),
    ("ukr", "uk"),
    ("urd", "ur"),
    ("uzb", "uz"),
    ("vie", "vi"),
    ("yid", "yi"),
    ("zul", "zu"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_apart() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(detect(text).map(|language| language.code), expected, "{text}");
        };
        check("The quick brown fox jumps over the lazy dog and runs away into the forest.", Some("en"));
        check("Der schnelle braune Fuchs springt über den faulen Hund und läuft in den Wald.", Some("de"));
        check(
            "Le renard brun rapide saute par-dessus le chien paresseux et court vers la forêt.",
            Some("fr"),
        );
        check("Быстрая коричневая лиса перепрыгивает через ленивую собаку и убегает в лес.", Some("ru"));
        check("敏捷的棕色狐狸跳过了懒狗，然后跑进了森林。", Some("zh"));
        check("12 + 30 = 42", None);
        check("", None);
    }

    #[test]
    fn every_language_has_a_short_code() {
        for language in whatlang::Lang::all() {
            assert!(short(language.code()).is_some(), "{}", language.code());
        }
        assert_eq!(CODES.len(), whatlang::Lang::all().len());
    }
}
