//! The lines of `samples_<task>.jsonl`, as lm-evaluation-harness and we write them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use nexa_core::table::Row;
use serde_json::Value;

use crate::metric::NO_FILTER;
use crate::{Error, Result};

/// What stands in a line beside the values of metrics.
const FIELDS: [&str; 11] = [
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
];

/// What is said of a file of results.
const RESULTS: &str = "these are results; the samples stand beside them in `samples_<task>_<date>.jsonl`, written by --log_samples";

/// Everything of one file, in its order.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    pub(super) items: Vec<Item>,
}

/// A document with what was asked of it and said.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) document: Row,
    pub(super) target: String,
    pub(super) asked: Vec<Asked>,
    pub(super) said: Value,
    /// By filter, what it found and what metrics say of that.
    pub(super) filtered: BTreeMap<String, Filtered>,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) context: String,
    /// What is scored after it; of a request for an answer, nothing.
    pub(super) continuation: Option<String>,
    /// How an answer is generated; of probabilities, null.
    pub(super) settings: Value,
}

/// What became of the answer by one filter.
#[derive(Debug, Clone)]
pub(super) struct Filtered {
    pub(super) found: Value,
    pub(super) metrics: BTreeMap<String, Value>,
}

impl Samples {
    /// Reads a file.
    ///
    /// # Errors
    /// Fails with file and line where it is none of samples.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let io = |e| nexa_core::Error::io("read", path, e);
        let file = std::fs::File::open(path).map_err(io)?;
        let mut samples = Self::default();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(io)?;
            if line.trim().is_empty() {
                continue;
            }
            let wrong = |message: String| Error::Reconcile {
                path: path.to_owned(),
                message: format!("line {}: {message}", number + 1),
            };
            let row: Row = serde_json::from_str(&line).map_err(|_| wrong(other_shape(path, &line)))?;
            samples.add(&row, &mut places).map_err(wrong)?;
        }
        if samples.items.is_empty() {
            return Err(Error::Reconcile { path: path.to_owned(), message: "it holds no sample".to_owned() });
        }
        Ok(samples)
    }

    /// How many documents there are.
    pub(super) fn count(&self) -> usize {
        self.items.len()
    }

    fn add(&mut self, row: &Row, places: &mut BTreeMap<String, usize>) -> Result<(), String> {
        let field = |name: &str| row.get(name).ok_or_else(|| missing(name, row));
        let document = match field("doc")? {
            Value::Object(document) => document.clone(),
            other => {
                return Err(format!("`doc` holds {other}, and an object is read; of old files, none can be"));
            }
        };
        let id = text(field("doc_id")?);
        let asked = asked(field("arguments")?)?;
        let filtered = Filtered { found: field("filtered_resps")?.clone(), metrics: metrics(row) };
        let filter = row.get("filter").and_then(Value::as_str).unwrap_or(NO_FILTER).to_owned();
        let place = *places.entry(id.clone()).or_insert(self.items.len());
        if place == self.items.len() {
            let (target, said) = (text(field("target")?), field("resps")?.clone());
            self.items.push(Item { id, document, target, asked, said, filtered: BTreeMap::new() });
        }
        if self.items[place].filtered.insert(filter.clone(), filtered).is_some() {
            return Err(format!(
                "document {} stands here a second time for filter `{filter}`",
                self.items[place].id
            ));
        }
        Ok(())
    }
}

/// What a file is that holds no objects line by line.
fn other_shape(path: &Path, line: &str) -> String {
    let whole: Option<Value> = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match whole {
        Some(file) if file.get("results").is_some() => RESULTS.to_owned(),
        Some(Value::Array(_)) => "this is one list; samples are an object on each line".to_owned(),
        _ => format!("no JSON object: {line:.40}"),
    }
}

fn missing(name: &str, row: &Row) -> String {
    if row.contains_key("results") {
        return RESULTS.to_owned();
    }
    let there = row.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("no `{name}`, so it is no sample of lm-evaluation-harness; there are: {there}")
}

