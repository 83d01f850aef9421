use nexa_core::Diagnose;
use nexa_core::table::Tables;
use serde_json::json;

use super::*;
use crate::tables::FileTables;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn table(&self, name: &str, rows: &[Value]) -> Table {
        let path = self.0.path().join(name);
        let rows: Vec<Row> = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
        FileTables.write(&path, &rows).unwrap();
        Table { name: name.to_owned(), path }
    }
}

fn options(key: Key) -> Options<'static> {
    Options { file: None, key, ignore: &[], limit: 2 }
}

fn named(columns: &[&str]) -> Key {
    Key::Columns(columns.iter().map(|name| (*name).to_owned()).collect())
}

fn counts(diff: &Diff) -> [u64; 4] {
    [diff.rows.added, diff.rows.removed, diff.rows.changed, diff.rows.unchanged]
}

#[test]
fn columns_that_are_ignored_make_no_difference_and_must_be_there() {
    let folder = Folder::new();
    let before =
        folder.table("before.jsonl", &[json!({"id": "a-1", "q": "one"}), json!({"id": "a-2", "q": "two"})]);
    let after = [
        json!({"id": "a-1", "q": "new"}),
        json!({"id": "a-2", "q": "one"}),
        json!({"id": "a-3", "q": "two"}),
    ];
    let after = folder.table("after.jsonl", &after);
    let sides = Sides { before, after };
    let ignore = ["id".to_owned()];
    let diff = compare_tables(&sides, &Options { ignore: &ignore, ..options(Key::WholeRow) }).unwrap();
    assert_eq!(counts(&diff), [1, 0, 0, 2]);
    let ignore = ["idd".to_owned()];
    let error = compare_tables(&sides, &Options { ignore: &ignore, ..options(Key::WholeRow) }).unwrap_err();
    assert!(error.hint().unwrap().contains("did you mean `id`?"), "{error}");
}

#[test]
fn rows_are_added_removed_and_changed_by_their_key_in_whatever_order() {
    let folder = Folder::new();
    let before = folder.table(
        "before.parquet",
        &[
            json!({"id": "a", "text": "one", "n": 1}),
            json!({"id": "b", "text": "two", "n": 2}),
            json!({"id": "c", "text": "three", "n": 3}),
            json!({"id": "d", "text": "four", "n": 4}),
        ],
    );
    let after = folder.table(
        "after.parquet",
        &[
            json!({"id": "e", "text": "five", "n": 5}),
            json!({"id": "d", "text": "vier", "n": 4}),
            json!({"id": "b", "text": "zwei", "n": 20}),
            json!({"id": "a", "text": "one", "n": 1}),
        ],
    );
    let diff = compare_tables(&Sides { before, after }, &options(Key::Found)).unwrap();
    assert_eq!((counts(&diff), diff.key.as_slice()), ([1, 1, 2, 1], &["id".to_owned()][..]));
    let columns: Vec<_> = diff.changed_columns.iter().map(|one| (one.column.as_str(), one.rows)).collect();
    assert_eq!(columns, [("text", 2), ("n", 1)]);
    assert_eq!((&diff.added[0]["id"], &diff.removed[0]["text"]), (&json!("e"), &json!("three")));
    assert_eq!(diff.changed[0].key["id"], "d");
    let cells = serde_json::to_value(&diff.changed[1].cells).unwrap();
    let expected = json!([
        {"column": "text", "before": "two", "after": "zwei"},
        {"column": "n", "before": 2, "after": 20},
    ]);
    assert_eq!(cells, expected);
    assert!(!diff.is_empty());
}

#[test]
fn a_column_that_came_or_went_changes_no_row() {
    let folder = Folder::new();
    let before = folder.table("before.jsonl", &[json!({"id": 1, "old": true, "n": 1}), json!({"id": 2})]);
    let after = folder
        .table("after.parquet", &[json!({"id": 1, "n": 1.0, "new": null}), json!({"id": 2, "new": "x"})]);
    let diff = compare_tables(&Sides { before, after }, &options(Key::Found)).unwrap();
    assert_eq!(counts(&diff), [0, 0, 0, 2], "the same rows in another format are the same");
    let told = serde_json::to_value(&diff.columns).unwrap();
    let expected = json!({
        "added": [{"name": "new", "type": "text"}],
        "removed": [{"name": "old", "type": "boolean"}],
        "retyped": [{"column": "n", "before": "integer", "after": "number"}],
    });
    assert_eq!(told, expected);
}

#[test]
fn a_key_that_is_there_twice_is_named_with_its_rows() {
    let folder = Folder::new();
    let once = || folder.table("once.jsonl", &[json!({"id": "a", "k": 1}), json!({"id": "b", "k": 1})]);
    let twice = || {
        let rows = [json!({"id": "a", "k": 1}), json!({"id": "b", "k": 1}), json!({"id": "a", "k": 2})];
        folder.table("twice.jsonl", &rows)
    };
    let new_twice = folder.table("new.jsonl", &[json!({"id": "z", "k": 1}), json!({"id": "z", "k": 2})]);
    for sides in [
        Sides { before: twice(), after: once() },
        Sides { before: once(), after: twice() },
        Sides { before: once(), after: new_twice },
    ] {
        let error = compare_tables(&sides, &options(Key::Found)).unwrap_err().to_string();
        assert!(error.contains("have the same key (id \"") && error.contains("--whole-rows"), "{error}");
    }
    let sides = Sides { before: once(), after: twice() };
    let error = compare_tables(&sides, &options(Key::Found)).unwrap_err().to_string();
    assert!(error.contains("twice.jsonl: rows 1 and 3"), "{error}");
    let diff = compare_tables(&sides, &options(named(&["id", "k"]))).unwrap();
    assert_eq!(counts(&diff), [1, 0, 0, 2]);
}

#[test]
fn rows_without_a_key_are_counted_as_a_whole() {
    let folder = Folder::new();
    let row = |text: &str| json!({ "text": text });
    let before = folder.table("before.jsonl", &[row("a"), row("a"), row("b"), row("c")]);
    let after = folder.table("after.jsonl", &[row("d"), row("a"), row("c"), row("d"), row("d")]);
    let sides = Sides { before, after };
    let error = compare_tables(&sides, &options(Key::Found)).unwrap_err();
    assert!(error.hint().unwrap().contains("both tables have: text"), "{error}");
    let diff = compare_tables(&sides, &options(Key::WholeRow)).unwrap();
    assert_eq!(counts(&diff), [3, 2, 0, 2]);
    let texts = |rows: &[Row]| rows.iter().map(|row| row["text"].clone()).collect::<Vec<_>>();
    assert_eq!(
        (texts(&diff.added), texts(&diff.removed)),
        (vec![json!("d"), json!("d")], vec![json!("a"), json!("b")])
    );
}

#[test]
fn a_key_that_is_not_there_is_told_with_the_nearest() {
    let folder = Folder::new();
    let table = |name: &str| folder.table(name, &[json!({"sample_id": 1, "text": "a"})]);
    let sides = Sides { before: table("before.jsonl"), after: table("after.jsonl") };
    assert_eq!(compare_tables(&sides, &options(Key::Found)).unwrap().key, ["sample_id"]);
    let error = compare_tables(&sides, &options(named(&["sample"]))).unwrap_err();
    assert!(error.to_string().starts_with("find column `sample` of `"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("did you mean `sample_id`?"));
    let equal = compare_tables(&sides, &options(Key::WholeRow)).unwrap();
    assert!(equal.is_empty());
}
