//! Finds misspelt keywords in JSON schemas. A validator takes a word that it does not know for a note, so that a schema
//! with `requird` would let everything through.

use nexa_core::config;
use serde_json::Value;

/// Keywords whose values are schemas by name.
const SCHEMAS_BY_NAME: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

/// Keywords whose value is a schema, or a list of them.
const SCHEMAS: [&str; 16] = [
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
];

/// Every other keyword of the drafts from 4 on.
const OTHERS: [&str; 43] = [
    "$anchor",
    "$comment",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "$schema",
    "$vocabulary",
    "const",
    "contentEncoding",
    "contentMediaType",
    "default",
    "dependentRequired",
    "deprecated",
    "description",
    "discriminator",
    "enum",
    "example",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "id",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "nullable",
    "pattern",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
];

/// A word that no draft has, with the keyword that is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misspelt {
    /// Where it stands, as a JSON pointer.
    pub(super) place: String,
    pub(super) word: String,
    pub(super) meant: &'static str,
}

/// The first misspelt keyword of a schema. Notes of one's own are words like no keyword, or begin with `x-`.
pub(super) fn misspelt(schema: &Value) -> Option<Misspelt> {
    find(schema, "")
}

fn find(schema: &Value, place: &str) -> Option<Misspelt> {
    let Value::Object(schema) = schema else { return None };
    schema.iter().find_map(|(word, value)| {
        let here = format!("{place}/{word}");
        if SCHEMAS_BY_NAME.contains(&word.as_str()) {
            let named = value.as_object()?;
            return named.iter().find_map(|(name, schema)| find(schema, &format!("{here}/{name}")));
        }
        if SCHEMAS.contains(&word.as_str()) {
            return match value {
                Value::Array(list) => {
                    list.iter().enumerate().find_map(|(at, schema)| find(schema, &format!("{here}/{at}")))
                }
                schema => find(schema, &here),
            };
        }
        let meant = meant(word)?;
        Some(Misspelt { place: place.to_owned(), word: word.clone(), meant })
    })
}

/// The keyword that a word is meant to be, where it is none and looks like one.
fn meant(word: &str) -> Option<&'static str> {
    let is_note = word.starts_with("x-") || OTHERS.contains(&word);
    let all = || SCHEMAS_BY_NAME.into_iter().chain(SCHEMAS).chain(OTHERS);
    if is_note {
        return None;
    }
    // Beside the shortest keywords stand too many words of other meanings, such as `note`.
    config::nearest(word, all().filter(|keyword| keyword.len() > 3 && config::is_slip_of(word, keyword)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_misspelt_keyword_is_found_wherever_it_stands() {
        let check = |schema: Value, expected: Option<(&str, &str, &str)>| {
            let found = misspelt(&schema);
            let found = found.as_ref().map(|found| (found.place.as_str(), found.word.as_str(), found.meant));
            assert_eq!(found, expected, "{schema}");
        };
        check(json!({"requird": ["a"]}), Some(("", "requird", "required")));
        check(json!({"minlength": 3}), Some(("", "minlength", "minLength")));
        let inner = json!({"typ": "string"});
        check(json!({"properties": {"a": inner}}), Some(("/properties/a", "typ", "type")));
        check(json!({"items": {"anyOf": [true, inner]}}), Some(("/items/anyOf/1", "typ", "type")));
        check(json!({"propertes": {"a": true}}), Some(("", "propertes", "properties")));
        // Names of properties, values and notes are no keywords.
        check(json!({"properties": {"typ": {"type": "string"}}, "required": ["typ"]}), None);
        check(json!({"const": {"requird": 1}, "enum": [{"typ": 1}], "default": {"minlength": 1}}), None);
        check(json!({"note": "a", "enumNames": ["b"], "propertyOrdering": ["c"], "text": "d"}), None);
        check(json!({"x-order": 3, "$schema": "s", "title": "t", "if": true, "then": false}), None);
        check(json!(true), None);
    }
}
