//! The instructions, and how each is checked.

use nexa_core::table::Row;
use serde_json::Value;

use super::text;
use crate::harness::python::{self, PythonRegex};

/// Whether an answer fulfils an instruction.
///
/// # Errors
/// Names an instruction that is unknown or lacks a setting.
pub(super) fn is_followed(instruction: &str, settings: &Row, answer: &str) -> Result<bool, String> {
    let set = Settings { instruction, settings };
    let trimmed = python::strip(answer);
    Ok(match instruction {
        "keywords:existence" => {
            let mut all = true;
            for keyword in set.texts("keywords")? {
                all &= count(&format!("(?i){keyword}"), answer)? > 0;
            }
            all
        }
        "keywords:frequency" => {
            let found = count(&format!("(?i){}", python::strip(set.text("keyword")?)), answer)?;
            set.compare(found, "frequency", "relation")?
        }
        "keywords:forbidden_words" => {
            let mut none = true;
            for word in set.texts("forbidden_words")? {
                none &= count(&format!(r"(?i)\b{word}\b"), answer)? == 0;
            }
            none
        }
        "keywords:letter_frequency" => {
            let letter = set.text("letter")?.to_lowercase();
            let found = answer.to_lowercase().matches(letter.trim()).count();
            set.compare(found, "let_frequency", "let_relation")?
        }
        "language:response_language" => text::is_of_language(answer, set.text("language")?),
        "length_constraints:number_sentences" => {
            set.compare(text::sentences(answer), "num_sentences", "relation")?
        }
        "length_constraints:number_words" => set.compare(text::words(answer), "num_words", "relation")?,
        "length_constraints:number_paragraphs" => paragraphs(answer)? == Some(set.number("num_paragraphs")?),
        "length_constraints:nth_paragraph_first_word" => first_word(&set, answer)?,
        "detectable_content:number_placeholders" => {
            count(r"\[.*?\]", answer)? >= set.number("num_placeholders")?
        }
        "detectable_content:postscript" => postscript(set.text("postscript_marker")?, answer)?,
        "detectable_format:number_bullet_lists" => {
            let bullets = count(r"(?m)^\s*\*[^\*].*$", answer)? + count(r"(?m)^\s*-.*$", answer)?;
            bullets == set.number("num_bullets")?
        }
        "detectable_format:constrained_response" => {
            ["My answer is yes.", "My answer is no.", "My answer is maybe."]
                .iter()
                .any(|one| trimmed.contains(one))
        }
        "detectable_format:number_highlighted_sections" => {
            highlights(answer)? >= set.number("num_highlights")?
        }
        "detectable_format:multiple_sections" => {
            let pattern = format!(r"\s?{}\s?\d+\s?", python::strip(set.text("section_spliter")?));
            count(&pattern, answer)? >= set.number("num_sections")?
        }
        "detectable_format:json_format" => is_json(trimmed),
        "detectable_format:title" => {
            let titles = PythonRegex::new(r"<<[^\n]+>>")?;
            let has_words =
                |title: &str| !python::strip(title.trim_start_matches('<').trim_end_matches('>')).is_empty();
            titles.find_all(answer)?.iter().flatten().any(|title| has_words(title))
        }
        "combination:two_responses" => are_two(answer),
        "combination:repeat_prompt" => {
            trimmed.to_lowercase().starts_with(&python::strip(set.text("prompt_to_repeat")?).to_lowercase())
        }
        "startend:end_checker" => {
            let end = python::strip(set.text("end_phrase")?).to_lowercase();
            trimmed.trim_matches('"').to_lowercase().ends_with(&end)
        }
        "startend:quotation" => {
            trimmed.chars().count() > 1 && trimmed.starts_with('"') && trimmed.ends_with('"')
        }
        "change_case:capital_word_frequency" => {
            set.compare(text::capital_words(answer), "capital_frequency", "capital_relation")?
        }
        "change_case:english_capital" => {
            text::is_upper(answer) && text::is_of_language(&answer.to_lowercase(), "en")
        }
        "change_case:english_lowercase" => text::is_lower(answer) && text::is_of_language(answer, "en"),
        "punctuation:no_comma" => !answer.contains(','),
        _ => return Err(format!("there is no check of the instruction `{instruction}`")),
    })
}

/// The settings of an instruction.
struct Settings<'a> {
    instruction: &'a str,
    settings: &'a Row,
}

