//! Which rows are taken out, and for what.

use nexa_core::stage::Inputs;
use nexa_core::table::Tables;

use super::*;
use crate::ingest::{self, Ingest};
use crate::tables::FileTables;
use crate::test_lab::TestLab;

const QUESTION: &str = "Janet's ducks lay sixteen eggs per day. She eats three for breakfast every morning and bakes \
                        muffins for her friends with four. How much does she make at the market?";
const ANSWER: &str = "Janet sells the remaining nine duck eggs each and every day. She makes eighteen dollars every day \
                      at the market of the farmers.";

/// A lab with the evaluation sets `test.jsonl` (two items that begin alike) and `pairs.jsonl` (short sentences).
fn lab() -> TestLab {
    let lab = TestLab::new();
    let other = QUESTION.replace("Janet's ducks lay", "Tom's geese lay").replace("muffins", "cakes");
    let items = [
        json!({"id": "q1", "question": QUESTION, "answer": ANSWER}),
        json!({"id": "q2", "question": other, "answer": "7"}),
        json!({"id": "q3", "question": "Why?", "answer": "No."}),
        json!({"id": "q4", "question": "Two plus two?", "answer": "It is surely four."}),
    ];
    lab.write("test.jsonl", items.map(|item| format!("{item}\n")).concat());
    lab.write("pairs.jsonl", "{\"sentence_good\": \"Who should Derek hug after shocking Richard?\"}\n");
    lab
}

fn sets() -> Config {
    let set = |path: &str| EvaluationSet { path: path.to_owned(), question: Vec::new(), answer: Vec::new() };
    Config { evaluation_sets: Some(vec![set("test.jsonl"), set("pairs.jsonl")]), ..Config::default() }
}

fn run(lab: &TestLab, texts: &[String], config: Config) -> Result<Artifact, StageError> {
    let lines = texts
        .iter()
        .enumerate()
        .map(|(n, text)| json!({"id": format!("r{n}"), "text": text}).to_string() + "\n");
    lab.write("raw/rows.jsonl", lines.collect::<String>());
    let ingest = ingest::Config { paths: vec!["raw/rows.jsonl".into()], ..ingest::Config::default() };
    let dataset = lab.execute(&Ingest::new(&lab.lab, ingest)?, "rows", &Inputs::none())?;
    let inputs = Inputs::none().with("dataset", dataset.artifact().clone());
    let stage = Decontaminate::new(&lab.lab, config)?;
    Ok(lab.execute(&stage, "clean", &inputs)?.artifact().clone())
}

fn table(artifact: &Artifact, file: &str) -> Vec<Row> {
    FileTables.read(&artifact.file(file).unwrap()).unwrap()
}

/// What becomes of one row beside one that is innocent: its worst match, if it is taken out.
fn check(text: &str, expected: Option<(&str, &str, &str)>) {
    let lab = lab();
    let made = run(&lab, &["An innocent row.".to_owned(), text.to_owned()], sets()).unwrap();
    let matches = table(&made, "matches.parquet");
    let worst = matches
        .first()
        .map(|row| [EVALUATION_SET, EVALUATION_ID, "reason"].map(|name| row[name].as_str().unwrap()));
    assert_eq!(worst, expected.map(|(set, id, reason)| [set, id, reason]), "{text:?}");
    let rejected = table(&made, "rejected.parquet");
    assert_eq!(rejected.len(), usize::from(expected.is_some()));
    assert_eq!(table(&made, "parquet").len(), 2 - rejected.len());
    if let Some((set, id, _)) = expected {
        let row = &rejected[0];
        assert_eq!((&row["id"], &row[REJECTION_GATE]), (&json!("r1"), &json!(METHOD)));
        assert!(row[REJECTION_REASON].as_str().unwrap().contains(&format!("item `{id}` of {set}")));
    }
}

const REJECTION_GATE: &str = nexa_core::columns::REJECTION_GATE;
const REJECTION_REASON: &str = nexa_core::columns::REJECTION_REASON;

#[test]
fn a_question_is_found_however_it_is_written() {
    let found = Some(("test.jsonl", "q1", "question"));
    check(QUESTION, found);
    check(&format!("Here is one:\n{}\nWell?", QUESTION.to_uppercase()), found);
    // One word changed costs one word, and numbers count as they stand.
    check(&QUESTION.replace("muffins", "bread"), found);
    check(&QUESTION.replace("every morning", "at dawn"), found);
}

#[test]
fn what_is_common_to_many_items_is_not_enough() {
    // Fifteen words that both questions share count little beside those that name one of them.
    check("She eats three for breakfast every morning and bakes bread; a friend with four cats came.", None);
    check("Quite another text about ducks, eggs, muffins and the market where Janet sells them.", None);
}

