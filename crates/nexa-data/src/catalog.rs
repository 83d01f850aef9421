//! What tables there are in a lab, and a look into one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use nexa_core::artifact::{Artifact, ArtifactId, Kind, Store, TagChange, Tags};
use nexa_core::lab::Lab;
use nexa_core::table::{Row, Tables, main_table};
use nexa_core::{Error as CoreError, config};
use serde::Serialize;
use serde_json::Value;

use crate::Result;
use crate::tables::{FileTables, Records};

/// One artifact that holds a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetEntry {
    /// The project.
    pub project: String,
    /// What it is.
    pub category: Kind,
    /// The name that all versions share.
    pub name: String,
    /// The version.
    pub version: u32,
    /// Project, name and version.
    pub id: ArtifactId,
    /// Rows of the main table, where the stage stated them.
    pub rows: Option<u64>,
    /// Tokens, where the stage counted them.
    pub tokens: Option<u64>,
    /// Bytes of all files.
    pub bytes: u64,
    /// The format of the main table: `parquet`, `jsonl`, `jsonl.gz` or `jsonl.zst`.
    pub format: String,
    /// The tags that the version has.
    pub tags: Vec<String>,
    /// When it was committed.
    pub created_at: DateTime<Utc>,
    /// Where the main table lies, relative to the lab.
    pub path: String,
}

/// Lists the artifacts that hold tables, by project, then kind, then name and version.
///
/// # Errors
/// Fails when the project does not exist, or on a malformed manifest.
pub fn list_available_datasets(lab: &Lab, project: Option<&str>) -> Result<Vec<DatasetEntry>> {
    let store = Store::new(lab);
    let artifacts = match project {
        Some(project) => {
            check_exists(lab, project)?;
            store.of_project(project)?
        }
        None => store.all()?,
    };
    let mut tags: BTreeMap<&str, Vec<TagChange>> = BTreeMap::new();
    for artifact in &artifacts {
        let project = artifact.id().project.as_str();
        if !tags.contains_key(project) {
            tags.insert(project, Tags::new(lab, project)?.all()?);
        }
    }
    let of = |artifact: &Artifact| tags.get(artifact.id().project.as_str()).map_or(&[][..], Vec::as_slice);
    artifacts.iter().filter_map(|artifact| entry(lab, artifact, of(artifact)).transpose()).collect()
}

fn check_exists(lab: &Lab, project: &str) -> Result<()> {
    let known = lab.projects()?;
    if known.iter().any(|name| name == project) {
        return Ok(());
    }
    let hint = match config::nearest(project, known.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("there are: {}", known.join(", ")),
    };
    Err(CoreError::NotFound { what: "project", name: project.to_owned(), hint: Some(hint) }.into())
}

fn entry(lab: &Lab, artifact: &Artifact, tags: &[TagChange]) -> Result<Option<DatasetEntry>> {
    let Some(file) = main_table(artifact, &FileTables) else { return Ok(None) };
    let format = FileTables.split_name(file).map_or("", |(_, format)| format);
    let manifest = &artifact.manifest;
    Ok(Some(DatasetEntry {
        project: manifest.id.project.clone(),
        category: manifest.kind,
        name: manifest.id.name.clone(),
        version: manifest.id.version,
        id: manifest.id.clone(),
        rows: manifest.counts.rows,
        tokens: manifest.counts.tokens,
        bytes: manifest.counts.bytes,
        format: format.to_owned(),
        tags: tags.iter().filter(|tag| tag.is_of(&manifest.id)).map(|tag| tag.tag.clone()).collect(),
        created_at: manifest.created_at,
        path: lab.display_path(&artifact.file(file)?),
    }))
}

/// Which rows of an artifact are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Page<'a> {
    /// The file, by its name in the manifest; by default the main table.
    pub file: Option<&'a str>,
    /// Matching rows that are passed over.
    pub offset: usize,
    /// Rows at most.
    pub limit: usize,
    /// Shows only rows in which some value contains this text, in whatever case.
    pub contains: Option<&'a str>,
}

/// Reads some rows of a table, and no more of the file than that takes.
///
/// # Errors
/// Fails when the artifact has no such table, or with file and line when it cannot be read.
pub fn preview(artifact: &Artifact, page: &Page<'_>) -> Result<Vec<Row>> {
    let path = table_path(artifact, page.file)?;
    let rows = match page.contains.filter(|text| !text.is_empty()).map(str::to_lowercase) {
        None => Records::open_at(&path, page.offset)?.rows().take(page.limit).collect::<Result<_, _>>(),
        Some(text) => Records::open(&path)?
            .rows()
            // An error is let through, so that it ends the search.
            .filter(|row| row.as_ref().map_or(true, |row| row.values().any(|value| contains(value, &text))))
            .skip(page.offset)
            .take(page.limit)
            .collect(),
    };
    Ok(rows?)
}

/// Where a table of an artifact lies: the one that was named, else its main table.
///
/// # Errors
/// Fails when the artifact has no such table.
pub fn table_path(artifact: &Artifact, file: Option<&str>) -> Result<PathBuf> {
    let name = match file {
        Some(name) => name,
        None => main_table(artifact, &FileTables).ok_or_else(|| CoreError::NotFound {
            what: "table of",
            name: artifact.id().to_string(),
            hint: Some("`nexa data list` shows what holds one".to_owned()),
        })?,
    };
    Ok(artifact.file(name)?)
}

