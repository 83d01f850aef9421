//! Finds answers in another language than the question.
//!
//! Another script is certain from a few letters on; another language of one script takes a sentence. Questions that
//! name a language or ask for a translation are not measured, and neither is code.

use std::sync::OnceLock;

use regex::Regex;
use whatlang::Script;

use super::{Answer, Measure, fences, rounded};

pub(super) const VERSION: u32 = 1;

/// Letters from which on a script is known.
const LETTERS_OF_A_SCRIPT: usize = 8;
/// Letters from which on trigrams tell languages of one script apart.
const LETTERS_OF_A_LANGUAGE: usize = 60;
/// Characters that are looked at: more tell no more about a language, and cost as much again.
const SAMPLE_CHARACTERS: usize = 2_000;

pub(super) fn measure(answer: &Answer<'_>) -> Option<Measure> {
    if names_a_language(&answer.prompt) || names_a_language(&answer.system_prompt) {
        return None;
    }
    let (asked, answered) = (sample(&answer.prompt), sample(answer.output));
    let letters = letters(&asked).min(letters(&answered));
    if letters < LETTERS_OF_A_SCRIPT {
        return None;
    }
    let scripts = [whatlang::detect_script(&asked)?, whatlang::detect_script(&answered)?];
    if family(scripts[0]) != family(scripts[1]) {
        return Some(Measure::new(
            1.0,
            format!("asked in {} writing, answered in {}", scripts[0], scripts[1]),
        ));
    }
    if letters < LETTERS_OF_A_LANGUAGE {
        return None;
    }
    let (asked, answered) = (whatlang::detect(&asked)?, whatlang::detect(&answered)?);
    if !asked.is_reliable() || !answered.is_reliable() {
        return None;
    }
    if asked.lang() == answered.lang() {
        return Some(Measure::clean());
    }
    let names = format!("asked in {}, answered in {}", asked.lang().eng_name(), answered.lang().eng_name());
    Some(Measure::new(rounded(asked.confidence().min(answered.confidence())), names))
}

/// The beginning of what a text says besides code.
fn sample(text: &str) -> String {
    fences::prose(text).chars().take(SAMPLE_CHARACTERS).collect()
}

/// Scripts that Japanese mixes count as one; the languages that write them are told apart as others are.
fn family(script: Script) -> Script {
    match script {
        Script::Hiragana | Script::Katakana => Script::Mandarin,
        other => other,
    }
}

fn letters(text: &str) -> usize {
    text.chars().filter(|c| c.is_alphabetic()).count()
}

fn names_a_language(prompt: &str) -> bool {
    static NAMES: OnceLock<Regex> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        Regex::new(
            r"(?i)translat|übersetz|tradui|traduc|traduz|перевед|перевод|翻[译譯訳]|\b(?:english|german|french|spanish|italian|portuguese|dutch|polish|russian|ukrainian|turkish|arabic|hebrew|hindi|chinese|mandarin|cantonese|japanese|korean|vietnamese|indonesian|swedish|danish|norwegian|finnish|greek|latin|czech|hungarian|romanian|thai|deutsch|englisch|französisch|spanisch|chinesisch|français|anglais|allemand|espagnol|chinois|español|inglés|alemán|francés|chino|italiano|português|language)\b|英[语語文]|中文|法[语語文]|德[语語文]|西班牙[语語文]|日[语語文]|汉语",
        )
        .expect("the literal is a pattern")
    });
    names.is_match(prompt)
}

#[cfg(test)]
mod tests {
    use super::super::test::score;
    use super::*;

    const ENGLISH: &str = "Please explain to me in a few sentences why the sky looks blue during the day and red in the evening.";
    const GERMAN: &str = "Das Licht der Sonne wird in der Luft gestreut, und zwar das blaue Licht viel stärker als das rote, sodass der Himmel tagsüber blau erscheint.";
    const FRENCH: &str = "La lumière du soleil est diffusée par l'air, et la lumière bleue l'est beaucoup plus que la rouge, si bien que le ciel paraît bleu pendant la journée.";
    const SPANISH: &str = "La luz del sol se dispersa en el aire, y la luz azul se dispersa mucho más que la roja, por lo que el cielo se ve azul durante el día.";
    const JAPANESE: &str = "どうしてそらはあおいのですか、おしえてください。";
    const KANJI: &str = "太陽光線中青色光線大気散乱強いため。";
    const CHINESE: &str = "阳光在空气中散射，蓝光比红光散射得更强，所以白天天空看起来是蓝色的。";

    #[test]
    fn another_language_is_found_where_none_was_named() {
        let check = |prompt: &str, output: &str, expected: Option<bool>| {
            let found = score(measure, prompt, output);
            assert_eq!((!found.is_nan()).then_some(found > 0.5), expected, "{prompt:?} {output:?}: {found}");
        };
        check(ENGLISH, ENGLISH, Some(false));
        check(ENGLISH, GERMAN, Some(true));
        check(GERMAN, FRENCH, Some(true));
        check(FRENCH, SPANISH, Some(true));
        check(SPANISH, SPANISH, Some(false));
        check(ENGLISH, CHINESE, Some(true));
        check(CHINESE, ENGLISH, Some(true));
        check(CHINESE, CHINESE, None);
        check(JAPANESE, KANJI, None);
        check("Translate to German: the sky is blue because the air scatters light.", GERMAN, None);
        check("Antworte bitte auf Deutsch: why does the sky look blue during the day?", GERMAN, None);
        check(ENGLISH, "12 + 7 = 19", None);
        check(ENGLISH, "12 + 7 = 19 apples.\n#### 19", None);
        check(ENGLISH, "```\nlet himmel = \"blau\"; // ein Kommentar, der nicht zählt\n```", None);
    }
}
