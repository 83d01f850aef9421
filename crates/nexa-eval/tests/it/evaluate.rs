use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use nexa_core::ExitCode;
use nexa_core::artifact::Artifact;
use nexa_core::event::Cancel;
use nexa_core::table::JsonLines;
use nexa_eval::Evaluation;
use nexa_eval::evaluate::{Config, Limit, Split};
use serde_json::{Value, json};

use crate::adder::{Adder, Stop};
use crate::bench::{Bench, sum};

fn small_batches() -> Config {
    Config { batch: NonZeroUsize::new(3).unwrap(), ..Config::default() }
}

#[test]
fn an_evaluation_holds_predictions_metrics_and_facts() {
    let bench = Bench::new();
    let dataset = bench.sums(10);
    let made = bench.evaluate("half", &Adder::new(|a| a < 5), &dataset, small_batches());

    let rows = bench.rows(&made, "predictions.parquet");
    assert_eq!(rows.len(), 20);
    let first = json!({
        "task": "exact_match", "id": "sum-0", "domain": "even", "group": "g0", "prompt": "0 + 1?", "question": null,
        "reference": "1",
        "output": "#### 1", "prediction": "1", "correct": true, "finish_reason": "stop", "logprob_nats": null,
        "tokens": null, "bytes": null, "metrics": null, "answers": null, "choices": null, "messages": null,
        "overlap_8": null, "overlap_13": null,
    });
    assert_eq!(rows[0], first);
    let score = &rows[10];
    assert_eq!(
        (
            &score["task"],
            &score["id"],
            &score["logprob_nats"],
            &score["tokens"],
            &score["bytes"],
            &score["output"]
        ),
        (&json!("perplexity"), &json!("sum-0"), &json!(-8.0), &json!(9), &json!(16), &Value::Null)
    );
    assert_eq!(
        rows[0].as_object().unwrap().keys().collect::<Vec<_>>(),
        first.as_object().unwrap().keys().collect::<Vec<_>>()
    );
    assert_eq!(
        (&rows[9]["id"], &rows[9]["prediction"], &rows[9]["correct"]),
        (&json!("sum-9"), &Value::Null, &json!(false))
    );

    let metrics: Value = nexa_core::files::read_json(&made.file("metrics.json").unwrap()).unwrap();
    let names: Vec<&str> =
        metrics.as_array().unwrap().iter().map(|m| m["metric"].as_str().unwrap()).collect();
    assert_eq!(names, ["exact_match", "exact_match_flexible", "loss", "perplexity", "bits_per_byte"]);
    let exact = &metrics[0];
    assert_eq!(
        (&exact["value"], &exact["n"], &exact["higher_is_better"]),
        (&json!(0.5), &json!(10), &json!(true))
    );
    // Wilson for 5 of 10 and for 3 of 5, scipy 1.17.1.
    assert!((exact["ci_low"].as_f64().unwrap() - 0.236_593_090_512_564).abs() < 1e-12);
    assert_eq!(exact["by_domain"]["even"]["value"], json!(0.6));
    assert!(
        (exact["by_domain"]["even"]["ci_high"].as_f64().unwrap() - 0.882_379_225_767_352_1).abs() < 1e-12
    );
    // Every byte costs half a nat.
    let bits = metrics[4]["value"].as_f64().unwrap();
    assert!((bits - 0.5 / std::f64::consts::LN_2).abs() < 1e-12, "{bits}");

    let summary = &made.manifest.summary;
    assert_eq!(summary["model"], json!("half"));
    assert_eq!(summary["exact_match"]["value"], json!(0.5));
    let facts: Value = nexa_core::files::read_json(&made.file("facts.json").unwrap()).unwrap();
    let split = dataset.manifest.files.iter().find(|file| file.name == "test.jsonl").unwrap();
    let expected = json!({
        "checkpoint_hash": bench.checkpoint("half").manifest.content_hash, "weights_hash": "blake3:half",
        "tasks": ["exact_match", "perplexity"],
        "test_set": {
            "dataset_hash": dataset.manifest.content_hash, "split": "test", "split_hash": split.hash, "items": 10,
            "max_tokens": 160,
        },
        "questions": {},
    });
    assert_eq!(facts, expected);
    assert_eq!(made.manifest.counts.rows, Some(20));
    assert!(bench.warnings().is_empty(), "{:?}", bench.warnings());
}

