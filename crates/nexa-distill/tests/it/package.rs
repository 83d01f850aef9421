//! Packaging: neither a problem nor its paraphrase on two sides, and texts as they were.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::decontamination::{CheckedSet, SUMMARY_KEY};
use nexa_core::hash::ContentHash;
use nexa_core::stage::{Context, Inputs, Stage, StageError};
use nexa_core::table::{JsonLines, Row, Tables};
use nexa_core::{ExitCode, config};
use nexa_distill::package::{Config, Package};
use serde_json::{Value, json};

use crate::support::{TestLab, rows};

fn stage(yaml: &str) -> Package {
    let value = config::parse_yaml(yaml, "test").unwrap();
    Package::new(config::from_value::<Config>(value, "test").unwrap()).unwrap()
}

fn row(id: usize, question: &str, answer: &str, file: &str) -> Row {
    let row = json!({"id": format!("r{id}"), "question": question, "answer": answer, "source_file": file});
    row.as_object().unwrap().clone()
}

/// Packages rows; the lab has to stay for as long as its files are read.
fn package(rows: Vec<Row>, yaml: &str) -> (TestLab, Artifact) {
    let lab = TestLab::new();
    let inputs = Inputs::none().with("dataset", lab.put(Kind::Dataset, "dataset", rows));
    let artifact = lab.execute(&stage(yaml), "sft", &inputs).unwrap();
    (lab, artifact)
}

const ANSWER: &str = "He buys 48/2 = <<48/2=24>>24 pens.\nThen 24 + 48 = <<24+48=72>>72.\n#### 72";

#[test]
fn a_paraphrase_never_stands_on_two_sides() {
    let names = ["Ava", "Ben", "Cara", "Dan"];
    let rows_in: Vec<Row> = (0..400)
        .map(|n| {
            let (problem, name) = (n / 4, names[n % 4]);
            let question = format!(
                "{name} has {} pens, buys {} more and loses some. How many pens?",
                problem + 10,
                problem % 7 + 2
            );
            row(n, &question, "#### 1", "all.jsonl")
        })
        .collect();
    let (_lab, made) = package(rows_in, "{test_share: 0.3, validation_share: 0.2, seed: 5}");
    let all = rows(&made, "parquet");
    assert_eq!(all.len(), 400);
    for problem in all.chunks(4) {
        assert!(
            problem
                .iter()
                .all(|row| row["split"] == problem[0]["split"] && row["group"] == problem[0]["group"])
        );
    }
    let counts = &made.manifest.summary["rows"];
    let total: u64 = ["train", "validation", "test"]
        .iter()
        .map(|split| {
            let rows = rows(&made, &format!("{split}.jsonl")).len() as u64;
            assert_eq!(counts[*split], rows);
            assert!(rows > 20, "{split}: {rows}");
            rows
        })
        .sum();
    assert_eq!(total, 400);
    assert_eq!(made.manifest.summary["groups"], 100);
}

#[test]
fn a_file_decides_and_train_rows_that_are_tested_elsewhere_are_left_out() {
    let rows_in = vec![
        row(0, "Ava has 3 pens and buys 4 pens. How many?", ANSWER, "gsm8k/train.jsonl"),
        row(1, "A train needs 9 hours.", ANSWER, "gsm8k/train.jsonl"),
        row(2, "Ben has 3 pens and buys 4 pens. How many?", ANSWER, "gsm8k/test.jsonl"),
    ];
    let (_lab, made) =
        package(rows_in, "{split_column: source_file, test_values: [test.jsonl], validation_share: 0}");
    let ids = |file: &str| rows(&made, file).iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids("train.jsonl"), ["r1"]);
    assert_eq!(ids("test.jsonl"), ["r2"]);
    assert_eq!(made.manifest.summary["leaked"], 1);
}

#[test]
fn texts_are_kept_but_for_what_is_to_be_taken_out() {
    let rows_in = || vec![row(0, "How many?\n\nSay it.", ANSWER, "a.jsonl")];
    let check = |yaml: &str, expected: &str| {
        let (_lab, made) = package(rows_in(), yaml);
        let row = &rows(&made, "train.jsonl")[0];
        let messages = json!([
            {"role": "user", "content": "How many?\n\nSay it."},
            {"role": "assistant", "content": expected},
        ]);
        assert_eq!(row["messages"], messages);
        assert_eq!((&row["reference"], &row["domain"]), (&json!("72"), &Value::Null));
    };
    check("{test_share: 0, validation_share: 0}", ANSWER);
    check(
        "{test_share: 0, validation_share: 0, strip_calculator_annotations: true}",
        "He buys 48/2 = 24 pens.\nThen 24 + 48 = 72.\n#### 72",
    );
}

