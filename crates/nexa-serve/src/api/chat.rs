//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use nexa_core::lm::{ChatMessage, Role, Sampling};
use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use super::reply::{Form, Reply};
use super::sampling::{Defaults, Delivery, take_delivery, take_sampling};
use super::state::Served;
use super::stream;
use crate::Prompt;

/// Answers a conversation.
pub(super) async fn create(
    State(served): State<Arc<Served>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let model = served.take_model(&mut fields)?;
    let messages = take_messages(&mut fields)?;
    let sampling = take_sampling(&mut fields, &Defaults::CHAT)?;
    let delivery = take_delivery(&mut fields)?;
    fields.finish()?;
    let reply = Reply::new(Form::Chat, model, &served);
    answer(&served, Order { reply, prompt: Prompt::Messages(messages), sampling, delivery }).await
}

/// A request, taken apart.
pub(super) struct Order {
    pub(super) reply: Reply,
    pub(super) prompt: Prompt,
    pub(super) sampling: Sampling,
    pub(super) delivery: Delivery,
}

/// Answers a prompt in the form of a reply.
pub(super) async fn answer(served: &Arc<Served>, order: Order) -> Result<Response, ApiError> {
    let Order { reply, prompt, sampling, delivery } = order;
    let param = reply.prompt_param();
    let answer =
        served.submit(prompt, sampling).await.map_err(|error| ApiError::from_engine(error, param))?;
    match delivery {
        Delivery::Stream { include_usage } => Ok(stream::respond(reply, answer, include_usage)),
        Delivery::Whole => {
            let completion = answer.complete().await.map_err(|error| ApiError::from_model(error, param))?;
            Ok(Json(reply.whole(&completion)).into_response())
        }
    }
}

fn take_messages(fields: &mut Fields) -> Result<Vec<ChatMessage>, ApiError> {
    let items = match fields.value("messages") {
        None => return Err(ApiError::bad_param("messages", "`messages` is missing")),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_type("messages", "an array", &other)),
    };
    if items.is_empty() {
        return Err(ApiError::bad_param("messages", "`messages` is empty"));
    }
    items.into_iter().enumerate().map(|(position, item)| message(position, item)).collect()
}

fn message(position: usize, item: Value) -> Result<ChatMessage, ApiError> {
    let place = format!("messages[{position}]");
    let Value::Object(map) = item else { return Err(wrong_type(&place, "an object", &item)) };
    let mut fields = Fields::from(map);
    let role_param = format!("{place}.role");
    let role = match fields.string("role")?.as_deref() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        Some(other) => {
            let message = format!("role `{other}` is not one of system, developer, user, assistant, tool");
            return Err(ApiError::bad_param(role_param, message));
        }
        None => return Err(ApiError::bad_param(role_param, format!("`{place}` has no `role`"))),
    };
    let content = content(&format!("{place}.content"), fields.value("content"))?;
    for refused in ["tool_calls", "function_call", "audio"] {
        if fields.value(refused).is_some() {
            return Err(ApiError::unsupported(format!("{place}.{refused}")));
        }
    }
    Ok(ChatMessage::new(role, content))
}

/// A text, or parts that are all texts.
fn content(param: &str, value: Option<Value>) -> Result<String, ApiError> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => parts
            .iter()
            .map(|part| match (part.get("type").and_then(Value::as_str), part.get("text")) {
                (Some("text"), Some(Value::String(text))) => Ok(text.as_str()),
                _ => Err(ApiError::bad_param(param, format!("`{param}` holds a part that is not text"))),
            })
            .collect(),
        Some(other) => Err(wrong_type(param, "a string or an array of text parts", &other)),
        None => Err(ApiError::bad_param(param, format!("`{param}` is missing"))),
    }
}
