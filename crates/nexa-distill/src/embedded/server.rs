//! The embedded teacher as a service: an OpenAI-compatible chat API on loopback, in a thread of its own.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use nexa_core::lm::{ChatMessage, Role};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::answer::{self, Chance, count_tokens};
use super::faults::{Faults, Reception};
use super::{ANSWER_VERSION, MODEL};
use crate::{Error, Result, draw};

/// What an embedded teacher is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Config {
    /// Decides which questions meet which fault.
    pub seed: u64,
    /// How many do.
    pub faults: Faults,
}

/// A running embedded teacher; it stops when this is dropped.
#[derive(Debug)]
pub struct EmbeddedTeacher {
    address: SocketAddr,
    state: Arc<Teacher>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedTeacher {
    /// Starts a teacher on a free port of loopback.
    ///
    /// # Errors
    /// Fails when no port can be bound or no thread can be started.
    pub fn start(config: Config) -> Result<Self> {
        let failed =
            |e: std::io::Error| Error::Start { what: "the embedded teacher", message: e.to_string() };
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let state = Arc::new(Teacher { config, requests: AtomicU64::new(0), met: Mutex::default() });
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/models", get(models))
            .with_state(Arc::clone(&state));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("embedded-teacher".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                    tokio::select! {
                        // Either ends the service: a listener that fails, or the owner that goes.
                        _ = axum::serve(listener, router) => {}
                        _ = stopped => {}
                    }
                });
            })
            .map_err(failed)?;
        Ok(Self { address, state, stop: Some(stop), thread: Some(thread) })
    }

    /// Where the API is, as a client wants it: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How many calls came in, failed ones included.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl Drop for EmbeddedTeacher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to stop.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Teacher {
    config: Config,
    requests: AtomicU64,
    /// The questions that came before: what fails at first is served from then on.
    met: Mutex<HashSet<u64>>,
}

/// The part of a chat request that the teacher reads.
#[derive(Deserialize)]
struct Body {
    messages: Vec<ChatMessage>,
    #[serde(default)]
    seed: u64,
    #[serde(default, alias = "max_completion_tokens")]
    max_tokens: Option<usize>,
}

async fn complete(State(teacher): State<Arc<Teacher>>, body: String) -> Response {
    teacher.requests.fetch_add(1, Ordering::SeqCst);
    match serde_json::from_str::<Body>(&body) {
        Ok(body) => teacher.answer(&body),
        Err(e) => problem(StatusCode::BAD_REQUEST, &format!("the body is no chat request: {e}")),
    }
}

async fn models() -> Json<Value> {
    Json(json!({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "nexa"}]}))
}

impl Teacher {
    fn answer(&self, body: &Body) -> Response {
        let prompt = body
            .messages
            .iter()
            .map(|m| format!("{}: {}", m.role.as_str(), m.content))
            .collect::<Vec<_>>()
            .join("\n");
        let Some(question) = body.messages.iter().rfind(|message| message.role == Role::User) else {
            return problem(StatusCode::BAD_REQUEST, "`messages` holds no turn of the user");
        };
        let Config { seed, faults } = self.config;
        let version = ANSWER_VERSION.to_string();
        let sample = body.seed.to_string();
        let words = [version.as_str(), prompt.as_str(), sample.as_str()];
        let draw = |purpose: &str| draw::unit(seed, &[&[purpose], words.as_slice()].concat());
        let is_first =
            self.met.lock().unwrap_or_else(PoisonError::into_inner).insert(draw::bits(seed, &words));
        match faults.reception(draw("reception")) {
            // It answers at once, so there is nothing to wait for.
            Reception::RateLimited if is_first => {
                let reply = problem(StatusCode::TOO_MANY_REQUESTS, "too many requests, come back later");
                return ([(header::RETRY_AFTER, "0")], reply).into_response();
            }
            Reception::Failing if is_first => {
                return problem(StatusCode::INTERNAL_SERVER_ERROR, "the teacher lost its thread");
            }
            Reception::Served | Reception::RateLimited | Reception::Failing => {}
        }
        let manner = faults.manner(draw("manner"));
        let max_tokens = body.max_tokens.unwrap_or(usize::MAX);
        let reply = answer::reply(&question.content, manner, max_tokens, Chance { seed, words: &words });
        let (prompt_tokens, completion_tokens) = (count_tokens(&prompt), count_tokens(&reply.text));
        Json(json!({
            "id": format!("chatcmpl-{:016x}", draw::bits(seed, &words)),
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": reply.text},
                "finish_reason": reply.finish_reason.as_str(),
            }],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }))
        .into_response()
    }
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message}}))).into_response()
}
