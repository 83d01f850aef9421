//! `POST /v1/completions`: continues plain text, without a chat template.

use std::sync::Arc;

use axum::response::Response;
use nexa_core::lm::{Sampling, Tokenizer};
use serde_json::Value;

use super::chat::{Order, answer};
use super::error::ApiError;
use super::fields::{Fields, token_ids, wrong_type};
use super::logprobs;
use super::reply::{Echo, Form, Reply};
use super::sampling::{
    Defaults, Delivery, MAX_ANSWERS, check_logit_bias, take_count, take_delivery, take_logprobs,
    take_prompt_logprobs, take_sampling,
};
use super::state::{Model, Named, Served};
use crate::Prompt;

/// A request, taken apart.
pub(super) struct Request {
    model: Named,
    prompts: Vec<Prompt>,
    sampling: Sampling,
    count: usize,
    delivery: Delivery,
    /// Whether the prompt stands before the answer, and whether it stands there alone.
    echo: bool,
    echo_only: bool,
}

/// Continues prompts.
pub(super) async fn create(Model(served): Model, fields: Fields) -> Result<Response, ApiError> {
    let deadline = served.deadline();
    let Request { model, mut prompts, mut sampling, count, delivery, echo, echo_only } = take(fields)?;
    let target = served.target(model)?;
    check_logit_bias(&sampling, &served)?;
    let mut reply = Reply::new(Form::Completion, &target, &served);
    reply.prompt_top = sampling.prompt_logprobs;
    reply.per_prompt = count;
    if echo {
        for prompt in &mut prompts {
            let echo = read(&served, prompt.clone(), sampling.logprobs, echo_only).await?;
            // What is shown is what is read. A text without tokens stands for the token that begins a sequence.
            *prompt = if echo.token_ids.is_empty() {
                Prompt::Text(String::new())
            } else {
                Prompt::Tokens(echo.token_ids.clone())
            };
            reply.echoes.push(echo);
        }
        sampling.prompt_logprobs = sampling.prompt_logprobs.max(sampling.logprobs);
    }
    let engine = target.engine;
    answer(&served, Order { reply, engine, prompts, sampling, count, delivery, deadline }).await
}

/// Takes a request apart.
pub(super) fn take(mut fields: Fields) -> Result<Request, ApiError> {
    let model = Named::take(&mut fields)?;
    let prompts = take_prompts(&mut fields)?;
    let echo = fields.flag("echo")?;
    let echo_only = echo && fields.take_zero("max_tokens");
    let mut sampling = take_sampling(&mut fields, &Defaults::COMPLETION)?;
    if echo_only {
        // The engine writes at least one token, which is not shown.
        sampling.max_tokens = 1;
    }
    let count = take_count(&mut fields)?;
    if prompts.len() * count > MAX_ANSWERS {
        let message = format!(
            "{} prompts with {count} answers each are more than {MAX_ANSWERS} answers",
            prompts.len()
        );
        return Err(ApiError::bad_param("prompt", message));
    }
    sampling.logprobs = take_logprobs(&mut fields, "logprobs")?;
    let delivery = take_delivery(&mut fields)?;
    sampling.prompt_logprobs = take_prompt_logprobs(&mut fields, delivery)?;
    fields.finish()?;
    Ok(Request { model, prompts, sampling, count, delivery, echo, echo_only })
}

/// Takes prompts: a text, an array of token ids, or an array of several of either.
fn take_prompts(fields: &mut Fields) -> Result<Vec<Prompt>, ApiError> {
    let prompts = match fields.value("prompt") {
        None => return Err(ApiError::bad_param("prompt", "`prompt` is missing")),
        Some(Value::String(text)) => vec![Prompt::Text(text)],
        Some(Value::Array(items)) => match items.as_slice() {
            [] => return Err(ApiError::bad_param("prompt", "`prompt` is an empty array")),
            [Value::Number(_), ..] => vec![token_ids("prompt", &Value::Array(items)).map(Prompt::Tokens)?],
            items => items.iter().map(prompt).collect::<Result<_, _>>()?,
        },
        Some(other) => return Err(wrong_type("prompt", "a string or an array", &other)),
    };
    Ok(prompts)
}

/// One of several prompts.
fn prompt(item: &Value) -> Result<Prompt, ApiError> {
    match item {
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(_) => token_ids("prompt", item).map(Prompt::Tokens),
        other => Err(wrong_type("prompt", "an array of strings, or of arrays of token ids", other)),
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
        let tokenizer = served.engine.tokenizer().as_ref();
        let (text, offsets) = match prompt {
            Prompt::Text(text) => {
                let offsets = logprobs::offsets_in(&text, &token_ids, tokenizer);
                (text, offsets)
            }
            _ => (text_of(&token_ids, tokenizer), logprobs::offsets_of(&token_ids, tokenizer)),
        };
        Ok(Echo { text, token_ids, offsets, top, is_all })
    };
    served.blocking(read).await.map_err(|error| ApiError::from_engine(error, "prompt"))
}

fn text_of(token_ids: &[u32], tokenizer: &dyn Tokenizer) -> String {
    let bytes: Vec<u8> = token_ids.iter().filter_map(|&id| tokenizer.token_bytes(id)).flatten().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