#[test]
fn a_stopped_evaluation_goes_on_and_ends_the_same() {
    let straight = {
        let bench = Bench::new();
        let dataset = bench.sums(30);
        bench.evaluate("model", &Adder::new(|a| a % 3 == 0), &dataset, small_batches()).manifest.content_hash
    };
    // Calls 1 to 10 ask for answers, 11 and 12 for scores; a cancelled call still counts, a failed one does not.
    for (stops_at_call, fails) in
        [(1, false), (3, false), (10, false), (11, false), (12, false), (1, true), (3, true), (12, true)]
    {
        let bench = Bench::new();
        let dataset = bench.sums(30);
        let cancel = Cancel::default();
        let stop = if fails { Stop::Fail } else { Stop::Cancel(cancel.clone()) };
        let mut model = Adder { stops_at_call, stop, ..Adder::new(|a| a % 3 == 0) };
        match bench.try_evaluate("model", &model, &dataset, small_batches(), &cancel) {
            Err(error) if fails => assert_eq!(error.exit_code(), ExitCode::Unavailable),
            Err(error) => assert_eq!(error.exit_code(), ExitCode::Interrupted),
            // Nothing is left to interrupt after the last batch.
            Ok(_) => assert_eq!((stops_at_call, fails), (12, false)),
        }
        model.stops_at_call = usize::MAX;
        // A batch of another size changes neither the key of the work nor its result.
        let config = Config { batch: NonZeroUsize::new(2).unwrap(), ..Config::default() };
        let made = bench.evaluate("model", &model, &dataset, config);
        assert_eq!(made.manifest.content_hash, straight, "stopped at call {stops_at_call}");
        let asked = model.asked.lock().unwrap();
        let mut unique = asked.clone();
        unique.sort();
        unique.dedup();
        assert_eq!((asked.len(), unique.len()), (60, 60), "nothing is asked twice");
    }
}

#[test]
fn an_evaluation_of_code_version_1_is_read_from_its_manifest() {
    let bench = Bench::new();
    let dataset = bench.sums(4);
    let mut made = bench.evaluate("old", &Adder::new(|_| true), &dataset, Config::default());
    let read = |made: &Artifact| Evaluation::read(made, &JsonLines).unwrap().facts;
    let expected = read(&made);
    // As that version left it: the facts in the summary, with the name of the data set among them.
    let mut test_set = serde_json::to_value(expected.test_set.as_ref().unwrap()).unwrap();
    test_set["dataset"] = json!(dataset.id());
    let manifest = &mut made.manifest;
    manifest.producer.code_version = 1;
    manifest.files.retain(|file| file.name != "facts.json");
    manifest.summary.insert("test_set".to_owned(), test_set);
    manifest.summary.insert("weights_hash".to_owned(), json!("blake3:old"));
    assert_eq!(read(&made), expected);
}

#[test]
fn items_longer_than_the_context_do_not_stop_the_others() {
    let bench = Bench::new();
    let mut rows: Vec<Value> = (0..7).map(sum).collect();
    rows[4]["messages"][0]["content"] = json!("4 + 1 apples and pears?");
    let dataset = bench.dataset("long_sft", &rows);
    let model = Adder { context_words: 4, ..Adder::new(|_| true) };
    let made = bench.evaluate("short", &model, &dataset, small_batches());
    let found = bench.rows(&made, "predictions.parquet");
    assert_eq!(
        (&found[4]["correct"], &found[4]["output"], &found[4]["finish_reason"], &found[11]["tokens"]),
        (&json!(false), &Value::Null, &json!("too_long"), &Value::Null)
    );
    assert!(found[..7].iter().enumerate().all(|(at, row)| at == 4 || row["correct"] == json!(true)));
    let metrics: Value = nexa_core::files::read_json(&made.file("metrics.json").unwrap()).unwrap();
    let counts = |at: usize| (metrics[at]["n"].as_u64().unwrap(), metrics[at]["too_long"].as_u64().unwrap());
    assert_eq!((counts(0), counts(4)), ((7, 1), (6, 1)));
    let warnings = bench.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("1 of 7 items") && warnings[0].contains("`sum-4` with 6"), "{warnings:?}");
}

#[test]
fn where_nothing_fits_there_is_no_evaluation() {
    let bench = Bench::new();
    let dataset = bench.sums(3);
    let model = Adder { context_words: 1, ..Adder::new(|_| true) };
    let config = Config { tasks: vec!["perplexity".to_owned()], ..Config::default() };
    let error = bench.try_evaluate("tiny", &model, &dataset, config, &Cancel::default()).unwrap_err();
    assert_eq!(error.to_string(), "task `perplexity` measured none of 3 items");
}

