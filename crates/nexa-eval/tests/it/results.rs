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

/// Whether a right choice and the probabilities of all are the same, where the reference has written these as numpy prints
/// an array: as one text, with eight digits, which JSON gives it for whatever it does not know.
fn assert_printed(found: &Value, expected: &Value, place: &str) {
    assert_eq!(found[0], expected[0], "{place}: the right choice");
    let text = expected[1].as_str().unwrap();
    let inside = text.strip_prefix('[').unwrap().strip_suffix(']').unwrap();
    let expected: Vec<f64> = inside.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let found: Vec<f64> = found[1].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
    assert_eq!(found.len(), expected.len(), "{place}: {text}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-8, "{place}: {found}, not {expected}");
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
    let mut printed = 0;
    for (task, lines) in expected["samples"].as_object().unwrap() {
        let mut found = bench.rows(made, &format!("samples_{task}.jsonl"));
        let mut lines = lines.as_array().unwrap().clone();
        for (at, (found, line)) in found.iter_mut().zip(&mut lines).enumerate() {
            let sides = [found, line].map(|line| {
                // The order of the names says nothing.
                line["metrics"].as_array_mut().unwrap().sort_by_key(Value::to_string);
                line.as_object_mut().unwrap().remove("brier_score")
            });
            match sides {
                [Some(found), Some(expected)] => {
                    assert_printed(&found, &expected, &format!("{task}[{at}].brier_score"));
                    printed += 1;
                }
                [None, None] => {}
                sides => unreachable!("{task}[{at}]: only one side has a Brier score: {sides:?}"),
            }
        }
        assert_same(&Value::Array(found), &Value::Array(lines), task);
    }
    assert_eq!(printed, 14, "every document of `choices` has one");
}
