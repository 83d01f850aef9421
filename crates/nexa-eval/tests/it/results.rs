//! What comes of tasks is what lm-evaluation-harness makes of them: numbers, standard errors, groups and samples.

use std::path::Path;
use std::sync::Arc;

use nexa_core::event::Cancel;
use nexa_core::stage::Inputs;
use nexa_eval::Evaluate;
use nexa_eval::evaluate::Config;
use serde_json::Value;

use crate::bench::Bench;
use crate::parrot::Parrot;

/// As in `bench/eval/results.py`.
fn nats(context: &str, continuation: &str) -> f64 {
    let bytes = context.bytes().chain(continuation.bytes()).enumerate();
    (bytes.map(|(at, byte)| usize::from(byte) * (at + 1)).sum::<usize>() % 97) as f64 / 8.0
}

/// As there.
fn answer(prompt: &str) -> String {
    const ANSWERS: [&str; 6] = ["The answer is (B).", " b ", "no idea", "C", "(A) or (B)", "B\n\nbecause"];
    ANSWERS[prompt.bytes().map(usize::from).sum::<usize>() % ANSWERS.len()].to_owned()
}

/// Whether two values are the same, numbers within the error of a computation in other order.
fn assert_same(found: &Value, expected: &Value, place: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            let keys = |map: &serde_json::Map<String, Value>| {
                let mut keys: Vec<String> = map.keys().cloned().collect();
                keys.sort();
                keys
            };
            assert_eq!(keys(found), keys(expected), "{place}");
            expected
                .iter()
                .for_each(|(key, value)| assert_same(&found[key], value, &format!("{place}.{key}")));
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{place}");
            let pairs = found.iter().zip(expected).enumerate();
            pairs.for_each(|(at, (found, expected))| assert_same(found, expected, &format!("{place}[{at}]")));
        }
        (Value::Number(found), Value::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!(
                (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
                "{place}: {found}, not {expected}"
            );
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}

/// Expected: `test-data/harness/expected.json`, which `bench/eval/results.py` has lm_eval 0.4.13 write.
#[test]
fn results_and_samples_are_those_of_the_harness() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("test-data/harness");
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
    let bench = Bench::new();
    let config = Config {
        tasks: ["letters", "last_word", "pages", "several", "translated"].map(str::to_owned).into(),
        include_path: vec![folder],
        bootstrap: 2000,
        ..Config::default()
    };
    let model = Arc::new(Parrot { nats, ..Parrot::new(answer) });
    let inputs = Inputs::none().with("checkpoint", bench.checkpoint("parrot"));
    let stage = Evaluate::new(config, bench.root(), model).unwrap();
    let made = bench.execute(&stage, "results", &inputs, &Cancel::default(), false).unwrap();
    let made = made.artifact();
    let results: Value = nexa_core::files::read_json(&made.file("results.json").unwrap()).unwrap();
    for (key, value) in expected.as_object().unwrap().iter().filter(|(key, _)| *key != "samples") {
        assert_same(&results[key], value, key);
    }
    for (task, lines) in expected["samples"].as_object().unwrap() {
        let mut found = Value::Array(bench.rows(made, &format!("samples_{task}.jsonl")));
        let mut lines = lines.clone();
        for line in found.as_array_mut().unwrap().iter_mut().chain(lines.as_array_mut().unwrap()) {
            // The order of the names says nothing, and arrays of numpy print as text.
            line["metrics"].as_array_mut().unwrap().sort_by_key(Value::to_string);
            line.as_object_mut().unwrap().remove("brier_score");
        }
        assert_same(&found, &lines, task);
    }
}
