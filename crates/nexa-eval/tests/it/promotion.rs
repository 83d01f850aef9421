//! What a version shows of what a tag asks for.

use std::num::NonZeroUsize;
use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::event::Cancel;
use nexa_core::judging::{FILE, Verdict};
use nexa_core::promotion::{Bound, Promotion};
use nexa_core::stage::Inputs;
use nexa_core::table::JsonLines;
use nexa_eval::Evaluate;
use nexa_eval::evaluate::{Config, Limit};
use nexa_eval::promotion::{Check, examine};
use serde_json::json;

use crate::adder::Adder;
use crate::bench::Bench;
use crate::parrot::Parrot;

fn exact_match(at_least: f64) -> Promotion {
    let bound =
        Bound { metric: Some("exact_match".to_owned()), at_least: Some(at_least), ..Bound::default() };
    Promotion { require: vec![bound], ..Promotion::default() }
}

fn found(bench: &Bench, name: &str, holder: Option<&str>, conditions: &Promotion) -> Vec<Check> {
    let holder = holder.map(|name| bench.checkpoint(name));
    examine(&bench.checkpoint(name), holder.as_ref(), conditions, &bench.store(), &JsonLines).unwrap()
}

fn failed(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|check| !check.holds).map(|check| check.condition.as_str()).collect()
}

#[test]
fn bounds_are_held_against_the_newest_evaluation() {
    let bench = Bench::new();
    let unmeasured = found(&bench, "never", None, &exact_match(0.1));
    assert_eq!(failed(&unmeasured), ["exact_match is at least 0.1"]);
    assert!(unmeasured[1].found.starts_with("no evaluation of sums/never_v1"), "{unmeasured:?}");

    let dataset = bench.sums(40);
    bench.evaluate("good", &Adder::new(|a| a < 30), &dataset, Config::default());
    assert_eq!(failed(&found(&bench, "good", None, &exact_match(0.75))), [""; 0]);
    let checks = found(&bench, "good", None, &exact_match(0.76));
    assert_eq!(failed(&checks), ["exact_match is at least 0.76"]);
    assert_eq!(checks[1].found, "0.7500 over 40 items in sums/good_eval_v1");
    // A later evaluation is the one that counts.
    let later = Config { seed: 7, cache: false, ..Config::default() };
    bench.evaluate("good", &Adder::new(|a| a < 31), &dataset, later);
    assert_eq!(failed(&found(&bench, "good", None, &exact_match(0.76))), [""; 0]);
}

#[test]
fn a_version_that_is_shown_to_be_worse_is_refused() {
    let bench = Bench::new();
    let dataset = bench.sums(40);
    bench.evaluate("holder", &Adder::new(|a| a < 35), &dataset, Config::default());
    bench.evaluate("worse", &Adder::new(|a| a < 20), &dataset, Config::default());
    bench.evaluate("alike", &Adder::new(|a| a < 34), &dataset, Config::default());
    bench.evaluate("elsewhere", &Adder::new(|a| a < 5), &bench.sums(10), Config::default());
    let conditions = exact_match(0.4);
    let refused = ["exact_match is not worse than that of sums/holder_v1"];
    assert_eq!(failed(&found(&bench, "worse", Some("holder"), &conditions)), refused);
    assert_eq!(failed(&found(&bench, "alike", Some("holder"), &conditions)), [""; 0]);
    assert_eq!(failed(&found(&bench, "holder", Some("holder"), &conditions)), [""; 0]);
    // What cannot be tested does not hold, and it is told why.
    let elsewhere = found(&bench, "elsewhere", Some("holder"), &conditions);
    assert_eq!(failed(&elsewhere), refused);
    let told = &elsewhere.last().unwrap().found;
    assert!(told.starts_with("not tested: ") && told.contains("hold different items"), "{told}");
    let unmeasured = found(&bench, "alike", Some("unmeasured"), &conditions);
    assert_eq!(failed(&unmeasured), ["exact_match is not worse than that of sums/unmeasured_v1"]);
    let told = &unmeasured.last().unwrap().found;
    assert!(told.contains("no evaluation of all documents of sums/unmeasured_v1 has exact_match"), "{told}");
    let lenient = Promotion { not_worse: false, ..conditions.clone() };
    assert_eq!(failed(&found(&bench, "worse", Some("holder"), &lenient)), [""; 0]);

    // The newest evaluations that can be compared are, also where there are newer ones.
    bench.evaluate("alike", &Adder::new(|a| a < 34), &bench.sums(10), Config::default());
    let checks = found(&bench, "alike", Some("holder"), &conditions);
    assert_eq!(failed(&checks), [""; 0]);
    assert!(checks.last().unwrap().found.starts_with("0.8500 beside 0.8750, p = 1.00e0: no difference"));
}

