//! Answers of a given form.

use nexa_core::lm::{AnswerForm, Error as ModelError, FinishReason, Sampling};
use nexa_serve::{Completion, Engine, EngineConfig, Error, Prompt};
use serde_json::{Value, json};

use crate::api::check_error;
use crate::engine::{engine, metric};
use crate::fake::Fake;
use crate::life::{Server, chat};
use crate::stream::chunks;

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
    let page = with.metrics();
    assert!(metric(&page, "forced_tokens_total") >= 13);
    // Nothing was speculated.
    let speculated =
        ["draft", "accepted"].map(|kind| metric(&page, &format!("spec_decode_num_{kind}_tokens_total")));
    assert_eq!(speculated, [0, 0]);

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

/// A schema of answers that are short whatever is drawn.
fn digit() -> Value {
    json!({
        "type": "object",
        "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["x"],
        "additionalProperties": false,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_ask_for_a_form_in_each_of_its_names() {
    let server = Server::start(Fake::mixing()).await;
    let is_digit = |text: &str| {
        let said: Value = serde_json::from_str(text).unwrap();
        jsonschema::validator_for(&digit()).unwrap().is_valid(&said)
    };
    let is_word = |text: &str| ["yes", "no"].contains(&text);
    let is_number = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    type Check<'a> = &'a dyn Fn(&str) -> bool;
    let forms: [(Value, Check<'_>); 10] = [
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "d", "strict": true, "schema": digit()}}}),
            &is_digit,
        ),
        (json!({"response_format": {"type": "json_object", "schema": digit()}}), &is_digit),
        (json!({"response_format": {"type": "regex", "pattern": "[0-9]{3}"}}), &is_number),
        (json!({"structured_outputs": {"json": digit()}}), &is_digit),
        (json!({"structured_outputs": {"choice": ["yes", "no"]}}), &is_word),
        (json!({"guided_json": digit()}), &is_digit),
        (json!({"guided_json": digit().to_string()}), &is_digit),
        (json!({"guided_regex": "[0-9]{3}"}), &is_number),
        (json!({"guided_choice": ["yes", "no"]}), &is_word),
        (json!({"guided_grammar": "start: \"yes\" | \"no\""}), &is_word),
    ];
    for (seed, (form, is_right)) in forms.into_iter().enumerate() {
        let body = |more: Value| {
            let mut body = json!({"temperature": 1, "seed": seed, "max_tokens": 100});
            body.as_object_mut().unwrap().extend(form.as_object().unwrap().clone());
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let path = "/v1/chat/completions";
        let whole: Value = server.post(path, chat(body(json!({})))).await.json().await.unwrap();
        let said = whole["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{whole}"));
        assert!(is_right(said), "{form}: {said}");
        let streamed = chunks(&server, path, chat(body(json!({"stream": true})))).await;
        let text = streamed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
        assert_eq!(text.collect::<String>(), said, "{form}");
        let completed = server.post("/v1/completions", body(json!({"prompt": "a form: "}))).await;
        let completed: Value = completed.json().await.unwrap();
        let said = completed["choices"][0]["text"].as_str().unwrap_or_else(|| panic!("{completed}"));
        assert!(is_right(said), "{form}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_json_object_is_one_whatever_the_model_would_say() {
    let ask = async |model: Fake, more: Value| {
        let server = Server::start(model).await;
        let mut body = json!({"response_format": {"type": "json_object"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply: Value = server.post("/v1/chat/completions", chat(body)).await.json().await.unwrap();
        reply["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    };
    assert_eq!(ask(Fake::saying("{\"a\": [1]}"), json!({})).await, "{\"a\": [1]}");
    // Only its beginning: such a model may never come to the end.
    let said = ask(Fake::saying("No, thank you."), json!({"max_tokens": 30})).await;
    assert!(said.trim_start().starts_with('{'), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_for_a_form_that_makes_no_sense_are_refused() {
    let server = Server::start(Fake::saying("hi")).await;
    let nonsense = json!({"type": "nonsense"});
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let ask = async |form: Value| {
            let mut body = if path == "/v1/completions" { json!({"prompt": "x"}) } else { chat(json!({})) };
            body.as_object_mut().unwrap().extend(form.as_object().unwrap().clone());
            server.post(path, body).await
        };
        for form in [
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": nonsense}}}),
            json!({"guided_json": nonsense}),
            json!({"guided_json": {"$ref": "#/$defs/nowhere"}}),
            json!({"guided_regex": "("}),
            json!({"guided_grammar": "begin: nothing"}),
        ] {
            check_error(ask(form).await, 400, None, None).await;
        }
        for (form, param) in [
            (json!({"response_format": {"type": "json_schema"}}), "response_format"),
            (json!({"response_format": {"type": "yaml"}}), "response_format"),
            (json!({"response_format": "json"}), "response_format"),
            (json!({"guided_json": "{"}), "guided_json"),
            (json!({"guided_choice": []}), "guided_choice"),
            (json!({"guided_choice": ["a"], "guided_regex": "a"}), "guided_choice"),
        ] {
            check_error(ask(form).await, 400, Some(param), Some("invalid_value")).await;
        }
    }
}