#[test]
fn progress_counts_what_earlier_attempts_did() {
    let bench = Bench::new();
    let dataset = bench.sums(6);
    let config = || Config { tasks: vec!["exact_match".to_owned()], ..small_batches() };
    let mut model = Adder { stops_at_call: 2, ..Adder::new(|_| true) };
    bench.try_evaluate("model", &model, &dataset, config(), &Cancel::default()).unwrap_err();
    assert_eq!(bench.progress(), [(1, Some(6)), (2, Some(6)), (3, Some(6))]);
    model.stops_at_call = usize::MAX;
    bench.evaluate("model", &model, &dataset, config());
    assert_eq!(bench.progress()[3..], [(4, Some(6)), (5, Some(6)), (6, Some(6))]);
}

#[test]
fn a_model_without_probabilities_gives_no_perplexity() {
    let bench = Bench::new();
    let dataset = bench.sums(4);
    let model = Adder { has_scorer: false, ..Adder::new(|_| true) };
    let made = bench.evaluate("mute", &model, &dataset, Config::default());
    assert!(made.manifest.summary.contains_key("exact_match") && !made.manifest.summary.contains_key("loss"));
    assert_eq!(bench.warnings(), ["model `mute` tells no probabilities, so `perplexity` is left out"]);

    let config = Config { tasks: vec!["perplexity".to_owned()], ..Config::default() };
    let error = bench.try_evaluate("mute", &model, &dataset, config, &Cancel::default()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Config);
    assert!(error.to_string().contains("which `perplexity` needs"), "{error}");
}

#[test]
fn what_cannot_be_evaluated_is_refused_before_a_model_answers() {
    let check = |rows: &[Value], config: Config, expected: &str| {
        let bench = Bench::new();
        let dataset = bench.dataset("odd_sft", rows);
        let model = Adder::new(|_| true);
        let error = bench.try_evaluate("model", &model, &dataset, config, &Cancel::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(model.calls.load(Ordering::SeqCst), 0);
        assert!(error.hint().is_some(), "{error}");
    };
    let mut bare = sum(1);
    bare["reference"] = Value::Null;
    check(&[], Config::default(), "split `test` of sums/odd_sft_v1 holds no row");
    check(
        &[sum(0), bare.clone()],
        Config::default(),
        "1 of 2 rows of split `test` of sums/odd_sft_v1 have no `reference`, the first is `sum-1`",
    );
    check(
        &[sum(0)],
        Config { split: Split::Validation, ..Config::default() },
        "validation.jsonl of sums/odd_sft_v1",
    );
    check(&[sum(0)], Config { tasks: Vec::new(), ..Config::default() }, "`tasks` is empty");

    // Perplexity needs no reference.
    let bench = Bench::new();
    let dataset = bench.dataset("bare_sft", &[bare]);
    let config = Config { tasks: vec!["perplexity".to_owned()], ..Config::default() };
    bench.evaluate("model", &Adder::new(|_| true), &dataset, config);
}

#[test]
fn a_probability_that_is_no_number_names_its_item() {
    let bench = Bench::new();
    let dataset = bench.sums(4);
    let model = Adder { nats_per_byte: |a| if a == 2 { f64::NAN } else { 1.0 }, ..Adder::new(|_| true) };
    let error = bench.try_evaluate("nan", &model, &dataset, small_batches(), &Cancel::default()).unwrap_err();
    assert!(error.to_string().contains("model `nan` gave item `sum-2` a log-probability of NaN"), "{error}");
}

#[test]
fn a_limit_takes_the_first_rows_and_changes_the_key() {
    let bench = Bench::new();
    let dataset = bench.sums(6);
    let config = |limit| Config { limit: NonZeroUsize::new(limit).map(Limit::first), ..Config::default() };
    let some = bench.evaluate("model", &Adder::new(|_| true), &dataset, config(2));
    let all = bench.evaluate("model", &Adder::new(|_| true), &dataset, config(0));
    assert_eq!(
        (bench.rows(&some, "predictions.parquet").len(), bench.rows(&all, "predictions.parquet").len()),
        (4, 12)
    );
    assert_eq!(bench.rows(&some, "predictions.parquet")[1]["id"], json!("sum-1"));
}

#[test]
fn the_configuration_refuses_what_it_does_not_know() {
    let parse = |yaml: &str| -> nexa_core::Result<Config> {
        nexa_core::config::from_value(nexa_core::config::parse_yaml(yaml, "eval.yaml")?, "eval.yaml")
    };
    assert_eq!(parse("").unwrap(), Config::default());
    let config = parse("{tasks: [perplexity], split: validation, limit: 5}").unwrap();
    assert_eq!((config.tasks, config.split), (vec!["perplexity".to_owned()], Split::Validation));
    let check = |yaml: &str, expected: &str| {
        let error = parse(yaml).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("max_token: 3", "unknown key `max_token`");
    check("limit: 0", "`limit`");
    check("split: train", "train");
}
