//! IFEval: instructions whose fulfilment a program can check.
//!
//! Strictly, the answer itself must fulfil an instruction; loosely, it is enough that one of eight versions does: with and
//! without asterisks, first line, last line.
//!
//! # Source
//! J. Zhou et al., "Instruction-Following Evaluation for Large Language Models" (2023), with the checks of the reference's
//! task `ifeval` version 4.0.
//!
//! # Departures
//! The reference counts sentences and words in capitals with NLTK, and tells languages with `langdetect`; their trained
//! models are not part of this program. Sentences and words are counted by rules, languages told by `whatlang`, so that
//! `number_sentences`, `capital_word_frequency` and the four instructions about languages can differ on single answers.

mod check;
mod text;

use nexa_core::table::Row;
use serde_json::Value;

use crate::harness::metric::{Grade, Kind};
use crate::harness::python;

/// Grades an answer by all instructions of a document.
pub(super) fn grade(kind: Kind, document: &Row, answer: &str) -> Result<Grade, String> {
    let is_loose = matches!(kind, Kind::PromptLevelLoose | Kind::InstructionLevelLoose);
    let versions = if is_loose { versions(answer) } else { vec![answer.to_owned()] };
    let mut followed = Vec::new();
    for (instruction, settings) in instructions(document)? {
        let mut is_followed = false;
        for version in versions.iter().filter(|version| !python::strip(version).is_empty()) {
            is_followed |= check::is_followed(&instruction, &settings, version)?;
        }
        followed.push(is_followed);
    }
    Ok(match kind {
        Kind::PromptLevelStrict | Kind::PromptLevelLoose => Grade::of(followed.iter().all(|&one| one)),
        _ => Grade::Flags(followed),
    })
}

/// The instructions of a document with their settings; those that are not set count as absent.
fn instructions(document: &Row) -> Result<Vec<(String, Row)>, String> {
    let list = |field: &str| {
        let list = document.get(field).and_then(Value::as_array);
        list.ok_or_else(|| format!("there is no list in the field `{field}`"))
    };
    let (names, settings) = (list("instruction_id_list")?, list("kwargs")?);
    if names.len() != settings.len() {
        return Err(format!("{} instructions have {} settings", names.len(), settings.len()));
    }
    let pair = |(name, settings): (&Value, &Value)| {
        let mut settings = settings.as_object().cloned().unwrap_or_default();
        settings.retain(|_, value| !matches!(value, Value::Null) && value != &Value::from(0) && value != "");
        (python::text(name), settings)
    };
    Ok(names.iter().zip(settings).map(pair).collect())
}

/// An answer as it is and without its first line, its last, and both; each also without asterisks.
fn versions(answer: &str) -> Vec<String> {
    let lines: Vec<&str> = answer.split('\n').collect();
    let part = |from: usize, to: usize| {
        let lines = lines.get(from..to.max(from)).unwrap_or_default();
        python::strip(&lines.join("\n")).to_owned()
    };
    let last = lines.len() - 1;
    let plain = [answer.to_owned(), part(1, lines.len()), part(0, last), part(1, last)];
    plain.iter().flat_map(|version| [version.clone(), version.replace('*', "")]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn eight_versions_are_tried() {
        let found = versions("Sure:\n*a*, b\nBye");
        assert_eq!(found.len(), 8);
        assert_eq!(&found[2..4], ["*a*, b\nBye", "a, b\nBye"]);
        assert_eq!(&found[6..], ["*a*, b", "a, b"]);
        assert_eq!(versions("one")[2..], [""; 6]);
    }

    #[test]
    fn prompts_and_instructions_are_graded_strictly_and_loosely() {
        let document = json!({
            "instruction_id_list": ["punctuation:no_comma", "startend:end_checker"],
            "kwargs": [{"end_phrase": null}, {"end_phrase": "Bye"}],
        });
        let check = |kind: Kind, expected: Grade| {
            let found = grade(kind, document.as_object().unwrap(), "Well, then\nsee you\nBye").unwrap();
            assert_eq!(found, expected, "{kind:?}");
        };
        check(Kind::PromptLevelStrict, Grade::Number(0.0));
        check(Kind::InstructionLevelStrict, Grade::Flags(vec![false, true]));
        check(Kind::InstructionLevelLoose, Grade::Flags(vec![true, true]));
        check(Kind::PromptLevelLoose, Grade::Number(1.0));
        let empty = grade(Kind::InstructionLevelLoose, document.as_object().unwrap(), " \n");
        assert_eq!(empty, Ok(Grade::Flags(vec![false, false])));
        let unknown = json!({"instruction_id_list": ["a:b"], "kwargs": [{}]});
        assert!(
            grade(Kind::PromptLevelStrict, unknown.as_object().unwrap(), "x").unwrap_err().contains("`a:b`")
        );
    }
}
