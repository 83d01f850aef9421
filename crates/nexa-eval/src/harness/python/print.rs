//! How Python prints values: `str` and `repr`.

use nexa_core::python::{float, quote};
use serde_json::Value;

/// `str(value)`: text as it is, everything else by its `repr`.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)`.
pub(crate) fn repr(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(value) => out.push_str(if *value { "True" } else { "False" }),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(value) => out.push_str(&float(value)),
            None => out.push_str(&number.to_string()),
        },
        Value::String(text) => quote(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                quote(key, out);
                out.push_str(": ");
                write(value, out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected: CPython 3.11.
    #[test]
    fn values_print_as_in_python() {
        let check = |value: Value, expected: &str| assert_eq!(repr(&value), expected);
        check(json!(["it's", "say \"so\"", "a'b\"c"]), r#"["it's", 'say "so"', 'a\'b"c']"#);
        check(json!({"a": null, "b": [true, 1, 1.0, 1e-7]}), "{'a': None, 'b': [True, 1, 1.0, 1e-07]}");
        check(json!("tab\tnew\nslash\\bell\u{7}"), r"'tab\tnew\nslash\\bell\x07'");
        check(json!([1e16, 123456789.5, -0.0001]), "[1e+16, 123456789.5, -0.0001]");
    }
}
