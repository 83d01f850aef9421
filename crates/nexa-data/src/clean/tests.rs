//! Scoring and cleaning as stages: what is kept, what is rejected and why, and what is done only once.

use nexa_core::artifact::Artifact;
use nexa_core::stage::{Inputs, Outcome, Stage, StageError};
use nexa_core::table::{Row, Tables};
use serde_json::{Value, json};

use super::*;
use crate::ingest::{self, Ingest};
use crate::tables::FileTables;
use crate::test_lab::TestLab;

/// A text that passes every gate, another for each number: six lines of two sentences.
fn prose(number: usize) -> String {
    format!(
        "The old bridge of village {number} was closed on a cold morning. Nobody had seen such a flood since 1954.\n\
         Later that day some engineers walked along both banks. Their report, which filled nine pages, blamed the ice.\n\
         Farmers brought gravel in carts while children watched from a hill. By evening {number} loads had arrived.\n\
         Work began again with the first warm week of spring. Stone after stone went back to its former place.\n\
         A carpenter repaired every railing without asking for money. People still speak about his patience today.\n\
         In June the mayor opened it with a short speech. Then everyone crossed, laughed, and danced until midnight."
    )
}

fn lab(rows: &[Value]) -> (TestLab, Artifact) {
    let lab = TestLab::new();
    let lines: String = rows.iter().map(|row| row.to_string() + "\n").collect();
    lab.write("raw/rows.jsonl", lines);
    let config = ingest::Config { paths: vec!["raw/rows.jsonl".into()], ..ingest::Config::default() };
    let ingest = Ingest::new(&lab.lab, config).unwrap();
    let made = lab.execute(&ingest, "rows", &Inputs::none()).unwrap();
    (lab, made.artifact().clone())
}

fn score(lab: &TestLab, dataset: &Artifact) -> Result<Outcome, StageError> {
    let stage = Score::new(ScoreConfig::default())?;
    lab.execute(&stage, "scores", &Inputs::none().with(DATASET_ROLE, dataset.clone()))
}

fn clean(lab: &TestLab, dataset: &Artifact, config: Value) -> Result<Artifact, StageError> {
    let scores = score(lab, dataset)?.artifact().clone();
    let stage = Clean::new(nexa_core::config::from_value(config, "test")?)?;
    let inputs = Inputs::none().with(DATASET_ROLE, dataset.clone()).with(SCORES_ROLE, scores);
    Ok(lab.execute(&stage, "clean", &inputs)?.artifact().clone())
}

fn rows(artifact: &Artifact, file: &str) -> Vec<Row> {
    FileTables.read(&artifact.file(file).unwrap()).unwrap()
}

fn column<'a>(rows: &'a [Row], name: &str) -> Vec<&'a str> {
    rows.iter().map(|row| row[name].as_str().unwrap()).collect()
}

#[test]
fn rejected_rows_are_kept_with_gate_reason_and_value_and_the_funnel_adds_up() {
    let (lab, dataset) = lab(&[
        json!({"id": "good", "text": prose(1), "n": 1}),
        json!({"id": "short", "text": "Too short.", "n": 2}),
        json!({"id": "code", "text": format!("{}\nThe function main() {{ returns }} at once.", prose(2)), "n": 3}),
        json!({"id": "empty", "text": null, "n": 4}),
    ]);
    let made = clean(&lab, &dataset, json!({})).unwrap();
    assert_eq!(column(&rows(&made, "parquet"), "id"), ["good"]);
    let rejected = rows(&made, "rejected.parquet");
    assert_eq!(column(&rejected, "id"), ["short", "code", "empty"]);
    assert_eq!(column(&rejected, "rejection_gate"), ["gopher@1", "c4@1", "gopher@1"]);
    assert_eq!(rejected[0]["rejection_reason"], "words 2.0000 is below min_words 50");
    assert_eq!(rejected[0]["rejection_value"], 2.0);
    assert_eq!(rejected[1]["text"], dataset_text(&dataset, 2), "a rejected row is as it came");

    let funnel: Funnel = nexa_core::files::read_json(&made.file("funnel.json").unwrap()).unwrap();
    assert_eq!((funnel.rows_in, funnel.rows_out), (4, 1));
    let mut left = funnel.rows_in;
    for step in &funnel.steps {
        assert_eq!(step.rows_in, left, "{}", step.gate);
        left -= step.rejected.values().sum::<u64>();
        assert_eq!(step.rows_out, left, "{}", step.gate);
    }
    assert_eq!(left, funnel.rows_out);
    assert_eq!(made.manifest.summary["funnel"], serde_json::to_value(&funnel).unwrap());
    assert_eq!(made.manifest.counts.rows, Some(1));
}

fn dataset_text(dataset: &Artifact, row: usize) -> Value {
    rows(dataset, "parquet")[row]["text"].clone()
}

