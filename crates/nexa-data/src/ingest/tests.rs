use nexa_core::artifact::Artifact;
use nexa_core::stage::{Inputs, Outcome};
use nexa_core::table::{Row, Tables};
use nexa_core::{Diagnose, ExitCode};
use serde_json::{Value, json};

use super::*;
use crate::tables::FileTables;
use crate::test_lab::{Files, TestLab};

fn config(paths: &[&str]) -> Config {
    Config { paths: paths.iter().map(|&path| path.to_owned()).collect(), ..Config::default() }
}

fn lenient(paths: &[&str]) -> Config {
    Config { max_reject_share: 1.0, ..config(paths) }
}

fn run(lab: &TestLab, config: Config) -> Result<Outcome, StageError> {
    lab.execute(&Ingest::new(&lab.lab, config)?, "problems", &Inputs::none())
}

fn made(lab: &TestLab, config: Config) -> Artifact {
    match run(lab, config).unwrap() {
        Outcome::Made(artifact) => artifact,
        Outcome::UpToDate(artifact) => panic!("{} was there", artifact.id()),
    }
}

fn table(artifact: &Artifact, file: &str) -> Vec<Row> {
    FileTables.read(&artifact.file(file).unwrap()).unwrap()
}

fn texts<'a>(rows: &'a [Row], column: &str) -> Vec<&'a str> {
    rows.iter().map(|row| row[column].as_str().unwrap()).collect()
}

#[test]
fn rows_get_an_id_and_their_source_and_keep_their_columns() {
    let lab = TestLab::new();
    lab.write(
        "raw/b.jsonl",
        "{\"q\":\"x\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n\n{\"q\":\"y\"}\n",
    );
    lab.write("raw/a.jsonl", "{\"q\":\"z\"}\n");
    let artifact = made(&lab, config(&["raw"]));
    let rows = table(&artifact, "parquet");
    let expected = [
        json!({"id": "a-1", "q": "z", "source_file": "a.jsonl", "messages": null}),
        json!({"id": "b-1", "q": "x", "source_file": "b.jsonl", "messages": [{"role": "user", "content": "hi"}]}),
        json!({"id": "b-3", "q": "y", "source_file": "b.jsonl", "messages": null}),
    ];
    assert_eq!(rows.into_iter().map(Value::Object).collect::<Vec<_>>(), expected);

    let manifest = &artifact.manifest;
    assert_eq!((manifest.kind, manifest.counts.rows), (Kind::Dataset, Some(3)));
    assert_eq!(manifest.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["parquet"]);
    assert_eq!(
        json!(manifest.summary),
        json!({
            "rows_in": 3, "rows_out": 3, "rejected": 0, "format": "parquet",
            "files": [{"name": "a.jsonl", "rows": 1}, {"name": "b.jsonl", "rows": 2}],
        })
    );
    assert_eq!(manifest.producer.config["paths"], json!(["raw/a.jsonl", "raw/b.jsonl"]));
    assert!(
        manifest.parents.iter().all(|parent| parent.id.starts_with("file:")) && manifest.parents.len() == 2
    );
}

#[test]
fn the_same_files_are_not_ingested_twice_and_a_changed_file_gives_a_new_version() {
    let lab = TestLab::new();
    lab.write("raw/a.jsonl", "{\"q\":1}\n");
    let first = made(&lab, config(&["raw/*.jsonl"]));
    assert!(
        matches!(run(&lab, config(&["raw/*.jsonl"])).unwrap(), Outcome::UpToDate(again) if again == first)
    );
    lab.write("raw/a.jsonl", "{\"q\":2}\n");
    let second = made(&lab, config(&["raw/*.jsonl"]));
    assert_eq!((first.id().version, second.id().version), (1, 2));
    lab.write("raw/b.jsonl", "{\"q\":3}\n");
    assert_eq!(made(&lab, config(&["raw/*.jsonl"])).id().version, 3);
}

#[test]
fn the_record_of_a_run_can_be_run_again() {
    let lab = TestLab::new();
    lab.write("raw/a.jsonl", "{\"q\":1}\n");
    let first = made(&lab, config(&["raw"]));
    let recorded = first.manifest.producer.config.clone();
    let again: Config = nexa_core::config::from_value(recorded, "run.json").unwrap();
    assert!(matches!(run(&lab, again).unwrap(), Outcome::UpToDate(_)));
}

