//! What is served and how it is doing.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::error::ApiError;
use super::state::Served;
use crate::Phase;

/// `GET /v1/models`.
pub(super) async fn list(State(served): State<Arc<Served>>) -> Json<Value> {
    let data: Vec<Value> = served.names.iter().map(|name| model(&served, name)).collect();
    Json(json!({"object": "list", "data": data}))
}

/// `GET /v1/models/{id}`.
pub(super) async fn retrieve(
    State(served): State<Arc<Served>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    if served.names.contains(&id) { Ok(Json(model(&served, &id))) } else { Err(ApiError::no_model(&id)) }
}

/// `GET /model/info`.
pub(super) async fn info(State(served): State<Arc<Served>>) -> Json<Value> {
    let info = served.engine.info();
    Json(json!({
        "model_id": info.name,
        "architecture": info.architecture,
        "device": info.device,
        "parameters": info.parameters,
        "context_length": info.context_length,
        "weights_hash": info.weights_hash,
        "checkpoint_path": served.checkpoint_path,
    }))
}

/// `GET /health`: 200 only while requests are answered, so that load balancers send none in vain.
pub(super) async fn health(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let (code, status) = match served.engine.phase() {
        Phase::Loading => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
        Phase::Ready => (StatusCode::OK, "ok"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Phase::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
    };
    let info = served.engine.info();
    (code, Json(json!({"status": status, "model": info.name, "device": info.device})))
}

/// `GET /metrics`.
pub(super) async fn metrics(State(served): State<Arc<Served>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], served.engine.metrics())
}

fn model(served: &Served, name: &str) -> Value {
    let info = served.engine.info();
    json!({
        "id": name,
        "object": "model",
        "created": served.started,
        "owned_by": "nexa",
        "root": info.name,
        "max_model_len": info.context_length,
        "weights_hash": info.weights_hash,
    })
}
