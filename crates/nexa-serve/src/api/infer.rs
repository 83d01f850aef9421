//! `POST /infer`: one prompt in, one text out, for scripts that want nothing more.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use nexa_core::lm::{self, ChatMessage, Role, Sampling};
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::Fields;
use super::sampling::{Defaults, check_logit_bias, take_sampling};
use super::state::{Model, Named, Served};
use crate::{Answer, Engine, Error, Prompt};

/// What is asked, and of which model, which stands beside `parameters` and not in it.
const OWN: [&str; 3] = ["prompt", "model", "lora_generation"];

/// A request, taken apart.
pub(super) struct Request {
    model: Named,
    prompt: String,
    sampling: Sampling,
}

/// Answers `{"prompt", "max_tokens", "temperature", "top_p", "parameters", "model"}` with `{"text", "tokens", "latency_ms",
/// "model_id"}`. `parameters` is an object of whatever chooses tokens in `/v1/completions`.
///
/// Where the model has a chat template, the prompt is sent as the user's turn; otherwise the text is continued.
pub(super) async fn create(Model(served): Model, fields: Fields) -> Result<Json<Value>, ApiError> {
    let (started, deadline) = (Instant::now(), served.deadline());
    let Request { model, prompt, sampling } = take(fields)?;
    let target = served.target(model)?;
    check_logit_bias(&sampling, &served)?;
    let completion = deadline.bound(async {
        let answer = submit(&served, &target.engine, prompt, sampling).await;
        let answer = answer.map_err(|error| ApiError::from_engine(error, "prompt"))?;
        answer.complete().await.map_err(|error| ApiError::from_model(error, "prompt"))
    });
    let completion = completion.await?;
    Ok(Json(json!({
        "text": completion.text,
        "tokens": completion.usage.completion_tokens,
        "latency_ms": started.elapsed().as_secs_f64() * 1e3,
        "model_id": target.name,
    })))
}

/// Takes a request apart.
pub(super) fn take(mut fields: Fields) -> Result<Request, ApiError> {
    let model = Named::take(&mut fields)?;
    fields.spread("parameters", &OWN)?;
    let prompt =
        fields.string("prompt")?.ok_or_else(|| ApiError::bad_param("prompt", "`prompt` is missing"))?;
    let sampling = take_sampling(&mut fields, &Defaults::INFER)?;
    fields.finish()?;
    Ok(Request { model, prompt, sampling })
}

async fn submit(
    served: &Arc<Served>,
    engine: &Engine,
    prompt: String,
    sampling: Sampling,
) -> Result<Answer, Error> {
    let turn = Prompt::Messages(vec![ChatMessage::new(Role::User, prompt.clone())]);
    match served.submit(engine, turn, sampling.clone()).await {
        // A tokenizer without a template refuses every conversation.
        Err(Error::Model(lm::Error::Tokenizer(_))) => {
            served.submit(engine, Prompt::Text(prompt), sampling).await
        }
        other => other,
    }
}
