//! The HTTP API: OpenAI's endpoints, a plain `/infer`, tokens, health and metrics.
//!
//! | route | answer |
//! |---|---|
//! | `POST /v1/chat/completions` | OpenAI chat, whole or as server-sent events |
//! | `POST /v1/completions` | OpenAI completion of a plain prompt, whole or as server-sent events |
//! | `POST /v1/embeddings` | texts as vectors: mean-pooled, of length 1 |
//! | `GET /v1/models`, `/v1/models/{id}` | the served model under each of its names |
//! | `GET /v1/model/info`, `/model/info` | what the model is, what it descends from, what it was measured at |
//! | `POST /v1/load_lora_adapter`, `/v1/unload_lora_adapter` | adapters beside the model, at run time |
//! | `POST /infer` | one prompt in, one text out |
//! | `POST /tokenize`, `/detokenize` | a prompt or a conversation as token ids, and back |
//! | `GET /health` | 200 while there is a model that answers what it was given, else 503; needs no key |
//! | `GET /ready` | 200 while new requests are answered: not while loading, warming or draining; needs no key |
//! | `GET /metrics` | Prometheus text |
//! | `GET /openapi.json` | these routes as an OpenAPI document |
//!
//! What the engine cannot do is refused with the name of the parameter, never left out in silence. Errors have OpenAI's
//! form. Whatever a model answers carries the id of its checkpoint's manifest, in the header `x-nexa-manifest` and as
//! `system_fingerprint`. Pages of other origins may read replies only where that was configured, and where no key
//! is asked for, requests for foreign hosts are refused; see [`nexa_core::hosts`].

mod access;
mod adapters;
mod chat;
mod completions;
pub(crate) mod cors;
mod deadline;
mod embeddings;
mod error;
mod fields;
mod form;
mod guard;
mod health;
mod infer;
mod logprobs;
mod messages;
mod models;
mod openapi;
mod parse;
mod proxy;
mod reply;
mod sampling;
mod state;
mod stream;
mod tokens;
mod tools;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};

use error::ApiError;

pub use parse::parse_body;
pub(crate) use state::Door;

/// Every route, by its method and its path as OpenAPI writes it.
fn routes() -> Vec<(&'static str, &'static str, MethodRouter<Arc<Door>>)> {
    vec![
        ("post", "/v1/chat/completions", post(chat::create)),
        ("post", "/v1/completions", post(completions::create)),
        ("post", "/v1/embeddings", post(embeddings::create)),
        ("get", "/v1/models", get(models::list)),
        ("get", "/v1/models/{id}", get(models::retrieve)),
        ("get", "/v1/model/info", get(models::info)),
        ("get", "/model/info", get(models::info)),
        ("post", "/v1/load_lora_adapter", post(adapters::load)),
        ("post", "/v1/unload_lora_adapter", post(adapters::unload)),
        ("post", "/infer", post(infer::create)),
        ("post", "/tokenize", post(tokens::tokenize)),
        ("post", "/detokenize", post(tokens::detokenize)),
        ("get", "/health", get(health::health)),
        ("get", "/ready", get(health::ready)),
        ("get", "/metrics", get(models::metrics)),
        ("get", "/openapi.json", get(openapi::document)),
    ]
}

/// The routes behind a door.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let mut router = Router::new();
    for (_, path, handler) in routes() {
        // The names of models may hold slashes.
        router = router.route(&path.replace("{id}", "{*id}"), handler);
    }
    behind(router, door)
}

/// The routes behind the door of another engine.
pub(crate) fn proxy_router(door: Arc<Door>) -> Router {
    let router = proxy::routes()
        .into_iter()
        .fold(Router::new(), |router, (path, handler)| router.route(path, handler));
    behind(router, door)
}

/// What stands around all routes.
fn behind(router: Router<Arc<Door>>, door: Arc<Door>) -> Router {
    router
        .fallback(async |method: Method, uri: Uri| ApiError::no_route(&method, uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            ApiError::wrong_method(&method, uri.path())
        })
        .layer(DefaultBodyLimit::max(door.max_body_bytes))
        .layer(from_fn_with_state(Arc::clone(&door), access::name_manifest))
        .layer(from_fn_with_state(Arc::clone(&door), access::require_key))
        .layer(from_fn_with_state(Arc::clone(&door), access::check_host))
        .layer(from_fn_with_state(Arc::clone(&door), cors::allow))
        .layer(from_fn(access::echo_request_id))
        .with_state(door)
}
