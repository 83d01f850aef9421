//! Asking again: from a rejected answer to an accepted one that is learnt as an answer to the first prompt.

use nexa_core::artifact::Kind;
use nexa_core::stage::Inputs;
use nexa_distill::filter::{self, Filter};
use nexa_distill::package::{self, Package};
use nexa_distill::regenerate::{Config, Regenerate};
use serde_json::json;

use crate::server::{Server, good};
use crate::support::{TestLab, collect, object, rows};

#[test]
fn a_rejected_answer_is_asked_for_again_until_it_is_good_or_often_enough() {
    let lab = TestLab::new();
    // Answers one question when it is asked for the first time, one when it is told what was wrong, and one never.
    let server = Server::start(|call| {
        let is_again = call.prompt.contains("not accepted");
        let is_good = call.prompt.contains("easy") || call.prompt.contains("hard") && is_again;
        good(if is_good { "It is four." } else { "I cannot help with that." }, 10)
    });
    let teacher = server.teacher("mock-1");
    let prompts = ["easy question", "hard question", "hopeless question"].map(str::to_owned);
    let stage = || Filter::new(filter::Config::default()).unwrap();
    let outputs = lab.execute(&collect(&teacher, |_| {}), "outputs", &lab.put_prompts(&prompts)).unwrap();
    let first = lab.execute(&stage(), "filtered", &Inputs::none().with("outputs", outputs)).unwrap();

    let again = |filtered: &nexa_core::artifact::Artifact| {
        let inputs = Inputs::none().with("filtered", filtered.clone());
        let regenerate = Regenerate::new(Config { max_attempts: 1, ..Config::default() }).unwrap();
        lab.execute(&regenerate, "again", &inputs)
    };
    let prompts = again(&first).unwrap();
    assert_eq!(rows(&prompts, "parquet").len(), 2);
    let inputs = Inputs::none().with("inputs", prompts);
    let outputs = lab.execute(&collect(&teacher, |_| {}), "outputs_again", &inputs).unwrap();
    let second = lab.execute(&stage(), "filtered_again", &Inputs::none().with("outputs", outputs)).unwrap();
    assert_eq!(rows(&second, "parquet").len(), 1);
    let error = again(&second).unwrap_err();
    assert!(error.to_string().contains("no rejected prompt may be asked again"), "{error}");

    let inputs = Inputs::none().with("filtered", first).with("regenerated", second);
    let config = package::Config { test_share: 0.0, validation_share: 0.0, ..Default::default() };
    let sft = lab.execute(&Package::new(config).unwrap(), "sft", &inputs).unwrap();
    let learnt: Vec<_> = rows(&sft, "train.jsonl")
        .iter()
        .map(|row| (row["id"].clone(), row["messages"][0]["content"].clone()))
        .collect();
    assert_eq!(
        learnt,
        [(json!("p0"), json!("easy question")), (json!("p1-r1"), json!("hard question"))],
        "a student learns to answer what was asked first"
    );
}

#[test]
fn nothing_rejected_is_nothing_to_ask_again() {
    let lab = TestLab::new();
    let rows = vec![object(json!({"id": "a", "user_prompt": "2 + 2?", "teacher_output": "Four."}))];
    let filtered = Inputs::none().with("filtered", lab.put(Kind::Filtered, "filtered", rows));
    let error = lab.execute(&Regenerate::new(Config::default()).unwrap(), "again", &filtered).unwrap_err();
    assert_eq!(error.to_string(), "distill.regenerate: no row is left of 1: nothing was rejected");
}