#[test]
fn an_answer_is_found_alone_and_at_the_border() {
    check(&format!("He said: {ANSWER}"), Some(("test.jsonl", "q1", "answer")));
    let end = QUESTION.split_once("bakes").unwrap().1;
    check(&format!("{end} {ANSWER}"), Some(("test.jsonl", "q1", "border")));
    check("Two plus two? It is surely four.", Some(("test.jsonl", "q4", "border")));
    check("Two plus two? It is five.", None);
}

#[test]
fn a_short_item_is_found_as_a_whole() {
    check("Say: who should Derek hug, after shocking Richard!", Some(("pairs.jsonl", "1", "question")));
    check("Who should Derek hug after shocking Robert?", None);
    check("Why? No.", None);
}

#[test]
fn the_report_adds_up_and_the_manifest_says_what_was_checked() {
    let lab = lab();
    let texts = [QUESTION, ANSWER, "An innocent row.", QUESTION].map(str::to_owned);
    let made = run(&lab, &texts, sets()).unwrap();
    let report: Value = files::read_json(&made.file("report.json").unwrap()).unwrap();
    assert_eq!(report["contaminated"], 3);
    assert_eq!(
        (&report["question"], &report["answer"], &report["border"]),
        (&json!(2), &json!(1), &json!(0))
    );
    // The second item has most of its question in common with the first, and so with the rows.
    let set = json!({"name": "test.jsonl", "items": 4, "too_short": 1, "matched": 2, "rows": 3});
    assert_eq!(report["sets"][0], set);
    let checked: Vec<CheckedSet> =
        serde_json::from_value(made.manifest.summary[SUMMARY_KEY].clone()).unwrap();
    assert_eq!(checked[0].hash, ContentHash::of_file(&lab.path("test.jsonl")).unwrap());
    let span = &table(&made, "matches.parquet")[0];
    assert_eq!((&span["span_start"], &span["question_overlap"]), (&json!(0), &json!(1.0)));
    assert_eq!(span["span_words"], span["span"].as_str().unwrap().split(' ').count());
    assert!(
        lab.events.warnings().iter().any(|text| text.contains("1 of 4 items of test.jsonl are too short"))
    );
}

#[test]
fn rows_that_are_held_out_stay_and_the_others_are_held_against_them() {
    let lab = lab();
    let texts = [QUESTION, QUESTION, "An innocent row."].map(str::to_owned);
    let held_out = |values: &[&str]| HeldOut {
        column: "id".to_owned(),
        values: values.iter().map(|&value| value.to_owned()).collect(),
        question: Vec::new(),
        answer: Vec::new(),
    };
    let config =
        Config { evaluation_sets: Some(Vec::new()), held_out: Some(held_out(&["r0"])), ..Config::default() };
    let made = run(&lab, &texts, config.clone()).unwrap();
    let ids: Vec<_> =
        table(&made, "parquet").iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["r0", "r2"]);
    let missing = run(&lab, &texts, Config { held_out: Some(held_out(&["x", "y"])), ..config }).unwrap_err();
    assert!(missing.to_string().contains("no row has `id` = x or y"), "{missing}");
}

#[test]
fn without_evaluation_items_or_with_settings_that_make_no_sense_nothing_is_made() {
    let lab = lab();
    let texts = ["An innocent row.".to_owned()];
    let check = |config: Config, expected: &str| {
        let error = run(&lab, &texts, config).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(Config::default(), "there are no evaluation items");
    check(Config { min_overlap: 2.0, ..sets() }, "`min_overlap`: 2 is not between 0 and 1");
    check(Config { ngram_words: 4, ..sets() }, "`ngram_words`: 4 is below `min_words`");
    let named = EvaluationSet {
        path: "test.jsonl".to_owned(),
        question: vec!["qestion".to_owned()],
        answer: Vec::new(),
    };
    check(Config { evaluation_sets: Some(vec![named]), ..sets() }, "did you mean `question`?");
    let missing =
        EvaluationSet { path: "nowhere.jsonl".to_owned(), question: Vec::new(), answer: Vec::new() };
    let error = run(&lab, &texts, Config { evaluation_sets: Some(vec![missing]), ..sets() }).unwrap_err();
    assert_eq!(error.exit_code(), nexa_core::ExitCode::Input);
}

#[test]
fn any_common_run_is_enough_where_that_is_asked_for() {
    let lab = lab();
    let texts =
        ["She eats three for breakfast every morning and bakes cakes for her friends and more.".to_owned()];
    assert_eq!(run(&lab, &texts, sets()).unwrap().manifest.counts.rows, Some(1));
    let strict = Config { min_overlap: 0.0, ..sets() };
    assert_eq!(run(&lab, &texts, strict).unwrap().manifest.counts.rows, Some(0));
}
