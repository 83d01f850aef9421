use std::num::NonZeroUsize;
use std::sync::Arc;

use nexa_core::artifact::Artifact;
use nexa_core::event::Cancel;
use nexa_core::stage::Inputs;
use nexa_core::table::JsonLines;
use nexa_eval::compare::{Against, Verdict};
use nexa_eval::evaluate::{Config, Limit};
use nexa_eval::statistics::PairedOutcomes;
use nexa_eval::{Evaluate, compare};
use serde_json::json;

use crate::adder::Adder;
use crate::bench::Bench;
use crate::parrot::Parrot;

#[test]
fn two_models_are_compared_item_by_item() {
    let bench = Bench::new();
    let dataset = bench.sums(40);
    let a = bench.evaluate("good", &Adder::new(|a| a < 30), &dataset, Config::default());
    let worse =
        Adder { nats_per_byte: |a| 0.6 + 0.01 * (a % 2) as f64, ..Adder::new(|a| (18..31).contains(&a)) };
    let b = bench.evaluate("bad", &worse, &dataset, Config::default());
    let found = compare(&a, &b, &JsonLines).unwrap();

    assert_eq!(found.outcomes, Some(PairedOutcomes { both: 12, only_a: 18, only_b: 1, neither: 9 }));
    let exact = found.exact_match.unwrap();
    // scipy 1.17.1 binomtest(1, 19).
    assert!((exact.difference.p_value - 7.629_394_531_25e-5).abs() < 1e-15, "{exact:?}");
    assert_eq!((exact.difference.value, exact.verdict), (0.425, Verdict::Better));
    assert_eq!(exact.p_adjusted, 2.0 * exact.difference.p_value, "two metrics are tested");
    assert!(exact.minimum_detectable_effect.unwrap() > 0.2);
    assert_eq!(found.only_a_right.len(), 18);
    let only_b = &found.only_b_right;
    assert_eq!((only_b.len(), only_b[0].id.as_str()), (1, "sum-30"));
    assert_eq!(
        (only_b[0].a_output.as_deref(), only_b[0].b_output.as_deref(), only_b[0].reference.as_deref()),
        (Some("maybe 30"), Some("#### 31"), Some("31"))
    );
    let bits = found.bits_per_byte.unwrap();
    assert!(bits.difference.value < 0.0 && bits.difference.ci_high.unwrap() < 0.0, "{bits:?}");
    assert_eq!(bits.verdict, Verdict::Better);
    let turned = compare(&b, &a, &JsonLines).unwrap();
    assert_eq!(
        (turned.exact_match.unwrap().verdict, turned.bits_per_byte.unwrap().verdict),
        (Verdict::Worse, Verdict::Worse)
    );
    let text = serde_json::to_string(&turned).unwrap();
    assert_eq!(serde_json::from_str::<nexa_eval::Comparison>(&text).unwrap(), turned);
}

#[test]
fn a_model_does_not_differ_from_itself() {
    let bench = Bench::new();
    let dataset = bench.sums(12);
    let a = bench.evaluate("one", &Adder::new(|a| a < 6), &dataset, Config::default());
    let b = bench.evaluate("other", &Adder::new(|a| a < 6), &dataset, Config::default());
    let found = compare(&a, &b, &JsonLines).unwrap();
    for metric in [found.exact_match.unwrap(), found.bits_per_byte.unwrap()] {
        assert_eq!((metric.difference.value, metric.difference.p_value), (0.0, 1.0));
        assert_eq!(metric.verdict, Verdict::NoDifferenceShown);
    }
    assert_eq!(found.only_a_right.len() + found.only_b_right.len(), 0);
}

