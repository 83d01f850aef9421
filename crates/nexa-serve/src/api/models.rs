//! What is served, and how much it has done.

use axum::Json;
use axum::extract::Path;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::error::ApiError;
use super::state::{Model, Served};
use crate::About;

/// `GET /v1/models`.
pub(super) async fn list(Model(served): Model) -> Json<Value> {
    let names = served.names.iter().map(|name| model(&served, name));
    let adapters =
        served.adapters.list().into_iter().map(|(name, generation)| adapter(&served, &name, generation));
    let data: Vec<Value> = names.chain(adapters).collect();
    Json(json!({"object": "list", "data": data}))
}

/// `GET /v1/models/{id}`.
pub(super) async fn retrieve(Model(served): Model, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    if let Some(found) = served.adapters.get(&id) {
        return Ok(Json(adapter(&served, &id, found.generation)));
    }
    if served.names.contains(&id) { Ok(Json(model(&served, &id))) } else { Err(ApiError::no_model(&id)) }
}

/// `GET /v1/model/info`, and `/model/info` as the original had it.
pub(super) async fn info(Model(served): Model) -> Json<Value> {
    let info = served.engine.info();
    let About { checkpoint_path, manifest, config, lineage, evaluations } = &served.about;
    Json(json!({
        "model_id": info.name,
        "architecture": info.architecture,
        "device": info.device,
        "parameters": info.parameters,
        "context_length": info.context_length,
        "format": info.format,
        "weight_bytes": info.weight_bytes,
        "weights_hash": info.weights_hash,
        "checkpoint_path": checkpoint_path,
        "manifest": manifest,
        "config": config,
        "lineage": lineage,
        "evaluations": evaluations,
    }))
}

/// `GET /metrics`.
pub(super) async fn metrics(Model(served): Model) -> impl IntoResponse {
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
        "manifest": served.about.manifest,
    })
}

/// An adapter, as a model whose parent is the one that it corrects.
fn adapter(served: &Served, name: &str, generation: u64) -> Value {
    let mut adapter = model(served, name);
    adapter["parent"] = served.names[0].as_str().into();
    adapter["lora_generation"] = generation.into();
    adapter
}
