//! Reading task files: YAML with `include`, and Python functions found before they are needed.

use std::path::{Path, PathBuf};

use nexa_core::{config, files};
use serde_json::{Map, Value};
use serde_norway::Value as Yaml;

use crate::harness::spec::{Group, Spec};
use crate::{Error, Result};

/// The key under which a function of Python is kept until the task is checked.
const FUNCTION: &str = "!function";

/// How deep `include` may go.
const MAX_INCLUDES: usize = 16;

/// What a task file defines, with everything that it includes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    /// Its keys.
    pub(crate) keys: Map<String, Value>,
    /// The folder that paths in it are relative to; none for what is built in.
    pub(crate) folder: Option<PathBuf>,
    /// Where it stands, for errors.
    pub(crate) place: String,
}

impl Definition {
    /// The name of the task or group that it defines.
    pub(crate) fn name(&self) -> Option<&str> {
        let text = |key: &str| self.keys.get(key).and_then(Value::as_str);
        text("group").or_else(|| text("task"))
    }

    /// Whether it is a group: it says so, or lists tasks.
    pub(crate) fn is_group(&self) -> bool {
        self.keys.contains_key("group") || self.keys.get("task").is_some_and(Value::is_array)
    }

    /// Whether it looks like a task or a group, and not like a configuration of something else.
    pub(crate) fn is_of_tasks(&self) -> bool {
        let is_group = self.is_group() && self.keys.contains_key("task");
        is_group || ["doc_to_text", "doc_to_target"].iter().any(|key| self.keys.contains_key(*key))
    }

    /// The tags that it stands under.
    pub(crate) fn tags(&self) -> Vec<&str> {
        match self.keys.get("tag") {
            Some(Value::String(tag)) => vec![tag],
            Some(Value::Array(tags)) => tags.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The same with other settings.
    pub(crate) fn with(&self, overrides: &Map<String, Value>) -> Self {
        let mut changed = self.clone();
        changed.keys.extend(overrides.clone());
        changed
    }

    /// Reads it as a task.
    ///
    /// # Errors
    /// Fails with place and key on an unknown key or a wrong value, and on a function of Python.
    pub(crate) fn task(&self) -> Result<Spec> {
        let name = self.name().unwrap_or_default();
        if let Some(key) = find_function(&Value::Object(self.keys.clone()), "") {
            return Err(Error::PythonHook { task: name.to_owned(), key });
        }
        // A key without a value is one that nothing was said about.
        let mut keys = self.keys.clone();
        keys.retain(|_, value| !value.is_null());
        let spec: Spec = config::from_value(Value::Object(keys), &self.place)?;
        spec.check()?;
        Ok(spec)
    }

    /// Reads it as a group.
    ///
    /// # Errors
    /// As [`Self::task`].
    pub(crate) fn group(&self) -> Result<Group> {
        Ok(config::from_value(Value::Object(self.keys.clone()), &self.place)?)
    }
}

/// Reads a task file.
///
/// # Errors
/// Fails with the path when it, or a file that it includes, cannot be read.
pub(crate) fn read(path: &Path) -> Result<Definition> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let place = path.display().to_string();
    Ok(Definition { keys: read_keys(path, 0)?, folder: Some(folder), place })
}

/// Reads the text of a task that is built in; `include` gives the text of another.
pub(crate) fn parse(
    text: &str,
    place: &str,
    include: &dyn Fn(&str) -> Option<&'static str>,
) -> Result<Definition> {
    let mut keys = parse_keys(text, place)?;
    if let Some(Value::String(name)) = keys.remove("include")
        && let Some(base) = include(&name)
    {
        let mut merged = parse(base, place, include)?.keys;
        merged.extend(keys);
        keys = merged;
    }
    Ok(Definition { keys, folder: None, place: place.to_owned() })
}

fn read_keys(path: &Path, depth: usize) -> Result<Map<String, Value>> {
    let mut keys = parse_keys(&files::read_text(path)?, &path.display().to_string())?;
    let included = match keys.remove("include") {
        None | Some(Value::Null) => return Ok(keys),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(other) => {
            let message = format!("`include`: {other} is no path");
            return Err(nexa_core::Error::config(path.display().to_string(), message).into());
        }
    };
    if depth == MAX_INCLUDES {
        let message = "`include` goes round in a circle";
        return Err(nexa_core::Error::config(path.display().to_string(), message).into());
    }
    let mut merged = Map::new();
    for name in included {
        merged.extend(read_keys(&path.parent().unwrap_or(Path::new("")).join(name), depth + 1)?);
    }
    merged.extend(keys);
    Ok(merged)
}

fn parse_keys(text: &str, place: &str) -> Result<Map<String, Value>> {
    let malformed = |message: String| nexa_core::Error::config(place, message);
    let yaml: Yaml = serde_norway::from_str(text).map_err(|error| malformed(error.to_string()))?;
    match to_json(yaml).map_err(malformed)? {
        Value::Object(keys) => Ok(keys),
        Value::Null => Ok(Map::new()),
        other => Err(malformed(format!("{other} is no task: a file holds keys")).into()),
    }
}

/// Turns YAML into JSON; a function of Python becomes an object that says so.
fn to_json(yaml: Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let name = tagged.value.as_str().unwrap_or_default().to_owned();
            match tag.trim_start_matches('!') {
                "function" => Value::Object(Map::from_iter([(FUNCTION.to_owned(), name.into())])),
                _ => return Err(format!("`{tag}` is no tag of task files")),
            }
        }
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?),
        Yaml::Mapping(map) => {
            let entry = |(key, value): (Yaml, Yaml)| {
                let key = match to_json(key)? {
                    Value::String(key) => key,
                    other => super::super::python::text(&other),
                };
                Ok((key, to_json(value)?))
            };
            Value::Object(map.into_iter().map(entry).collect::<Result<_, String>>()?)
        }
        plain => serde_json::to_value(plain).map_err(|error| error.to_string())?,
    })
}

