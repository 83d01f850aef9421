//! The form that an answer must have: OpenAI's `response_format`, and vLLM's `structured_outputs` and `guided_*`.

use nexa_core::lm::AnswerForm;
use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong_type};

/// Takes the form of an answer, of which a request may ask for one.
pub(super) fn take_form(fields: &mut Fields) -> Result<Option<AnswerForm>, ApiError> {
    let mut forms = Vec::new();
    forms.extend(take_response_format(fields)?.map(|form| ("response_format", form)));
    if let Some(value) = fields.value("structured_outputs") {
        let Value::Object(map) = value else {
            return Err(wrong_type("structured_outputs", "an object", &value));
        };
        let mut outputs = Fields::from(map);
        for kind in KINDS {
            forms.extend(take_kind(&mut outputs, kind.name, kind)?.map(|form| ("structured_outputs", form)));
        }
        if outputs.flag("json_object")? {
            forms.push(("structured_outputs", AnswerForm::JsonObject));
        }
        outputs.finish()?;
    }
    for kind in KINDS {
        forms.extend(take_kind(fields, kind.guided, kind)?.map(|form| (kind.guided, form)));
    }
    match forms.len() {
        0 | 1 => Ok(forms.pop().map(|(_, form)| form)),
        _ => {
            let (param, _) = forms[1];
            Err(ApiError::bad_param(param, format!("`{param}` asks for a second form of the answer")))
        }
    }
}

/// A kind of form, under its names in vLLM's requests.
struct Kind {
    name: &'static str,
    guided: &'static str,
    take: fn(&str, Value) -> Result<AnswerForm, ApiError>,
}

const KINDS: &[Kind] = &[
    Kind { name: "json", guided: "guided_json", take: schema },
    Kind { name: "regex", guided: "guided_regex", take: regex },
    Kind { name: "choice", guided: "guided_choice", take: choice },
    Kind { name: "grammar", guided: "guided_grammar", take: grammar },
];

fn take_kind(fields: &mut Fields, name: &str, kind: &Kind) -> Result<Option<AnswerForm>, ApiError> {
    fields.value(name).map(|value| (kind.take)(name, value)).transpose()
}

fn take_response_format(fields: &mut Fields) -> Result<Option<AnswerForm>, ApiError> {
    const NAME: &str = "response_format";
    let map = match fields.value(NAME) {
        None => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong_type(NAME, "an object", &other)),
    };
    let mut format = Fields::from(map);
    let form = match format.string("type")?.as_deref() {
        Some("text") => None,
        Some("json_object") => match format.value("schema") {
            None => Some(AnswerForm::JsonObject),
            Some(value) => Some(schema("response_format.schema", value)?),
        },
        Some("json_schema") => {
            let place = "response_format.json_schema";
            let Some(Value::Object(mut described)) = format.value("json_schema") else {
                return Err(ApiError::bad_param(NAME, format!("`{place}` is missing or no object")));
            };
            let Some(value) = described.remove("schema") else {
                return Err(ApiError::bad_param(NAME, format!("`{place}` has no `schema`")));
            };
            Some(schema(&format!("{place}.schema"), value)?)
        }
        Some("regex") => Some(regex("response_format.pattern", format.value("pattern").unwrap_or_default())?),
        Some("grammar") => {
            Some(grammar("response_format.grammar", format.value("grammar").unwrap_or_default())?)
        }
        Some(other) => {
            let message = format!(
                "`{NAME}.type` is `{other}`, but must be one of text, json_object, json_schema, regex, grammar"
            );
            return Err(ApiError::bad_param(NAME, message));
        }
        None => return Err(ApiError::bad_param(NAME, format!("`{NAME}` has no `type`"))),
    };
    format.finish()?;
    Ok(form)
}

/// A schema, or the text of one.
fn schema(name: &str, value: Value) -> Result<AnswerForm, ApiError> {
    let schema = match value {
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|error| ApiError::bad_param(name, format!("`{name}` is not valid JSON: {error}")))?,
        other => other,
    };
    match schema {
        Value::Object(_) | Value::Bool(_) => Ok(AnswerForm::JsonSchema(schema)),
        other => Err(wrong_type(name, "a JSON schema", &other)),
    }
}

fn regex(name: &str, value: Value) -> Result<AnswerForm, ApiError> {
    text(name, value).map(AnswerForm::Regex)
}

fn grammar(name: &str, value: Value) -> Result<AnswerForm, ApiError> {
    text(name, value).map(AnswerForm::Grammar)
}

fn choice(name: &str, value: Value) -> Result<AnswerForm, ApiError> {
    let Value::Array(items) = value else { return Err(wrong_type(name, "an array of strings", &value)) };
    if items.is_empty() {
        return Err(ApiError::bad_param(name, format!("`{name}` is empty")));
    }
    let choices = items.into_iter().map(|item| text(name, item)).collect::<Result<_, _>>()?;
    Ok(AnswerForm::Choice(choices))
}

fn text(name: &str, value: Value) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(name, "a string", &other)),
    }
}
