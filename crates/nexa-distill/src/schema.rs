//! JSON schemas that answers have to fit.

mod keywords;

use serde_json::Value;

/// A schema, ready to be held against answers. It refers to nothing outside of itself.
#[derive(Debug)]
pub(crate) struct Schema(jsonschema::Validator);

/// Why a value does not fit a schema.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// Everything that is wrong, counted.
    pub(crate) count: usize,
    /// The first of it, with its place.
    pub(crate) first: String,
}

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// Fails with the place in the schema and what is wrong there.
    pub(crate) fn new(schema: &Value) -> Result<Self, (String, String)> {
        if let Some(keywords::Misspelt { place, word, meant }) = keywords::misspelt(schema) {
            return Err((format!("#{place}"), format!("no keyword is `{word}`; did you mean `{meant}`?")));
        }
        jsonschema::validator_for(schema)
            .map(Self)
            .map_err(|error| (format!("#{}", error.instance_path()), error.to_string()))
    }

    /// Why a value does not fit, if it does not.
    pub(crate) fn misfit(&self, value: &Value) -> Option<Misfit> {
        let mut errors = self.0.iter_errors(value);
        let first = errors.next()?;
        let first = match first.instance_path().as_str() {
            "" => format!("the whole: {first}"),
            place => format!("at `{place}`: {first}"),
        };
        Some(Misfit { count: 1 + errors.count(), first })
    }

    /// What is wrong with a text that must be JSON, if anything is.
    pub(crate) fn problem(&self, text: &str) -> Option<String> {
        match serde_json::from_str(text.trim()) {
            Ok(value) => self.misfit(&value).map(|misfit| misfit.first),
            Err(error) => Some(format!("no JSON: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_names_its_place() {
        let schema = json!({
            "properties": {"steps": {"items": {"type": "string"}}, "next": {"$ref": "#"}},
            "required": ["steps"],
        });
        let schema = Schema::new(&schema).unwrap();
        let check = |text: &str, expected: Option<&str>| {
            let problem = schema.problem(text);
            assert!(
                problem.as_deref().map_or(expected.is_none(), |p| expected.is_some_and(|e| p.contains(e))),
                "{text}: {problem:?}"
            );
        };
        check(r#"{"steps": ["a"], "next": {"steps": []}}"#, None);
        check(r#"{"steps": ["a", 2]}"#, Some("at `/steps/1`: 2 is not of type \"string\""));
        check(r#"{"steps": [], "next": {}}"#, Some("at `/next`: \"steps\" is a required property"));
        check("The answer is 4.", Some("no JSON"));
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        let check = |schema: Value, expected_place: &str, expected: &str| {
            let (place, message) = Schema::new(&schema).unwrap_err();
            assert_eq!(place, expected_place, "{message}");
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        };
        check(json!({"properties": {"a": {"type": "text"}}}), "#/properties/a/type", "text");
        check(json!({"$ref": "http://elsewhere"}), "#", "elsewhere");
        check(json!({"properties": {"a": {"pattern": "("}}}), "#/properties/a/pattern", "regex");
        check(json!([]), "#", "[]");
        let misspelt = json!({"properties": {"a": {"minlength": 3}}});
        check(misspelt, "#/properties/a", "no keyword is `minlength`; did you mean `minLength`?");
    }

    #[test]
    fn a_schema_that_refers_to_itself_without_end_ends() {
        let schema = Schema::new(&json!({"$ref": "#"})).unwrap();
        assert_eq!(schema.problem("1"), None);
    }
}
