//! Routes that are answered by vLLM, behind the same door as those of our own engine.
//!
//! Bodies are read whole, with the same limits, and passed on as they are; answers come back as they come. Metrics are
//! vLLM's own under our prefix, which is how ours are named.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Response, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::deadline::Deadline;
use super::error::ApiError;
use super::fields::Fields;
use super::health;
use super::state::Door;
use crate::vllm::Upstream;
use crate::{About, Error};

/// What is passed on of the head of an answer.
const PASSED_BACK: [header::HeaderName; 2] = [header::CONTENT_TYPE, header::RETRY_AFTER];
/// The longest answer that is read whole: a page of metrics, a list of models.
const MAX_PAGE_BYTES: usize = 16 << 20;
/// What an answer is that is sent as it is written.
const EVENTS: &str = "text/event-stream";

/// Every route, by its path as the router reads it.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Arc<Door>>)> {
    vec![
        ("/v1/chat/completions", post(pass)),
        ("/v1/completions", post(pass)),
        ("/v1/embeddings", post(pass)),
        ("/tokenize", post(pass)),
        ("/detokenize", post(pass)),
        ("/v1/models", get(fetch)),
        // The names of models may hold slashes.
        ("/v1/models/{*id}", get(retrieve)),
        ("/v1/model/info", get(info)),
        ("/model/info", get(info)),
        ("/health", get(health::health)),
        ("/ready", get(health::ready)),
        ("/metrics", get(metrics)),
        ("/openapi.json", get(fetch)),
    ]
}

/// The vLLM of a request. Requests that come before it answers are refused.
struct Behind {
    upstream: Arc<Upstream>,
    deadline: Deadline,
}

impl FromRequestParts<Arc<Door>> for Behind {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, door: &Arc<Door>) -> Result<Self, ApiError> {
        match door.upstream() {
            _ if door.is_closing() => Err(ApiError::shutting_down()),
            Some(upstream) => Ok(Self { upstream: Arc::clone(upstream), deadline: door.deadline() }),
            None => Err(ApiError::loading()),
        }
    }
}

/// Passes a request on, where there is room for it, and the answer back as it comes.
async fn pass(
    Behind { upstream, deadline }: Behind,
    uri: Uri,
    fields: Fields,
) -> Result<Response<Body>, ApiError> {
    let permit = upstream.permit().ok_or_else(|| {
        ApiError::from_engine(Error::QueueFull { in_flight: upstream.max_in_flight() }, "prompt")
    })?;
    let mut body = fields.into_map();
    body.entry("model").or_insert_with(|| upstream.names[0].as_str().into());
    let body = Value::Object(body).to_string().into_bytes();
    let sent = async { upstream.send(Method::POST, uri.path(), body).await.map_err(ApiError::unreachable) };
    let (head, body) = deadline.bound(sent).await?.into_parts();
    let mut headers = HeaderMap::new();
    for name in PASSED_BACK {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    // Buffering proxies would hold the text back.
    headers.insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    let is_stream = head
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(EVENTS.as_bytes()));
    // It counts as under way until it has come or nobody waits for it any more.
    let pieces = stream::unfold((body.into_data_stream(), permit), |(mut body, permit)| async move {
        let piece = body.next().await?;
        Some((piece, (body, permit)))
    });
    let pieces = deadline.end(pieces).map(move |piece| match piece {
        Ok(piece) => piece,
        Err(late) if is_stream => Ok(Bytes::from(format!("data: {}\n\n", late.body()))),
        // Whatever stood behind the half of an answer would be taken for a part of it: the connection ends instead.
        Err(late) => Err(axum::Error::new(late.body().to_string())),
    });
    Ok((head.status, headers, Body::from_stream(pieces)).into_response())
}

/// Passes on what is asked of vLLM itself.
async fn fetch(Behind { upstream, deadline }: Behind, uri: Uri) -> Result<Response<Body>, ApiError> {
    let sent =
        async { upstream.send(Method::GET, uri.path(), Vec::new()).await.map_err(ApiError::unreachable) };
    let (head, body) = deadline.bound(sent).await?.into_parts();
    Ok((head.status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// `GET /v1/models/{id}`, out of the list, for vLLM tells of its models only together.
async fn retrieve(
    Behind { upstream, deadline }: Behind,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let read = async {
        let answer =
            upstream.send(Method::GET, "/v1/models", Vec::new()).await.map_err(ApiError::unreachable)?;
        read_whole(answer).await
    };
    let list: Value = serde_json::from_slice(&deadline.bound(read).await?)
        .map_err(|error| ApiError::unreachable(format!("its list of models is not valid JSON: {error}")))?;
    let found =
        list["data"].as_array().and_then(|models| models.iter().find(|model| model["id"] == id.as_str()));
    found.cloned().map(Json).ok_or_else(|| ApiError::no_model(&id))
}

/// The body of an answer.
async fn read_whole(answer: Response<Body>) -> Result<Bytes, ApiError> {
    to_bytes(answer.into_body(), MAX_PAGE_BYTES).await.map_err(|e| ApiError::unreachable(e.to_string()))
}

/// `GET /v1/model/info`: what the lab knows, which vLLM does not.
async fn info(Behind { upstream, .. }: Behind) -> Json<Value> {
    let About { checkpoint_path, manifest, config, lineage, evaluations } = &upstream.about;
    Json(json!({
        "model_id": upstream.names[0],
        "engine": "vllm",
        "architecture": config.as_ref().and_then(|config| config.get("model_type")),
        "checkpoint_path": checkpoint_path,
        "manifest": manifest,
        "config": config,
        "lineage": lineage,
        "evaluations": evaluations,
    }))
}

/// `GET /metrics`.
async fn metrics(Behind { upstream, deadline }: Behind) -> Result<impl IntoResponse, ApiError> {
    let read = async {
        let answer =
            upstream.send(Method::GET, "/metrics", Vec::new()).await.map_err(ApiError::unreachable)?;
        read_whole(answer).await
    };
    let page = deadline.bound(read).await?;
    let page = String::from_utf8_lossy(&page).replace("vllm:", "nexa_");
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page))
}