#[test]
fn metrics_over_a_held_out_split_are_corrected_together() {
    let bench = Bench::new();
    let dataset = bench.sums(12);
    let check = |tasks: &[&str], p_adjusted: f64, verdict: Verdict| {
        let tasks = tasks.iter().map(|&task| task.to_owned()).collect();
        let config = Config { tasks, ..Config::default() };
        let a = bench.evaluate("all", &Adder::new(|_| true), &dataset, config.clone());
        let b = bench.evaluate("half", &Adder::new(|a| a >= 6), &dataset, config);
        let found = compare(&a, &b, &JsonLines).unwrap().exact_match.unwrap();
        // The first alone is right about six: McNemar's exact p is 2 * 0.5^6.
        assert_eq!(found.difference.p_value, 0.031_25);
        assert_eq!((found.p_adjusted, found.verdict), (p_adjusted, verdict));
    };
    check(&["exact_match"], 0.031_25, Verdict::Better);
    check(&["exact_match", "perplexity"], 0.0625, Verdict::NoDifferenceShown);
}

#[test]
fn other_held_out_splits_do_not_keep_tasks_from_being_compared() {
    let bench = Bench::new();
    write_numbers(&bench);
    let both = |name: &str, answer: fn(&str) -> String, items: usize| {
        let tasks = ["exact_match", "gsm8k"].map(str::to_owned).to_vec();
        let config = Config { tasks, num_fewshot: Some(0), ..Config::default() };
        let inputs =
            Inputs::none().with("checkpoint", bench.checkpoint(name)).with("sft_dataset", bench.sums(items));
        let stage = Evaluate::new(config, bench.root(), Arc::new(Parrot::new(answer))).unwrap();
        let made = bench.execute(&stage, &format!("{name}_eval"), &inputs, &Cancel::default(), false);
        made.unwrap().artifact().clone()
    };
    let a = both("good", right, 6);
    let b = both("bad", half_right, 7);
    let found = compare(&a, &b, &JsonLines).unwrap();
    assert_eq!((&found.test_set, &found.exact_match, &found.outcomes), (&None, &None, &None));
    assert!(found.held_out_not_compared.unwrap().contains("hold different items"));
    assert_eq!(found.tasks[0].comparison.verdict, Verdict::Better);
    assert_eq!((found.tasks.len(), found.tasks[0].comparison.difference.value), (2, 0.5));

    let against = Against::base(&a, std::slice::from_ref(&b), &JsonLines).unwrap();
    let contender = &against.contenders[0];
    assert!(contender.held_out_not_compared.as_deref().unwrap().contains("hold different items"));
    assert_eq!(contender.not_compared, ["exact_match", "exact_match_flexible"]);
    assert_eq!(contender.metrics.len(), 2);

    let alone = numbers(&bench, "alone", right, Config::default());
    let found = compare(&a, &alone, &JsonLines).unwrap();
    assert!(found.held_out_not_compared.unwrap().contains("alone_eval_v1 asked nothing of a held-out split"));
    assert_eq!(found.tasks.len(), 2);
    // Where neither asked anything of one, nothing is left out.
    let found = compare(&alone, &alone, &JsonLines).unwrap();
    assert_eq!((found.held_out_not_compared, found.tasks.len()), (None, 2));
}

