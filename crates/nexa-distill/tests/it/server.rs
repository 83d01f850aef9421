//! A chat API that answers as a test wants it to, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use futures_util::StreamExt;
use serde_json::{Value, json};

/// One call: its place among all, how often its prompt came before, its body, and the key that came with it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) before: usize,
    pub(crate) prompt: String,
    pub(crate) body: Value,
    pub(crate) authorization: String,
}

/// What is answered: a status, headers and a body.
pub(crate) type Reply = (u16, Vec<(&'static str, String)>, Value);

/// A status that stands for no answer at all: the call stays open.
const NOTHING: u16 = 0;
/// A header that stands for a body which breaks off.
const BROKEN_OFF: &str = "x-broken-off";

pub(crate) struct Server {
    port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
    // Ends with the server, and the thread with it.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let seen = Arc::clone(&calls);
        let answer = Arc::new(answer);
        let handler = move |headers: HeaderMap, body: String| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move {
                let body: Value = serde_json::from_str(&body).unwrap();
                let prompt = body["messages"].as_array().unwrap().last().unwrap()["content"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                let authorization =
                    headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
                let call = {
                    let mut seen = seen.lock().unwrap();
                    let before = seen.iter().filter(|call| call.prompt == prompt).count();
                    seen.push(Call { before, prompt, body, authorization });
                    seen.last().unwrap().clone()
                };
                let (status, headers, body) = answer(&call);
                if status == NOTHING {
                    return std::future::pending().await;
                }
                let breaks_off = headers.iter().any(|(name, _)| *name == BROKEN_OFF);
                let headers: HeaderMap = headers
                    .into_iter()
                    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                    .collect();
                let status = StatusCode::from_u16(status).unwrap();
                if breaks_off {
                    let end = async {
                        // What came before is sent while this waits.
                        tokio::task::yield_now().await;
                        Err(std::io::Error::other("broken off"))
                    };
                    let beginning = futures_util::stream::iter([Ok("{")]);
                    let body = Body::from_stream(beginning.chain(futures_util::stream::once(end)));
                    return (status, body).into_response();
                }
                (status, headers, axum::Json(body)).into_response()
            }
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let router = Router::new().route("/v1/chat/completions", post(handler));
                tokio::select! { _ = axum::serve(listener, router) => {}, _ = stopped => {} }
            });
        });
        Self { port, calls, _stop: stop }
    }

    pub(crate) fn teacher(&self, model: &str) -> String {
        format!("http://127.0.0.1:{}/v1#{model}", self.port)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

/// A good answer that used so many tokens each way.
pub(crate) fn good(text: &str, tokens: u64) -> Reply {
    let body = json!({
        "model": "mock-1",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": tokens},
    });
    (200, Vec::new(), body)
}

/// No answer at all: the call stays open until its time is up.
pub(crate) fn nothing() -> Reply {
    (NOTHING, Vec::new(), Value::Null)
}

/// A status, and then a connection that breaks off.
pub(crate) fn broken_off(status: u16) -> Reply {
    (status, vec![(BROKEN_OFF, String::new())], Value::Null)
}

/// A failure with a message.
pub(crate) fn bad(status: u16, message: &str) -> Reply {
    (status, Vec::new(), json!({"error": {"message": message}}))
}
