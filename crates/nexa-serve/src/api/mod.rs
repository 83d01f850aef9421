//! The HTTP API: OpenAI's chat and completion endpoints, a plain `/infer`, health and metrics.
//!
//! | route | answer |
//! |---|---|
//! | `POST /v1/chat/completions` | OpenAI chat, whole or as server-sent events |
//! | `POST /v1/completions` | OpenAI completion of a plain prompt, whole or as server-sent events |
//! | `GET /v1/models`, `/v1/models/{id}` | the served model under each of its names |
//! | `POST /infer` | one prompt in, one text out |
//! | `GET /model/info` | what the model is |
//! | `GET /health` | 200 when requests are answered, else 503; needs no key |
//! | `GET /metrics` | Prometheus text |
//!
//! What the engine cannot do is refused with the name of the parameter, never left out in silence. Errors have OpenAI's
//! form. Browsers of other origins get no CORS headers, and where no key is asked for, requests for foreign hosts are
//! refused; see [`nexa_core::hosts`].

mod access;
mod chat;
mod completions;
mod error;
mod fields;
mod infer;
mod logprobs;
mod models;
mod reply;
mod sampling;
mod state;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use crate::{Engine, ServerConfig};

use error::ApiError;
use state::Served;

/// The routes over an engine.
pub fn router(engine: Engine, config: &ServerConfig) -> Router {
    let served = Arc::new(Served::new(engine, config));
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .route("/infer", post(infer::create))
        .route("/model/info", get(models::info))
        .route("/health", get(models::health))
        .route("/metrics", get(models::metrics))
        .fallback(async |method: Method, uri: Uri| ApiError::no_route(&method, uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            ApiError::wrong_method(&method, uri.path())
        })
        .layer(DefaultBodyLimit::max(config.max_body_bytes))
        .layer(from_fn_with_state(Arc::clone(&served), access::require_key))
        .layer(from_fn_with_state(Arc::clone(&served), access::check_host))
        .layer(from_fn(access::echo_request_id))
        .with_state(served)
}