#[test]
fn what_was_asked_differently_is_not_compared() {
    let bench = Bench::new();
    let dataset = bench.sums(6);
    let model = Adder::new(|_| true);
    let a = bench.evaluate("one", &model, &dataset, Config::default());
    let check = |config: Config, rows: usize, expected: &str| {
        let b = bench.evaluate("other", &model, &bench.sums(rows), config);
        let error = compare(&a, &b, &JsonLines).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(
        Config { limit: std::num::NonZeroUsize::new(3).map(Limit::first), ..Config::default() },
        6,
        "6 and 3 items were evaluated",
    );
    check(Config { max_tokens: 7, ..Config::default() }, 6, "answers had up to 160 and 7 tokens");
    check(Config::default(), 5, "hold different items");
    let error = compare(&dataset, &a, &JsonLines).unwrap_err().to_string();
    assert!(error.contains("no evaluation of a model"), "{error}");
}

#[test]
fn two_models_are_compared_by_the_tasks_that_both_were_asked() {
    let bench = Bench::new();
    write_numbers(&bench);
    let evaluate = |name: &str, answer: fn(&str) -> String, config: Config| {
        let config = Config { tasks: vec!["gsm8k".to_owned()], num_fewshot: Some(0), ..config };
        let inputs = Inputs::none().with("checkpoint", bench.checkpoint(name));
        let stage = Evaluate::new(config, bench.root(), Arc::new(Parrot::new(answer))).unwrap();
        bench
            .execute(&stage, &format!("{name}_eval"), &inputs, &Cancel::default(), false)
            .unwrap()
            .artifact()
            .clone()
    };
    fn number(prompt: &str) -> String {
        format!("#### {}", prompt.trim_start_matches("Question: ").split('?').next().unwrap())
    }
    let a = evaluate("good", number, Config::default());
    let b = evaluate(
        "bad",
        |prompt| if number(prompt).len() < 7 { number(prompt) } else { "?".to_owned() },
        Config::default(),
    );
    let found = compare(&a, &b, &JsonLines).unwrap();
    assert_eq!((found.test_set, found.exact_match, found.tasks.len()), (None, None, 2));
    let strict = &found.tasks[0];
    assert_eq!(strict.name.to_string(), "gsm8k/exact_match,strict-match");
    // Of twenty, the first alone gets the ten with two digits right: McNemar's exact p is 2 * 0.5^10, twice that for two tests.
    let difference = strict.comparison.difference;
    assert_eq!(
        (difference.value, difference.p_value, strict.comparison.p_adjusted),
        (0.5, 0.001_953_125, 0.003_906_25)
    );
    assert_eq!(strict.comparison.verdict, Verdict::Better);
    let other =
        evaluate("good", number, Config { system_instruction: Some("Add.".to_owned()), ..Config::default() });
    let error = compare(&a, &other, &JsonLines).unwrap_err().to_string();
    assert!(error.contains("no task in common that both asked in the same way"), "{error}");
}

/// Twenty numbered questions, the number of each its answer.
fn write_numbers(bench: &Bench) {
    let folder = bench.root().join("data/raw/benchmarks/gsm8k");
    std::fs::create_dir_all(&folder).unwrap();
    let row =
        |n: usize| json!({"question": format!("{n}?"), "answer": format!("#### {n}")}).to_string() + "\n";
    std::fs::write(folder.join("test.jsonl"), (0..20).map(row).collect::<String>()).unwrap();
}

/// An evaluation of some numbered questions by a model that answers so.
fn numbers(bench: &Bench, name: &str, answer: fn(&str) -> String, config: Config) -> Artifact {
    write_numbers(bench);
    let config = Config { tasks: vec!["gsm8k".to_owned()], num_fewshot: Some(0), ..config };
    let inputs = Inputs::none().with("checkpoint", bench.checkpoint(name));
    let stage = Evaluate::new(config, bench.root(), Arc::new(Parrot::new(answer))).unwrap();
    let made = bench.execute(&stage, &format!("{name}_eval"), &inputs, &Cancel::default(), false).unwrap();
    made.artifact().clone()
}

fn right(prompt: &str) -> String {
    format!("#### {}", prompt.trim_start_matches("Question: ").split('?').next().unwrap())
}

/// Right about the ten questions of one digit.
fn half_right(prompt: &str) -> String {
    if right(prompt).len() < 7 { right(prompt) } else { "?".to_owned() }
}

fn prefers_good(_: &str, text: &str) -> f64 {
    if text.contains("evil") { 9.0 } else { 1.0 }
}

fn prefers_evil(_: &str, text: &str) -> f64 {
    if text.contains("evil") { 1.0 } else { 9.0 }
}

/// An evaluation by two tasks of a group, of which there are files with so many pairs of sentences, or none.
fn pairs(bench: &Bench, name: &str, nats: fn(&str, &str) -> f64, sizes: [usize; 2]) -> Artifact {
    let folder = bench.root().join("data/raw/benchmarks/blimp");
    std::fs::create_dir_all(&folder).unwrap();
    let row = |n: usize| json!({"sentence_good": format!("good {n}."), "sentence_bad": format!("evil {n}.")});
    for (part, size) in ["adjunct_island", "causative"].into_iter().zip(sizes) {
        let path = folder.join(format!("{part}.jsonl"));
        if size == 0 {
            std::fs::remove_file(path).unwrap();
        } else {
            let lines: String = (0..size).map(|n| format!("{}\n", row(n))).collect();
            std::fs::write(path, lines).unwrap();
        }
    }
    let config = Config { tasks: vec!["blimp".to_owned()], ..Config::default() };
    let inputs = Inputs::none().with("checkpoint", bench.checkpoint(name));
    let model = Parrot { nats, ..Parrot::new(str::to_owned) };
    let stage = Evaluate::new(config, bench.root(), Arc::new(model)).unwrap();
    let made = bench.execute(&stage, &format!("{name}_eval"), &inputs, &Cancel::default(), false).unwrap();
    made.artifact().clone()
}

#[test]
fn a_group_is_tested_beside_its_tasks() {
    let bench = Bench::new();
    let good = pairs(&bench, "good", prefers_good, [5, 5]);
    let bad = pairs(&bench, "bad", prefers_evil, [5, 5]);
    let found = Against::base(&good, std::slice::from_ref(&bad), &JsonLines).unwrap();
    let contender = &found.contenders[0];
    assert_eq!((found.tests, contender.not_compared.len()), (3, 0), "{contender:?}");
    // Five documents of a task cannot show anything, the ten of both can: 2 * 0.5^10, three times.
    let shown: Vec<_> = contender
        .metrics
        .iter()
        .map(|metric| (metric.task.name.to_string(), metric.task.comparison.verdict, metric.is_blind))
        .collect();
    assert_eq!(
        shown,
        [
            ("blimp_adjunct_island/acc".to_owned(), Verdict::NoDifferenceShown, true),
            ("blimp_causative/acc".to_owned(), Verdict::NoDifferenceShown, true),
            ("blimp/acc".to_owned(), Verdict::Worse, false),
        ]
    );
    let group = contender.metrics[2].task.comparison;
    assert_eq!((group.difference.value, group.difference.n), (-1.0, 10));
    assert_eq!(group.p_adjusted, 3.0 * 2.0 * 0.5_f64.powi(10));
    let found = compare(&good, &bad, &JsonLines).unwrap();
    assert_eq!((found.tasks.len(), found.tasks[2].comparison.verdict), (3, Verdict::Better));
}

#[test]
fn a_group_of_other_tasks_is_not_compared() {
    let bench = Bench::new();
    let both = pairs(&bench, "both", prefers_good, [8, 8]);
    let one = pairs(&bench, "one", prefers_evil, [8, 0]);
    let found = Against::base(&both, std::slice::from_ref(&one), &JsonLines).unwrap();
    let contender = &found.contenders[0];
    let names: Vec<_> = contender.metrics.iter().map(|metric| metric.task.name.to_string()).collect();
    assert_eq!(names, ["blimp_adjunct_island/acc"]);
    assert_eq!(contender.not_compared, ["blimp_causative/acc", "blimp/acc"]);
}

#[test]
fn several_are_held_against_the_first_with_one_correction() {
    let bench = Bench::new();
    let base = numbers(&bench, "base", right, Config::default());
    let worse = numbers(&bench, "worse", half_right, Config::default());
    let same = numbers(&bench, "same", right, Config::default());
    let found = Against::base(&base, &[worse.clone(), same], &JsonLines).unwrap();
    assert_eq!((found.base.model.as_str(), found.tests), ("base", 4));
    let [bad, good] = found.contenders.as_slice() else { panic!("{found:?}") };
    let strict = &bad.metrics[0];
    let comparison = strict.task.comparison;
    assert_eq!((comparison.a.value, comparison.b.value, comparison.difference.value), (0.5, 1.0, -0.5));
    // McNemar's exact p of ten discordant documents, four times: Holm corrects over both contenders.
    assert_eq!((comparison.difference.p_value, comparison.p_adjusted), (0.001_953_125, 0.007_812_5));
    assert_eq!((comparison.verdict, strict.is_blind), (Verdict::Worse, false));
    assert!(strict.detectable.unwrap() > comparison.minimum_detectable_effect.unwrap());
    assert_eq!(good.metrics[0].task.comparison.verdict, Verdict::NoDifferenceShown);
    assert_eq!(good.metrics[0].detectable, None, "models that never differ tell nothing of their spread");
    let names: Vec<String> = found.worse().map(|(_, metric)| metric.task.name.to_string()).collect();
    assert_eq!(names, ["gsm8k/exact_match,strict-match", "gsm8k/exact_match,flexible-extract"]);
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Against>(&text).unwrap(), found);
    // The other way round, nothing is worse.
    assert_eq!(Against::base(&worse, &[base], &JsonLines).unwrap().worse().count(), 0);
}

