use std::sync::Arc;

use nexa_core::artifact::Artifact;
use nexa_core::event::Cancel;
use nexa_core::stage::{Inputs, Stage};
use nexa_eval::evaluate;
use nexa_eval::feedback::Config;
use nexa_eval::{Evaluate, Feedback};
use serde_json::json;

use crate::adder::Adder;
use crate::bench::{Bench, sum};

fn give(bench: &Bench, config: Config, dataset: Option<&Artifact>, model: fn(usize) -> bool) -> Artifact {
    let sums = bench.sums(40);
    let evaluation = bench.evaluate("model", &Adder::new(model), &sums, evaluate::Config::default());
    let mut inputs = Inputs::none().with("evaluation", evaluation);
    if let Some(dataset) = dataset {
        inputs = inputs.with("sft_dataset", dataset.clone());
    }
    let stage = Feedback::new(config).unwrap();
    bench.execute(&stage, "feedback", &inputs, &Cancel::default(), false).unwrap().artifact().clone()
}

#[test]
fn a_weak_domain_is_found_with_its_failures() {
    let bench = Bench::new();
    let dataset = bench.sums(40);
    let made =
        give(&bench, Config { examples: 2, ..Config::default() }, Some(&dataset), |a| a % 2 == 0 || a < 6);
    let rows = bench.rows(&made, "jsonl");
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (&row["domain"], &row["n"], &row["correct"], &row["accuracy"]),
        (&json!("odd"), &json!(20), &json!(3), &json!(0.15))
    );
    assert_eq!((&row["training_rows"], &row["recommended_new_prompts"]), (&json!(1), &json!(170)));
    assert_eq!(row["causes"], json!({"too_long": 0, "cut_off": 0, "no_final_answer": 17, "wrong_answer": 0}));
    assert_eq!(
        (row["failed_ids"].as_array().unwrap().len(), row["examples"].as_array().unwrap().len()),
        (17, 2)
    );
    assert_eq!(row["examples"][0]["id"], json!("sum-7"));
    let report = std::fs::read_to_string(made.file("report.md").unwrap()).unwrap();
    let line = "| odd | 3 | 20 | 15.0% | 5.2% to 36.0% | 1 | yes | 170 |";
    assert!(report.contains(line) && report.contains("    7 + 1?"), "{report}");
    assert_eq!(made.manifest.summary["weak_domains"], json!(["odd"]));
}

#[test]
fn the_same_content_under_other_names_gives_the_same_bytes() {
    let made = |dataset: &str, evaluation: &str| {
        let bench = Bench::new();
        // A version that another lab does not have.
        bench.dataset(dataset, &[sum(99)]);
        let sums = bench.dataset(dataset, &(0..40).map(sum).collect::<Vec<_>>());
        let model = Adder::new(|a| a % 2 == 0);
        let checkpoint = bench.checkpoint("model");
        let inputs = Inputs::none().with("checkpoint", checkpoint).with("sft_dataset", sums.clone());
        let stage = Evaluate::new(evaluate::Config::default(), bench.root(), Arc::new(model)).unwrap();
        let run = |stage: &dyn Stage, name: &str, inputs: &Inputs| {
            bench.execute(stage, name, inputs, &Cancel::default(), false).unwrap().artifact().clone()
        };
        let evaluation = run(&stage, evaluation, &inputs);
        let inputs = Inputs::none().with("evaluation", evaluation.clone()).with("sft_dataset", sums);
        let feedback = run(&Feedback::new(Config::default()).unwrap(), "feedback", &inputs);
        let parts = |artifact: &Artifact| {
            (artifact.manifest.producer.key.clone(), artifact.manifest.content_hash.clone())
        };
        (parts(&evaluation), parts(&feedback))
    };
    assert_eq!(made("sums_sft", "exam"), made("other_sft", "second_exam"));
}

#[test]
fn the_bar_decides_what_is_weak() {
    let check = |target: Option<f64>, model: fn(usize) -> bool, expected: &[&str]| {
        let bench = Bench::new();
        let made = give(&bench, Config { target, ..Config::default() }, None, model);
        assert_eq!(made.manifest.summary["weak_domains"], json!(expected));
        assert_eq!(bench.rows(&made, "jsonl").len(), expected.len());
    };
    // A small difference between domains shows nothing.
    check(None, |a| a < 20 || a == 22, &[]);
    check(Some(0.95), |a| a < 20 || a == 22, &["odd", "even"]);
    check(Some(0.1), |a| a < 20, &[]);
    check(None, |a| a % 2 == 0, &["odd"]);
}

#[test]
fn a_target_is_a_share() {
    for target in [-0.1, 1.5, f64::NAN] {
        let error =
            Feedback::new(Config { target: Some(target), ..Config::default() }).unwrap_err().to_string();
        assert!(error.contains("`target`"), "{error}");
    }
}
