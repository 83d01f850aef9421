//! `POST /v1/completions`: continues plain text, without a chat template.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use super::chat::{Order, answer};
use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use super::reply::{Form, Reply};
use super::sampling::{Defaults, take_count, take_delivery, take_logprobs, take_sampling};
use super::state::Served;
use crate::Prompt;

/// Continues a prompt.
pub(super) async fn create(
    State(served): State<Arc<Served>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let model = served.take_model(&mut fields)?;
    let prompt = take_prompt(&mut fields)?;
    let mut sampling = take_sampling(&mut fields, &Defaults::COMPLETION)?;
    let count = take_count(&mut fields)?;
    sampling.logprobs = take_logprobs(&mut fields, "logprobs")?;
    let delivery = take_delivery(&mut fields)?;
    fields.finish()?;
    let reply = Reply::new(Form::Completion, model, &served);
    answer(&served, Order { reply, prompt, sampling, count, delivery }).await
}

/// Takes one prompt: a text, an array of one text, or an array of token ids.
fn take_prompt(fields: &mut Fields) -> Result<Prompt, ApiError> {
    match fields.value("prompt") {
        None => Err(ApiError::bad_param("prompt", "`prompt` is missing")),
        Some(Value::String(text)) => Ok(Prompt::Text(text)),
        Some(Value::Array(items)) => match items.as_slice() {
            [Value::String(text)] => Ok(Prompt::Text(text.clone())),
            [Value::Number(_), ..] => {
                items.iter().map(token_id).collect::<Result<_, _>>().map(Prompt::Tokens)
            }
            _ => Err(ApiError::bad_param("prompt", "`prompt` must be one text or one array of token ids")),
        },
        Some(other) => Err(wrong_type("prompt", "a string or an array of token ids", &other)),
    }
}

fn token_id(value: &Value) -> Result<u32, ApiError> {
    value
        .as_u64()
        .and_then(|id| u32::try_from(id).ok())
        .ok_or_else(|| ApiError::bad_param("prompt", format!("`prompt` holds {value}, which is no token id")))
}