#[test]
fn a_threshold_changes_the_verdict_and_nothing_is_measured_again() {
    let (lab, dataset) = lab(&[
        json!({"id": "good", "text": prose(1)}),
        json!({"id": "menu", "text": format!("{}\nHome\nAbout", prose(2))}),
    ]);
    assert!(matches!(score(&lab, &dataset).unwrap(), Outcome::Made(_)));
    let published = clean(&lab, &dataset, json!({})).unwrap();
    let check = |config: Value, expected: &[&str]| {
        let made = clean(&lab, &dataset, config).unwrap();
        assert_eq!(column(&rows(&made, "parquet"), "id"), expected);
        assert!(matches!(score(&lab, &dataset).unwrap(), Outcome::UpToDate(_)));
        made
    };
    check(json!({"gopher": {"min_words": 109}}), &["menu"]);
    check(json!({"gopher": {"min_words": null}, "c4": {"min_sentences": 12}}), &["good", "menu"]);
    let same = check(json!({"gopher": {"min_words": 50}}), &["good", "menu"]);
    assert_eq!(same.id(), published.id(), "a published value that is said makes no other key");
}

#[test]
fn flips_are_told_from_stored_scores() {
    let (lab, dataset) =
        lab(&[json!({"id": "good", "text": prose(1)}), json!({"id": "short", "text": "Too short."})]);
    let scores = score(&lab, &dataset).unwrap().artifact().clone();
    let thresholds = |config: Value| {
        let thresholds: Thresholds = serde_json::from_value(config).unwrap();
        thresholds.resolve("test").unwrap()
    };
    let found =
        flips(&scores, &thresholds(json!({})), &thresholds(json!({"gopher": {"min_words": 500}})), 10);
    let found = found.unwrap();
    assert_eq!((found.rows, found.kept_before, found.kept_after, found.flipped), (2, 1, 0, 1));
    assert_eq!((found.first[0].id.as_str(), found.first[0].kept), ("good", false));
    let lifted = json!({"gopher": {"min_words": 0, "min_stop_words": null}});
    let found = flips(&scores, &thresholds(json!({})), &thresholds(lifted), 0).unwrap();
    assert_eq!((found.flipped, found.first.len()), (0, 0), "the next rule stops the short text");

    let only_gopher = ScoreConfig { gates: vec!["gopher@1".to_owned()], ..ScoreConfig::default() };
    let inputs = Inputs::none().with(DATASET_ROLE, dataset);
    let made = lab.execute(&Score::new(only_gopher).unwrap(), "gopher", &inputs).unwrap();
    let error =
        flips(made.artifact(), &thresholds(json!({})), &thresholds(json!({"c4": {"min_sentences": 3}})), 1);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`c4.min_sentences`: the scores were made without c4@1"), "{error}");
}

#[test]
fn kept_texts_are_normalised_edited_and_redacted_and_the_values_are_nowhere() {
    let secret = "ann.lee@mail.org";
    let text =
        format!("{}\nWrite to {secret} or to {secret} today.\nNo end here", prose(1)).replace("\n", "\r\n");
    let (lab, dataset) = lab(&[json!({"id": "a", "text": text}), json!({"id": "b", "text": prose(3)})]);
    let made = clean(&lab, &dataset, json!({})).unwrap();
    let kept = rows(&made, "parquet");
    let expected = format!("{}\nWrite to <EMAIL_1> or to <EMAIL_1> today.", prose(1));
    assert_eq!(column(&kept, "text"), [expected, prose(3)]);
    assert_eq!(made.manifest.summary["redacted"], json!({"email": 2}));
    assert_eq!(made.manifest.summary["edited"], 1);
    assert_eq!(column(&kept, "language"), ["en", "en"]);
    let manifest = std::fs::read_to_string(made.manifest_path()).unwrap();
    assert!(!manifest.contains(secret));
    let untouched = clean(&lab, &dataset, json!({"redact": []})).unwrap();
    assert!(column(&rows(&untouched, "parquet"), "text")[0].contains(secret));
}

#[test]
fn conversations_are_judged_whole_and_keep_their_messages() {
    let said = |text: &str| json!([{"role": "user", "content": "Mail me at a@mail.org!"}, {"role": "assistant", "content": text}]);
    let (lab, dataset) = lab(&[
        json!({"id": "long", "messages": said(&format!("{}\nno end here", prose(1)))}),
        json!({"id": "short", "messages": said("Yes.")}),
    ]);
    let made = clean(&lab, &dataset, json!({})).unwrap();
    let kept = rows(&made, "parquet");
    assert_eq!(column(&kept, "id"), ["long"]);
    let messages = kept[0]["messages"].as_array().unwrap();
    assert_eq!(messages[0]["content"], "Mail me at <EMAIL_1>!");
    assert!(messages[1]["content"].as_str().unwrap().contains("no end"), "messages keep all their lines");
}

