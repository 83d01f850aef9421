use serde_json::{Value, json};

use super::*;

fn rows(values: &[Value]) -> Vec<Row> {
    values.iter().map(|value| value.as_object().expect("a row is an object").clone()).collect()
}

fn write_and_read(name: &str, rows: &[Row]) -> Vec<Row> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    FileTables.write(&path, rows).unwrap();
    FileTables.read(&path).unwrap()
}

const NAMES: [&str; 6] = ["t.parquet", "parquet", "t.jsonl", "jsonl", "t.jsonl.gz", "a.b.jsonl.zst"];

#[test]
fn every_format_gives_back_what_was_written() {
    let check = |values: &[Value]| {
        let written = rows(values);
        for name in NAMES {
            let read = write_and_read(name, &written);
            assert_eq!(read, written, "{name}");
            for (read, written) in read.iter().zip(&written) {
                assert_eq!(read.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>(), "{name}");
            }
        }
    };
    check(&[
        json!({"z": "text\n\"quoted\" é 漢 \u{0}", "a": 1, "f": 0.1, "b": true, "none": null}),
        json!({"z": "", "a": null, "f": -1.5e-300, "b": false, "none": null}),
        json!({"z": null, "a": i64::MIN, "f": 1e21, "b": null, "none": null}),
    ]);
    check(&[
        json!({"id": "1", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}),
        json!({"id": "2", "messages": []}),
        json!({"id": "3", "messages": null}),
    ]);
    check(&[json!({"deep": {"list": [[1, 2], [], null], "inner": {"x": [{"y": 0.5}]}}, "empty": []})]);
    check(&[json!({"hash": u64::MAX}), json!({"hash": 0})]);
    check(&[
        json!({"f": 0.1 + 0.2}),
        json!({"f": f64::MIN_POSITIVE}),
        json!({"f": f64::MAX}),
        json!({"f": 5.0}),
    ]);
    check(&[]);
}

#[test]
fn flat_rows_come_back_from_csv_as_from_any_other_format() {
    let written = rows(&[
        json!({"id": "a", "text": "two\nlines, \"quoted\" é", "n": 1, "f": 0.5, "b": true, "none": null}),
        json!({"id": "b", "text": null, "n": -7, "f": 1.0, "b": null, "none": null}),
    ]);
    for name in ["t.csv", "t.csv.gz", "t.csv.zst", "t.parquet", "t.jsonl.zst"] {
        assert_eq!(write_and_read(name, &written), written, "{name}");
    }
    assert_eq!(write_and_read("t.csv", &[]), rows(&[]));
    let nested = rows(&[json!({"id": "a", "list": [1, 2]})]);
    assert_eq!(write_and_read("t.csv", &nested), rows(&[json!({"id": "a", "list": "[1,2]"})]));
}

#[test]
fn parquet_gives_each_column_one_type() {
    let check = |written: &[Value], expected: &[Value]| {
        assert_eq!(write_and_read("t.parquet", &rows(written)), rows(expected));
    };
    check(&[json!({"x": 1}), json!({"x": 2.5})], &[json!({"x": 1.0}), json!({"x": 2.5})]);
    check(
        &[json!({"a": 1, "b": 2}), json!({"a": 3})],
        &[json!({"a": 1, "b": 2}), json!({"a": 3, "b": null})],
    );
    check(
        &[json!({"a": 1}), json!({"b": "late"})],
        &[json!({"a": 1, "b": null}), json!({"a": null, "b": "late"})],
    );
    check(&[json!({"o": {}}), json!({"o": {"k": 1}})], &[json!({"o": {"k": null}}), json!({"o": {"k": 1}})]);
}

