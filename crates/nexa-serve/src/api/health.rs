//! Whether the server lives, and whether it answers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::RETRY_AFTER;
use super::state::Door;
use crate::Phase;

/// What the server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Loading,
    Warming,
    Ok,
    Draining,
    Stopped,
}

impl Status {
    /// What is the case now. An engine in another process is asked each time, for it may hang without ending.
    async fn of(door: &Door) -> Self {
        match door.model().map(|served| served.engine.phase()) {
            Some(Phase::Stopped) => Self::Stopped,
            _ if door.is_closing() => Self::Draining,
            None => match door.upstream() {
                None => Self::Loading,
                Some(upstream) if upstream.is_healthy().await => Self::Ok,
                Some(_) => Self::Stopped,
            },
            Some(Phase::Loading) => Self::Warming,
            Some(Phase::Ready) => Self::Ok,
            Some(Phase::Draining) => Self::Draining,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Warming => "warming",
            Self::Ok => "ok",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// `GET /health`: 200 while there is a model that answers what it was given; 503 while it is loaded and once it has stopped.
pub(super) async fn health(State(door): State<Arc<Door>>) -> Response {
    let status = Status::of(&door).await;
    reply(&door, status, matches!(status, Status::Warming | Status::Ok | Status::Draining))
}

/// `GET /ready`: 200 only while new requests are answered at once, so that load balancers send none in vain.
pub(super) async fn ready(State(door): State<Arc<Door>>) -> Response {
    let status = Status::of(&door).await;
    reply(&door, status, status == Status::Ok)
}

fn reply(door: &Door, status: Status, is_well: bool) -> Response {
    let info = door.model().map(|served| served.engine.info());
    let other = door.upstream().map(|upstream| &upstream.names[0]);
    let body: Value = json!({
        "status": status.as_str(),
        "model": info.map(|info| &info.name).or(other),
        "device": info.map(|info| &info.device),
    });
    if is_well {
        return Json(body).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], Json(body)).into_response()
}