#[test]
fn only_languages_that_were_asked_for_are_kept() {
    let german =
        "Der Fluss fließt langsam durch das Tal und die Leute gehen am Abend gern spazieren. ".repeat(3);
    let (lab, dataset) = lab(&[json!({"id": "en", "text": prose(1)}), json!({"id": "de", "text": german})]);
    let made = clean(&lab, &dataset, json!({"language": ["en"]})).unwrap();
    let rejected = rows(&made, "rejected.parquet");
    assert_eq!(rejected[0]["rejection_gate"], "language@1");
    assert_eq!(rejected[0]["rejection_reason"], "the language is de, not en");
    assert_eq!(column(&rows(&made, "parquet"), "id"), ["en"]);
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let texts: Vec<Value> = (0..2600).map(|n| json!({"id": format!("r{n}"), "text": prose(n)})).collect();
    let hashes = [1, 3].map(|threads| {
        let (lab, dataset) = lab(&texts);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let made = clean(&lab, &dataset, json!({"gopher": {"min_mean_word_length": 4.0}})).unwrap();
            let scores = score(&lab, &dataset).unwrap().artifact().clone();
            (
                made.manifest.content_hash.clone(),
                scores.manifest.content_hash.clone(),
                made.manifest.counts.rows,
            )
        })
    });
    assert_eq!(hashes[0], hashes[1]);
    assert!(hashes[0].2.is_some_and(|rows| rows > 1024), "more than one batch is kept: {hashes:?}");
}

#[test]
fn what_cannot_be_done_says_why() {
    let check = |result: Result<Artifact, StageError>, message: &str, hint: Option<&str>| {
        let error = result.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        let hinted = error.hint();
        assert!(
            hint.is_none_or(|hint| hinted.as_ref().is_some_and(|given| given.contains(hint))),
            "{hinted:?}"
        );
    };
    let (lab, dataset) = lab(&[json!({"id": "a", "text": prose(1)})]);
    check(
        clean(&lab, &dataset, json!({"gopher": {"min_word": 3}})),
        "gopher.min_word",
        Some("gopher.min_words"),
    );
    check(clean(&lab, &dataset, json!({"gofer": {}})), "gofer", Some("gopher"));
    check(clean(&lab, &dataset, json!({"language": ["english"]})), "language: english", None);
    check(clean(&lab, &dataset, json!({"min_language_confidence": 2.0})), "2 is not between 0 and 1", None);
    check(clean(&lab, &dataset, json!({"redact": ["names"]})), "names", None);
    check(
        clean(&lab, &dataset, json!({"gopher": {"min_words": 1e6}})),
        "clean 1 rows: none is kept; min_words of gopher@1 rejected 1",
        Some("nexa data thresholds"),
    );
    let scores = score(&lab, &dataset).unwrap().artifact().clone();
    let kept = clean(&lab, &dataset, json!({})).unwrap();
    let inputs = Inputs::none().with(DATASET_ROLE, kept).with(SCORES_ROLE, scores);
    let stage = Clean::new(Config::default()).unwrap();
    let result = lab.execute(&stage, "other", &inputs).map(|outcome| outcome.artifact().clone());
    check(result, "holds the scores of other rows", Some("nexa data score"));
}

#[test]
fn rows_without_a_text_are_refused_by_place() {
    let (lab, dataset) = lab(&[json!({"id": "a", "body": "x"})]);
    let error = score(&lab, &dataset).unwrap_err().to_string();
    assert!(error.contains("rows_v1.parquet") && error.contains("there are: id, body"), "{error}");
    let named = ScoreConfig { text: Some("body".to_owned()), ..ScoreConfig::default() };
    let stage = Score::new(named).unwrap();
    lab.execute(&stage, "scores", &Inputs::none().with(DATASET_ROLE, dataset)).unwrap();
    assert_eq!(Clean::new(Config::default()).unwrap().name(), "data.clean");
}

#[test]
fn without_gates_every_row_is_kept_normalised_and_redacted() {
    let (lab, dataset) =
        lab(&[json!({"id": "a", "text": "Too short: a@mail.org"}), json!({"id": "b", "text": ""})]);
    let nothing = ScoreConfig { gates: vec![], detect_language: false, ..ScoreConfig::default() };
    let inputs = Inputs::none().with(DATASET_ROLE, dataset);
    let scores = lab.execute(&Score::new(nothing).unwrap(), "scores", &inputs).unwrap().artifact().clone();
    let inputs = inputs.with(SCORES_ROLE, scores);
    let made = lab.execute(&Clean::new(Config::default()).unwrap(), "clean", &inputs).unwrap();
    assert_eq!(column(&rows(made.artifact(), "parquet"), "text"), ["Too short: <EMAIL_1>", ""]);
}