#[test]
fn what_could_not_fail_or_be_compared_is_said() {
    let bench = Bench::new();
    let limit = |count| Config { limit: NonZeroUsize::new(count).map(Limit::first), ..Config::default() };
    let base = numbers(&bench, "base", right, limit(6));
    let wrong = numbers(&bench, "wrong", |_| "#### x".to_owned(), limit(6));
    let found = Against::base(&base, &[wrong], &JsonLines).unwrap();
    let strict = &found.contenders[0].metrics[0];
    // All six documents got worse, and two tests share the 5 %: 2 * 0.5^6 * 2 = 0.0625.
    let p_adjusted = strict.task.comparison.p_adjusted;
    assert_eq!((p_adjusted, strict.is_blind, found.worse().count()), (0.0625, true, 0));

    let other = numbers(&bench, "other", right, limit(7));
    let error = Against::base(&base, &[other], &JsonLines).unwrap_err().to_string();
    assert!(error.contains("no task in common that both asked in the same way"), "{error}");

    let dataset = bench.sums(12);
    let whole = bench.evaluate("good", &Adder::new(|_| true), &dataset, Config::default());
    let part = bench.evaluate(
        "bad",
        &Adder { has_scorer: false, ..Adder::new(|_| false) },
        &dataset,
        Config::default(),
    );
    let found = Against::base(&whole, &[part], &JsonLines).unwrap();
    let contender = &found.contenders[0];
    assert_eq!(contender.metrics.len(), 1);
    assert_eq!(contender.metrics[0].task.comparison.verdict, Verdict::Worse);
    assert_eq!(contender.not_compared, ["loss", "perplexity", "bits_per_byte"]);
}

