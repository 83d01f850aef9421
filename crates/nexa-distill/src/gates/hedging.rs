//! Measures how much of an answer hedges instead of answering: the share of its sentences that do.
//!
//! The phrases are our own list, in English, German, French, Spanish and Chinese.

use std::sync::OnceLock;

use regex::Regex;

use super::{Answer, Measure, fences, percent, share};
use crate::text;

pub(super) const VERSION: u32 = 1;

const PHRASES: &str = concat!(
    r"\b(?:i'm|i am) (?:not|un)(?: (?:really|entirely|completely|quite))? ?(?:sure|certain)\b",
    r"|\bi (?:can't|cannot|can not) (?:be (?:sure|certain)|say for (?:sure|certain))\b",
    r"|\bi (?:could|might|may) (?:be|well be) (?:wrong|mistaken)\b",
    r"|\bi (?:don't|do not) (?:really |actually )?(?:know|have (?:access|enough|personal|sufficient|real-time))\b",
    r"|\bas an? (?:ai|artificial intelligence|language model|large language model)\b",
    r"|\b(?:it is|it's) (?:difficult|hard|impossible) to (?:say|tell|know|determine)\b",
    r"|\bwithout (?:more|further|additional) (?:information|context|details)\b",
    r"|\b(?:please|always) (?:consult|check with|verify with|seek advice from|double-check)\b",
    r"|\bconsult (?:a|an|your|with) (?:\w+ )?(?:doctor|physician|lawyer|attorney|professional|expert|specialist)\b",
    r"|\bmy best guess\b|\bi would guess\b|\bgrain of salt\b",
    r"|\bich bin (?:mir )?(?:nicht|un)(?: ganz)? ?sicher\b|\bals (?:ein )?(?:ki|sprachmodell|künstliche intelligenz)\b",
    r"|\bich könnte mich irren\b|\bes ist schwer zu sagen\b|\bohne (?:weitere|nähere) informationen\b",
    r"|\bje ne suis pas (?:tout à fait )?(?:sûre?|certaine?)\b|\ben tant qu(?:e|') ?(?:ia|intelligence artificielle|modèle de langage)\b",
    r"|\bje (?:peux|pourrais) me tromper\b|\bil est difficile de dire\b",
    r"|\bno estoy (?:del todo |completamente )?segur[oa]\b|\bcomo (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje)\b",
    r"|\bpodría estar equivocad[oa]\b|\bes difícil (?:de )?(?:decir|saber)\b",
    r"|我(?:不太|不是很|不)(?:确定|確定|清楚)|作为(?:一个|一款)?(?:ai|人工智能|语言模型|大型语言模型)|我可能(?:会)?(?:有误|弄错|错)|很难说",
);

pub(super) fn measure(answer: &Answer<'_>) -> Option<Measure> {
    let prose = fences::prose(answer.output).replace('’', "'");
    let sentences: Vec<String> = end()
        .split(&prose)
        .filter(|sentence| sentence.chars().any(char::is_alphabetic))
        .map(text::normalise)
        .collect();
    if sentences.is_empty() {
        return None;
    }
    let hedges: Vec<&str> =
        sentences.iter().filter_map(|sentence| Some(phrases().find(sentence)?.as_str())).collect();
    let hedged = share(hedges.len(), sentences.len());
    let found = hedges
        .first()
        .map(|first| format!("{} of the sentences hedge, such as \"{first}\"", percent(hedged)));
    Some(Measure::new(hedged, found.unwrap_or_default()))
}

fn phrases() -> &'static Regex {
    static PATTERN: OnceLock<Regex> = OnceLock::new();
    PATTERN.get_or_init(|| Regex::new(PHRASES).expect("the phrases are a pattern"))
}

/// Where a sentence ends.
fn end() -> &'static Regex {
    static PATTERN: OnceLock<Regex> = OnceLock::new();
    PATTERN.get_or_init(|| Regex::new(r"[.!?]+(?:\s|$)|[。！？]|\n").expect("the literal is a pattern"))
}

#[cfg(test)]
mod tests {
    use super::super::test::score;
    use super::*;

    #[test]
    fn sentences_that_hedge_are_counted() {
        let check = |output: &str, expected: f64| {
            let found = score(measure, "", output);
            assert!((found - expected).abs() < 1e-3, "{output:?}: {found}");
        };
        check("It is 5.", 0.0);
        check("I'm not sure, but it may be 5.", 1.0);
        check("I’m not entirely certain. It is 5.", 0.5);
        check("As an AI, I don't have access to that. It is hard to say. Perhaps 5.", 2.0 / 3.0);
        check("Rest and drink water. Do not run. Please consult a doctor. It heals in 2 weeks.", 0.25);
        check("Ich bin mir nicht sicher.", 1.0);
        check("Je ne suis pas sûr. C'est 5.", 0.5);
        check("No estoy segura, pero es 5.", 1.0);
        check("我不太确定。答案是五。", 0.5);
        check("She was not sure, so she asked.", 0.0);
        check("```\n# I'm not sure\n```\nIt is 5.", 0.0);
        assert!(score(measure, "", "12 + 7 = 19").is_nan());
    }
}
