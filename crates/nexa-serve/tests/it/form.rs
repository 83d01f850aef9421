//! Answers of a given form.

use nexa_core::lm::{AnswerForm, Error as ModelError, FinishReason, Sampling};
use nexa_serve::{Completion, Engine, EngineConfig, Error, Prompt};
use serde_json::{Value, json};

use crate::engine::{engine, metric};
use crate::fake::Fake;

fn sampling(form: AnswerForm, seed: u64) -> Sampling {
    Sampling { temperature: 1.0, seed, max_tokens: 300, form: Some(form), ..Sampling::default() }
}

async fn answered(engine: &Engine, sampling: Sampling) -> Completion {
    engine.submit(&Prompt::Text("a form: ".to_owned()), sampling).unwrap().complete().await.unwrap()
}

fn person() -> AnswerForm {
    AnswerForm::JsonSchema(json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 3},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false,
    }))
}

#[tokio::test]
async fn whatever_is_drawn_has_the_form_that_was_asked_for() {
    let engine = engine(Fake::mixing());
    for seed in 0..20 {
        let completion = answered(&engine, sampling(person(), seed)).await;
        assert_eq!(completion.finish_reason, FinishReason::Stop, "{}", completion.text);
        let person: Value = serde_json::from_str(&completion.text).unwrap();
        assert!(person["name"].as_str().unwrap().chars().count() <= 8, "{person}");
        assert!((0..=150).contains(&person["age"].as_i64().unwrap()), "{person}");
        assert!(
            person["tags"].as_array().unwrap().iter().all(|tag| tag == "red" || tag == "blue"),
            "{person}"
        );

        let completion =
            answered(&engine, sampling(AnswerForm::Regex("[0-9]{3}-[a-f]{2}".to_owned()), seed)).await;
        let (digits, letters) = completion.text.split_once('-').unwrap();
        assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{}", completion.text);
        assert!(letters.len() == 2 && letters.bytes().all(|byte| (b'a'..=b'f').contains(&byte)));

        let choices = ["yes", "no", "\"quoted\"\nline"].map(str::to_owned);
        let completion = answered(&engine, sampling(AnswerForm::Choice(choices.to_vec()), seed)).await;
        assert!(choices.contains(&completion.text), "{:?}", completion.text);

        let grammar = "start: \"<\" word \">\"\nword: /[xy]+/".to_owned();
        let text = answered(&engine, sampling(AnswerForm::Grammar(grammar), seed)).await.text;
        let word = text.strip_prefix('<').unwrap().trim_end_matches('>');
        assert!(word.bytes().all(|byte| byte == b'x' || byte == b'y'), "{text}");
    }
}

#[tokio::test]
async fn what_a_form_demands_is_read_at_once_and_changes_no_token() {
    let demand = r#"start: "the answer is " /[0-9]/"#.to_owned();
    let with = engine(Fake::mixing());
    let completion = answered(&with, sampling(AnswerForm::Grammar(demand.clone()), 3)).await;
    assert!(completion.text.starts_with("the answer is "), "{}", completion.text);
    assert!(metric(&with.metrics(), "spec_decode_num_accepted_tokens_total") >= 13);

    // A form whose parts are too short to be guessed is followed token by token.
    let letters: Vec<String> = "the answer is ".chars().map(|letter| format!("/[{letter}]/")).collect();
    let slow = format!("start: {} /[0-9]/", letters.join(" "));
    assert_eq!(answered(&with, sampling(AnswerForm::Grammar(slow), 3)).await.text, completion.text);
}

#[tokio::test]
async fn forms_in_one_batch_do_not_meet() {
    let config = |max_batch| EngineConfig { max_batch, ..EngineConfig::default() };
    let alone = Engine::start(Box::new(Fake::mixing()), config(1)).unwrap();
    let together = Engine::start(Box::new(Fake::mixing()), config(8)).unwrap();
    let form = |seed| match seed % 3 {
        0 => Some(person()),
        1 => Some(AnswerForm::Regex("[a-z]{4,9}".to_owned())),
        _ => None,
    };
    let sampling =
        |seed| Sampling { temperature: 1.0, seed, max_tokens: 80, form: form(seed), ..Sampling::default() };
    let ask = |seed| together.submit(&Prompt::Text("a form: ".to_owned()), sampling(seed)).unwrap();
    let answers: Vec<_> = (0..12).map(ask).collect();
    for (seed, answer) in (0..).zip(answers) {
        assert_eq!(answer.complete().await.unwrap(), answered(&alone, sampling(seed)).await);
    }
}

#[tokio::test]
async fn forms_that_nothing_can_have_are_refused() {
    let engine = engine(Fake::mixing());
    let refused = |form, reason: &str| {
        let sampling = Sampling { form: Some(form), ..Sampling::default() };
        match engine.submit(&Prompt::Text("a form".to_owned()), sampling) {
            Err(Error::Model(ModelError::Invalid(message))) => {
                assert!(message.starts_with(reason) && !message.contains('\n'), "{message}");
            }
            other => panic!("{other:?}"),
        }
    };
    refused(AnswerForm::JsonSchema(json!({"type": "nonsense"})), "the JSON schema cannot be used");
    refused(AnswerForm::JsonSchema(json!(false)), "the JSON schema cannot be used");
    refused(AnswerForm::Regex("(".to_owned()), "the regular expression cannot be used");
    refused(AnswerForm::Grammar("begin: nothing".to_owned()), "the grammar cannot be used");
    let sampling = Sampling { form: Some(person()), ignore_eos: true, ..Sampling::default() };
    assert!(engine.submit(&Prompt::Text("a form".to_owned()), sampling).is_err());
}
