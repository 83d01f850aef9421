//! `POST /infer`: one prompt in, one text out, for scripts that want nothing more.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use nexa_core::lm::{self, ChatMessage, Role, Sampling};
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::Fields;
use super::sampling::{Defaults, take_sampling};
use super::state::{Model, Served};
use crate::{Answer, Error, Prompt};

/// Answers `{"prompt", "max_tokens", "temperature", "top_p"}` with `{"text", "tokens", "latency_ms", "model_id"}`.
///
/// Where the model has a chat template, the prompt is sent as the user's turn; otherwise the text is continued.
pub(super) async fn create(Model(served): Model, fields: Fields) -> Result<Json<Value>, ApiError> {
    let (started, deadline) = (Instant::now(), served.deadline());
    let (prompt, sampling) = take(fields)?;
    let completion = deadline.bound(async {
        let answer = submit(&served, prompt, sampling).await;
        let answer = answer.map_err(|error| ApiError::from_engine(error, "prompt"))?;
        answer.complete().await.map_err(|error| ApiError::from_model(error, "prompt"))
    });
    let completion = completion.await?;
    Ok(Json(json!({
        "text": completion.text,
        "tokens": completion.usage.completion_tokens,
        "latency_ms": started.elapsed().as_secs_f64() * 1e3,
        "model_id": served.names[0],
    })))
}

/// Takes a request apart.
pub(super) fn take(mut fields: Fields) -> Result<(String, Sampling), ApiError> {
    let prompt =
        fields.string("prompt")?.ok_or_else(|| ApiError::bad_param("prompt", "`prompt` is missing"))?;
    let sampling = take_sampling(&mut fields, &Defaults::INFER)?;
    fields.finish()?;
    Ok((prompt, sampling))
}

async fn submit(served: &Arc<Served>, prompt: String, sampling: Sampling) -> Result<Answer, Error> {
    let turn = Prompt::Messages(vec![ChatMessage::new(Role::User, prompt.clone())]);
    match served.submit(&served.engine, turn, sampling.clone()).await {
        // A tokenizer without a template refuses every conversation.
        Err(Error::Model(lm::Error::Tokenizer(_))) => {
            served.submit(&served.engine, Prompt::Text(prompt), sampling).await
        }
        other => other,
    }
}
