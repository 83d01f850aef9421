use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::event::Cancel;
use nexa_core::stage::{Context, Inputs, Stage, StageError};
use nexa_eval::evaluate;
use nexa_eval::feedback::{Config, GATES_FILE};
use nexa_eval::{Evaluate, Feedback};
use serde_json::{Value, json};

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

/// A stage of the name of the one that trains.
struct Train;

impl Stage for Train {
    fn name(&self) -> &'static str {
        "train"
    }

    fn kind(&self) -> Kind {
        Kind::Checkpoint
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!({})
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(nexa_core::files::write_atomic(&context.output.join("name"), b"student")?)
    }
}

/// A question about ages or about ways, whose words tell which.
fn question(a: usize, is_way: bool) -> String {
    let about = if is_way {
        "miles is the way that N trains took when N ships left N harbours"
    } else {
        "years is the age that N farmers had when N sons sold N fields"
    };
    format!("{a} + 1 {}?", about.replace('N', &a.to_string()))
}

/// The feedback on a student that is wrong about all ways, which are of domain `odd`, after gates that saw some rows: by
/// filter, those that it kept and those that it rejected. The first filter is the last one before the training.
fn give_after_gates(bench: &Bench, filters: &[(Vec<Value>, Vec<Value>)]) -> Artifact {
    let lines = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let mut from = Inputs::none();
    for (number, (kept, rejected)) in filters.iter().enumerate().rev() {
        let files = vec![("jsonl", lines(kept)), ("rejected.jsonl", lines(rejected))];
        let filter = bench.make_of(Kind::Filtered, &format!("filtered_{number}"), files, &from, Vec::new());
        from = Inputs::none().with("filtered", filter);
    }
    let test = (0..40).map(|a| {
        let mut row = sum(a);
        row["messages"][0]["content"] = json!(question(a, a % 2 == 1));
        row
    });
    let files = vec![
        ("test.jsonl", lines(&test.collect::<Vec<_>>())),
        ("train.jsonl", lines(&[json!({"domain": "odd"})])),
    ];
    let dataset = bench.make_of(Kind::SftDataset, "sums_sft", files, &from, Vec::new());
    let run = |stage: &dyn Stage, name: &str, inputs: &Inputs| {
        bench.execute(stage, name, inputs, &Cancel::default(), false).unwrap().artifact().clone()
    };
    let student = run(&Train, "student", &Inputs::none().with("sft_dataset", dataset.clone()));
    let config = evaluate::Config { contamination: false, ..evaluate::Config::default() };
    let stage = Evaluate::new(config, bench.root(), Arc::new(Adder::new(|a| a % 2 == 0))).unwrap();
    let inputs = Inputs::none().with("checkpoint", student).with("sft_dataset", dataset);
    let evaluation = run(&stage, "exam", &inputs);
    let feedback = Feedback::new(Config::default()).unwrap();
    run(&feedback, "feedback", &Inputs::none().with("evaluation", evaluation))
}

/// A row that a filter saw; a gate is one that rejected it.
fn seen(n: usize, domain: &str, is_way: bool, gate: Option<&str>) -> Value {
    let mut row = json!({"id": format!("r{n}"), "domain": domain, "user_prompt": question(1000 + n, is_way)});
    if let Some(gate) = gate {
        row["rejection_gate"] = json!(gate);
    }
    row
}

#[test]
fn a_gate_that_starves_what_fails_is_found() {
    let bench = Bench::new();
    let rows = |places: std::ops::Range<usize>, domain: &str, is_way: bool, gate: Option<&str>| {
        places.map(|n| seen(n, domain, is_way, gate)).collect::<Vec<_>>()
    };
    // Of thirty odd rows 24 were too long, of thirty even ones one; ten ways are of another domain.
    let kept = [
        rows(0..6, "odd", true, None),
        rows(100..127, "even", false, None),
        rows(200..210, "far", true, None),
    ];
    let rejected = [
        rows(6..30, "odd", true, Some("length")),
        rows(127..128, "even", false, Some("length")),
        rows(128..130, "even", false, Some("duplicate")),
    ];
    // A review after the gates rejects one of those that they kept.
    let reviewed = (kept.concat()[1..].to_vec(), vec![seen(0, "odd", true, Some("review"))]);
    let made = give_after_gates(&bench, &[reviewed, (kept.concat(), rejected.concat())]);
    let gates = bench.rows(&made, GATES_FILE);
    let of = |gate: &str, kind: &str| {
        let found = gates.iter().find(|one| one["gate"] == gate && one["kind"] == kind);
        let found = found.unwrap_or_else(|| unreachable!("{gate} of {kind}: {gates:?}"));
        let count = |key: &str| found[key].as_u64().unwrap();
        let starves = found["is_starving"].as_bool().unwrap();
        (count("rejected"), count("rows"), count("elsewhere_rejected"), count("elsewhere_rows"), starves)
    };
    assert_eq!(of("length", "domain"), (24, 30, 1, 30, true));
    assert_eq!(of("length", "cluster"), (24, 40, 1, 30, true));
    assert_eq!(of("duplicate", "domain"), (0, 30, 2, 30, false));
    assert_eq!(of("review", "domain"), (1, 30, 0, 30, false));
    assert_eq!(gates[0]["gate"], json!("length"));
    assert_eq!(made.manifest.summary["starving_gates"], json!(["length"]));
    let report = std::fs::read_to_string(made.file("report.md").unwrap()).unwrap();
    let line = "| length | domain odd | 24 | 30 | 80.0% |";
    assert!(report.contains(line) && report.contains("| 1 of 30 (3.3%) |"), "{report}");
    let told = bench.told();
    let expected = "gate `length` rejected 80.0% of the rows like `odd`, and 3.3% of those";
    assert!(told.iter().any(|line| line.starts_with(expected)), "{told:?}");
}

#[test]
fn without_filters_nothing_is_said_of_gates() {
    let bench = Bench::new();
    let made = give_after_gates(&bench, &[]);
    assert!(made.file(GATES_FILE).is_err());
    assert_eq!(made.manifest.summary["starving_gates"], json!([]));
    let report = std::fs::read_to_string(made.file("report.md").unwrap()).unwrap();
    assert!(!report.contains("## Gates"), "{report}");
}
