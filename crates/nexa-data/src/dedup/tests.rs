//! Which rows stay, whatever their order, the threads and the memory.

use std::collections::BTreeMap;

use nexa_core::artifact::Artifact;
use nexa_core::stage::Inputs;
use nexa_core::table::Tables;
use nexa_core::{Diagnose, ExitCode};

use super::*;
use crate::ingest::{self, Ingest};
use crate::tables::FileTables;
use crate::test_lab::TestLab;

fn config(yaml: &str) -> Config {
    let value = nexa_core::config::parse_yaml(yaml, "test").unwrap();
    nexa_core::config::from_value(value, "test").unwrap()
}

/// Ingests rows and removes duplicates; the lab has to stay for as long as its files are read.
fn dedup(rows: &[Value], yaml: &str) -> (TestLab, Artifact) {
    let lab = TestLab::new();
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    lab.write("raw/rows.jsonl", lines);
    let ingest = ingest::Config { paths: vec!["raw/rows.jsonl".into()], ..ingest::Config::default() };
    let dataset = lab.execute(&Ingest::new(&lab.lab, ingest).unwrap(), "rows", &Inputs::none()).unwrap();
    let inputs = Inputs::none().with("dataset", dataset.artifact().clone());
    let made = lab.execute(&Dedup::new(config(yaml)).unwrap(), "unique", &inputs).unwrap();
    let artifact = made.artifact().clone();
    (lab, artifact)
}

fn table(artifact: &Artifact, file: &str) -> Vec<Row> {
    FileTables.read(&artifact.file(file).unwrap()).unwrap()
}

fn column(rows: &[Row], name: &str) -> Vec<String> {
    rows.iter().map(|row| row[name].as_str().unwrap_or_default().to_owned()).collect()
}