impl<'a> Settings<'a> {
    fn get(&self, key: &str) -> Result<&'a Value, String> {
        let missing = || format!("the instruction `{}` has no `{key}`", self.instruction);
        self.settings.get(key).ok_or_else(missing)
    }

    fn text(&self, key: &str) -> Result<&'a str, String> {
        let value = self.get(key)?;
        value.as_str().ok_or_else(|| format!("`{key}` of `{}` is {value}, not text", self.instruction))
    }

    fn texts(&self, key: &str) -> Result<Vec<&'a str>, String> {
        let value = self.get(key)?;
        let texts = value.as_array().map(|texts| texts.iter().filter_map(Value::as_str).collect());
        texts.ok_or_else(|| format!("`{key}` of `{}` is {value}, no list of texts", self.instruction))
    }

    fn number(&self, key: &str) -> Result<usize, String> {
        let value = self.get(key)?;
        // Parquet may hold whole numbers as floats where some rows have none.
        let number = value.as_f64().filter(|number| *number >= 0.0).map(|number| number as usize);
        number.ok_or_else(|| format!("`{key}` of `{}` is {value}, no number", self.instruction))
    }

    /// Whether a count is less than, or at least, a threshold.
    fn compare(&self, found: usize, threshold: &str, relation: &str) -> Result<bool, String> {
        let threshold = self.number(threshold)?;
        match self.text(relation)? {
            "less than" => Ok(found < threshold),
            "at least" => Ok(found >= threshold),
            other => Err(format!("`{relation}` of `{}` is `{other}`", self.instruction)),
        }
    }
}

fn count(pattern: &str, text: &str) -> Result<usize, String> {
    Ok(PythonRegex::new(pattern)?.find_all(text)?.len())
}

/// The number of paragraphs between dividers `***`; none where one in the middle is empty.
fn paragraphs(answer: &str) -> Result<Option<usize>, String> {
    let marked = PythonRegex::new(r"\s?\*\*\*\s?")?.replace(answer, "\0", 0)?;
    let parts: Vec<&str> = marked.split('\0').collect();
    let is_empty = |part: &str| python::strip(part).is_empty();
    let last = parts.len() - 1;
    if parts.iter().take(last).skip(1).any(|part| is_empty(part)) {
        return Ok(None);
    }
    let ends = if last == 0 { &parts[..1] } else { &[parts[0], parts[last]][..] };
    Ok(Some(parts.len() - ends.iter().filter(|part| is_empty(part)).count()))
}

fn first_word(set: &Settings<'_>, answer: &str) -> Result<bool, String> {
    let (wanted, nth) = (set.number("num_paragraphs")?, set.number("nth_paragraph")?);
    let parts: Vec<&str> = answer.split("\n\n").collect();
    let found = parts.iter().filter(|part| !python::strip(part).is_empty()).count();
    let Some(part) = nth.checked_sub(1).filter(|_| nth <= found).and_then(|at| parts.get(at)) else {
        return Ok(false);
    };
    let word = part.split_whitespace().next().unwrap_or_default();
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let word = word.split(['.', ',', '?', '!', '\'', '"']).next().unwrap_or_default();
    Ok(found == wanted && !word.is_empty() && word.to_lowercase() == set.text("first_word")?.to_lowercase())
}

fn postscript(marker: &str, answer: &str) -> Result<bool, String> {
    let pattern = match python::strip(marker) {
        "P.P.S" => r"p\.\s?p\.\s?s".to_owned(),
        "P.S." => r"p\.\s?s\.".to_owned(),
        other => other.to_lowercase(),
    };
    Ok(count(&pattern, &answer.to_lowercase())? > 0)
}

/// Sections between asterisks, and once more those between two.
fn highlights(answer: &str) -> Result<usize, String> {
    let single = PythonRegex::new(r"\*[^\n\*]*\*")?;
    let double = PythonRegex::new(r"\*\*[^\n\*]*\*\*")?;
    let has_words = |text: &&str| !python::strip(text.trim_matches('*')).is_empty();
    let single = single.find_all(answer)?.into_iter().flatten().filter(has_words).count();
    Ok(single + double.find_all(answer)?.into_iter().flatten().filter(has_words).count())
}

/// JSON, in a block of Markdown or not.
fn is_json(answer: &str) -> bool {
    let mut text = answer;
    for opening in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(opening).unwrap_or(text);
    }
    let text = python::strip(text.strip_suffix("```").unwrap_or(text));
    serde_json::from_str::<Value>(text).is_ok()
}

