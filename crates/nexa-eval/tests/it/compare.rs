use nexa_core::table::JsonLines;
use nexa_eval::compare;
use nexa_eval::compare::Verdict;
use nexa_eval::evaluate::{Config, Limit};
use nexa_eval::statistics::PairedOutcomes;

use crate::adder::Adder;
use crate::bench::Bench;

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
