//! Finds answers that begin by declining to answer.
//!
//! The provider's word is certain. Without it only the beginning counts: a solution may well say "he cannot help" further
//! on, and an essay may begin by quoting a refusal. The phrases are our own lists of how chat models decline in English,
//! German, French, Spanish and Chinese; each must end at a word's end, and an apology alone is no refusal.

mod phrases;

use std::sync::OnceLock;

use regex::Regex;

use super::{Answer, Measure};
use crate::collect::REFUSAL;

pub(super) const VERSION: u32 = 2;

pub(super) fn measure(answer: &Answer<'_>) -> Option<Measure> {
    if answer.finish_reason == Some(REFUSAL) {
        return Some(Measure::fault(Some("the provider says that the model refused".to_owned())));
    }
    let text = crate::text::normalise(answer.output).replace('’', "'");
    Some(Measure::fault(refusal(&text).map(|words| format!("begins with \"{words}\""))))
}

/// The words with which a normalised text declines.
fn refusal(text: &str) -> Option<&str> {
    let start = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    if is_quoted(&text[..text.len() - start.len()], start) {
        return None;
    }
    patterns().iter().find_map(|pattern| Some(pattern.find(start)?.as_str()))
}

/// Whether what opens a text is a quotation, after which something else is said.
fn is_quoted(before: &str, start: &str) -> bool {
    let close = match before.chars().next_back() {
        Some('"') => '"',
        Some('“') => '”',
        Some('„') => '“',
        Some('«') => '»',
        Some('「') => '」',
        _ => return false,
    };
    start.split_once(close).is_some_and(|(_, after)| after.chars().any(char::is_alphanumeric))
}

fn patterns() -> &'static [Regex] {
    static PATTERNS: OnceLock<Vec<Regex>> = OnceLock::new();
    PATTERNS.get_or_init(|| {
        phrases::ALL
            .iter()
            .map(|language| Regex::new(&language.pattern()).expect("the phrases are a pattern"))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::test::score;
    use super::*;

    fn check(text: &str, refuses: bool) {
        assert_eq!(score(measure, "How many?", text), f64::from(u8::from(refuses)), "{text:?}");
    }

    #[test]
    fn refusals_are_told_from_answers() {
        check("I'm sorry, but I can't help with that.", true);
        check("I’m really sorry, but I cannot assist with this request.", true);
        check("Sorry, I won't answer that.", true);
        check("Unfortunately, I am unable to solve this.", true);
        check("As an AI language model, I cannot do arithmetic.", true);
        check("**I must decline.**", true);
        check("\"I must decline.\"", true);
        check("This request violates the policy.", true);
        check("I apologize, but I can't provide that information.", true);
        check("We can't assist with this.", true);

        check("I cannot, in good conscience, say.", false);
        check("12 + 7 = 19 apples.\n#### 19", false);
        check("I'm sorry to hear that Ava lost 5. 12 - 5 = 7", false);
        check("Sorry, a correction: 12 + 7 = 19", false);
        check("I can't see how many, so let x be the number.", false);
        check("Ben says: I can't help with that.", false);
        check("We cannot share 7 shells equally, so one is left.", false);
        check("I canthelp", false);
        check("I cannot helpfully do less than 12 + 7 = 19", false);
        check("", false);
    }

    #[test]
    fn a_quotation_is_no_refusal() {
        check("\"I can't help with that,\" said the robot, and rolled away.", false);
        check("“I'm sorry, but I cannot assist” is what a model says that was trained to refuse.", false);
        check("„Ich kann Ihnen nicht helfen“, sagte der Roboter.", false);
    }

    #[test]
    fn german_refusals() {
        check("Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.", true);
        check("Leider kann ich diese Frage nicht beantworten.", true);
        check("Das kann ich leider nicht beantworten.", true);
        check("Als KI-Sprachmodell kann ich keine Meinung haben.", true);
        check("Ich bin nicht in der Lage, das zu tun.", true);
        check("Ich muss diese Anfrage ablehnen.", true);
        check("Es tut mir leid, dass Ava 5 verloren hat. 12 - 5 = 7", false);
        check("Ich kann 7 Muscheln nicht gleichmäßig teilen, also bleibt eine übrig.", false);
    }

    #[test]
    fn french_refusals() {
        check("Je suis désolé, mais je ne peux pas vous aider avec cela.", true);
        check("Désolée, je ne peux pas répondre à cette question.", true);
        check("Malheureusement, je ne suis pas en mesure de fournir cela.", true);
        check("En tant que modèle de langage, je ne peux pas donner d'avis.", true);
        check("Je dois décliner cette demande.", true);
        check("Je ne peux pas partager 7 en deux, donc il en reste un.", false);
        check("Désolé pour l'attente : la réponse est 19.", false);
    }

    #[test]
    fn spanish_refusals() {
        check("Lo siento, pero no puedo ayudarte con eso.", true);
        check("Lamentablemente, no puedo responder a esa pregunta.", true);
        check("No estoy en condiciones de hacerlo.", true);
        check("Como modelo de lenguaje, no puedo dar opiniones.", true);
        check("Debo rechazar esta solicitud.", true);
        check("No puedo dividir 7 entre 2 sin resto, así que sobra uno.", false);
        check("Lo siento por Ava. 12 - 5 = 7", false);
    }

    #[test]
    fn chinese_refusals() {
        check("很抱歉，我无法帮助您。", true);
        check("对不起，我不能回答这个问题。", true);
        check("作为一个人工智能语言模型，我无法提供个人意见。", true);
        check("抱歉，我無法協助處理這個請求。", true);
        check("我不能把7个苹果平均分给两个人，所以剩下一个。", false);
        check("抱歉让你久等了，答案是19。", false);
    }

    #[test]
    fn the_word_of_the_provider_counts() {
        let check = |reason: &str, expected: f64| {
            let mut row = super::super::test::row("How many?", "That is not for me to say.");
            row.insert("finish_reason".to_owned(), reason.into());
            assert_eq!(measure(&Answer::of(&row)).unwrap().score, expected, "{reason}");
        };
        check("stop", 0.0);
        check("refusal", 1.0);
    }
}