#[test]
fn equal_files_give_equal_bytes_in_any_lab() {
    let hashes = [(); 2].map(|()| {
        let lab = TestLab::new();
        let lines: String =
            (0..5000).map(|n| json!({"n": n, "text": "t".repeat(n % 90)}).to_string() + "\n").collect();
        lab.write("raw/a.jsonl", lines + "{\n");
        let artifact = made(&lab, config(&["raw"]));
        (artifact.manifest.content_hash, artifact.manifest.producer.key)
    });
    assert_eq!(hashes[0], hashes[1]);
}

#[test]
fn every_format_is_read() {
    let row = |n: i64| json!({"id": format!("r{n}"), "n": n, "x": n as f64 / 4.0, "text": "a, \"b\"\nc", "even": n % 2 == 0, "none": null});
    let rows: Vec<Row> = (0..3).map(|n| row(n).as_object().unwrap().clone()).collect();
    let mut hashes = std::collections::BTreeSet::new();
    let names = ["t.jsonl", "t.jsonl.gz", "t.jsonl.zst", "t.parquet", "t.csv", "t.csv.gz", "t.csv.zst"];
    for name in names {
        let lab = TestLab::new();
        nexa_core::files::create_folder(&lab.path("raw")).unwrap();
        FileTables.write(&lab.path("raw").join(name), &rows).unwrap();
        let read = table(&made(&lab, config(&["raw"])), "parquet");
        assert_eq!(texts(&read, "id"), ["r0", "r1", "r2"], "{name}");
        assert_eq!(texts(&read, "source_file"), [name; 3]);
        assert_eq!(read.iter().map(|row| &row["n"]).collect::<Vec<_>>(), [&json!(0), &json!(1), &json!(2)]);
        let content = read.into_iter().map(|mut row| {
            row.remove("source_file");
            Value::Object(row)
        });
        hashes.insert(nexa_core::hash::ContentHash::of_json(&content.collect()));
    }
    assert_eq!(hashes.len(), 1, "the same rows, whatever they are kept in");
}

#[test]
fn a_malformed_row_is_told_kept_and_left_out() {
    let check = |lines: &[u8], config: Config, expected: &[(u64, &str, &str)], accepted: &[&str]| {
        let lab = TestLab::new();
        lab.write("raw/a.jsonl", lines);
        let artifact = made(&lab, Config { paths: vec!["raw".into()], max_reject_share: 1.0, ..config });
        assert_eq!(texts(&table(&artifact, "parquet"), "id"), accepted);
        let rejected = table(&artifact, "rejected.jsonl");
        let found: Vec<_> = rejected
            .iter()
            .map(|row| {
                (row["line"].as_u64().unwrap(), row["reason"].as_str().unwrap(), row["raw"].as_str().unwrap())
            })
            .collect();
        assert_eq!(found, expected);
        let warnings: Vec<_> =
            expected.iter().map(|(line, reason, _)| format!("a.jsonl:{line}: {reason}")).collect();
        assert_eq!(lab.events.warnings(), warnings);
        assert_eq!(artifact.manifest.summary["rejected"], expected.len());
        assert_eq!(artifact.manifest.summary["rows_in"], expected.len() + accepted.len());
        assert!(!lab.path("runs").join(artifact.manifest.producer.run.as_str()).join(SPOOL_FILE).exists());
    };
    check(
        b"{\"q\":1}\n\n{\"q\":\n[]\n{\"q\": \"\xff\"}\n{\"q\":2}\n",
        Config::default(),
        &[
            (3, "not JSON: EOF while parsing a value at column 5", "{\"q\":"),
            (4, "a list, not an object", "[]"),
            (5, "not UTF-8 at byte 8", "{\"q\": \"\u{fffd}\"}"),
        ],
        &["a-1", "a-6"],
    );
    check(
        b"{\"q\":1}\n{\"p\":2}\n{\"q\": null}\n",
        Config { required_columns: vec!["q".into()], ..Config::default() },
        &[
            (2, "column `q` is required, but missing or null", "{\"p\":2}"),
            (3, "column `q` is required, but missing or null", "{\"q\": null}"),
        ],
        &["a-1"],
    );
    check(
        b"{\"q\":1}\n{\"q\":1.5}\n{\"q\":\"1\"}\n",
        Config::default(),
        &[(3, "column `q` holds text, but a float before", "{\"q\":\"1\"}")],
        &["a-1", "a-2"],
    );
    let by_key = || Config { id_column: Some("key".into()), ..Config::default() };
    check(
        b"{\"key\":\"x\"}\n{\"key\":\"x\"}\n{}\n{\"key\":1.5}\n{\"key\":\"\"}\n{\"key\":\"y\",\"id\":3}\n",
        by_key(),
        &[
            (2, "id `x` is also that of a.jsonl:1", "{\"key\":\"x\"}"),
            (3, "id column `key` is missing", "{}"),
            (4, "id column `key` holds 1.5, not a name or an integer", "{\"key\":1.5}"),
            (5, "id column `key` holds \"\", not a name or an integer", "{\"key\":\"\"}"),
            (6, "column `id` would be replaced by the id column `key`", "{\"key\":\"y\",\"id\":3}"),
        ],
        &["x"],
    );
    check(
        b"{\"key\":7}\n{\"key\":\"x\"}\n",
        by_key(),
        &[(2, "column `key` holds text, but an integer before", "{\"key\":\"x\"}")],
        &["7"],
    );
    check(
        b"{\"id\":\"own\",\"q\":1}\n{\"q\":1}\n{\"id\":\"a-2\",\"q\":1}\n",
        Config::default(),
        &[(3, "id `a-2` is also that of a.jsonl:2", "{\"id\":\"a-2\",\"q\":1}")],
        &["own", "a-2"],
    );
}