#[test]
fn evaluations_of_a_part_do_not_count() {
    let bench = Bench::new();
    let dataset = bench.sums(300);
    let right = || Config { tasks: vec!["exact_match".to_owned()], ..Config::default() };
    let limited = || Config { limit: NonZeroUsize::new(10).map(Limit::first), ..right() };
    bench.evaluate("model", &Adder::new(|a| a < 75), &dataset, right());
    bench.evaluate("model", &Adder::new(|a| a < 75), &dataset, limited());
    let checks = found(&bench, "model", None, &exact_match(0.3));
    assert_eq!(failed(&checks), ["exact_match is at least 0.3"]);
    assert_eq!(checks[1].found, "0.2500 over 300 items in sums/model_eval_v1");

    bench.evaluate("limited", &Adder::new(|_| true), &dataset, limited());
    let base = bench.evaluate("base", &Adder::new(|a| a % 3 != 0), &dataset, right());
    let inputs = Inputs::none()
        .with("checkpoint", bench.checkpoint("stopped"))
        .with("sft_dataset", dataset.clone())
        .with("versus", base);
    let stopping = Config { stop_when_decided: Some(0.05), ..right() };
    let stage = Evaluate::new(stopping, bench.root(), Arc::new(Adder::new(|_| true))).unwrap();
    bench.execute(&stage, "stopped_eval", &inputs, &Cancel::default(), false).unwrap();
    for name in ["limited", "stopped"] {
        let checks = found(&bench, name, Some("base"), &exact_match(0.3));
        assert_eq!(failed(&checks), ["exact_match is at least 0.3"], "{name}");
        assert!(checks[1].found.contains("only such as asked a part"), "{checks:?}");
    }
    // One that has the tag is not held against by a part either.
    let checks = found(&bench, "model", Some("limited"), &exact_match(0.1));
    assert_eq!(failed(&checks), ["exact_match is not worse than that of sums/limited_v1"]);
}

/// An evaluation by a group of two tasks.
fn sentences(bench: &Bench, name: &str, nats: fn(&str, &str) -> f64) {
    let folder = bench.root().join("data/raw/benchmarks/blimp");
    std::fs::create_dir_all(&folder).unwrap();
    let row = |n: usize| {
        format!("{}\n", json!({"sentence_good": format!("good {n}."), "sentence_bad": format!("evil {n}.")}))
    };
    for part in ["adjunct_island.jsonl", "causative.jsonl"] {
        std::fs::write(folder.join(part), (0..5).map(row).collect::<String>()).unwrap();
    }
    let config = Config { tasks: vec!["blimp".to_owned()], ..Config::default() };
    let inputs = Inputs::none().with("checkpoint", bench.checkpoint(name));
    let model = Parrot { nats, ..Parrot::new(str::to_owned) };
    let stage = Evaluate::new(config, bench.root(), Arc::new(model)).unwrap();
    bench.execute(&stage, &format!("{name}_eval"), &inputs, &Cancel::default(), false).unwrap();
}

#[test]
fn groups_are_tested_as_tasks_are() {
    let bench = Bench::new();
    sentences(&bench, "right", |_, text| if text.contains("evil") { 9.0 } else { 1.0 });
    sentences(&bench, "wrong", |_, text| if text.contains("evil") { 1.0 } else { 9.0 });
    let bound = |task: &str| Bound {
        task: Some(task.to_owned()),
        metric: Some("acc".to_owned()),
        at_least: Some(0.0),
        ..Bound::default()
    };
    let conditions = |task: &str| Promotion { require: vec![bound(task)], ..Promotion::default() };
    let checks = found(&bench, "wrong", Some("right"), &conditions("blimp"));
    assert_eq!(failed(&checks), ["blimp/acc is not worse than that of sums/right_v1"]);
    // McNemar's exact p of ten documents: one metric is required, so one is tested.
    assert_eq!(checks.last().unwrap().found, "0.0000 beside 1.0000, p = 1.95e-3: worse");
    assert_eq!(failed(&found(&bench, "right", Some("wrong"), &conditions("blimp"))), [""; 0]);
    // The five documents of a task are too few.
    let checks = found(&bench, "wrong", Some("right"), &conditions("blimp_causative"));
    assert_eq!(failed(&checks), [""; 0]);
    assert!(
        checks.last().unwrap().found.ends_with("so few independent documents cannot show any difference")
    );
}

