//! Checks answers against a JSON schema: the keywords that providers take for structured output, and no others.
//!
//! A schema with a keyword that is not known here is refused when it is read, so that no answer ever counts as checked
//! where it was not. A library that knows all of JSON Schema pulls in a tower of number crates; what is here is all that
//! a teacher can be asked for.
//!
//! # Source
//! JSON Schema 2020-12, validation; the subset that OpenAI documents for `response_format`.

use regex::Regex;
use serde_json::{Map, Value};

use super::STAGE;
use crate::{Error, Result};

/// Keywords that say nothing about whether an answer fits.
const NOTES: [&str; 8] =
    ["$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"];
/// How deep references may lead.
const MAX_DEPTH: usize = 64;

/// A schema whose keywords are all known.
#[derive(Debug, Clone)]
pub(super) struct Schema(Value);

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// Fails on a keyword that is not known, with its place.
    pub(super) fn new(schema: &Value) -> Result<Self> {
        understand(schema, "#").map_err(|(place, message)| Error::BadSetting {
            stage: STAGE,
            key: "response_schema".to_owned(),
            value: format!("a schema with `{place}`"),
            message,
        })?;
        Ok(Self(schema.clone()))
    }

    /// What is wrong with an answer, if anything is.
    pub(super) fn problem(&self, text: &str) -> Option<String> {
        match serde_json::from_str(text.trim()) {
            Ok(answer) => self.misfit(&self.0, &answer, &mut Path::default()),
            Err(e) => Some(format!("no JSON: {e}")),
        }
    }

    /// Why a value does not fit a schema, with its place.
    fn misfit(&self, schema: &Value, value: &Value, path: &mut Path) -> Option<String> {
        let keywords = match schema {
            Value::Bool(false) => return Some(path.tell("nothing fits here")),
            Value::Object(keywords) => keywords,
            _ => return None,
        };
        if path.depth > MAX_DEPTH {
            return Some(path.tell("the schema refers to itself without end"));
        }
        keywords
            .iter()
            .find_map(|(keyword, wanted)| self.broken(keywords, keyword, wanted, (value, &mut *path)))
    }

    /// Whether a value breaks one keyword of a schema.
    fn broken(
        &self,
        keywords: &Map<String, Value>,
        keyword: &str,
        wanted: &Value,
        (value, path): (&Value, &mut Path),
    ) -> Option<String> {
        let fits_one =
            |path: &mut Path| list(wanted).filter(|s| self.misfit(s, value, path).is_none()).count();
        match keyword {
            "$ref" => {
                let target = self.0.pointer(wanted.as_str()?.strip_prefix('#')?)?;
                path.depth += 1;
                let found = self.misfit(target, value, path);
                path.depth -= 1;
                found
            }
            "allOf" => list(wanted).find_map(|schema| self.misfit(schema, value, path)),
            "anyOf" => (fits_one(path) == 0).then(|| path.tell("fits none of `anyOf`")),
            "oneOf" => (fits_one(path) != 1).then(|| path.tell("does not fit exactly one of `oneOf`")),
            "not" => self.misfit(wanted, value, path).is_none().then(|| path.tell("fits what it must not")),
            "properties" => wanted.as_object()?.iter().find_map(|(name, schema)| {
                let inner = value.get(name)?;
                path.inside(name, |path| self.misfit(schema, inner, path))
            }),
            "additionalProperties" => {
                let known = keywords.get("properties").and_then(Value::as_object);
                let is_known = |name: &str| known.is_some_and(|known| known.contains_key(name));
                value
                    .as_object()?
                    .iter()
                    .filter(|(name, _)| !is_known(name))
                    .find_map(|(name, inner)| path.inside(name, |path| self.misfit(wanted, inner, path)))
            }
            "items" => value.as_array()?.iter().enumerate().find_map(|(position, inner)| {
                path.inside(&position.to_string(), |path| self.misfit(wanted, inner, path))
            }),
            _ => breaks_alone(keyword, wanted, value)
                .then(|| path.tell(&format!("breaks `{keyword}`: {wanted}"))),
        }
    }
}