#[test]
fn a_rejected_parquet_row_is_kept_as_json() {
    let lab = TestLab::new();
    nexa_core::files::create_folder(&lab.path("raw")).unwrap();
    let rows: Vec<Row> =
        [json!({"id": 1}), json!({"id": 1})].iter().map(|row| row.as_object().unwrap().clone()).collect();
    FileTables.write(&lab.path("raw/t.parquet"), &rows).unwrap();
    let rejected = table(&made(&lab, lenient(&["raw"])), "rejected.jsonl");
    assert_eq!((&rejected[0]["line"], &rejected[0]["raw"]), (&json!(2), &json!("{\"id\":1}")));
}

#[test]
fn past_the_share_the_stage_fails_and_says_where_the_rows_are() {
    let lab = TestLab::new();
    lab.write("raw/a.jsonl", "{\"q\":1}\noops\n".repeat(30));
    let error = run(&lab, Config { max_reject_share: 0.4, ..config(&["raw"]) }).unwrap_err();
    let run_folder = std::fs::read_dir(lab.path("runs")).unwrap().next().unwrap().unwrap().path();
    let kept = run_folder.join("rejected.jsonl");
    assert_eq!(
        error.to_string(),
        format!(
            "ingest 60 rows: 30 of them (50.00%) were rejected, but `max_reject_share` allows 40.00%; \
             the first is a.jsonl:2: not JSON: expected value at column 1; all are kept in `{}`",
            kept.display()
        )
    );
    assert_eq!(error.exit_code(), ExitCode::Input);
    assert_eq!(FileTables.read(&kept).unwrap().len(), 30);
    assert!(!run_folder.join(SPOOL_FILE).exists());
    let warnings = lab.events.warnings();
    assert_eq!(warnings.len(), 21);
    assert_eq!(warnings[20], "10 more rows were rejected; `rejected.jsonl` holds them all");
    // Exactly at the share is within it.
    made(&lab, Config { max_reject_share: 0.5, ..config(&["raw"]) });
}

#[test]
fn files_without_a_row_are_an_error() {
    let check = |content: &str, expected: &str| {
        let lab = TestLab::new();
        lab.write("raw/a.jsonl", content);
        assert_eq!(run(&lab, lenient(&["raw"])).unwrap_err().to_string(), expected);
    };
    check("", "ingest a.jsonl: no row was accepted, and 0 were rejected");
    check("x\ny\n", "ingest a.jsonl: no row was accepted, and 2 were rejected");
}

