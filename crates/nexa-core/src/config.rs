//! The one way in which configuration is read: YAML, then dotted overrides, then a typed struct.
//!
//! An unknown key is an error that names the nearest key that exists. Aliases are `#[serde(alias)]` on the struct.
//! The struct must carry `#[serde(deny_unknown_fields)]` at every level, and no `flatten`, which would hide keys.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result, files};

/// Reads a YAML file to a JSON value. An empty file is an empty mapping.
///
/// # Errors
/// Fails with path, line and column.
pub fn read_yaml(path: &Path) -> Result<Value> {
    let text = files::read_text(path)?;
    parse_yaml(&text, &path.display().to_string())
}

/// Parses YAML text to a JSON value; `place` is named in errors.
///
/// # Errors
/// Fails with line and column.
pub fn parse_yaml(text: &str, place: &str) -> Result<Value> {
    let value: Value = serde_norway::from_str(text).map_err(|e| Error::config(place, e.to_string()))?;
    Ok(if value.is_null() { Value::Object(serde_json::Map::new()) } else { value })
}

/// Sets dotted keys: `training.learning_rate=3e-3`, `stages.train.with.max_steps=10`. Values are read as YAML.
///
/// # Errors
/// Fails when an override has no `=`, or a key leads through something that is not a mapping.
pub fn apply_overrides(value: &mut Value, overrides: &[String]) -> Result<()> {
    for text in overrides {
        let place = "command line";
        let (key, raw) = text
            .split_once('=')
            .ok_or_else(|| Error::config(place, format!("override `{text}` is not of the form key=value")))?;
        let new = serde_norway::from_str(raw)
            .map_err(|e| Error::config(place, format!("value of `{key}`: {e}")))?;
        let mut here = &mut *value;
        let parts: Vec<&str> = key.trim_start_matches('-').split('.').collect();
        for (depth, part) in parts.iter().enumerate() {
            let map = here.as_object_mut().ok_or_else(|| {
                Error::config(place, format!("`{key}`: `{}` is not a mapping", parts[..depth].join(".")))
            })?;
            here = map.entry((*part).to_owned()).or_insert_with(|| Value::Object(serde_json::Map::new()));
        }
        *here = new;
    }
    Ok(())
}

/// Turns a JSON value into a typed configuration; `place` is named in errors.
///
/// # Errors
/// Fails on an unknown key, with the nearest one, and on a value of the wrong type, with its dotted key.
pub fn from_value<T: DeserializeOwned>(value: Value, place: &str) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        let outside = |word: &str| path.strip_suffix(word).unwrap_or(&path).trim_end_matches('.');
        if let Some((word, known)) = unknown(&message, "variant") {
            let key = outside(word);
            let choices = known.join(", ");
            let problem = format!("there is no `{word}` (there are: {choices})");
            let problem = if key.is_empty() { problem } else { format!("`{key}`: {problem}") };
            return Error::config(place, problem);
        }
        match unknown(&message, "field") {
            Some((field, known)) => {
                let parent = outside(field);
                let dotted = |name: &str| {
                    if parent.is_empty() || parent == "." {
                        name.to_owned()
                    } else {
                        format!("{parent}.{name}")
                    }
                };
                Error::UnknownKey {
                    place: place.to_owned(),
                    key: dotted(field),
                    nearest: nearest(field, known.iter().copied()).map(dotted),
                }
            }
            None if path == "." => Error::config(place, message),
            None => Error::config(place, format!("`{path}`: {message}")),
        }
    })
}

/// Finds the candidate that a mistyped word most likely meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Whether a word is a candidate with a slip of the pen: one letter more, less, other or exchanged, in long words two.
pub fn is_slip_of(word: &str, candidate: &str) -> bool {
    let shorter = word.chars().count().min(candidate.chars().count());
    let slips = strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase());
    word != candidate && shorter > 2 && slips <= if shorter < 6 { 1 } else { 2 }
}

/// Reads the names out of serde's message on an unknown field or variant; serde offers no other way to them.
fn unknown<'a>(message: &'a str, what: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let rest = message.strip_prefix("unknown ")?.strip_prefix(what)?.strip_prefix(" `")?;
    let (field, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((field, known))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(alias = "lr")]
        learning_rate: f64,
        model: Inner,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        hidden_size: usize,
    }

    fn parse(yaml: &str, overrides: &[&str]) -> Result<Outer> {
        let mut value = parse_yaml(yaml, "test.yaml")?;
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        apply_overrides(&mut value, &overrides)?;
        from_value(value, "test.yaml")
    }

    #[test]
    fn overrides_reach_inner_keys() {
        let config = parse("lr: 1\nmodel: {hidden_size: 2}", &["model.hidden_size=64", "lr=3e-3"]).unwrap();
        assert_eq!(config, Outer { learning_rate: 3e-3, model: Inner { hidden_size: 64 } });
    }

    #[test]
    fn an_unknown_key_names_its_place_and_the_nearest() {
        let check = |yaml: &str, expected_key: &str, expected_nearest: Option<&str>| match parse(yaml, &[]) {
            Err(Error::UnknownKey { place, key, nearest }) => {
                assert_eq!((place.as_str(), key.as_str()), ("test.yaml", expected_key));
                assert_eq!(nearest.as_deref(), expected_nearest);
            }
            other => panic!("{other:?}"),
        };
        check("lr: 1\nmodel: {hiden_size: 2}", "model.hiden_size", Some("model.hidden_size"));
        check("learning_rat: 1\nmodel: {hidden_size: 2}", "learning_rat", Some("learning_rate"));
        check("lr: 1\nzzz: 1", "zzz", None);
    }

    #[test]
    fn a_word_that_is_no_choice_names_its_key_and_the_choices() {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Choice {
            Left,
            Right,
        }
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Config {
            #[expect(dead_code, reason = "only its error counts")]
            way: Vec<Choice>,
        }
        let value = parse_yaml("way: [left, up]", "test.yaml").unwrap();
        let error = from_value::<Config>(value, "test.yaml").unwrap_err().to_string();
        assert_eq!(error, "test.yaml: `way[1]`: there is no `up` (there are: left, right)");
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        let error = parse("lr: 1\nmodel: {hidden_size: wide}", &[]).unwrap_err().to_string();
        assert!(error.contains("`model.hidden_size`") && error.contains("wide"), "{error}");
        let error = parse("lr: 1", &["lr.inner=1"]).unwrap_err().to_string();
        assert!(error.contains("`lr` is not a mapping"), "{error}");
    }
}
