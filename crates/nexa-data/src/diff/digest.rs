//! Digests of values: equal for equal values, whatever the format that they were read from.

use nexa_core::table::Row;
use serde_json::{Number, Value};
use xxhash_rust::xxh3::Xxh3;

/// XXH3 in 128 bits: of a billion rows, two are taken for one with a chance of one in 10^20.
pub(super) type Digest = u128;

/// The digest of a row's values in some columns, in the order of the columns.
pub(super) fn of_columns<'a>(row: &Row, columns: impl Iterator<Item = &'a str>) -> Digest {
    let mut hasher = Xxh3::new();
    for column in columns {
        update(&mut hasher, row.get(column).unwrap_or(&Value::Null));
    }
    hasher.digest128()
}

/// A digest of one cell, which is only ever compared with that of the same cell in the other table.
pub(super) fn of_cell(value: Option<&Value>) -> u64 {
    let mut hasher = Xxh3::new();
    update(&mut hasher, value.unwrap_or(&Value::Null));
    hasher.digest()
}

/// Feeds a value such that no two different ones feed the same bytes: a letter for what it is, then its length or end.
fn update(hasher: &mut Xxh3, value: &Value) {
    match value {
        Value::Null => hasher.update(b"n"),
        Value::Bool(true) => hasher.update(b"t"),
        Value::Bool(false) => hasher.update(b"f"),
        Value::Number(number) => update_number(hasher, number),
        Value::String(text) => {
            hasher.update(b"s");
            update_text(hasher, text);
        }
        Value::Array(items) => {
            hasher.update(b"a");
            hasher.update(&(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| update(hasher, item));
        }
        Value::Object(fields) => {
            // A field that is null is as good as absent: Parquet knows no other way to say so.
            let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            fields.sort_by_key(|(name, _)| name.as_str());
            hasher.update(b"o");
            hasher.update(&(fields.len() as u64).to_le_bytes());
            for (name, value) in fields {
                update_text(hasher, name);
                update(hasher, value);
            }
        }
    }
}

fn update_text(hasher: &mut Xxh3, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// Whole numbers are the same whether they are stored as integers or as floats.
fn update_number(hasher: &mut Xxh3, number: &Number) {
    /// Up to it, a float tells one integer from the next.
    const EXACT: f64 = 9_007_199_254_740_991.0;
    let (kind, bytes) = match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(integer), ..) => (b"i", integer.to_le_bytes()),
        (None, Some(integer), _) => (b"u", integer.to_le_bytes()),
        // The cast is exact within these bounds.
        (None, None, Some(float)) if float.fract() == 0.0 && float.abs() <= EXACT => {
            (b"i", (float as i64).to_le_bytes())
        }
        (None, None, float) => (b"d", float.unwrap_or_default().to_le_bytes()),
    };
    hasher.update(kind);
    hasher.update(&bytes);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_equal_whatever_the_format_they_were_read_from() {
        let check = |one: Value, other: Value, expected: bool| {
            assert_eq!(of_cell(Some(&one)) == of_cell(Some(&other)), expected, "{one} {other}");
        };
        check(json!(1), json!(1.0), true);
        check(json!(-0.0), json!(0), true);
        check(json!(1.5), json!(1), false);
        check(json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992.0), false);
        check(json!({"a": 1, "b": null}), json!({"a": 1}), true);
        check(json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}), true);
        check(json!([null]), json!([]), false);
        check(json!("1"), json!(1), false);
        check(json!(""), json!(null), false);
        check(json!(["ab", "c"]), json!(["a", "bc"]), false);
        check(json!([["a"], "b"]), json!([["a", "b"]]), false);
        assert_eq!(of_cell(None), of_cell(Some(&Value::Null)));
    }
}
