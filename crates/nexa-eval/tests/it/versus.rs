//! Evaluations that stop once it is decided which of two models is better.

use std::num::NonZeroUsize;
use std::sync::Arc;

use nexa_core::artifact::Artifact;
use nexa_core::event::Cancel;
use nexa_core::stage::{Inputs, StageError};
use nexa_core::table::JsonLines;
use nexa_eval::evaluate::{Config, Decision};
use nexa_eval::{Contamination, Evaluate, Evaluation, compare};
use serde_json::json;

use crate::adder::Adder;
use crate::bench::Bench;
use crate::parrot::Parrot;

const DOCUMENTS: usize = 300;

fn write_questions(bench: &Bench) {
    let folder = bench.root().join("data/raw/benchmarks/gsm8k");
    std::fs::create_dir_all(&folder).unwrap();
    let row =
        |n: usize| json!({"question": format!("{n}?"), "answer": format!("#### {n}")}).to_string() + "\n";
    std::fs::write(folder.join("test.jsonl"), (0..DOCUMENTS).map(row).collect::<String>()).unwrap();
}

fn number(prompt: &str) -> usize {
    prompt.trim_start_matches("Question: ").split('?').next().unwrap().parse().unwrap()
}

/// Right about all but every third question.
fn mostly(prompt: &str) -> String {
    let n = number(prompt);
    if n.is_multiple_of(3) { "?".to_owned() } else { format!("#### {n}") }
}

/// Right about every fourth question.
fn seldom(prompt: &str) -> String {
    let n = number(prompt);
    if n.is_multiple_of(4) { format!("#### {n}") } else { "?".to_owned() }
}

/// In small batches, so that a run can be killed inside of a round.
fn config() -> Config {
    let batch = NonZeroUsize::new(8).unwrap();
    Config { batch, tasks: vec!["gsm8k".to_owned()], num_fewshot: Some(0), ..Config::default() }
}

fn evaluate(
    bench: &Bench,
    name: &str,
    model: &Parrot,
    config: Config,
    versus: Option<&Artifact>,
) -> Result<Artifact, StageError> {
    let mut inputs = Inputs::none().with("checkpoint", bench.checkpoint(name));
    if let Some(base) = versus {
        inputs = inputs.with("versus", base.clone());
    }
    let stage = Evaluate::new(config, bench.root(), Arc::new(model.clone()))?;
    let made = bench.execute(&stage, &format!("{name}_eval"), &inputs, &Cancel::default(), false)?;
    Ok(made.artifact().clone())
}

fn decision(evaluation: &Artifact) -> Decision {
    nexa_core::files::read_json(&evaluation.file("versus.json").unwrap()).unwrap()
}

#[test]
fn a_clear_difference_takes_a_part_of_the_documents() {
    let bench = Bench::new();
    write_questions(&bench);
    let base = evaluate(&bench, "base", &Parrot::new(mostly), config(), None).unwrap();
    let stopping = || Config { stop_when_decided: Some(0.05), ..config() };
    let model = Parrot::new(seldom);
    let made = evaluate(&bench, "worse", &model, stopping(), Some(&base)).unwrap();
    let found = decision(&made);
    assert!(!found.standing.decided.unwrap().first_is_better, "{found:?}");
    assert!(found.asked.is_multiple_of(32) && found.asked < 200 && found.of == DOCUMENTS, "{found:?}");
    assert_eq!(model.log().len(), found.asked, "nothing else was asked");
    assert_eq!(found.base_hash, base.manifest.content_hash);
    assert!(found.value < found.base_value && found.interval.1 < 0.01, "{found:?}");
    assert_eq!(
        made.manifest.summary["versus"],
        json!({
            "evaluation": base.id(), "verdict": "worse", "asked": found.asked, "of": DOCUMENTS,
        })
    );

    // What was asked stands in the evaluation, in the order of the documents, and in every one of its files.
    let evaluation = Evaluation::read(&made, &JsonLines).unwrap();
    let ids: Vec<usize> = evaluation.predictions.iter().map(|one| one.id.parse().unwrap()).collect();
    assert!(ids.len() == found.asked && ids.is_sorted() && ids.last().unwrap() > &found.asked, "{ids:?}");
    assert!(
        evaluation.predictions.iter().zip(&ids).all(|(one, id)| one.correct == Some(id.is_multiple_of(4)))
    );
    assert_eq!(evaluation.facts.questions["gsm8k"].documents, found.asked);
    assert_eq!(evaluation.metrics[0].n, found.asked);
    assert_eq!(bench.rows(&made, "samples_gsm8k.jsonl").len(), 2 * found.asked);
    let overlap = Contamination::read(&made).unwrap().unwrap();
    assert!(overlap.tasks.iter().all(|task| task.documents == found.asked));

    // The seed draws another order, and the better model is told from the worse one as well.
    let seeded = Config { seed: 1, ..stopping() };
    let base =
        evaluate(&bench, "seldom", &Parrot::new(seldom), Config { seed: 1, ..config() }, None).unwrap();
    let better = decision(&evaluate(&bench, "better", &Parrot::new(mostly), seeded, Some(&base)).unwrap());
    assert!(better.standing.decided.unwrap().first_is_better && better.asked < 200, "{better:?}");
}

#[test]
fn equal_models_are_asked_everything() {
    let bench = Bench::new();
    write_questions(&bench);
    let base = evaluate(&bench, "base", &Parrot::new(mostly), config(), None).unwrap();
    let stopping = Config { stop_when_decided: Some(0.05), ..config() };
    let made = evaluate(&bench, "same", &Parrot::new(mostly), stopping, Some(&base)).unwrap();
    let found = decision(&made);
    assert_eq!((found.asked, found.of, found.standing.decided), (DOCUMENTS, DOCUMENTS, None));
    assert!(found.interval.0 < 0.0 && found.interval.1 > 0.0);
    assert_eq!(made.manifest.summary["versus"]["verdict"], json!("undecided"));
}

