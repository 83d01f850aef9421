//! No group on two sides, whatever joins it.

use std::collections::BTreeSet;

use nexa_core::artifact::Artifact;
use nexa_core::stage::Inputs;
use nexa_core::table::Tables;

use super::*;
use crate::ingest::{self, Ingest};
use crate::tables::FileTables;
use crate::test_lab::TestLab;

fn split(rows: &[Value], yaml: &str) -> Result<Vec<Row>, StageError> {
    let lab = TestLab::new();
    lab.write("raw/rows.jsonl", rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    let ingest = ingest::Config { paths: vec!["raw/rows.jsonl".into()], ..ingest::Config::default() };
    let dataset = lab.execute(&Ingest::new(&lab.lab, ingest)?, "rows", &Inputs::none())?;
    let inputs = Inputs::none().with("dataset", dataset.artifact().clone());
    let config = nexa_core::config::from_value(nexa_core::config::parse_yaml(yaml, "test")?, "test")?;
    let made = lab.execute(&Split::new(config)?, "split", &inputs)?;
    let artifact: &Artifact = made.artifact();
    Ok(FileTables.read(&artifact.file("parquet")?)?)
}

/// Rows of 100 prompts and 80 documents, which tie the prompts together in fours and fives.
fn rows() -> Vec<Value> {
    (0..400)
        .map(|n| json!({"id": format!("r{n}"), "group": format!("p{}", n / 4), "document": format!("d{}", n / 5)}))
        .collect()
}

fn sides_of(rows: &[Row], column: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut sides: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let cell = |name: &str| row[name].as_str().unwrap().to_owned();
        sides.entry(cell(column)).or_default().insert(cell(SPLIT));
    }
    sides
}

#[test]
fn no_group_stands_on_two_sides() {
    let check = |yaml: &str, together: &[&str], groups: usize| {
        let rows = split(&rows(), yaml).unwrap();
        assert_eq!(rows.len(), 400);
        for column in together {
            let sides = sides_of(&rows, column);
            assert!(sides.values().all(|sides| sides.len() == 1), "{yaml}: {column}");
        }
        let all: BTreeSet<_> = rows.iter().map(|row| row[SPLIT].as_str().unwrap()).collect();
        assert_eq!(all.len(), 3, "{yaml}");
        assert_eq!(sides_of(&rows, together[0]).len(), groups);
    };
    let shares = "test_share: 0.3, validation_share: 0.3";
    check(&format!("{{{shares}}}"), &["group"], 100);
    check(&format!("{{{shares}, group_columns: [document]}}"), &["document"], 80);
    check(&format!("{{{shares}, group_columns: [id]}}"), &["id"], 400);
    // Four documents and five prompts are twenty rows, and one group.
    check(&format!("{{{shares}, group_columns: [group, document]}}"), &["group", "document"], 100);
}

#[test]
fn the_order_of_rows_does_not_matter() {
    let yaml = "{test_share: 0.3, validation_share: 0.3, group_columns: [group, document]}";
    let side = |rows: &[Value]| sides_of(&split(rows, yaml).unwrap(), "id");
    let mut turned = rows();
    turned.reverse();
    turned.rotate_left(77);
    assert_eq!(side(&turned), side(&rows()));
}

#[test]
fn a_row_without_a_value_is_a_group_of_its_own() {
    let rows: Vec<Value> = (0..60).map(|n| json!({"id": format!("r{n}"), "group": null})).collect();
    let rows = split(&rows, "{test_share: 0.4, validation_share: 0.2}").unwrap();
    let sides: BTreeSet<_> = rows.iter().map(|row| row[SPLIT].as_str().unwrap()).collect();
    assert_eq!(sides.len(), 3);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let check = |yaml: &str, expected: &str| {
        let error = split(&rows(), yaml).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check("{test_share: 0.6, validation_share: 0.4}", "leave no rows to train on");
    check("{test_share: -1}", "`test_share`: -1 is not between 0 and 1");
    check("{group_columns: [grop]}", "did you mean `group`?");
    check("{stratify_column: domain}", "column `domain` is missing");
}
