//! Jinja templates as the reference renders them: what is undefined is an error, a final line break stays, values print
//! as in Python, and texts have Python's methods.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Environment, Error as JinjaError, ErrorKind, Output, State, UndefinedBehavior, Value};
use nexa_core::table::Row;
use serde_json::Value as Json;

use crate::harness::python::{self, PythonRegex};

/// The name of a template in its environment; without an ending, so that nothing is escaped.
const NAME: &str = "template";

/// Where a rendering remembers that it printed `None`.
const PRINTED_NONE: &str = "printed none";

/// What a template makes of a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// Whether it prints a field that is empty, which reads `None`.
    pub(crate) prints_none: bool,
}

/// A compiled template.
#[derive(Debug)]
pub(crate) struct Template {
    environment: Environment<'static>,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// Says where its syntax is wrong.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_keep_trailing_newline(true);
        environment.set_formatter(print);
        environment.set_unknown_method_callback(method);
        environment.add_filter("regex_replace", regex_replace);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| described(&error))?;
        Ok(Self { environment })
    }

    /// Renders it for a document.
    ///
    /// # Errors
    /// Names the fields that the document lacks, or what else went wrong.
    pub(crate) fn render(&self, document: &Row) -> Result<Rendered, String> {
        let template = self.environment.get_template(NAME).map_err(|error| described(&error))?;
        let rendered = template.render_captured(Value::from_serialize(document));
        let rendered = rendered.map(|rendered| Rendered {
            prints_none: rendered.state().get_temp(PRINTED_NONE).is_some(),
            text: rendered.into_output(),
        });
        rendered.map_err(|error| {
            let mut missing: Vec<String> = template
                .undeclared_variables(false)
                .into_iter()
                .filter(|name| {
                    !document.contains_key(name)
                        && !self.environment.globals().any(|(known, _)| known == name)
                })
                .collect();
            missing.sort();
            if error.kind() != ErrorKind::UndefinedError || missing.is_empty() {
                return described(&error);
            }
            let fields = document.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("there is no field `{}`; there are: {fields}", missing.join("`, `"))
        })
    }
}

/// What an error says, with the place in the template.
fn described(error: &JinjaError) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) if line > 1 => format!("{what} (line {line})"),
        _ => what,
    }
}

/// Prints a value as `str` does.
fn print(out: &mut Output, state: &State, value: &Value) -> Result<(), JinjaError> {
    if value.is_none() {
        state.set_temp(PRINTED_NONE, Value::from(true));
    }
    let text = match value.kind() {
        ValueKind::Undefined => return Err(JinjaError::from(ErrorKind::UndefinedError)),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        _ => python::text(&json(value)?),
    };
    out.write_str(&text).map_err(|error| JinjaError::new(ErrorKind::WriteFailure, error.to_string()))
}

fn json(value: &Value) -> Result<Json, JinjaError> {
    serde_json::to_value(value)
        .map_err(|error| JinjaError::new(ErrorKind::BadSerialization, error.to_string()))
}

/// `re.sub`, as the reference offers it to templates.
fn regex_replace(
    text: String,
    pattern: String,
    by: String,
    count: Option<usize>,
) -> Result<String, JinjaError> {
    let replaced = PythonRegex::new(&pattern).and_then(|regex| regex.replace(&text, &by, count.unwrap_or(0)));
    replaced.map_err(|error| JinjaError::new(ErrorKind::InvalidOperation, error))
}

/// The methods of Python's texts and lists.
fn method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, JinjaError> {
    let absent =
        |what: &Value| JinjaError::new(ErrorKind::InvalidOperation, format!("{what} is not in the value"));
    match (value.kind(), name) {
        (ValueKind::Seq, "index") => {
            let (wanted,): (Value,) = from_args(args)?;
            let at = value.try_iter()?.position(|item| item == wanted);
            at.map(Value::from).ok_or_else(|| absent(&wanted))
        }
        (ValueKind::String, "index") => {
            let (wanted,): (&str,) = from_args(args)?;
            let text = value.as_str().unwrap_or_default();
            let at = text.find(wanted).map(|at| text[..at].chars().count());
            at.map(Value::from).ok_or_else(|| absent(&Value::from(wanted)))
        }
        (ValueKind::String, "removeprefix" | "removesuffix") => {
            let (affix,): (&str,) = from_args(args)?;
            let text = value.as_str().unwrap_or_default();
            let cut =
                if name == "removeprefix" { text.strip_prefix(affix) } else { text.strip_suffix(affix) };
            Ok(Value::from(cut.unwrap_or(text)))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str, document: Json) -> Result<String, String> {
        let Json::Object(document) = document else { unreachable!("documents are objects") };
        Ok(Template::new(template)?.render(&document)?.text)
    }

    /// Expected: jinja2 3.1 with `StrictUndefined` and `keep_trailing_newline`.
    #[test]
    fn templates_render_as_in_python() {
        let check = |template: &str, document: Json, expected: &str| {
            assert_eq!(render(template, document).as_deref(), Ok(expected), "{template}");
        };
        check("Q: {{question}}\n", json!({"question": "why <b>?"}), "Q: why <b>?\n");
        check("{{[a, b]}}", json!({"a": "it's", "b": null}), r#"["it's", None]"#);
        check(
            "{{choices.label.index(answerKey)}}",
            json!({"choices": {"label": ["A", "B"]}, "answerKey": "B"}),
            "1",
        );
        check("{{choices.text}}", json!({"choices": {"text": ["x", "y\n"]}}), r"['x', 'y\n']");
        check("{{answer.split('####')[-1].strip()}}", json!({"answer": "a\n#### 7 "}), "7");
        check("{{answer if answer is defined else target}}", json!({"target": "t"}), "t");
        check("{{text|regex_replace('(\\\\w+) b', '\\\\1!')}}", json!({"text": "a b"}), "a!");
        check("{{x}} {{y}} {{z}}", json!({"x": true, "y": 1.0, "z": [1, 2]}), "True 1.0 [1, 2]");
        check("{% set p = 'Q: a\\nA:' %}{{p + '\\n' + question}}", json!({"question": "q"}), "Q: a\nA:\nq");
        check("{{sentence[:sentence.index('_')]}}{{ sentence[-1] }}", json!({"sentence": "ab_cd"}), "abd");
        check("{{ ['no', 'yes'][label] }}", json!({"label": 1}), "yes");
        check(
            "{{ question.strip() }}\nA. {{choices[0]}}",
            json!({"question": " q ", "choices": ["c"]}),
            "q\nA. c",
        );
        check(
            "{% for c in choices %}{{ loop.index }}. {{ c }}\n{% endfor %}",
            json!({"choices": ["a", "b"]}),
            "1. a\n2. b\n",
        );
    }

    #[test]
    fn a_missing_field_is_named() {
        let check = |template: &str, expected: &str| {
            assert_eq!(render(template, json!({"question": "q", "choices": {}})), Err(expected.to_owned()));
        };
        check(
            "{{quesion}} {{answer}}",
            "there is no field `answer`, `quesion`; there are: question, choices",
        );
        assert!(render("{{choices.text}}", json!({"choices": {}})).is_err());
        assert!(Template::new("{{ a ").is_err());
    }
}
