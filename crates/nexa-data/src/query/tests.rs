//! Statements over a small lab and over files.

use std::io::Write as _;

use nexa_core::artifact::Kind;
use nexa_core::env::Environment;
use nexa_core::event::Cancel;
use nexa_core::stage::Inputs;
use nexa_core::table::{Row, Tables};
use nexa_core::{Diagnose, ExitCode};
use serde_json::{Value, json};

use super::*;
use crate::Error;
use crate::tables::{Compression, FileTables};
use crate::test_lab::{Files, TestLab};

fn lab() -> TestLab {
    let lab = TestLab::new();
    let make = |kind, name, files| lab.execute(&Files { kind, files }, name, &Inputs::none()).unwrap();
    make(Kind::TeacherInputs, "teacher_inputs", vec![("jsonl", "{\"id\":\"a\",\"prompt\":\"1 + 1?\"}\n")]);
    make(Kind::TeacherOutputs, "teacher_outputs", vec![("jsonl", "{\"id\":\"a\",\"answer\":\"2\"}\n")]);
    let second =
        "{\"id\":\"a\",\"answer\":\"two\",\"usage\":{\"tokens\":3}}\n{\"id\":\"b\",\"answer\":null}\n";
    make(Kind::TeacherOutputs, "teacher_outputs", vec![("jsonl", second)]);
    let filtered =
        vec![("jsonl", "{\"id\":\"a\"}\n"), ("rejected.jsonl", "{\"id\":\"b\",\"gate\":\"empty\"}\n")];
    make(Kind::Filtered, "kept", filtered);
    lab
}

fn query(lab: &TestLab) -> DataQuery {
    let options = Options { environment: Environment::of([]), ..Options::default() };
    DataQuery::with_options(&lab.lab, "tutor", options).unwrap()
}

fn values(lab: &TestLab, sql: &str) -> Vec<Value> {
    let rows = query(lab).sql(sql).and_then(|answer| answer.rows().collect::<crate::Result<Vec<Row>>>());
    rows.unwrap_or_else(|error| panic!("{sql}: {error}")).into_iter().map(Value::Object).collect()
}

fn error(lab: &TestLab, sql: &str) -> Error {
    match query(lab).sql(sql).and_then(|answer| answer.rows().collect::<crate::Result<Vec<Row>>>()) {
        Ok(rows) => panic!("{sql}: {rows:?}"),
        Err(error) => error,
    }
}

fn check_error(lab: &TestLab, sql: &str, message: &str, hint: &str) {
    let error = error(lab, sql);
    let (told, hinted) = (error.to_string(), error.hint().unwrap_or_default());
    assert!(told.contains(message), "{sql}: {told}");
    assert!(hinted.contains(hint), "{sql}: {hinted}");
    assert!(!told.contains('\n'), "{told}");
}

#[test]
fn names_are_those_of_the_lab() {
    let lab = lab();
    let check = |from: &str, expected: Value| {
        assert_eq!(values(&lab, &format!("SELECT * FROM {from}")), *expected.as_array().unwrap(), "{from}");
    };
    let first = json!([{"id": "a", "answer": "2"}]);
    let second = json!([
        {"id": "a", "answer": "two", "usage": {"tokens": 3}},
        {"id": "b", "answer": null, "usage": null},
    ]);
    check("teacher_outputs", second.clone());
    check("teacher_outputs_v2", second.clone());
    check("TUTOR.Teacher_Outputs", second);
    check("teacher_outputs_v1", first.clone());
    check("tutor.teacher_outputs_v1", first);
    let rejected = json!([{"id": "b", "gate": "empty"}]);
    check("kept.rejected", rejected.clone());
    check("kept_v1.rejected", rejected.clone());
    check("tutor.kept_v1.rejected", rejected);
    // Where nothing has the name of a kind, it is the newest of that kind.
    check("filtered", json!([{"id": "a"}]));
    check("filtered_v1", json!([{"id": "a"}]));
    check(
        "kept k JOIN teacher_outputs t ON k.id = t.id",
        json!([
            {"id": "a", "id_1": "a", "answer": "two", "usage": {"tokens": 3}},
        ]),
    );
    check("(WITH kept AS (SELECT 1 AS n) SELECT * FROM kept)", json!([{"n": 1}]));
    check("generate_series(1, 2)", json!([{"value": 1}, {"value": 2}]));
}

