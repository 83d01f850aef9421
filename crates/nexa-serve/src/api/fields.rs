//! The parameters of a request, taken out one by one, so that what nobody took can be refused by name.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::state::Door;

/// Parameters that do not change the answer.
const HARMLESS: &[&str] = &[
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
];

/// Whether a value is the one that changes nothing.
type IsNeutral = fn(&Value) -> bool;

/// Parameters that would change the answer in a way that the engine does not know; only their neutral values pass.
const UNSUPPORTED: &[(&str, IsNeutral)] = &[
    ("audio", never),
    ("best_of", is_one),
    ("echo", is_false),
    ("function_call", is_no_choice),
    ("functions", is_empty),
    ("logprobs", is_false),
    ("modalities", is_text_only),
    ("n", is_one),
    ("prediction", never),
    ("reasoning_effort", never),
    ("suffix", is_empty),
    ("tool_choice", is_no_choice),
    ("tools", is_empty),
    ("top_logprobs", is_zero),
    ("verbosity", never),
    ("web_search_options", never),
];

/// The parameters that are left. A parameter that is `null` counts as absent.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(ApiError::invalid("the body must be a JSON object")),
            Err(error) => Err(ApiError::invalid(format!("the body is not valid JSON: {error}"))),
        }
    }

    /// All parameters, as they came.
    pub(super) fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// Whether a parameter is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// Takes a parameter of any type.
    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Takes an object of further parameters, and puts them beside the others. Those that are `kept_out` are not for it, and
    /// none may be given twice.
    pub(super) fn spread(&mut self, name: &str, kept_out: &[&str]) -> Result<(), ApiError> {
        let further = match self.value(name) {
            None => return Ok(()),
            Some(Value::Object(map)) => map,
            Some(other) => return Err(wrong_type(name, "an object", &other)),
        };
        for (key, value) in further {
            let place = format!("{name}.{key}");
            if key == name || kept_out.contains(&key.as_str()) {
                return Err(ApiError::unknown(place));
            }
            if self.has(&key) && !value.is_null() {
                let message = format!("`{key}` is given twice: in `{name}` and beside it");
                return Err(ApiError::bad_param(place, message));
            }
            if !value.is_null() {
                self.0.insert(key, value);
            }
        }
        Ok(())
    }

    /// Takes a parameter that is 0, and tells whether it was.
    pub(super) fn take_zero(&mut self, name: &str) -> bool {
        let is_zero = self.0.get(name).and_then(Value::as_u64) == Some(0);
        if is_zero {
            self.0.remove(name);
        }
        is_zero
    }

    /// Takes a string.
    pub(super) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(name, "a string", &other)),
        }
    }

    /// Takes a truth value; absent means false.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        Ok(self.optional_flag(name)?.unwrap_or(false))
    }

    /// Takes a truth value, where there is one.
    pub(super) fn optional_flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_type(name, "true or false", &other)),
        }
    }

    /// Takes a number within a range.
    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<f32>) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong_type(name, "a number", &value))? as f32;
        if range.contains(&number) {
            return Ok(Some(number));
        }
        let (least, most) = range.into_inner();
        Err(ApiError::bad_param(name, format!("`{name}` is {value}, but must be from {least} to {most}")))
    }

    /// Takes a whole number that is at least `least`.
    pub(super) fn integer(&mut self, name: &str, least: i64) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.as_i64().ok_or_else(|| wrong_type(name, "a whole number", &value))?;
        if number >= least {
            return Ok(Some(number));
        }
        Err(ApiError::bad_param(name, format!("`{name}` is {value}, but must be at least {least}")))
    }

    /// Ends the reading: what is left must be harmless, or have a value that changes nothing.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        for (name, value) in self.0 {
            if value.is_null() || HARMLESS.contains(&name.as_str()) {
                continue;
            }
            match UNSUPPORTED.iter().find(|(unsupported, _)| *unsupported == name) {
                Some((_, is_neutral)) if is_neutral(&value) => {}
                Some(_) => return Err(ApiError::unsupported(name)),
                None => return Err(ApiError::unknown(name)),
            }
        }
        Ok(())
    }
}

impl From<Map<String, Value>> for Fields {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

impl FromRequest<Arc<Door>> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, door: &Arc<Door>) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let body = tokio::time::timeout(door.read_timeout, Bytes::from_request(request, door)).await;
        let body = body.map_err(|_| ApiError::slow_body(door.read_timeout))?.map_err(|rejection| {
            let message = rejection.to_string();
            match rejection.into_response().status() {
                StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(door.max_body_bytes),
                _ => ApiError::invalid(format!("read the body: {message}")),
            }
        })?;
        Self::parse(&body)
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(ApiError::wrong_content_type(found))
    }
}

/// Reads an array of token ids.
pub(super) fn token_ids(name: &str, value: &Value) -> Result<Vec<u32>, ApiError> {
    let Value::Array(items) = value else { return Err(wrong_type(name, "an array of token ids", value)) };
    let token_id = |item: &Value| {
        item.as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| ApiError::bad_param(name, format!("`{name}` holds {item}, which is no token id")))
    };
    items.iter().map(token_id).collect()
}

/// Says that a parameter is of the wrong type.
pub(super) fn wrong_type(name: &str, expected: &str, found: &Value) -> ApiError {
    let kind = match found {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let found = if found.is_number() { found.to_string() } else { kind.to_owned() };
    ApiError::bad_param(name, format!("`{name}` is {found}, but must be {expected}"))
}

fn never(_: &Value) -> bool {
    false
}

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Without tools, `none` and `auto` mean the same.
fn is_no_choice(value: &Value) -> bool {
    matches!(value.as_str(), Some("none" | "auto"))
}

fn is_text_only(value: &Value) -> bool {
    value == &serde_json::json!(["text"])
}