#[test]
fn perplexities_of_a_text_are_compared_in_bits() {
    let bench = Bench::new();
    let evaluate = |name: &str, nats: fn(&str, &str) -> f64| {
        let folder = bench.root().join("data/raw/benchmarks/wikitext");
        std::fs::create_dir_all(&folder).unwrap();
        let row = |n: usize| json!({"page": "word ".repeat(n + 2)}).to_string() + "\n";
        std::fs::write(folder.join("test.jsonl"), (0..8).map(row).collect::<String>()).unwrap();
        let inputs = Inputs::none().with("checkpoint", bench.checkpoint(name));
        let config = Config { tasks: vec!["wikitext".to_owned()], ..Config::default() };
        let model = Parrot { nats, ..Parrot::new(|_| String::new()) };
        let stage = Evaluate::new(config, bench.root(), Arc::new(model)).unwrap();
        let made =
            bench.execute(&stage, &format!("{name}_eval"), &inputs, &Cancel::default(), false).unwrap();
        made.artifact().clone()
    };
    let good = evaluate("good", |_, text| text.len() as f64);
    let bad = evaluate("bad", |_, text| 2.0 * text.len() as f64);
    let found = Against::base(&good, &[bad], &JsonLines).unwrap();
    let contender = &found.contenders[0];
    assert_eq!((contender.metrics.len(), contender.not_compared.len()), (1, 0), "{contender:?}");
    let bits = contender.metrics[0].task.comparison;
    assert!((bits.difference.value - (bits.a.value - bits.b.value)).abs() < 1e-9, "{bits:?}");
    // All eight documents are worse: 2 of 2^8 swaps reach that.
    assert_eq!((bits.difference.p_value, bits.verdict), (0.007_812_5, Verdict::Worse));
}