#[test]
fn what_is_not_there_is_answered_with_what_is() {
    let lab = lab();
    check_error(
        &lab,
        "SELECT * FROM teacher_output",
        "find table `tutor.teacher_output`",
        "`teacher_outputs`?",
    );
    check_error(
        &lab,
        "SELECT * FROM teacher_outputs_v7",
        "find version `tutor/teacher_outputs_v7`",
        "v1, v2",
    );
    check_error(&lab, "SELECT * FROM tutr.kept", "find project `tutr`", "did you mean `tutor`?");
    check_error(
        &lab,
        "SELECT * FROM kept.rejects",
        "find table `rejects of tutor/kept_v1`",
        "it holds: rejected",
    );
    check_error(
        &lab,
        "SELECT * FROM zzz",
        "find table `tutor.zzz`",
        "project tutor holds: kept, teacher_inputs",
    );
    check_error(&lab, "SELECT idd FROM kept", "there is no column `idd`", "did you mean `id`?");
    check_error(&lab, "SELECT * FROM 'none/*.jsonl'", "find tables in", "a table's name ends in one of");
    check_error(&lab, "SELECT * FROM 'none.jsonl'", "none.jsonl", "relative to the lab's folder");
    check_error(&lab, "SELECT * FROM 'gs://a/b.parquet'", "`gs://` is not understood", "");
    check_error(&lab, "SELECT * FROM 's3://a/b.parquet'", "AWS_ACCESS_KEY_ID is not set", ".env");
    assert_eq!(error(&lab, "SELECT * FROM 's3://a/b.parquet'").exit_code(), ExitCode::Credentials);
    check_error(&lab, "SELEC 1", "query: ", "");
    check_error(&lab, "SELECT 1; SELECT 2", "query: ", "");
    check_error(&lab, "SELECT foo(1)", "function", "");
    assert_eq!(error(&lab, "SELECT idd FROM kept").exit_code(), ExitCode::Usage);
    lab.write("data/processed/tutor/datasets/broken_v1.manifest.json", "{");
    assert_eq!(values(&lab, "SELECT id FROM kept"), [json!({"id": "a"})]);
    check_error(&lab, "SELECT * FROM broken", "broken_v1.manifest.json", "");
}

#[test]
fn nothing_but_reading_is_allowed() {
    let lab = lab();
    for sql in [
        "CREATE TABLE t AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "SELECT 1 INTO t",
        "INSERT INTO kept VALUES ('x')",
        "COPY kept TO 'out.csv'",
        "DELETE FROM kept",
        "DROP TABLE kept",
        "SET datafusion.execution.batch_size = 1",
        "SHOW TABLES",
        "EXPLAIN COPY kept TO 'out.csv'",
    ] {
        check_error(&lab, sql, "only statements that read are allowed", "SELECT");
    }
    assert!(!values(&lab, "EXPLAIN SELECT * FROM kept").is_empty());
    assert_eq!(values(&lab, "DESCRIBE kept")[0]["column_name"], "id");
}

#[test]
fn the_methods_of_the_original_give_the_rows_of_the_tables() {
    let lab = lab();
    lab.write("data/processed/tutor/training/pretrain/001.jsonl", "{\"text\":\"one\"}\n");
    let query = query(&lab);
    let rows =
        |answer: crate::Result<Answer>| answer.unwrap().rows().map(Result::unwrap).collect::<Vec<Row>>();
    assert_eq!(rows(query.teacher_inputs(None))[0]["prompt"], "1 + 1?");
    assert_eq!(rows(query.teacher_outputs(Some(1)))[0]["answer"], "2");
    assert_eq!(rows(query.teacher_outputs(None)), rows(query.sql("SELECT * FROM teacher_outputs_v2")));
    assert_eq!(rows(query.pretrain_dataset("001"))[0]["text"], "one");
    let hint = |answer: crate::Result<Answer>| answer.err().unwrap().hint().unwrap();
    assert_eq!(hint(query.teacher_outputs(Some(3))), "there are: v1, v2");
    assert_eq!(hint(query.pretrain_dataset("002")), "did you mean `001`?");
    let names: Vec<String> =
        query.list_available_datasets().unwrap().into_iter().map(|e| e.id.stem()).collect();
    assert_eq!(names, ["teacher_inputs_v1", "teacher_outputs_v1", "teacher_outputs_v2", "kept_v1"]);
}

