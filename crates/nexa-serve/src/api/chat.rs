//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::future;
use nexa_core::lm::{ChatMessage, Role, Sampling};
use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use super::reply::{Form, Reply};
use super::sampling::{
    Defaults, Delivery, take_count, take_delivery, take_logprobs, take_prompt_logprobs, take_sampling,
};
use super::state::{Deadline, Model, Served};
use super::stream;
use crate::{Answer, Prompt};

/// A request, taken apart.
pub(super) struct Request {
    model: Option<String>,
    messages: Vec<ChatMessage>,
    sampling: Sampling,
    count: usize,
    delivery: Delivery,
}

/// Answers a conversation.
pub(super) async fn create(Model(served): Model, fields: Fields) -> Result<Response, ApiError> {
    let deadline = served.deadline();
    let Request { model, messages, sampling, count, delivery } = take(fields)?;
    let mut reply = Reply::new(Form::Chat, served.model(model)?, &served);
    reply.prompt_top = sampling.prompt_logprobs;
    let prompt = Prompt::Messages(messages);
    answer(&served, Order { reply, prompt, sampling, count, delivery, deadline }).await
}

/// Takes a request apart.
pub(super) fn take(mut fields: Fields) -> Result<Request, ApiError> {
    let model = fields.string("model")?;
    let messages = take_messages(&mut fields)?;
    let mut sampling = take_sampling(&mut fields, &Defaults::CHAT)?;
    let count = take_count(&mut fields)?;
    sampling.logprobs = take_chat_logprobs(&mut fields)?;
    let delivery = take_delivery(&mut fields)?;
    sampling.prompt_logprobs = take_prompt_logprobs(&mut fields, delivery)?;
    fields.finish()?;
    Ok(Request { model, messages, sampling, count, delivery })
}

/// What the engine is asked, and how its answers are told.
pub(super) struct Order {
    pub(super) reply: Reply,
    pub(super) prompt: Prompt,
    pub(super) sampling: Sampling,
    /// Answers that are asked for.
    pub(super) count: usize,
    pub(super) delivery: Delivery,
    pub(super) deadline: Deadline,
}

/// Answers a prompt in the form of a reply.
pub(super) async fn answer(served: &Arc<Served>, order: Order) -> Result<Response, ApiError> {
    let deadline = order.deadline;
    match order.delivery {
        Delivery::Stream { include_usage } => {
            let answers = deadline.bound(submit(served, &order)).await?;
            Ok(stream::respond(order.reply, answers, include_usage, deadline))
        }
        Delivery::Whole => {
            let completions = deadline.bound(async {
                let answers = submit(served, &order).await?;
                let completions = future::try_join_all(answers.into_iter().map(Answer::complete)).await;
                completions.map_err(|error| ApiError::from_model(error, order.reply.prompt_param()))
            });
            Ok(Json(order.reply.whole(&completions.await?)).into_response())
        }
    }
}

/// Hands all answers of an order to the engine.
async fn submit(served: &Arc<Served>, order: &Order) -> Result<Vec<Answer>, ApiError> {
    let Order { reply, prompt, sampling, count, .. } = order;
    let mut answers = Vec::with_capacity(*count);
    for index in 0..*count as u64 {
        // Each answer draws from a generator of its own; the first from that of the request.
        let sampling = Sampling { seed: sampling.seed.wrapping_add(index), ..sampling.clone() };
        let answer = served.submit(prompt.clone(), sampling).await;
        // Answers that were accepted before one is refused are cancelled as they are dropped.
        answers.push(answer.map_err(|error| ApiError::from_engine(error, reply.prompt_param()))?);
    }
    Ok(answers)
}

/// Takes `logprobs` and `top_logprobs`, of which the second means nothing without the first.
fn take_chat_logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.flag("logprobs")?;
    let top = take_logprobs(fields, "top_logprobs")?.unwrap_or(0);
    if top > 0 && !wanted {
        let message = "`top_logprobs` is only for `logprobs: true`";
        return Err(ApiError::bad_param("top_logprobs", message));
    }
    Ok(wanted.then_some(top))
}

pub(super) fn take_messages(fields: &mut Fields) -> Result<Vec<ChatMessage>, ApiError> {
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