fn contains(value: &Value, lowercase: &str) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => text.to_lowercase().contains(lowercase),
        Value::Array(items) => items.iter().any(|item| contains(item, lowercase)),
        Value::Object(fields) => fields.values().any(|field| contains(field, lowercase)),
        Value::Bool(_) | Value::Number(_) => value.to_string().contains(lowercase),
    }
}

#[cfg(test)]
mod tests {
    use nexa_core::Diagnose;
    use nexa_core::stage::Inputs;
    use serde_json::json;

    use super::*;
    use crate::ingest::{Config, Ingest};
    use crate::test_lab::{Files, TestLab};

    fn lab_with_data() -> TestLab {
        let lab = TestLab::new();
        let lines: String =
            (0..30).map(|n| json!({"q": format!("Question {n}"), "n": n}).to_string() + "\n").collect();
        lab.write("raw/q.jsonl", lines + "broken\n");
        let config = Config { paths: vec!["raw/q.jsonl".into()], max_reject_share: 0.1, ..Config::default() };
        lab.execute(&Ingest::new(&lab.lab, config).unwrap(), "questions", &Inputs::none()).unwrap();
        let checkpoint = Files { kind: Kind::Checkpoint, files: vec![("log.jsonl", "{}")] };
        lab.execute(&checkpoint, "student", &Inputs::none()).unwrap();
        let report = Files { kind: Kind::Evaluation, files: vec![("metrics.json", "{}")] };
        lab.execute(&report, "report", &Inputs::none()).unwrap();
        let sft = Files {
            kind: Kind::SftDataset,
            files: vec![("card.md", ""), ("rejected.jsonl", "{}"), ("train.jsonl", "{}")],
        };
        lab.execute(&sft, "sft", &Inputs::none()).unwrap();
        let packed = Files {
            kind: Kind::Filtered,
            files: vec![("a.txt", ""), ("kept.jsonl.gz", ""), ("rejected.jsonl", "{}")],
        };
        lab.execute(&packed, "packed", &Inputs::none()).unwrap();
        lab
    }

    #[test]
    fn tables_are_listed_and_nothing_else() {
        let lab = lab_with_data();
        let check = |project: Option<&str>, expected: &[(&str, Kind, Option<u64>, &str, &str)]| {
            let entries = list_available_datasets(&lab.lab, project).unwrap();
            let found: Vec<_> = entries
                .iter()
                .map(|e| (e.name.as_str(), e.category, e.rows, e.format.as_str(), e.path.as_str()))
                .collect();
            assert_eq!(found, expected);
        };
        let datasets = "data/processed/tutor/datasets/questions_v1.parquet";
        let sft = "data/processed/tutor/distillation/sft_datasets/sft_v1.train.jsonl";
        let packed = "data/processed/tutor/distillation/filtered/packed_v1.kept.jsonl.gz";
        let expected = [
            ("questions", Kind::Dataset, Some(30), "parquet", datasets),
            ("packed", Kind::Filtered, None, "jsonl.gz", packed),
            ("sft", Kind::SftDataset, None, "jsonl", sft),
        ];
        check(None, &expected);
        check(Some("tutor"), &expected);
        let error = list_available_datasets(&lab.lab, Some("tutr")).unwrap_err();
        assert_eq!(error.to_string(), "find project `tutr`");
        assert_eq!(error.hint().as_deref(), Some("did you mean `tutor`?"));
    }

    #[test]
    fn an_entry_is_json_for_scripts() {
        let lab = lab_with_data();
        let entry = serde_json::to_value(&list_available_datasets(&lab.lab, None).unwrap()[0]).unwrap();
        assert_eq!(entry["id"], "tutor/questions_v1");
        assert_eq!(entry["category"], "dataset");
        assert_eq!((&entry["version"], &entry["tokens"]), (&json!(1), &Value::Null));
    }

    #[test]
    fn a_preview_is_a_page_of_what_matches() {
        let lab = lab_with_data();
        let artifact = Store::new(&lab.lab).resolve("tutor", "questions").unwrap();
        let check = |page: Page<'_>, expected: &[u64]| {
            let rows = preview(&artifact, &page).unwrap();
            let numbers: Vec<_> = rows.iter().map(|row| row["n"].as_u64().unwrap()).collect();
            assert_eq!(numbers, expected, "{page:?}");
        };
        check(Page { limit: 2, ..Page::default() }, &[0, 1]);
        check(Page { offset: 28, limit: 9, ..Page::default() }, &[28, 29]);
        check(Page { offset: 99, limit: 9, ..Page::default() }, &[]);
        check(Page { limit: 3, contains: Some("question 2"), ..Page::default() }, &[2, 20, 21]);
        check(Page { offset: 2, limit: 2, contains: Some("QUESTION 2"), ..Page::default() }, &[21, 22]);
        check(Page { limit: 1, contains: Some(""), ..Page::default() }, &[0]);
        check(Page { limit: 1, contains: Some("nowhere"), ..Page::default() }, &[]);

        let rejected = Page { file: Some("rejected.jsonl"), limit: 9, ..Page::default() };
        assert_eq!(preview(&artifact, &rejected).unwrap()[0]["raw"], "broken");
        let missing =
            preview(&artifact, &Page { file: Some("nope"), limit: 1, ..Page::default() }).unwrap_err();
        assert_eq!(missing.hint().as_deref(), Some("it holds: parquet, rejected.jsonl"));
    }
}