/// Two different answers with six asterisks between them.
fn are_two(answer: &str) -> bool {
    let parts: Vec<&str> = answer.split("******").map(python::strip).collect();
    let last = parts.len() - 1;
    let has_gap = parts.iter().enumerate().any(|(at, part)| part.is_empty() && at != 0 && at != last);
    let found: Vec<&&str> = parts.iter().filter(|part| !part.is_empty()).collect();
    !has_gap && matches!(found.as_slice(), [first, second] if first != second)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(instruction: &str, settings: Value, right: &[&str], wrong: &[&str]) {
        let settings = settings.as_object().unwrap();
        for (answers, expected) in [(right, true), (wrong, false)] {
            for answer in answers {
                assert_eq!(
                    is_followed(instruction, settings, answer),
                    Ok(expected),
                    "{instruction}: {answer:?}"
                );
            }
        }
    }

    /// Expected: the checkers of the reference on these answers; those that need trained models by hand.
    #[test]
    fn instructions_are_checked_as_by_the_reference() {
        check("keywords:existence", json!({"keywords": ["cat", "dog"]}), &["Cats and a DOG"], &["cat"]);
        let frequency = json!({"keyword": "cat", "frequency": 2, "relation": "at least"});
        check("keywords:frequency", frequency, &["cat concat"], &["cat"]);
        check("keywords:forbidden_words", json!({"forbidden_words": ["cat"]}), &["cats"], &["a Cat."]);
        let letters = json!({"letter": "a", "let_frequency": 3, "let_relation": "less than"});
        check("keywords:letter_frequency", letters, &["Aa b"], &["aAa"]);
        let words = json!({"num_words": 3, "relation": "less than"});
        check("length_constraints:number_words", words, &["one two"], &["one, two-three"]);
        let sentences = json!({"num_sentences": 2, "relation": "at least"});
        check("length_constraints:number_sentences", sentences, &["One. Two."], &["One"]);
        check(
            "length_constraints:number_paragraphs",
            json!({"num_paragraphs": 2}),
            &["a\n***\nb", "***\na\n***\nb"],
            &["a", "a\n***\n\n***\nb"],
        );
        let first = json!({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Second"});
        check(
            "length_constraints:nth_paragraph_first_word",
            first,
            &["a\n\n\"second\" b"],
            &["a\n\nthird", "a\n\nsecond\n\nb", "second"],
        );
        check(
            "detectable_content:number_placeholders",
            json!({"num_placeholders": 2}),
            &["[a] [b]"],
            &["[a\nb] [c]"],
        );
        check(
            "detectable_content:postscript",
            json!({"postscript_marker": "P.P.S"}),
            &["x\nP. P. S done"],
            &["P.S. x"],
        );
        check("detectable_content:postscript", json!({"postscript_marker": "P.S."}), &["x\np.s. y"], &["ps"]);
        check(
            "detectable_format:number_bullet_lists",
            json!({"num_bullets": 2}),
            &["* a\n- b"],
            &["* a", "**a**\n* b"],
        );
        check(
            "detectable_format:constrained_response",
            json!({}),
            &["So: My answer is no."],
            &["my answer is no."],
        );
        check(
            "detectable_format:number_highlighted_sections",
            json!({"num_highlights": 2}),
            &["*a* *b*", "**a** *b*"],
            &["*a* ** **"],
        );
        let sections = json!({"section_spliter": "Section", "num_sections": 2});
        check(
            "detectable_format:multiple_sections",
            sections,
            &["Section 1\na\nSection 2"],
            &["Section one Section 2"],
        );
        check(
            "detectable_format:json_format",
            json!({}),
            &["{\"a\": 1}", "```json\n[1]\n```"],
            &["so: {}", "{a: 1}"],
        );
        check("detectable_format:title", json!({}), &["<<Cats>>\n"], &["<Cats>", "<< >>"]);
        check("combination:two_responses", json!({}), &["a******b"], &["a", "a******a", "a******\n******b"]);
        check(
            "combination:repeat_prompt",
            json!({"prompt_to_repeat": "Say it"}),
            &[" say it. yes"],
            &["yes"],
        );
        check("startend:end_checker", json!({"end_phrase": "The End"}), &["so \"the end\""], &["The End."]);
        check("startend:quotation", json!({}), &[" \"a\" "], &["\"", "\"a"]);
        let capitals = json!({"capital_frequency": 2, "capital_relation": "at least"});
        check("change_case:capital_word_frequency", capitals, &["A big NO"], &["one NO"]);
        check(
            "change_case:english_capital",
            json!({}),
            &["THIS IS A LONG AND QUITE ENGLISH SENTENCE."],
            &["This is one."],
        );
        check(
            "change_case:english_lowercase",
            json!({}),
            &["this is a long and quite english sentence."],
            &["This is one."],
        );
        check("punctuation:no_comma", json!({}), &["a b"], &["a, b"]);
        let german = &["Das Wetter ist heute sehr schön, und wir gehen lange spazieren."];
        check(
            "language:response_language",
            json!({"language": "de"}),
            german,
            &["The weather is nice and we go for a long walk."],
        );
    }

    #[test]
    fn what_cannot_be_checked_is_named() {
        let error = |instruction: &str, settings: Value| {
            is_followed(instruction, settings.as_object().unwrap(), "x").unwrap_err()
        };
        assert!(error("keywords:existence", json!({})).contains("has no `keywords`"));
        assert!(
            error("length_constraints:number_words", json!({"num_words": 1, "relation": "about"}))
                .contains("`about`")
        );
    }
}
