//! `POST /v1/completions`: continues plain text, without a chat template.

use std::sync::Arc;

use axum::response::Response;
use nexa_core::lm::{Sampling, Tokenizer};
use serde_json::Value;

use super::chat::{Order, answer};
use super::error::ApiError;
use super::fields::{Fields, token_ids, wrong_type};
use super::reply::{Echo, Form, Reply};
use super::sampling::{
    Defaults, Delivery, take_count, take_delivery, take_logprobs, take_prompt_logprobs, take_sampling,
};
use super::state::{Model, Named, Served};
use crate::Prompt;

/// A request, taken apart.
pub(super) struct Request {
    model: Named,
    prompt: Prompt,
    sampling: Sampling,
    count: usize,
    delivery: Delivery,
    /// Whether the prompt stands before the answer, and whether it stands there alone.
    echo: bool,
    echo_only: bool,
}

/// Continues a prompt.
pub(super) async fn create(Model(served): Model, fields: Fields) -> Result<Response, ApiError> {
    let deadline = served.deadline();
    let Request { model, mut prompt, mut sampling, count, delivery, echo, echo_only } = take(fields)?;
    let target = served.target(model)?;
    let mut reply = Reply::new(Form::Completion, &target, &served);
    reply.prompt_top = sampling.prompt_logprobs;
    if echo {
        let echo = read(&served, prompt, sampling.logprobs, echo_only).await?;
        // What is shown is what is read. A text without tokens stands for the token that begins a sequence.
        prompt = if echo.token_ids.is_empty() {
            Prompt::Text(String::new())
        } else {
            Prompt::Tokens(echo.token_ids.clone())
        };
        sampling.prompt_logprobs = sampling.prompt_logprobs.max(sampling.logprobs);
        reply.echo = Some(echo);
    }
    let engine = target.engine;
    answer(&served, Order { reply, engine, prompt, sampling, count, delivery, deadline }).await
}

/// Takes a request apart.
pub(super) fn take(mut fields: Fields) -> Result<Request, ApiError> {
    let model = Named::take(&mut fields)?;
    let prompt = take_prompt(&mut fields)?;
    let echo = fields.flag("echo")?;
    let echo_only = echo && fields.take_zero("max_tokens");
    let mut sampling = take_sampling(&mut fields, &Defaults::COMPLETION)?;
    if echo_only {
        // The engine writes at least one token, which is not shown.
        sampling.max_tokens = 1;
    }
    let count = take_count(&mut fields)?;
    sampling.logprobs = take_logprobs(&mut fields, "logprobs")?;
    let delivery = take_delivery(&mut fields)?;
    sampling.prompt_logprobs = take_prompt_logprobs(&mut fields, delivery)?;
    fields.finish()?;
    Ok(Request { model, prompt, sampling, count, delivery, echo, echo_only })
}

/// Takes one prompt: a text, an array of one text, or an array of token ids.
fn take_prompt(fields: &mut Fields) -> Result<Prompt, ApiError> {
    match fields.value("prompt") {
        None => Err(ApiError::bad_param("prompt", "`prompt` is missing")),
        Some(Value::String(text)) => Ok(Prompt::Text(text)),
        Some(Value::Array(items)) => match items.as_slice() {
            [Value::String(text)] => Ok(Prompt::Text(text.clone())),
            [Value::Number(_), ..] => token_ids("prompt", &Value::Array(items)).map(Prompt::Tokens),
            _ => Err(ApiError::bad_param("prompt", "`prompt` must be one text or one array of token ids")),
        },
        Some(other) => Err(wrong_type("prompt", "a string or an array of token ids", &other)),
    }
}

/// The prompt as it stands before an answer.
async fn read(
    served: &Arc<Served>,
    prompt: Prompt,
    top: Option<usize>,
    is_all: bool,
) -> Result<Echo, ApiError> {
    let read = move |served: &Served| {
        let token_ids = served.engine.encode(&prompt)?;
        let text = match prompt {
            Prompt::Text(text) => text,
            _ => text_of(&token_ids, served.engine.tokenizer().as_ref()),
        };
        Ok(Echo { text, token_ids, top, is_all })
    };
    served.blocking(read).await.map_err(|error| ApiError::from_engine(error, "prompt"))
}

fn text_of(token_ids: &[u32], tokenizer: &dyn Tokenizer) -> String {
    let bytes: Vec<u8> = token_ids.iter().filter_map(|&id| tokenizer.token_bytes(id)).flatten().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
