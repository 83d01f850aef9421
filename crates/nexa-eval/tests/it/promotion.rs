//! What a version shows of what a tag asks for.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::judging::{FILE, Verdict};
use nexa_core::promotion::{Bound, Promotion};
use nexa_core::stage::Inputs;
use nexa_core::table::JsonLines;
use nexa_eval::evaluate::Config;
use nexa_eval::promotion::{Check, examine};
use serde_json::json;

use crate::adder::Adder;
use crate::bench::Bench;

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
    let elsewhere = found(&bench, "elsewhere", Some("holder"), &conditions);
    assert!(elsewhere.last().unwrap().found.starts_with("not tested: "), "{elsewhere:?}");
    let lenient = Promotion { not_worse: false, ..conditions };
    assert_eq!(failed(&found(&bench, "worse", Some("holder"), &lenient)), [""; 0]);
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
