//! Verdicts from disk: what several artifacts come to together, and what is no verdict.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::judging::{FILE, Order, Verdict};
use nexa_core::table::JsonLines;
use nexa_eval::judge::{LabelKind, Labels, Report, Verdicts};
use serde_json::json;

use crate::bench::Bench;

/// The verdicts of a judge on some items of two models: `+` where the first is better, `-` where the second is, `<` where
/// what is shown first wins in both orders.
fn compared(bench: &Bench, name: &str, models: (&str, &str), results: &str) -> Artifact {
    let mut lines = String::new();
    for (item, result) in results.chars().enumerate() {
        let (forward, backward) = match result {
            '+' => (5.0, 1.0),
            '-' => (1.0, 5.0),
            _ => (5.0, 5.0),
        };
        for (order, score) in [(Order::Forward, forward), (Order::Backward, backward)] {
            let verdict = Verdict {
                id: format!("i{item}"),
                other_id: Some(format!("i{item}")),
                model: Some(models.0.to_owned()),
                other_model: Some(models.1.to_owned()),
                order: Some(order),
                judge: "openai:m".to_owned(),
                score: Some(score),
                length: Some(10 + item as u64),
                other_length: Some(10),
                ..Verdict::default()
            };
            lines.push_str(&format!("{}\n", json!(verdict.to_row())));
        }
    }
    bench.make(Kind::Verdicts, name, vec![(FILE, lines), ("parquet", String::new())])
}

#[test]
fn pairs_of_several_artifacts_give_one_rating() {
    let bench = Bench::new();
    let made = [
        compared(&bench, "ab", ("a", "b"), "++++++-<"),
        compared(&bench, "bc", ("b", "c"), "+++++--<"),
        compared(&bench, "ca", ("c", "a"), "+----<<-"),
    ];
    let report = Report::of(&Verdicts::read(&made, &JsonLines).unwrap(), None, 0);
    assert_eq!((report.verdicts.len(), report.total, report.unreadable), (3, 48, 0));
    let ratings = report.ratings.as_ref().unwrap();
    let order: Vec<_> = ratings.ratings.iter().map(|rating| rating.model.as_str()).collect();
    assert_eq!((order, ratings.groups), (vec!["a", "b", "c"], 1));
    let rates: Vec<_> = report.win_rates.iter().map(|rate| (rate.wins, rate.ties, rate.losses)).collect();
    assert_eq!(rates, [(6, 1, 1), (5, 1, 2), (1, 2, 5)]);
    assert_eq!(report.position_bias[0].follows_first.value, 4.0 / 24.0);
    // The same again, from the file of a report.
    let read: Report = serde_json::from_value(json!(report)).unwrap();
    assert_eq!(read.win_rates.len(), 3);
    assert_eq!(
        Report::of(&Verdicts::read(&made, &JsonLines).unwrap(), None, 0),
        report,
        "the seed decides all draws"
    );
}

#[test]
fn a_file_of_preferences_is_held_against_the_judge() {
    let bench = Bench::new();
    let made = compared(&bench, "ab", ("a", "b"), "++-<");
    let path = bench.root().join("labels.jsonl");
    std::fs::write(
        &path,
        "{\"id\": \"i0\", \"preference\": \"first\"}\n{\"id\": \"i1\", \"preference\": \"second\"}\n{\"id\": \"i3\", \"preference\": \"tie\"}\n",
    )
    .unwrap();
    let verdicts = Verdicts::read(&[made], &JsonLines).unwrap();
    let labels = Labels::read(&path, &JsonLines).unwrap().on(&verdicts).unwrap();
    let report = Report::of(&verdicts, Some(&labels), 0);
    let card = &report.cards[0];
    assert_eq!((card.labels, card.items, card.unlabelled), (LabelKind::Preference, 3, 1));
    assert_eq!(card.agreement.value, 2.0 / 3.0);
    // 2.5 of 4 are the first's for the judge, and it is a third too kind where there are labels.
    assert!((card.corrected_mean.unwrap().value - (0.625 - 1.0 / 3.0)).abs() < 1e-12);
}