/// The requests: an object of numbered arguments, or in older versions a list of lists.
fn asked(arguments: &Value) -> Result<Vec<Asked>, String> {
    let lists: Vec<Vec<Value>> = match arguments {
        Value::Object(numbered) => {
            let mut requests: Vec<(usize, Vec<Value>)> = Vec::new();
            for (key, request) in numbered {
                let number = key.rsplit('_').next().and_then(|number| number.parse().ok());
                let number =
                    number.ok_or_else(|| format!("`arguments` has a key `{key}` that is not numbered"))?;
                let parts = request.as_object().ok_or_else(|| format!("`arguments.{key}` is no object"))?;
                requests.push((number, parts.values().cloned().collect()));
            }
            requests.sort_by_key(|(number, _)| *number);
            requests.into_iter().map(|(_, parts)| parts).collect()
        }
        Value::Array(requests) => {
            let parts = |request: &Value| match request {
                Value::Array(parts) => parts.clone(),
                one => vec![one.clone()],
            };
            requests.iter().map(parts).collect()
        }
        other => return Err(format!("`arguments` holds {other}")),
    };
    let one = |parts: Vec<Value>| {
        let mut parts = parts.into_iter();
        let context = parts.next().ok_or_else(|| "`arguments` holds an empty request".to_owned())?;
        let (continuation, settings) = match parts.next() {
            Some(Value::String(continuation)) => (Some(continuation), Value::Null),
            Some(settings) => (None, settings),
            None => (None, Value::Null),
        };
        Ok(Asked { context: text(&context), continuation, settings })
    };
    lists.into_iter().map(one).collect()
}

/// The values of metrics: those that are listed, or in older versions everything that is no other field.
fn metrics(row: &Row) -> BTreeMap<String, Value> {
    let listed = row.get("metrics").and_then(Value::as_array);
    let is_metric = |name: &str| match listed {
        Some(names) => names.iter().any(|listed| listed == name),
        None => !FIELDS.contains(&name),
    };
    row.iter()
        .filter(|(name, _)| is_metric(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// A value as text: a text as it stands, everything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Samples, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples_t.jsonl");
        std::fs::write(&path, text).unwrap();
        Samples::read(&path).map_err(|error| error.to_string())
    }

    fn line(filter: &str, arguments: Value) -> Value {
        json!({
            "doc_id": 3, "doc": {"q": "Q"}, "target": "T", "arguments": arguments, "resps": [["a"]],
            "filtered_resps": ["a"], "filter": filter, "metrics": ["acc"], "acc": 1.0, "doc_hash": "h",
        })
    }

    #[test]
    fn lines_of_one_document_are_one_item() {
        let new =
            json!({"gen_args_1": {"arg_0": "c", "arg_1": " y"}, "gen_args_0": {"arg_0": "c", "arg_1": " x"}});
        let found = read(&format!("{}\n{}\n", line("a", new.clone()), line("b", new))).unwrap();
        assert_eq!(found.count(), 1);
        let item = &found.items[0];
        assert_eq!(item.filtered.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(item.filtered["a"].metrics, BTreeMap::from([("acc".to_owned(), json!(1.0))]));
        let continuations: Vec<_> = item.asked.iter().map(|asked| asked.continuation.as_deref()).collect();
        assert_eq!(continuations, [Some(" x"), Some(" y")]);
        let old = read(&line("a", json!([["c", {"until": ["x"]}]])).to_string()).unwrap();
        assert_eq!(old.items[0].asked[0].settings, json!({"until": ["x"]}));
    }

    #[test]
    fn another_shape_is_named() {
        let check = |text: &str, expected: &str| {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("", "it holds no sample");
        check("{\"results\": {},\n\"versions\": {}}", "these are results");
        check("{\"results\": {}}", "these are results");
        check("[1]", "samples are an object on each line");
        check("id,text\n", "line 1: no JSON object: id,text");
        check("{\"id\": 1}", "line 1: no `doc`, so it is no sample of lm-evaluation-harness; there are: id");
        let twice = line("a", json!([["c"]]));
        check(&format!("{twice}\n{twice}\n"), "line 2: document 3 stands here a second time for filter `a`");
        check(&line("a", json!("c")).to_string(), "`arguments` holds \"c\"");
    }
}