/// Finds the first key that holds a function of Python.
fn find_function(value: &Value, path: &str) -> Option<String> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) if map.contains_key(FUNCTION) => Some(path.to_owned()),
        Value::Object(map) => map.iter().find_map(|(key, value)| find_function(value, &below(key))),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(at, value)| find_function(value, &format!("{path}[{at}]")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_file_goes_over_what_it_includes() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            "_base_yaml",
            "test_split: test\ndoc_to_text: a\nnum_fewshot: 3\nprocess_docs: !function u.f",
        );
        let path = write(
            folder.path(),
            "t.yaml",
            "include: _base_yaml\ntask: t\ndoc_to_text: b\nprocess_docs: null",
        );
        let spec = read(&path).unwrap().task().unwrap();
        assert_eq!(
            (spec.task.as_str(), spec.doc_to_text, spec.num_fewshot),
            ("t", super::super::Field::Text("b".into()), Some(3))
        );
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_task_and_key() {
        let check = |text: &str, expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = write(folder.path(), "t.yaml", text);
            let error = read(&path).and_then(|definition| definition.task()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(
            "task: t\ntest_split: x\nprocess_docs: !function utils.f",
            "task `t`: `process_docs` is a function of Python",
        );
        check(
            "task: t\ntest_split: x\nmetric_list: [{metric: acc, aggregation: !function utils.f}]",
            "`metric_list[0].aggregation` is a function",
        );
        check("task: t\ntest_split: x\nuse_prompt: promptsource:x", "`use_prompt`");
        check("task: t\ntest_split: x\ndoc_to_txt: x", "unknown key `doc_to_txt`");
        check("task: t\ndoc_to_text: x", "task `t`: `test_split`");
        check("task: t\ntest_split: x\noutput_type: multiple_choice", "`doc_to_choice`");
        check("task: t\ninclude: t.yaml", "goes round in a circle");
        check("- a", "is no task");
        check("task: t\ntest_split: x\noutput_type: generate", "there is no `generate`");
    }
}