#[test]
fn a_limit_ends_reading_early() {
    let lab = TestLab::new();
    lab.write("raw/a.jsonl", "oops\n{\"q\":1}\n{\"q\":2}\n");
    lab.write("raw/b.jsonl", "{\"q\":3}\n{\"q\":4}\noops\n");
    let artifact = made(&lab, Config { limit: Some(3), ..lenient(&["raw"]) });
    assert_eq!(texts(&table(&artifact, "parquet"), "id"), ["a-2", "a-3", "b-1"]);
    assert_eq!(artifact.manifest.summary["rows_in"], 4);
}

#[test]
fn paths_are_files_folders_and_globs() {
    let lab = TestLab::new();
    for file in ["raw/b.jsonl", "raw/a.jsonl.gz", "raw/deep/c.parquet", "raw/.hidden.jsonl", "raw/notes.txt"]
    {
        lab.write(file, "");
    }
    let check = |paths: &[&str], expected: &[&str]| {
        let stage = Ingest::new(&lab.lab, config(paths)).unwrap();
        let expected: Vec<_> = expected.iter().map(|file| lab.path(file)).collect();
        assert_eq!(stage.outside_files(), expected, "{paths:?}");
    };
    check(&["raw/b.jsonl"], &["raw/b.jsonl"]);
    check(&["raw"], &["raw/a.jsonl.gz", "raw/b.jsonl", "raw/deep/c.parquet"]);
    check(&["raw/*"], &["raw/a.jsonl.gz", "raw/b.jsonl"]);
    check(&["raw/**/*.parquet"], &["raw/deep/c.parquet"]);
    check(&["raw/b.jsonl", "raw/?.jsonl*"], &["raw/b.jsonl", "raw/a.jsonl.gz"]);
    check(&[lab.path("raw/[bc].jsonl").to_str().unwrap()], &["raw/b.jsonl"]);
    check(&[], &[]);
}

#[test]
fn what_cannot_be_ingested_is_refused_before_anything_runs() {
    let lab = TestLab::new();
    for file in ["raw/a.jsonl", "raw/other/a.jsonl.gz", "raw/notes.pdf", "empty/notes.pdf"] {
        lab.write(file, "");
    }
    let check = |config: Config, expected: &str, code: ExitCode| {
        let error = Ingest::new(&lab.lab, config).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_code(), code);
    };
    check(config(&["raw/missing.jsonl"]), "raw/missing.jsonl`", ExitCode::Input);
    check(config(&["raw/*.parquet"]), "find tables in", ExitCode::Input);
    check(config(&["empty"]), "find tables in", ExitCode::Input);
    check(config(&["raw/notes.pdf"]), "notes.pdf: the name does not end like a table's", ExitCode::Input);
    check(config(&["raw/***"]), "`raw/***`", ExitCode::Config);
    check(config(&["raw"]), "have the same stem", ExitCode::Config);
    check(Config { max_reject_share: f64::NAN, ..config(&[]) }, "`max_reject_share`", ExitCode::Config);
    check(Config { max_reject_share: 1.5, ..config(&[]) }, "1.5 is not between 0 and 1", ExitCode::Config);
    Ingest::new(&lab.lab, Config { id_column: Some("key".into()), ..config(&["raw"]) }).unwrap();
}

#[test]
fn a_raw_artifact_is_ingested_under_names_that_do_not_depend_on_its_own() {
    let lab = TestLab::new();
    let files = vec![("jsonl", "{\"q\":1}\n"), ("extra.jsonl", "{\"q\":2}\n"), ("card.md", "x")];
    let raw =
        lab.execute(&Files { kind: Kind::Raw, files }, "sums", &Inputs::none()).unwrap().artifact().clone();
    let inputs = Inputs::none().with(RAW_ROLE, raw);
    let stage = Ingest::new(&lab.lab, Config::default()).unwrap();
    let outcome = lab.execute(&stage, "problems", &inputs).unwrap();
    let rows = table(outcome.artifact(), "parquet");
    assert_eq!(texts(&rows, "id"), ["extra-1", "raw-1"]);
    assert_eq!(texts(&rows, "source_file"), ["extra.jsonl", "raw.jsonl"]);

    lab.write("raw/a.jsonl", "{}");
    let both = Ingest::new(&lab.lab, config(&["raw"])).unwrap();
    let error = lab.execute(&both, "problems", &inputs).unwrap_err();
    assert!(error.to_string().contains("only one can be ingested"), "{error}");
    let error = lab.execute(&stage, "problems", &Inputs::none()).unwrap_err();
    assert!(error.to_string().contains("`paths` is empty"), "{error}");
}

