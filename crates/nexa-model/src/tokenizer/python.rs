//! What templates expect of Python: `json.dumps`, how values print, and `strftime`.

use std::fmt::Write as _;

use chrono::NaiveDate;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};
use nexa_core::python;
use serde_json::Value as Json;

/// `tojson` as `transformers` has it: no HTML escapes, `ensure_ascii`, `indent`, `separators` and `sort_keys`.
pub(super) fn to_json(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let indent = match kwargs.get::<Option<Value>>("indent")? {
        None => None,
        Some(value) if value.is_none() || value.is_undefined() => None,
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(value)?),
        }),
    };
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let [item, key] = match separators.as_deref() {
        Some([item, key]) => [item.clone(), key.clone()],
        // `json.dumps` leaves no blank at the end of a line.
        _ => [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()],
    };
    let style = Style {
        indent,
        item,
        key,
        ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    let json = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut page = Page { style: &style, depth: 0, text: String::new() };
    page.write(&json);
    Ok(page.text)
}

/// How JSON is laid out.
struct Style {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

/// JSON under way.
struct Page<'a> {
    style: &'a Style,
    /// Lists that are open.
    depth: usize,
    text: String,
}

impl Page<'_> {
    fn write(&mut self, value: &Json) {
        match value {
            Json::Null => self.text.push_str("null"),
            Json::Bool(value) => self.text.push_str(if *value { "true" } else { "false" }),
            Json::Number(number) => self.text.push_str(&number_text(number)),
            Json::String(text) => self.quote(text),
            Json::Array(items) => self.list(['[', ']'], items.iter(), Self::write),
            Json::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                if self.style.sorted {
                    entries.sort_by_key(|(key, _)| *key);
                }
                self.list(['{', '}'], entries.into_iter(), |page, (key, value)| {
                    page.quote(key);
                    page.text.push_str(&page.style.key);
                    page.write(value);
                });
            }
        }
    }

    fn list<T>(
        &mut self,
        [open, close]: [char; 2],
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        let is_empty = items.len() == 0;
        self.text.push(open);
        self.depth += 1;
        for (position, item) in items.enumerate() {
            if position > 0 {
                self.text.push_str(&self.style.item);
            }
            self.begin_line();
            write(self, item);
        }
        self.depth -= 1;
        if !is_empty {
            self.begin_line();
        }
        self.text.push(close);
    }

    /// Begins a line where JSON is laid out in lines.
    fn begin_line(&mut self) {
        if let Some(indent) = &self.style.indent {
            self.text.push('\n');
            self.text.push_str(&indent.repeat(self.depth));
        }
    }

    fn quote(&mut self, text: &str) {
        let (ascii, out) = (self.style.ascii, &mut self.text);
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => python::float(value),
        _ => number.to_string(),
    }
}

/// Prints a value as `str` does: `True`, `None`, lists and maps by their `repr`.
pub(super) fn print(out: &mut Output, _: &State, value: &Value) -> Result<(), Error> {
    let mut text = String::new();
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::String => text.push_str(value.as_str().unwrap_or_default()),
        ValueKind::Bool | ValueKind::None | ValueKind::Number | ValueKind::Seq | ValueKind::Map => {
            repr(value, &mut text)?;
        }
        _ => text = value.to_string(),
    }
    out.write_str(&text).map_err(|error| Error::new(ErrorKind::WriteFailure, error.to_string()))
}

fn repr(value: &Value, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None | ValueKind::Undefined => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => {
            out.push_str(&python::float(f64::try_from(value.clone())?))
        }
        ValueKind::String => python::quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            out.push('[');
            for (position, item) in value.try_iter()?.enumerate() {
                out.push_str(if position > 0 { ", " } else { "" });
                repr(&item, out)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (position, key) in value.try_iter()?.enumerate() {
                out.push_str(if position > 0 { ", " } else { "" });
                repr(&key, out)?;
                out.push_str(": ");
                repr(&value.get_item(&key)?, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Formats a date as `strftime` does; hours, minutes and seconds are those of midnight.
pub(super) fn strftime(date: NaiveDate, format: &str) -> Result<String, Error> {
    let mut text = String::new();
    write!(text, "{}", date.and_time(chrono::NaiveTime::MIN).format(format)).map_err(|_| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now: `{format}` is not a date format"))
    })?;
    Ok(text)
}
