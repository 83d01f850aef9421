//! Batches as OpenAI takes them: a file of requests in, a file of replies out. They are answered once they are looked at,
//! so that what waits for them never waits long.
//!
//! # Source
//! The files and batches endpoints of the OpenAI API.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::server::{Body, Teacher, problem};

/// Files and batches by their ids.
#[derive(Debug, Default)]
pub(super) struct Batches {
    files: BTreeMap<String, String>,
    batches: BTreeMap<String, Batch>,
}

#[derive(Debug, Clone)]
struct Batch {
    input_file_id: String,
    status: &'static str,
    output_file_id: Option<String>,
}

impl Batch {
    fn json(&self, id: &str) -> Value {
        json!({
            "id": id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": self.input_file_id,
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": null,
        })
    }
}

/// What a batch is asked for with.
#[derive(Deserialize)]
pub(super) struct Creation {
    input_file_id: String,
}

/// A line of a file of requests.
#[derive(Deserialize)]
struct Line {
    custom_id: String,
    body: Value,
}

/// `POST /v1/files`.
pub(super) async fn upload(
    State(teacher): State<Arc<Teacher>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(content) = content_type.and_then(|kind| file_part(kind, &body)) else {
        return problem(StatusCode::BAD_REQUEST, "the form holds no file");
    };
    let mut batches = teacher.batches.lock().unwrap_or_else(PoisonError::into_inner);
    let id = format!("file-{}", batches.files.len() + 1);
    batches.files.insert(id.clone(), content.to_owned());
    Json(json!({"id": id, "object": "file", "purpose": "batch", "bytes": content.len()})).into_response()
}

/// `GET /v1/files/{id}/content`.
pub(super) async fn content(State(teacher): State<Arc<Teacher>>, Path(id): Path<String>) -> Response {
    let batches = teacher.batches.lock().unwrap_or_else(PoisonError::into_inner);
    match batches.files.get(&id) {
        Some(content) => content.clone().into_response(),
        None => problem(StatusCode::NOT_FOUND, "there is no such file"),
    }
}

/// `POST /v1/batches`.
pub(super) async fn create(State(teacher): State<Arc<Teacher>>, Json(creation): Json<Creation>) -> Response {
    let mut batches = teacher.batches.lock().unwrap_or_else(PoisonError::into_inner);
    if !batches.files.contains_key(&creation.input_file_id) {
        return problem(StatusCode::BAD_REQUEST, "there is no such file");
    }
    let id = format!("batch_{}", batches.batches.len() + 1);
    let batch = Batch { input_file_id: creation.input_file_id, status: "in_progress", output_file_id: None };
    let reply = batch.json(&id);
    batches.batches.insert(id, batch);
    Json(reply).into_response()
}

/// `GET /v1/batches`.
pub(super) async fn list(State(teacher): State<Arc<Teacher>>) -> Json<Value> {
    let batches = teacher.batches.lock().unwrap_or_else(PoisonError::into_inner);
    let data: Vec<_> = batches.batches.iter().map(|(id, batch)| batch.json(id)).collect();
    Json(json!({"object": "list", "data": data, "has_more": false}))
}

/// `GET /v1/batches/{id}`: tells how far a batch is, and answers it, so that the next look finds it done.
pub(super) async fn show(State(teacher): State<Arc<Teacher>>, Path(id): Path<String>) -> Response {
    let mut batches = teacher.batches.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(batch) = batches.batches.get(&id).cloned() else {
        return problem(StatusCode::NOT_FOUND, "there is no such batch");
    };
    let told = batch.json(&id);
    if batch.status == "in_progress" {
        let requests = batches.files.get(&batch.input_file_id).cloned().unwrap_or_default();
        let output = format!("{id}-output");
        batches.files.insert(output.clone(), answers(&teacher, &requests));
        let done = Batch { status: "completed", output_file_id: Some(output), ..batch };
        batches.batches.insert(id, done);
    }
    Json(told).into_response()
}

/// `POST /v1/batches/{id}/cancel`.
pub(super) async fn cancel(State(teacher): State<Arc<Teacher>>, Path(id): Path<String>) -> Response {
    let mut batches = teacher.batches.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(batch) = batches.batches.get_mut(&id) else {
        return problem(StatusCode::NOT_FOUND, "there is no such batch");
    };
    if batch.status == "in_progress" {
        batch.status = "cancelled";
    }
    Json(batch.json(&id)).into_response()
}

/// Answers the lines of a file of requests.
fn answers(teacher: &Teacher, requests: &str) -> String {
    let mut lines = String::new();
    for line in requests.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        let (status, body) = match serde_json::from_value::<Body>(line.body) {
            Ok(body) => match teacher.compute(&body) {
                Ok(body) => (200, body),
                Err(message) => (400, json!({"error": {"message": message}})),
            },
            Err(e) => (400, json!({"error": {"message": e.to_string()}})),
        };
        let reply = json!({
            "custom_id": line.custom_id,
            "response": {"status_code": status, "body": body},
            "error": null,
        });
        lines.push_str(&reply.to_string());
        lines.push('\n');
    }
    lines
}

/// The content of the part `file` of a form.
fn file_part<'a>(content_type: &str, body: &'a str) -> Option<&'a str> {
    let boundary = content_type.split("boundary=").nth(1)?.trim_matches('"');
    let part = body.split(&format!("--{boundary}")).find(|part| part.contains("name=\"file\""))?;
    part.split_once("\r\n\r\n")?.1.strip_suffix("\r\n")
}