#[test]
fn types_that_clash_are_an_error_that_names_column_and_types() {
    let check = |values: &[Value], expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let error = FileTables.write(&path, &rows(values)).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
        assert!(error.contains("t.parquet"), "{error}");
        assert!(!path.exists(), "no half a table is left");
    };
    check(&[json!({"x": 1}), json!({"x": "1"})], "row 2: column `x` holds text, but an integer before");
    check(
        &[json!({"x": "a"}), json!({"x": null}), json!({"x": 1.5})],
        "row 3: column `x` holds a float, but text before",
    );
    check(
        &[json!({"m": [{"c": true}, {"c": []}]})],
        "row 1: column `m[].c` holds a list, but a boolean before",
    );
    check(
        &[json!({"x": {"y": 1}}), json!({"x": [1]})],
        "row 2: column `x` holds a list, but an object before",
    );
    check(
        &[json!({"x": u64::MAX}), json!({"x": -1})],
        "column `x` holds an integer below 0, but an integer above 2^63 - 1 before",
    );
    check(
        &[json!({"a": 1, "meta": {"tags": {}}})],
        "column `meta.tags` holds only empty objects, which Parquet cannot store; remove it, or write JSONL",
    );
}

#[test]
fn equal_rows_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Row> = (0..3000)
        .map(|n| json!({"id": format!("r{n}"), "n": n, "messages": [{"role": "user", "content": "x".repeat(n % 50)}]}))
        .map(|value| value.as_object().unwrap().clone())
        .collect();
    for name in NAMES {
        let bytes = ["one", "two"].map(|copy| {
            let path = folder.path().join(copy).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            FileTables.write(&path, &rows).unwrap();
            std::fs::read(&path).unwrap()
        });
        assert!(bytes[0] == bytes[1], "{name}");
        assert_eq!(FileTables.read(&folder.path().join("one").join(name)).unwrap(), rows, "{name}");
    }
}

#[test]
fn reading_can_begin_behind_some_rows() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<Row> =
        (0..2500).map(|n| json!({"n": n})).map(|value| value.as_object().unwrap().clone()).collect();
    for name in NAMES {
        let path = folder.path().join(name);
        FileTables.write(&path, &all).unwrap();
        for skip in [0, 1, 1024, 2499, 2500, 9999] {
            let rest: Vec<_> = Records::open_at(&path, skip).unwrap().rows().collect::<Result<_>>().unwrap();
            assert_eq!(rest, all[skip.min(all.len())..], "{name} {skip}");
        }
        let last = Records::open_at(&path, 2499).unwrap().next().unwrap().unwrap();
        assert_eq!(last.line, 2500, "{name}");
    }
}

#[test]
fn each_line_is_a_row_or_says_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    let check = |bytes: &[u8], expected: &[(u64, Result<Value, &str>)]| {
        std::fs::write(&path, bytes).unwrap();
        let found: Vec<_> = Records::open(&path)
            .unwrap()
            .map(|record| record.unwrap())
            .map(|record| (record.line, record.content.map(Value::Object)))
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(line, content)| (*line, content.clone().map_err(str::to_owned))).collect();
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(bytes));
    };
    let one = || Ok(json!({"a": 1}));
    check(b"", &[]);
    check(b"\n \n", &[]);
    check(b"{\"a\":1}", &[(1, one())]);
    check(b"\xef\xbb\xbf{\"a\":1}\r\n\r\n\t{\"a\": 1 } \r\n", &[(1, one()), (3, one())]);
    check(
        b"{\"a\":1}\n{\"a\":\n{\"a\":1}\n",
        &[(1, one()), (2, Err("not JSON: EOF while parsing a value at column 5")), (3, one())],
    );
    check(
        b"[1]\nnull\n7\n",
        &[(1, Err("a list, not an object")), (2, Err("null, not an object")), (3, Err("7, not an object"))],
    );
    check(b"{\"a\":\"\xff\"}\n{\"a\":1}\n", &[(1, Err("not UTF-8 at byte 7")), (2, one())]);
}