#[test]
fn every_format_gives_the_same_rows() {
    let lab = lab();
    let rows: Vec<Row> = (0..5000)
        .map(|n| json!({"n": n, "half": f64::from(n) / 2.0, "text": format!("row {n}"), "even": n % 2 == 0}))
        .map(|row| row.as_object().unwrap().clone())
        .collect();
    let sql = |name: &str| {
        format!("SELECT count(*) AS n, sum(half) AS half, max(text) AS last FROM '{name}' WHERE even")
    };
    let expected = [json!({"n": 2500, "half": 3_123_750.0, "last": "row 998"})];
    for name in ["t.parquet", "t.jsonl", "t.jsonl.gz", "t.jsonl.zst", "t.csv", "t.csv.gz", "t.csv.zst"] {
        FileTables.write(&lab.path(name), &rows).unwrap();
        assert_eq!(values(&lab, &sql(name)), expected, "{name}");
        assert_eq!(
            values(&lab, &format!("SELECT count(*) AS n FROM '{name}'")),
            [json!({"n": 5000})],
            "{name}"
        );
        let some = values(&lab, &format!("SELECT n FROM '{name}' WHERE n >= 4000 LIMIT 2 OFFSET 1"));
        assert_eq!(some, [json!({"n": 4001}), json!({"n": 4002})], "{name}");
    }
}