/// Whether a value breaks a keyword that looks at nothing but the value itself.
fn breaks_alone(keyword: &str, wanted: &Value, value: &Value) -> bool {
    let characters = || value.as_str().map(|text| text.chars().count() as f64);
    let items = || value.as_array().map(|items| items.len() as f64);
    let below = |found: Option<f64>| found.zip(wanted.as_f64()).is_some_and(|(found, wanted)| found < wanted);
    let above = |found: Option<f64>| found.zip(wanted.as_f64()).is_some_and(|(found, wanted)| found > wanted);
    let at = |found: Option<f64>| found.is_some() && found == wanted.as_f64();
    match keyword {
        "type" => !names(wanted).any(|name| is_of(name, value)),
        "enum" => !list(wanted).any(|choice| choice == value),
        "const" => wanted != value,
        "required" => {
            value.as_object().is_some_and(|object| names(wanted).any(|name| !object.contains_key(name)))
        }
        "pattern" => value.as_str().is_some_and(|text| {
            wanted.as_str().and_then(|p| Regex::new(p).ok()).is_some_and(|pattern| !pattern.is_match(text))
        }),
        "minLength" => below(characters()),
        "maxLength" => above(characters()),
        "minItems" => below(items()),
        "maxItems" => above(items()),
        "minimum" => below(value.as_f64()),
        "maximum" => above(value.as_f64()),
        "exclusiveMinimum" => below(value.as_f64()) || at(value.as_f64()),
        "exclusiveMaximum" => above(value.as_f64()) || at(value.as_f64()),
        "multipleOf" => value.as_f64().zip(wanted.as_f64()).is_some_and(|(found, wanted)| {
            let times = found / wanted;
            (times - times.round()).abs() > 1e-9
        }),
        // A note, or definitions that are only referred to.
        _ => false,
    }
}

/// Whether a value is of a type of JSON Schema.
fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        // A number without a fraction is one, however it is written.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => false,
    }
}