#[test]
fn a_file_that_is_no_table_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = FileTables.read(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
    };
    check("t.txt", b"a,b\n", "does not end like a table's: .parquet, .jsonl, .jsonl.gz, .jsonl.zst, .csv");
    check("t.csv.gz", b"a,b\n", "the file is damaged");
    check("xparquet", b"", "does not end like a table's");
    check("t.parquet", b"not parquet at all", "Parquet");
    check("t.jsonl", b"{\"a\":1}\n{", "line 2: not JSON");
    check("t.jsonl.gz", b"{\"a\":1}\n", "line 1: the file is damaged");
    check("t.jsonl.zst", b"{\"a\":1}\n", "line 1: the file is damaged");
    for name in ["cut.jsonl.gz", "cut.jsonl.zst"] {
        let path = folder.path().join(name);
        FileTables.write(&path, &rows(&[json!({"text": "whole"})])).unwrap();
        let whole = std::fs::read(&path).unwrap();
        check(name, &whole[..whole.len() - 3], "the file is damaged");
    }
    let error = FileTables.read(&folder.path().join("absent.jsonl")).unwrap_err();
    assert!(matches!(error, Error::Io { action: "read", .. }), "{error}");
}

#[test]
fn compressed_files_may_be_several_streams_after_one_another() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["t.jsonl.gz", "t.jsonl.zst"] {
        let path = folder.path().join(name);
        FileTables.write(&path, &rows(&[json!({"n": 1})])).unwrap();
        let twice = std::fs::read(&path).unwrap().repeat(2);
        std::fs::write(&path, twice).unwrap();
        assert_eq!(FileTables.read(&path).unwrap(), rows(&[json!({"n": 1}), json!({"n": 1})]), "{name}");
    }
}

#[test]
fn a_parquet_file_states_the_types_that_its_rows_have() {
    let rows: Vec<Row> = [
        json!({"id": "a", "n": 1, "x": 0.5, "b": true, "none": null, "tags": ["t"], "m": [{"role": "user", "k": {"d": -1}}]}),
        json!({"id": "b", "n": u64::MAX, "x": 2, "b": null, "none": null, "tags": [], "m": []}),
    ]
    .iter()
    .map(|row| row.as_object().unwrap().clone())
    .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    FileTables.write(&path, &rows).unwrap();
    let mut observed = Schema::default();
    Records::open(&path).unwrap().rows().for_each(|row| observed.observe(&row.unwrap()).unwrap());
    let stated = stated_schema(&path).unwrap().unwrap();
    assert_eq!(stated.to_arrow(), observed.to_arrow());
    assert!(stated_schema(&folder.path().join("t.jsonl")).unwrap().is_none());
}

#[test]
fn columns_and_positions_are_read_without_the_rest() {
    let written: Vec<Row> =
        rows(&(0..3000).map(|n| json!({"n": n, "text": format!("row {n}")})).collect::<Vec<_>>());
    let folder = tempfile::tempdir().unwrap();
    for name in ["t.parquet", "t.jsonl.zst", "t.csv"] {
        let path = folder.path().join(name);
        FileTables.write(&path, &written).unwrap();
        let mut seen = Vec::new();
        let mut see = |position, row| {
            seen.push((position, row));
            Ok(())
        };
        FileTables.scan(&path, &["n"], &mut see).unwrap();
        assert_eq!(seen.len(), 3000, "{name}");
        assert_eq!((seen[2999].0, &seen[2999].1["n"]), (2999, &json!(2999)), "{name}");
        assert_eq!(seen[7].1.contains_key("text"), name != "t.parquet", "{name}");
        let found = FileTables.rows_at(&path, &BTreeSet::from([0, 1023, 1024, 2999, 3000])).unwrap();
        let expected = [0, 1023, 1024, 2999].map(|position| (position, written[position].clone()));
        assert_eq!(found, expected, "{name}");
        assert_eq!(FileTables.rows_at(&path, &BTreeSet::new()).unwrap(), [], "{name}");
    }
    let mut rows = 0;
    let path = folder.path().join("t.parquet");
    let mut count = |_, row: Row| {
        rows += usize::from(row.is_empty());
        Ok(())
    };
    FileTables.scan(&path, &["no such"], &mut count).unwrap();
    assert_eq!(rows, 3000);
    let stopped = FileTables.scan(&path, &["n"], &mut |_, _| Err(Error::malformed(&path, "enough")));
    assert!(stopped.is_err());
}