#[test]
fn a_split_can_be_capped() {
    let rows_in = (0..50).map(|n| row(n, &format!("What is {n} + {n}?"), "#### 1", "a.jsonl")).collect();
    let (_lab, made) = package(rows_in, "{test_share: 0, validation_share: 0, max_rows: {train: 10}}");
    let ids: Vec<_> =
        rows(&made, "train.jsonl").iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 10);
    assert!(ids.iter().map(|id| id[1..].parse::<u32>().unwrap()).is_sorted());
    assert_eq!(made.manifest.counts.rows, Some(10));
}

#[test]
fn nothing_to_train_on_is_an_error() {
    let lab = TestLab::new();
    let rows_in = vec![row(0, "How many?", "#### 1", "test.jsonl")];
    let inputs = Inputs::none().with("dataset", lab.put(Kind::Dataset, "dataset", rows_in));
    let stage = stage("{split_column: source_file, test_values: [test.jsonl]}");
    let error = lab.execute(&stage, "sft", &inputs).unwrap_err();
    assert_eq!(
        (error.exit_code(), error.to_string().as_str()),
        (ExitCode::Input, "distill.package: no row is left of 1: none was left to train on")
    );
}

/// A stage that hands rows on and states that they were held against a file.
struct Checked(ContentHash);

impl Stage for Checked {
    fn name(&self) -> &'static str {
        "test.checked"
    }

    fn kind(&self) -> Kind {
        Kind::Dataset
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!({ "set": self.0 })
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        let rows = JsonLines.read(&context.inputs.require("dataset")?.file("parquet")?)?;
        JsonLines.write(&context.output.join("parquet"), &rows)?;
        let set = CheckedSet { name: "test".to_owned(), hash: self.0.clone(), items: 1, too_short: 0 };
        Ok(context.state(SUMMARY_KEY, [set])?)
    }
}

#[test]
fn rows_that_were_not_held_against_the_evaluation_sets_are_refused() {
    let lab = TestLab::with("evaluation_sets: [{path: exam.jsonl}]", &[]);
    let exam = lab.folder.path().join("exam.jsonl");
    std::fs::write(&exam, "{\"question\": \"How?\"}\n").unwrap();
    let rows_in = vec![row(0, "How many?", "#### 1", "a.jsonl")];
    let dataset = lab.put(Kind::Dataset, "dataset", rows_in);
    let on = |artifact: &Artifact| Inputs::none().with("dataset", artifact.clone());
    let strict = stage("{test_share: 0, validation_share: 0}");
    let package = |artifact: &Artifact| lab.execute(&strict, "sft", &on(artifact));

    let error = package(&dataset).unwrap_err();
    assert_eq!(error.to_string(), "package tutor/dataset_v1: it was not held against exam.jsonl");
    assert!(error.hint().unwrap().contains("nexa data decontaminate --from tutor/dataset_v1"));
    assert_eq!(error.exit_code(), ExitCode::Input);
    let lenient = stage("{test_share: 0, validation_share: 0, allow_contaminated: true}");
    lab.execute(&lenient, "lenient", &on(&dataset)).unwrap();

    let other = lab.execute(&Checked(ContentHash::of_bytes(b"other")), "other", &on(&dataset)).unwrap();
    package(&other).unwrap_err();
    let checked =
        lab.execute(&Checked(ContentHash::of_file(&exam).unwrap()), "checked", &on(&dataset)).unwrap();
    package(&checked).unwrap();
    // What is made of checked rows counts as checked.
    let later = lab.execute(&Checked(ContentHash::of_bytes(b"later")), "later", &on(&checked)).unwrap();
    package(&later).unwrap();
}

#[test]
fn a_dataset_of_answers_is_packaged_by_their_columns() {
    let answer = json!({"id": "a", "user_prompt": "How many?", "teacher_output": "#### 4"});
    let (_lab, made) =
        package(vec![answer.as_object().unwrap().clone()], "{test_share: 0, validation_share: 0}");
    assert_eq!(rows(&made, "train.jsonl")[0]["messages"][0]["content"], "How many?");
}