/// The scores of a judge on some items of a model.
fn scored(bench: &Bench, name: &str, model: &str, scores: &[f64]) -> Artifact {
    let line = |(item, score): (usize, &f64)| {
        let verdict = Verdict {
            id: format!("i{item}"),
            model: Some(model.to_owned()),
            judge: "openai:m".to_owned(),
            score: Some(*score),
            ..Verdict::default()
        };
        format!("{}\n", json!(verdict.to_row()))
    };
    let lines = scores.iter().enumerate().map(line).collect();
    bench.make(Kind::Verdicts, name, vec![(FILE, lines), ("parquet", String::new())])
}

/// One model's answers are good and the other's are bad, to the judge as to people.
#[test]
fn labels_of_one_model_are_not_held_against_another() {
    let bench = Bench::new();
    let made = [scored(&bench, "a", "good", &[5.0, 4.0]), scored(&bench, "b", "bad", &[1.0, 2.0])];
    let verdicts = Verdicts::read(&made, &JsonLines).unwrap();
    let read = |text: &str| {
        let path = bench.root().join("labels.jsonl");
        std::fs::write(&path, text).unwrap();
        Labels::read(&path, &JsonLines).unwrap().on(&verdicts)
    };
    let of = |model: &str, item: u32, score: u32| {
        format!("{{\"id\": \"i{item}\", \"model\": \"{model}\", \"score\": {score}}}\n")
    };
    let labels = read(&[of("good", 0, 5), of("good", 1, 4), of("bad", 1, 2)].concat()).unwrap();
    let card = Report::of(&verdicts, Some(&labels), 0).cards.remove(0);
    assert_eq!((card.items, card.unlabelled, card.agreement.value), (3, 1, 1.0));
    assert_eq!(card.mean_absolute_error.value, 0.0);
    let error = read("{\"id\": \"i0\", \"score\": 5}\n").unwrap_err().to_string();
    let expected = "labels.jsonl: row 1: `i0` fits verdicts of several models (bad, good); say which in the column `model`";
    assert!(error.ends_with(expected), "{error}");
}

/// The better model is named first in one artifact and second in the other; people prefer it each time.
#[test]
fn preferences_are_read_from_the_side_of_the_model() {
    let bench = Bench::new();
    let made = [compared(&bench, "ab", ("a", "b"), "++"), compared(&bench, "ba", ("b", "a"), "--")];
    let verdicts = Verdicts::read(&made, &JsonLines).unwrap();
    let path = bench.root().join("labels.jsonl");
    std::fs::write(
        &path,
        "{\"id\": \"i0\", \"preference\": \"first\"}\n{\"id\": \"i1\", \"model\": \"b\", \"preference\": \"second\"}\n",
    )
    .unwrap();
    let labels = Labels::read(&path, &JsonLines).unwrap().on(&verdicts).unwrap();
    let report = Report::of(&verdicts, Some(&labels), 0);
    let card = &report.cards[0];
    assert_eq!((card.items, card.unlabelled, card.agreement.value), (2, 0, 1.0));
    assert_eq!(card.judged_mean.value, report.win_rates[0].win_rate.value);
}

#[test]
fn what_is_no_verdict_is_named() {
    let bench = Bench::new();
    let other = bench.make(Kind::Dataset, "rows", vec![("parquet", String::new())]);
    let error = Verdicts::read(&[other], &JsonLines).unwrap_err().to_string();
    assert!(error.contains("rows") && error.contains("verdicts"), "{error}");
    let wrong = bench.make(Kind::Verdicts, "wrong", vec![(FILE, "{\"id\": 7}\n".to_owned())]);
    let error = Verdicts::read(&[wrong], &JsonLines).unwrap_err().to_string();
    assert!(error.contains(&format!("{FILE}: row 1")), "{error}");
}