#[test]
fn a_cancelled_ingest_makes_nothing_and_can_be_run_again() {
    let mut lab = TestLab::new();
    lab.write("raw/a.jsonl", "{\"q\":1}\n");
    lab.cancel.cancel();
    assert_eq!(run(&lab, config(&["raw"])).unwrap_err().exit_code(), ExitCode::Interrupted);
    lab.cancel = nexa_core::event::Cancel::default();
    assert_eq!(made(&lab, config(&["raw"])).id().version, 1);
}

#[test]
fn an_unknown_key_is_refused() {
    let error = nexa_core::config::from_value::<Config>(json!({"path": ["x"]}), "c.yaml").unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean `paths`?"));
}

#[test]
fn gsm8k_is_ingested_whole() {
    let data = std::env::var_os("NEXA_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let folder = data.join("gsm8k");
    if !folder.is_dir() {
        eprintln!("skipped: there is no {}", folder.display());
        return;
    }
    let lab = TestLab::new();
    let required_columns = vec!["question".to_owned(), "answer".to_owned()];
    let strict = Config { max_reject_share: 0.0, required_columns, ..config(&[folder.to_str().unwrap()]) };
    let rows = table(&made(&lab, strict), "parquet");
    assert_eq!(rows.len(), 7473 + 1319);
    assert_eq!((rows[0]["id"].as_str(), rows[1319]["id"].as_str()), (Some("test-1"), Some("train-1")));
    assert!(rows.iter().all(|row| row["answer"].as_str().is_some_and(|answer| answer.contains("\n#### "))));
}

#[test]
fn texts_are_rows_where_they_are_meant() {
    let check = |change: fn(&mut Config), expected: &[(&str, &str)]| {
        let lab = TestLab::new();
        lab.write("raw/a.txt", "\u{feff}Once upon\n\na time.\n");
        lab.write("raw/b.md", "# Title\n");
        lab.write("raw/blank.txt", " \n");
        lab.write("raw/t.jsonl", "{\"text\":\"of a table\"}\n");
        let mut config = config(&["raw"]);
        change(&mut config);
        let rows = table(&made(&lab, config), "parquet");
        let found: Vec<_> = texts(&rows, "id").into_iter().zip(texts(&rows, "text")).collect();
        assert_eq!(found, expected);
    };
    let own = ("t-1", "of a table");
    check(|_| (), &[own]);
    check(|c| c.paths = vec!["raw/*.md".to_owned()], &[("b-1", "# Title\n")]);
    check(|c| c.paths = vec!["raw/a.txt".to_owned()], &[("a-1", "Once upon\n\na time.\n")]);
    let documents = [("a-1", "Once upon\n\na time.\n"), ("b-1", "# Title\n"), own];
    check(|c| c.texts = Some(Texts::Documents), &documents);
    let lines = [("a-1", "Once upon"), ("a-3", "a time."), ("b-1", "# Title"), own];
    check(|c| c.texts = Some(Texts::Lines), &lines);
}

#[test]
fn a_text_that_is_not_utf_8_is_rejected_with_its_place() {
    let check = |texts: Texts, expected: &str| {
        let lab = TestLab::new();
        lab.write("raw/good.txt", "good");
        let bytes = [b"one\ntw\xff\n".as_slice(), b"three\n"].concat();
        std::fs::write(lab.path("raw/bad.txt"), bytes).unwrap();
        let artifact = made(&lab, Config { texts: Some(texts), ..lenient(&["raw"]) });
        let rejected = nexa_core::files::read_text(&artifact.file("rejected.jsonl").unwrap()).unwrap();
        assert!(rejected.contains(expected) && rejected.lines().count() == 1, "{rejected}");
    };
    check(Texts::Documents, "not UTF-8 at byte 7, on line 2");
    check(Texts::Lines, "\"line\":2,\"reason\":\"not UTF-8 at byte 3\"");
}

#[test]
fn a_folder_of_texts_alone_says_how_they_are_taken() {
    let lab = TestLab::new();
    lab.write("raw/a.txt", "a");
    let error = run(&lab, config(&["raw"])).unwrap_err();
    assert!(error.hint().unwrap().contains("texts=documents"), "{error}");
}