#[test]
fn lines_are_read_in_pieces_and_keep_their_order() {
    let lab = lab();
    let lines: String = (0..60_000)
        .map(|n| {
            json!({"n": n, "text": "x".repeat(n % 97)}).to_string()
                + if n % 1000 == 0 { "\r\n\n" } else { "\n" }
        })
        .collect();
    assert!(lines.len() > 3 << 20, "large enough for several pieces");
    lab.write("big.jsonl", lines.trim_end());
    let numbers: Vec<u64> =
        values(&lab, "SELECT n FROM 'big.jsonl'").iter().map(|row| row["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..60_000).collect::<Vec<_>>());
    let counts = values(&lab, "SELECT count(*) AS n, count(DISTINCT n) AS d, sum(n) AS s FROM 'big.jsonl'");
    assert_eq!(counts, [json!({"n": 60_000, "d": 60_000, "s": 1_799_970_000_u64})]);
    // A type that only the last line has.
    lab.write("late.jsonl", lines.clone() + "{\"n\": 0.5, \"late\": {}}\n");
    assert_eq!(
        values(&lab, "SELECT n, late FROM 'late.jsonl' WHERE n = 0.5"),
        [json!({"n": 0.5, "late": {}})]
    );
    lab.write("clash.jsonl", lines + "{\"n\": \"none\"}\n");
    let line = 60_000 + 60 + 1;
    check_error(
        &lab,
        "SELECT n FROM 'clash.jsonl'",
        &format!("clash.jsonl: line {line}: column `n` holds text, but an integer before"),
        "",
    );
}

#[test]
fn shards_are_one_table_with_the_columns_of_all() {
    let lab = lab();
    lab.write("shards/1.jsonl", "{\"a\": 1}\n");
    lab.write("shards/2.jsonl", "{\"a\": 2.5, \"b\": \"x\"}\n");
    lab.write("shards/.hidden.jsonl", "{\"a\": \"no\"}\n");
    let both = [json!({"a": 1.0, "b": null}), json!({"a": 2.5, "b": "x"})];
    assert_eq!(values(&lab, "SELECT * FROM 'shards/*.jsonl'"), both);
    assert_eq!(values(&lab, "SELECT * FROM 'shards/'"), both);
    lab.write("shards/3.jsonl", "{\"a\": 3}\n{\"a\": [1]}\n");
    check_error(
        &lab,
        "SELECT * FROM 'shards/*.jsonl'",
        "3.jsonl: line 2: column `a` holds a list, but a float",
        "",
    );

    let write = |name: &str, row: Value| {
        FileTables.write(&lab.path(name), &[row.as_object().unwrap().clone()]).unwrap();
    };
    std::fs::create_dir_all(lab.path("p [1] %")).unwrap();
    write("p [1] %/1.parquet", json!({"a": 1}));
    write("p [1] %/2.parquet", json!({"a": 2, "b": "x"}));
    let both = [json!({"a": 1, "b": null}), json!({"a": 2, "b": "x"})];
    assert_eq!(values(&lab, "SELECT * FROM 'p [[]1] %/*.parquet'"), both);
    assert_eq!(values(&lab, "SELECT * FROM 'p [1] %/1.parquet'"), [json!({"a": 1})]);
    write("p [1] %/3.parquet", json!({"a": "text"}));
    check_error(&lab, "SELECT * FROM 'p [1] %/'", "3.parquet: column `a` is Utf8", "");
    write("p [1] %/4.jsonl", json!({"a": 1}));
    check_error(&lab, "SELECT * FROM 'p [1] %/'", "it is Parquet, but other files", "");
}

#[test]
fn damaged_files_are_named() {
    let lab = lab();
    let rows: Vec<Row> =
        (0..3000).map(|n| json!({"n": n, "text": format!("{n}")}).as_object().unwrap().clone()).collect();
    let damage = |name: &str, cut: fn(Vec<u8>) -> Vec<u8>| {
        FileTables.write(&lab.path(name), &rows).unwrap();
        std::fs::write(lab.path(name), cut(std::fs::read(lab.path(name)).unwrap())).unwrap();
    };
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    for name in ["cut.parquet", "cut.jsonl.zst", "cut.jsonl.gz", "cut.csv.zst"] {
        damage(name, half);
        let error = error(&lab, &format!("SELECT count(text) FROM '{name}'"));
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Input, "{error}");
    }
    damage("spoiled.parquet", |mut bytes| {
        bytes[64..264].fill(0xff);
        bytes
    });
    let error = error(&lab, "SELECT sum(n), sum(length(text)) FROM 'spoiled.parquet'");
    assert!(error.to_string().contains("spoiled.parquet"), "{error}");
    damage("empty.parquet", |_| Vec::new());
    check_error(&lab, "SELECT * FROM 'empty.parquet'", "empty.parquet: the file is empty", "");
    lab.write("short.parquet", "PAR1");
    check_error(
        &lab,
        "SELECT * FROM 'short.parquet'",
        "short.parquet: the file is damaged: it is too short",
        "",
    );
    lab.write("long.parquet", "PAR1 and nothing else PAR1");
    check_error(
        &lab,
        "SELECT * FROM 'long.parquet'",
        "long.parquet: the file is damaged: it does not end",
        "",
    );
    lab.write("bad.jsonl", "{\"a\":1}\n\nnot json\n");
    check_error(&lab, "SELECT * FROM 'bad.jsonl'", "bad.jsonl: line 3: not JSON", "");
    lab.write("none.jsonl", "");
    assert_eq!(values(&lab, "SELECT count(*) AS n FROM 'none.jsonl'"), [json!({"n": 0})]);
}

/// Rows whose sort and groups are larger than the memory of [`little_memory`].
fn wide_rows(lab: &TestLab) {
    let path = lab.path("wide.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for n in 0_u64..60_000 {
        let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        writeln!(file, "{{\"n\":{n},\"key\":\"{key:020}{}\"}}", "k".repeat(400)).unwrap();
    }
}

fn little_memory(lab: &TestLab, bytes: u64) -> DataQuery {
    let options = Options { memory_limit: Some(bytes), ..Options::default() };
    DataQuery::with_options(&lab.lab, "tutor", options).unwrap()
}

#[test]
fn what_is_larger_than_memory_goes_to_disk_and_is_right() {
    let lab = lab();
    wide_rows(&lab);
    let small = little_memory(&lab, 16 << 20);
    let mut spilled = false;
    let mut last = String::new();
    let mut count = 0;
    for row in small.sql("SELECT key FROM 'wide.jsonl' ORDER BY key").unwrap().rows() {
        let key = row.unwrap()["key"].as_str().unwrap().to_owned();
        assert!(last < key, "in order");
        if count == 0 {
            spilled = nexa_core::files::walk(&lab.path(".nexa/query")).unwrap().len() > 1;
        }
        last = key;
        count += 1;
    }
    assert_eq!(count, 60_000);
    assert!(spilled, "something lay on disk");
    let two_keys = "SELECT key FROM 'wide.jsonl' ORDER BY length(key) DESC, key DESC";
    let keys: Vec<String> = small
        .sql(two_keys)
        .unwrap()
        .rows()
        .map(|row| row.unwrap()["key"].as_str().unwrap().to_owned())
        .collect();
    let in_order = keys.windows(2).all(|two| (two[0].len(), &two[0]) > (two[1].len(), &two[1]));
    assert!(keys.len() == 60_000 && in_order, "{} keys", keys.len());
    let groups = "SELECT count(*) AS keys, sum(c) AS rows FROM (SELECT key, count(*) AS c FROM 'wide.jsonl' GROUP BY key)";
    let rows: Vec<Row> = small.sql(groups).unwrap().rows().map(Result::unwrap).collect();
    assert_eq!(Value::Object(rows[0].clone()), json!({"keys": 60_000, "rows": 60_000}));
    let left = nexa_core::files::walk(&lab.path(".nexa/query")).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_cannot_fit_says_so() {
    let lab = lab();
    wide_rows(&lab);
    let sql = "SELECT count(*) AS n FROM 'wide.jsonl' a JOIN 'wide.jsonl' b ON a.key = b.key";
    let answer = little_memory(&lab, 4 << 20).sql(sql);
    let rows = answer.and_then(|answer| answer.rows().collect::<crate::Result<Vec<Row>>>());
    let error = rows.map(|rows| rows.len()).unwrap_err();
    assert!(error.to_string().contains("it does not fit into 4.2 MB of memory"), "{error}");
    assert!(error.hint().unwrap().contains("--memory-limit"));
}

#[test]
fn what_a_killed_query_left_is_removed_by_the_next() {
    let lab = lab();
    lab.write(".nexa/query/1-0.lock", "");
    lab.write(".nexa/query/1-0/datafusion-x/spilled", "rows");
    values(&lab, "SELECT 1");
    assert_eq!(nexa_core::files::walk(&lab.path(".nexa/query")).unwrap(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_query_ends_when_it_should() {
    let lab = lab();
    let cancel = Cancel::default();
    let options = Options { cancel: cancel.clone(), ..Options::default() };
    let query = DataQuery::with_options(&lab.lab, "tutor", options).unwrap();
    let endless = "SELECT a.value FROM generate_series(1, 100000000) a WHERE a.value % 2 = 3";
    let answer = query.sql(endless).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        sender.send(()).unwrap();
        answer.rows().next()
    });
    receiver.recv().unwrap();
    cancel.cancel();
    assert_eq!(waiting.join().unwrap().unwrap().unwrap_err().exit_code(), ExitCode::Interrupted);
    assert_eq!(query.sql("SELECT 1").err().unwrap().exit_code(), ExitCode::Interrupted);
}

#[test]
fn answers_are_written_in_every_format() {
    let lab = lab();
    let sql = "SELECT * FROM (VALUES (1, 'a,\"b\"', 0.5, true, DATE '2026-01-02', make_array(1, 2)), \
               (2, NULL, NULL, NULL, NULL, NULL)) AS t(n, text, half, yes, day, list)";
    let write = |format| {
        let mut bytes = Vec::new();
        let rows = query(&lab).sql(sql).unwrap().write(&mut bytes, format, "out".as_ref()).unwrap();
        assert_eq!(rows, 2);
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(
        write(OutputFormat::Csv(Compression::None)),
        "n,text,half,yes,day,list\n1,\"a,\"\"b\"\"\",0.5,true,2026-01-02,\"[1,2]\"\n2,,,,,\n"
    );
    let first =
        json!({"n": 1, "text": "a,\"b\"", "half": 0.5, "yes": true, "day": "2026-01-02", "list": [1, 2]});
    let second = json!({"n": 2, "text": null, "half": null, "yes": null, "day": null, "list": null});
    let lines: Vec<Value> = write(OutputFormat::JsonLines(Compression::None))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, [first.clone(), second.clone()]);
    assert_eq!(serde_json::from_str::<Value>(&write(OutputFormat::Json)).unwrap(), json!([first, second]));

    for name in ["out.parquet", "out.jsonl.zst", "out.jsonl.gz", "out.json", "out.csv.zst"] {
        let path = lab.path(name);
        let format = OutputFormat::of(&path).unwrap();
        query(&lab).sql(sql).unwrap().write_file(&path, format, false).unwrap();
        let error = query(&lab).sql(sql).unwrap().write_file(&path, format, false).unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("`--force` replaces it"));
        query(&lab).sql(sql).unwrap().write_file(&path, format, true).unwrap();
    }
    assert_eq!(FileTables.read(&lab.path("out.parquet")).unwrap()[0]["list"], json!([1, 2]));
    assert_eq!(FileTables.read(&lab.path("out.jsonl.zst")).unwrap()[0]["n"], 1);
    let nothing = query(&lab).sql("SELECT 1 AS n WHERE false").unwrap();
    let mut bytes = Vec::new();
    nothing.write(&mut bytes, OutputFormat::Json, "out".as_ref()).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), "[]\n");

    let failing = query(&lab).sql("SELECT 1 / (n - n) AS x FROM (VALUES (1)) AS t(n)");
    let error =
        failing.and_then(|answer| answer.write_file(&lab.path("none.csv"), OutputFormat::Json, false));
    assert!(error.unwrap_err().to_string().contains("divide by zero"), "told");
    assert!(!lab.path("none.csv").exists(), "whole or absent");
}