#[test]
fn what_is_counted_by_tokens_is_tested_by_bits() {
    let bench = Bench::new();
    let dataset = bench.sums(12);
    let model = |nats_per_byte| Adder { nats_per_byte, ..Adder::new(|_| true) };
    bench.evaluate("low", &model(|_| 0.5), &dataset, Config::default());
    bench.evaluate("high", &model(|_| 0.9), &dataset, Config::default());
    let bound =
        |metric: &str| Bound { metric: Some(metric.to_owned()), at_most: Some(1e9), ..Bound::default() };
    let require = vec![bound("perplexity"), bound("loss"), bound("exact_match_flexible")];
    let conditions = Promotion { require, ..Promotion::default() };
    let checks = found(&bench, "high", Some("low"), &conditions);
    let refused =
        ["perplexity is not worse than that of sums/low_v1", "loss is not worse than that of sums/low_v1"];
    assert_eq!(failed(&checks), refused);
    // All twelve got worse: 2 of 2^12 swaps reach that; two metrics are tested, one of them for two that are asked.
    let told = &checks.iter().find(|check| check.condition == refused[0]).unwrap().found;
    assert!(told.starts_with("by bits_per_byte: ") && told.ends_with("p = 9.77e-4: worse"), "{told}");
    assert_eq!(failed(&found(&bench, "low", Some("high"), &conditions)), [""; 0]);
}

#[test]
fn scores_by_a_rubric_are_held_against_their_bound() {
    let bench = Bench::new();
    let evaluation = bench.evaluate("model", &Adder::new(|_| true), &bench.sums(4), Config::default());
    let bound =
        |at_least| Bound { rubric: Some("tone".to_owned()), at_least: Some(at_least), ..Bound::default() };
    let conditions = |at_least| Promotion { require: vec![bound(at_least)], ..Promotion::default() };
    let checks = found(&bench, "model", None, &conditions(3.0));
    assert_eq!(checks[1].found, "no evaluation of sums/model_v1 was judged by it");
    judged(&bench, &evaluation, "tone", &[3.0, 4.0]);
    judged(&bench, &evaluation, "other", &[1.0]);
    assert_eq!(failed(&found(&bench, "model", None, &conditions(3.5))), [""; 0]);
    assert_eq!(failed(&found(&bench, "model", None, &conditions(3.6))), ["rubric tone is at least 3.6"]);
}

#[test]
fn what_cannot_be_followed_back_is_refused_of_every_kind() {
    let bench = Bench::new();
    let dataset = bench.sums(4);
    let evaluation = bench.evaluate("model", &Adder::new(|_| true), &dataset, Config::default());
    let look =
        |conditions: Promotion| examine(&evaluation, None, &conditions, &bench.store(), &JsonLines).unwrap();
    assert_eq!(failed(&look(exact_match(1.1))), [""; 0], "bounds are for checkpoints");
    std::fs::remove_file(dataset.manifest_path()).unwrap();
    let checks = look(Promotion::default());
    assert_eq!(failed(&checks), ["everything that it descends from is known and unchanged"]);
    assert_eq!(checks[0].found, "sums/sums_sft_v1 is gone");
    assert_eq!(look(Promotion { provenance: false, ..Promotion::default() }), []);
}

#[test]
fn a_bound_that_says_nothing_is_an_error() {
    let bench = Bench::new();
    let conditions = Promotion { require: vec![Bound::default()], ..Promotion::default() };
    let found = examine(&bench.checkpoint("model"), None, &conditions, &bench.store(), &JsonLines);
    assert!(found.unwrap_err().to_string().contains("neither a `metric` nor a `rubric`"));
}

/// Verdicts on an evaluation by a rubric.
fn judged(bench: &Bench, evaluation: &Artifact, rubric: &str, scores: &[f64]) {
    let verdict = |(number, score): (usize, &f64)| {
        let verdict = Verdict {
            id: format!("i{number}"),
            judge: "openai:m".to_owned(),
            score: Some(*score),
            ..Verdict::default()
        };
        format!("{}\n", json!(verdict.to_row()))
    };
    let lines: String = scores.iter().enumerate().map(verdict).collect();
    let inputs = Inputs::none().with("evaluation", evaluation.clone());
    bench.make_of(Kind::Verdicts, rubric, vec![(FILE, lines)], &inputs, vec![("rubric", rubric.to_owned())]);
}
