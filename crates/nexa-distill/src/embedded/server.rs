//! The embedded teacher as a service: an OpenAI-compatible chat API on loopback, in a thread of its own.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use nexa_core::lm::{ChatMessage, Role};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::answer::{self, Chance, count_tokens};
use super::batches::{self, Batches};
use super::conduct::{Conduct, Gate};
use super::faults::{Faults, Reception};
use super::stats::{Seen, Stats};
use super::{ANSWER_VERSION, MODEL};
use crate::{Error, Result, draw};

/// What an embedded teacher is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Config {
    /// Decides which questions meet which fault.
    pub seed: u64,
    /// How many do.
    pub faults: Faults,
    /// How every caller is treated.
    pub conduct: Conduct,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
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
    /// Starts a teacher on loopback.
    ///
    /// # Errors
    /// Fails when the port can be bound or no thread can be started.
    pub fn start(config: Config) -> Result<Self> {
        let failed =
            |e: std::io::Error| Error::Start { what: "the embedded teacher", message: e.to_string() };
        let listener = std::net::TcpListener::bind(("127.0.0.1", config.port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let gate = Gate::new(&config.conduct, Instant::now());
        let state = Arc::new(Teacher {
            config,
            requests: AtomicU64::new(0),
            met: Mutex::default(),
            gate: Mutex::new(gate),
            stats: Mutex::default(),
            batches: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/models", get(models))
            .route("/v1/files", post(batches::upload))
            .route("/v1/files/{id}/content", get(batches::content))
            .route("/v1/batches", get(batches::list).post(batches::create))
            .route("/v1/batches/{id}", get(batches::show))
            .route("/v1/batches/{id}/cancel", post(batches::cancel))
            .route("/stats", get(stats))
            .layer(DefaultBodyLimit::disable())
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

    /// What it has seen.
    pub fn seen(&self) -> Seen {
        self.state.stats().seen()
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

/// The state of the service.
#[derive(Debug)]
pub(super) struct Teacher {
    config: Config,
    requests: AtomicU64,
    /// The questions that came before: what fails at first is served from then on.
    met: Mutex<HashSet<u64>>,
    gate: Mutex<Option<Gate>>,
    stats: Mutex<Stats>,
    pub(super) batches: Mutex<Batches>,
}

/// The part of a chat request that the teacher reads.
#[derive(Deserialize)]
pub(super) struct Body {
    messages: Vec<ChatMessage>,
    #[serde(default, alias = "random_seed")]
    seed: u64,
    #[serde(default, alias = "max_completion_tokens")]
    max_tokens: Option<usize>,
}

async fn complete(State(teacher): State<Arc<Teacher>>, body: String) -> Response {
    teacher.requests.fetch_add(1, Ordering::SeqCst);
    teacher.stats().arrive();
    let admission = teacher
        .gate
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_mut()
        .map(|gate| gate.admit(Instant::now()));
    let reply = match admission.and_then(|admission| admission.wait) {
        Some(wait) => {
            teacher.stats().refuse();
            let seconds = wait.as_secs_f64().ceil().max(1.0).to_string();
            let reply = problem(StatusCode::TOO_MANY_REQUESTS, "too many requests, come back later");
            ([(header::RETRY_AFTER, seconds)], reply).into_response()
        }
        None => match serde_json::from_str::<Body>(&body) {
            Ok(body) => teacher.answer(&body).await,
            Err(e) => problem(StatusCode::BAD_REQUEST, &format!("the body is no chat request: {e}")),
        },
    };
    match admission.filter(|_| teacher.config.conduct.tells_limits) {
        Some(admission) => (admission.headers(), reply).into_response(),
        None => reply,
    }
}

async fn models() -> Json<Value> {
    Json(json!({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "nexa"}]}))
}

async fn stats(State(teacher): State<Arc<Teacher>>) -> Json<Seen> {
    Json(teacher.stats().seen())
}

impl Teacher {
    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Meets a call as its faults will have it.
    async fn answer(&self, body: &Body) -> Response {
        let reply = match self.compute_unseen(body) {
            Ok(reply) => reply,
            Err(message) => return problem(StatusCode::BAD_REQUEST, message),
        };
        let is_first = self.met.lock().unwrap_or_else(PoisonError::into_inner).insert(reply.id);
        let reception = if is_first { reply.reception } else { Reception::Served };
        if reception == Reception::RateLimited {
            self.stats().refuse();
            // It answers at once, so there is nothing to wait for.
            let reply = problem(StatusCode::TOO_MANY_REQUESTS, "too many requests, come back later");
            return ([(header::RETRY_AFTER, "0")], reply).into_response();
        }
        // An answer that is begun is computed, and paid for, whether or not it arrives or anybody still waits for it.
        if !matches!(reception, Reception::Failing | Reception::Hanging) {
            self.stats().answer(reply.id, reply.tokens);
        }
        tokio::time::sleep(Duration::from_millis(self.config.conduct.latency_ms)).await;
        match reception {
            Reception::Failing => {
                self.stats().fail();
                return problem(StatusCode::INTERNAL_SERVER_ERROR, "the teacher lost its thread");
            }
            Reception::Hanging => {
                self.stats().fail();
                return std::future::pending().await;
            }
            Reception::Served | Reception::RateLimited | Reception::Malformed | Reception::Disconnecting => {}
        }
        let text = reply.body.to_string();
        let half = text.chars().take(text.chars().count() / 2).collect::<String>();
        match reception {
            Reception::Malformed => ([(header::CONTENT_TYPE, "application/json")], half).into_response(),
            Reception::Disconnecting => {
                let end = async {
                    // What came before is sent while this waits.
                    tokio::task::yield_now().await;
                    Err(std::io::Error::other("the teacher hung up"))
                };
                let beginning = futures_util::stream::iter([Ok(half)]);
                axum::body::Body::from_stream(beginning.chain(futures_util::stream::once(end)))
                    .into_response()
            }
            _ => Json(reply.body).into_response(),
        }
    }

    /// Answers a request of a batch, which meets no faults on its way.
    pub(super) fn compute(&self, body: &Body) -> Result<Value, &'static str> {
        let reply = self.compute_unseen(body)?;
        self.stats().answer(reply.id, reply.tokens);
        Ok(reply.body)
    }

    fn compute_unseen(&self, body: &Body) -> Result<Computed, &'static str> {
        let prompt = body
            .messages
            .iter()
            .map(|m| format!("{}: {}", m.role.as_str(), m.content))
            .collect::<Vec<_>>()
            .join("\n");
        let question = body
            .messages
            .iter()
            .rfind(|message| message.role == Role::User)
            .ok_or("`messages` holds no turn of the user")?;
        let Config { seed, faults, .. } = self.config;
        let version = ANSWER_VERSION.to_string();
        let sample = body.seed.to_string();
        let words = [version.as_str(), prompt.as_str(), sample.as_str()];
        let draw = |purpose: &str| draw::unit(seed, &[&[purpose], words.as_slice()].concat());
        let manner = faults.manner(draw("manner"));
        let max_tokens = body.max_tokens.unwrap_or(usize::MAX);
        let reply = answer::reply(&question.content, manner, max_tokens, Chance { seed, words: &words });
        let (prompt_tokens, completion_tokens) = (count_tokens(&prompt), count_tokens(&reply.text));
        let id = draw::bits(seed, &words);
        let body = json!({
            "id": format!("chatcmpl-{id:016x}"),
            "object": "chat.completion",
            "created": 0,
            "model": reply.model,
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
        });
        let reception = faults.reception(draw("reception"));
        Ok(Computed { id, body, tokens: (prompt_tokens, completion_tokens), reception })
    }
}

/// An answer that is ready, and how the call that asked for it is met.
struct Computed {
    id: u64,
    body: Value,
    /// Of prompt and answer.
    tokens: (usize, usize),
    reception: Reception,
}

/// A status with a message, as the API words it.
pub(super) fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message}}))).into_response()
}