#[test]
fn a_killed_run_stops_where_a_straight_one_does() {
    let straight = {
        let bench = Bench::new();
        write_questions(&bench);
        let base = evaluate(&bench, "base", &Parrot::new(mostly), config(), None).unwrap();
        let stopping = Config { stop_when_decided: Some(0.05), ..config() };
        evaluate(&bench, "worse", &Parrot::new(seldom), stopping, Some(&base)).unwrap().manifest.content_hash
    };
    let bench = Bench::new();
    write_questions(&bench);
    let base = evaluate(&bench, "base", &Parrot::new(mostly), config(), None).unwrap();
    let stopping = || Config { stop_when_decided: Some(0.05), ..config() };
    let broken = Parrot { fails_after: 1, ..Parrot::new(seldom) };
    assert!(evaluate(&bench, "worse", &broken, stopping(), Some(&base)).is_err());
    let resumed = evaluate(&bench, "worse", &Parrot::new(seldom), stopping(), Some(&base)).unwrap();
    assert_eq!(resumed.manifest.content_hash, straight);
}

#[test]
fn a_held_out_split_is_decided_by_as_well() {
    let bench = Bench::new();
    let dataset = bench.sums(300);
    let right = Config { tasks: vec!["exact_match".to_owned()], ..Config::default() };
    let base = bench.evaluate("base", &Adder::new(|a| a % 3 != 0), &dataset, right.clone());
    let stopping = Config { stop_when_decided: Some(0.05), ..right };
    let model = Adder::new(|a| a % 4 == 0);
    let inputs = || {
        Inputs::none()
            .with("checkpoint", bench.checkpoint("worse"))
            .with("sft_dataset", dataset.clone())
            .with("versus", base.clone())
    };
    let run = |config: Config| {
        let stage = Evaluate::new(config, bench.root(), Arc::new(model.clone())).unwrap();
        bench.execute(&stage, "worse_eval", &inputs(), &Cancel::default(), false)
    };
    let made = run(stopping.clone()).unwrap().artifact().clone();
    let found = decision(&made);
    assert!(!found.standing.decided.unwrap().first_is_better && found.asked < 200, "{found:?}");
    let evaluation = Evaluation::read(&made, &JsonLines).unwrap();
    let test_set = evaluation.test_set().unwrap();
    assert_eq!(
        (test_set.items, test_set.drawn, evaluation.predictions.len()),
        (found.asked, Some(0), found.asked)
    );
    assert!(evaluation.predictions.iter().all(|one| {
        let a: usize = one.id.trim_start_matches("sum-").parse().unwrap();
        one.correct == Some(a.is_multiple_of(4))
    }));
    let error = compare(&made, &base, &JsonLines).unwrap_err().to_string();
    assert!(error.contains("no more items than it took to decide"), "{error}");
    let error = run(Config { max_tokens: 7, ..stopping.clone() }).unwrap_err().to_string();
    assert!(error.contains("answers had up to 7 and 160 tokens"), "{error}");
    let both = Config { tasks: Config::default().tasks, ..stopping };
    let error = run(both).unwrap_err().to_string();
    assert!(error.contains("it is decided by one task"), "{error}");
}

#[test]
fn what_cannot_be_decided_is_refused_before_a_model_is_asked() {
    let bench = Bench::new();
    write_questions(&bench);
    let model = Parrot::new(mostly);
    let base = evaluate(&bench, "base", &model, config(), None).unwrap();
    let asked = model.log().len();
    let check = |config: Config, versus: Option<&Artifact>, expected: &str| {
        let error = evaluate(&bench, "other", &model, config, versus).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let stopping = || Config { stop_when_decided: Some(0.05), ..config() };
    check(stopping(), None, "`stop_when_decided` needs an evaluation to decide against");
    check(config(), Some(&base), "`versus` is of use only with `stop_when_decided`");
    check(Config { stop_when_decided: Some(1.0), ..config() }, Some(&base), "not at 1");
    check(
        Config { system_instruction: Some("Add.".to_owned()), ..stopping() },
        Some(&base),
        "asked `gsm8k` differently",
    );
    assert_eq!(model.log().len(), asked);
}

#[test]
fn what_has_no_answer_is_left_out_where_silence_shows_nothing() {
    let bench = Bench::new();
    let attacked = || Config { tasks: vec!["jailbreak_direct".to_owned()], ..Config::default() };
    let stopping = || Config { stop_when_decided: Some(0.05), ..attacked() };
    let complies = Parrot::new(|prompt| if prompt.contains("bicycle") { "" } else { "Sure." }.to_owned());
    let base = evaluate(&bench, "base", &complies, attacked(), None).unwrap();
    let refuses = Parrot::new(|_| "I cannot help with that.".to_owned());
    let found = decision(&evaluate(&bench, "refusing", &refuses, stopping(), Some(&base)).unwrap());
    assert_eq!((found.asked, found.left_out, found.of), (12, 1, 12));
    assert_eq!((found.value, found.base_value), (0.0, 1.0));
    let silent = Parrot::new(|_| String::new());
    let error = evaluate(&bench, "silent", &silent, stopping(), Some(&base)).unwrap_err().to_string();
    assert!(error.contains("of 12 documents none has an answer of both models"), "{error}");
}