/// A text of many words, of which those from one place on are replaced.
fn text(seed: usize, changed: usize) -> String {
    let words = (0..60).map(|at| {
        let is_changed = at >= 60 - changed;
        format!("{}{}", if is_changed { "other" } else { "word" }, letters(seed * 100 + at))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A number in letters: digits would be masked.
fn letters(mut number: usize) -> String {
    let mut out = String::new();
    loop {
        out.push(char::from(b'a' + u8::try_from(number % 26).unwrap()));
        number /= 26;
        if number == 0 {
            return out;
        }
    }
}

#[test]
fn of_equal_and_of_similar_rows_the_best_stays() {
    let (a, b) = (text(1, 0), text(2, 0));
    let rows = [
        json!({"id": "a", "text": a, "score": 1}),
        json!({"id": "b", "text": b, "score": 1}),
        json!({"id": "c", "text": a.to_uppercase().replace(' ', "\n"), "score": 3}),
        json!({"id": "d", "text": format!("{a} and more"), "score": 2}),
        json!({"id": "e", "text": "too short", "score": 0}),
        json!({"id": "f", "text": "Too short", "score": 0}),
        json!({"id": "g", "text": "...", "score": 0}),
        json!({"id": "h", "text": "!", "score": 0}),
    ];
    let check = |yaml: &str, kept: &[&str], removed: &[(&str, &str, &str)]| {
        let (_lab, made) = dedup(&rows, yaml);
        assert_eq!(column(&table(&made, "parquet"), "id"), kept, "{yaml}");
        let rejected = table(&made, "rejected.parquet");
        let found: Vec<_> = rejected
            .iter()
            .map(|row| ["id", "survivor_id", "rejection_gate"].map(|name| row[name].as_str().unwrap()))
            .collect();
        let expected: Vec<_> = removed.iter().map(|(id, survivor, gate)| [*id, *survivor, *gate]).collect();
        assert_eq!(found, expected, "{yaml}");
        assert_eq!(made.manifest.counts.rows, Some(kept.len() as u64));
    };
    let (exact, near) = ("dedup.exact", "dedup.near");
    check("{}", &["b", "d", "e", "g", "h"], &[("a", "d", near), ("c", "d", near), ("f", "e", exact)]);
    check(
        "{score_column: score}",
        &["b", "c", "e", "g", "h"],
        &[("a", "c", exact), ("d", "c", near), ("f", "e", exact)],
    );
    check(
        "{score_column: score, prefer: lowest}",
        &["a", "b", "e", "g", "h"],
        &[("c", "a", exact), ("d", "a", near), ("f", "e", exact)],
    );
    check("{near: false}", &["a", "b", "d", "e", "g", "h"], &[("c", "a", exact), ("f", "e", exact)]);
    let same = ["a", "b", "c", "d", "e", "f", "g", "h"];
    check("{remove: false}", &same, &[]);
}

#[test]
fn clusters_are_told_for_splits() {
    let rows = [
        json!({"id": "b", "text": text(1, 0)}),
        json!({"id": "a", "text": text(1, 2)}),
        json!({"id": "c", "text": text(2, 0)}),
    ];
    let (_lab, made) = dedup(&rows, "{remove: false}");
    assert_eq!(column(&table(&made, "parquet"), "cluster"), ["a", "a", "c"]);
    let clusters = table(&made, "clusters.parquet");
    assert_eq!(column(&clusters, "id"), ["b", "a"]);
    assert_eq!(column(&clusters, "cluster"), ["a", "a"]);
    // 56 shingles each, of which the last two words change two.
    let similarity =
        clusters.iter().find(|row| row["id"] != row["survivor_id"]).unwrap()["similarity"].clone();
    assert_eq!(similarity, json!(54.0 / 58.0));
}

#[test]
fn problems_that_differ_in_numbers_are_different_and_pages_are_not() {
    let rows = |column: &str| -> Vec<Value> {
        let text = |n: usize| format!("Ann has {n} pens and buys {n} more pens in the shop at the corner.");
        (10..13).map(|n| json!({"id": format!("r{n}"), column: text(n)})).collect()
    };
    let check = |column: &str, yaml: &str, expected: u64| {
        assert_eq!(dedup(&rows(column), yaml).1.manifest.counts.rows, Some(expected), "{column} {yaml}");
    };
    check("question", "{}", 3);
    check("text", "{}", 1);
    check("question", "{mask_numbers: true}", 1);
    check("text", "{mask_numbers: false}", 3);
}

/// Rows of many clusters, of which some chain.
fn many() -> Vec<Value> {
    (0..400).map(|n| json!({"id": format!("r{n:03}"), "text": text(n / 4, n % 4)})).collect()
}

fn assignment(artifact: &Artifact) -> BTreeMap<String, Vec<String>> {
    let rows = table(artifact, "clusters.parquet");
    let cell = |row: &Row, name: &str| row[name].to_string();
    rows.iter()
        .map(|row| {
            let rest = ["cluster", "survivor_id", "similarity"].map(|name| cell(row, name));
            (cell(row, "id"), rest.to_vec())
        })
        .collect()
}

#[test]
fn the_order_of_rows_does_not_matter() {
    let (_lab, straight) = dedup(&many(), "{}");
    let mut rows = many();
    rows.reverse();
    rows.rotate_left(123);
    let (_other_lab, turned) = dedup(&rows, "{}");
    let expected = assignment(&straight);
    assert_eq!(expected.len(), 400);
    assert_eq!(assignment(&turned), expected);
    let sorted = |artifact: &Artifact| {
        let mut ids = column(&table(artifact, "parquet"), "id");
        ids.sort();
        ids
    };
    assert_eq!(sorted(&turned), sorted(&straight));
    assert_eq!(sorted(&straight).len(), 100);
}

#[test]
fn neither_threads_nor_memory_change_a_byte() {
    let check = |threads: usize, yaml: &str| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| dedup(&many(), yaml)).1.manifest.content_hash
    };
    let expected = check(1, "{}");
    assert_eq!(check(3, "{}"), expected);
    // Every buffer is at its smallest, and 400 rows have 5,600 bands.
    assert_eq!(check(2, "{memory_limit_mib: 0}"), expected);
}

#[test]
fn a_bucket_that_is_too_large_is_bounded_and_told() {
    // Each row shares nearly all with each.
    let rows: Vec<Value> = (0..300)
        .map(|n| json!({"id": format!("{n}"), "text": format!("{} {}", text(1, 0), letters(n))}))
        .collect();
    let (lab, made) = dedup(&rows, "{}");
    assert_eq!(made.manifest.counts.rows, Some(1));
    assert!(lab.events.warnings().iter().any(|text| text.contains("only neighbours")));
}

#[test]
fn settings_and_columns_that_make_no_sense_are_refused() {
    let check = |yaml: &str, expected: &str| {
        let error = Dedup::new(config(yaml)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Config);
    };
    check("{bands: 0}", "`bands`: 0 is too few");
    check("{min_similarity: 1.5}", "`min_similarity`: 1.5");
    check("{prefer: lowest}", "`score_column`");
    check("{bands: 1000, rows_per_band: 1000}", "1000000 is above 4096");

    let lab = TestLab::new();
    lab.write("raw/rows.jsonl", "{\"text\": \"a\", \"score\": 1}\n");
    let ingest = ingest::Config { paths: vec!["raw/rows.jsonl".into()], ..ingest::Config::default() };
    let dataset = lab.execute(&Ingest::new(&lab.lab, ingest).unwrap(), "rows", &Inputs::none()).unwrap();
    let inputs = Inputs::none().with("dataset", dataset.artifact().clone());
    let check = |yaml: &str, inputs: &Inputs, expected: &str| {
        let error = lab.execute(&Dedup::new(config(yaml)).unwrap(), "unique", inputs).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check("{score_column: scor}", &inputs, "did you mean `score`?");
    check("{columns: [body]}", &inputs, "column `body` is missing");
    check("{}", &Inputs::none(), "0 inputs are given");
}