/// Fails on a schema that is not understood, with the place and why.
fn understand(schema: &Value, place: &str) -> Result<(), (String, String)> {
    let Some(keywords) = schema.as_object() else {
        let message = "a schema is an object, `true` or `false`".to_owned();
        return if schema.is_boolean() { Ok(()) } else { Err((place.to_owned(), message)) };
    };
    for (keyword, wanted) in keywords {
        let here = format!("{place}/{keyword}");
        let fails =
            |holds: bool, message: &str| if holds { Ok(()) } else { Err((here.clone(), message.to_owned())) };
        match keyword.as_str() {
            "properties" | "$defs" | "definitions" => {
                fails(wanted.is_object(), "it must name schemas")?;
                for (name, inner) in wanted.as_object().into_iter().flatten() {
                    understand(inner, &format!("{here}/{name}"))?;
                }
            }
            "items" | "additionalProperties" | "not" => understand(wanted, &here)?,
            "anyOf" | "oneOf" | "allOf" => {
                fails(wanted.as_array().is_some_and(|l| !l.is_empty()), "it must be a list of schemas")?;
                list(wanted).try_for_each(|inner| understand(inner, &here))?;
            }
            "type" => {
                const TYPES: [&str; 7] =
                    ["null", "boolean", "string", "array", "object", "number", "integer"];
                fails(
                    names(wanted).count() > 0 && names(wanted).all(|n| TYPES.contains(&n)),
                    "there is no such type",
                )?;
            }
            "$ref" => {
                fails(wanted.as_str().is_some_and(|to| to.starts_with('#')), "only `#…` can be referred to")?
            }
            "pattern" => {
                let is_pattern = wanted.as_str().is_some_and(|pattern| Regex::new(pattern).is_ok());
                fails(is_pattern, "it is no regular expression that is understood here")?;
            }
            "enum" | "required" => fails(wanted.is_array(), "it must be a list")?,
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minimum" | "maximum"
            | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                fails(wanted.is_number(), "it must be a number")?
            }
            "const" => {}
            note => fails(NOTES.contains(&note), "answers cannot be checked against it here")?,
        }
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// One name, or a list of them.
fn names(value: &Value) -> impl Iterator<Item = &str> {
    value.as_str().into_iter().chain(list(value).filter_map(Value::as_str))
}

/// Where in an answer one is.
#[derive(Debug, Default)]
struct Path {
    names: Vec<String>,
    /// How many references lead here.
    depth: usize,
}

impl Path {
    fn inside<T>(&mut self, name: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        self.names.push(name.to_owned());
        let found = look(self);
        self.names.pop();
        found
    }

    fn tell(&self, message: &str) -> String {
        format!("at `/{}`: {message}", self.names.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_keyword_is_checked() {
        let check = |schema: Value, fits: &[Value], misfits: &[Value]| {
            let compiled = Schema::new(&schema).unwrap();
            for answer in fits {
                assert_eq!(compiled.problem(&answer.to_string()), None, "{schema} {answer}");
            }
            for answer in misfits {
                assert!(compiled.problem(&answer.to_string()).is_some(), "{schema} {answer}");
            }
        };
        check(json!({"type": "integer"}), &[json!(4), json!(4.0)], &[json!(4.5), json!("4"), json!(null)]);
        check(json!({"type": ["string", "null"]}), &[json!("a"), json!(null)], &[json!(1)]);
        check(json!({"enum": ["a", 1]}), &[json!("a"), json!(1)], &[json!("b")]);
        check(json!({"const": {"a": 1}}), &[json!({"a": 1})], &[json!({"a": 2})]);
        check(json!({"required": ["a"]}), &[json!({"a": null}), json!("no object")], &[json!({"b": 1})]);
        check(json!({"properties": {"a": {"type": "string"}}}), &[json!({"b": 1})], &[json!({"a": 1})]);
        let closed = json!({"properties": {"a": true}, "additionalProperties": false});
        check(closed, &[json!({"a": 1})], &[json!({"a": 1, "b": 2})]);
        check(json!({"additionalProperties": {"type": "integer"}}), &[json!({"a": 1})], &[json!({"a": "x"})]);
        check(json!({"items": {"minimum": 1, "maximum": 3}}), &[json!([1, 3])], &[json!([0]), json!([4])]);
        check(json!({"minItems": 1, "maxItems": 2}), &[json!([1])], &[json!([]), json!([1, 2, 3])]);
        check(json!({"minLength": 2, "maxLength": 3}), &[json!("äö")], &[json!("a"), json!("abcd")]);
        check(json!({"exclusiveMinimum": 1, "exclusiveMaximum": 3}), &[json!(2)], &[json!(1), json!(3)]);
        check(json!({"multipleOf": 0.1}), &[json!(0.3)], &[json!(0.35)]);
        check(json!({"pattern": "^a+$"}), &[json!("aa")], &[json!("ab")]);
        let types = json!([{"type": "integer"}, {"type": "string"}]);
        check(json!({ "anyOf": types }), &[json!(1), json!("a")], &[json!(true)]);
        check(json!({"oneOf": [{"minimum": 1}, {"minimum": 3}]}), &[json!(2)], &[json!(4), json!(0)]);
        check(json!({"allOf": [{"minimum": 1}, {"maximum": 3}]}), &[json!(2)], &[json!(4)]);
        check(json!({"not": {"type": "null"}}), &[json!(1)], &[json!(null)]);
        let tree = json!({
            "type": "object", "required": ["value"], "description": "a tree",
            "properties": {"value": {"type": "integer"}, "left": {"$ref": "#"}, "kind": {"$ref": "#/$defs/kind"}},
            "$defs": {"kind": {"enum": ["leaf", "node"]}},
        });
        check(
            tree,
            &[json!({"value": 1, "left": {"value": 2}, "kind": "leaf"})],
            &[json!({"value": 1, "left": {}}), json!({"value": 1, "kind": "root"})],
        );
        check(json!({"$ref": "#"}), &[], &[json!(1)]);
    }

    #[test]
    fn a_problem_names_its_place() {
        let schema = json!({"properties": {"steps": {"items": {"type": "string"}}}});
        let schema = Schema::new(&schema).unwrap();
        let check = |text: &str, expected: &str| {
            let problem = schema.problem(text).unwrap();
            assert!(problem.contains(expected), "{problem}");
        };
        check(r#"{"steps": ["a", 2]}"#, "at `/steps/1`: breaks `type`");
        check("The answer is 4.", "no JSON");
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        let check = |schema: Value, expected: &str| {
            let error = Schema::new(&schema).unwrap_err().to_string();
            assert!(error.contains("`response_schema`") && error.contains(expected), "{error}");
        };
        check(json!({"properties": {"a": {"patternProperties": {}}}}), "#/properties/a/patternProperties");
        check(json!({"type": "text"}), "there is no such type");
        check(json!({"$ref": "http://elsewhere"}), "only `#…`");
        check(json!({"pattern": "("}), "regular expression");
        check(json!([]), "an object");
    }
}
