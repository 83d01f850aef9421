//! The chat over HTTP, with a stand-in for the inference server that does what its last message says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use nexa_core::env::Secret;
use nexa_core::lab::Lab;
use nexa_core::table::JsonLines;
use nexa_ui::{Chat, LeaderboardView, ServerAddress, Site};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::http::{Board, Server};
use crate::lab::{PROJECT, fabricate};

const EMPTY: Board = Board(|_| Ok(LeaderboardView::default()));
const KEY: &str = "sk-only-for-the-server";
/// Long enough for any machine; what is waited for comes at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// What happened at the stand-in.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A request, by its last message, with its headers.
    Asked(String, Vec<(String, String)>),
    /// The connection of a request was closed, or its answer is complete.
    Gone,
}

#[derive(Clone)]
struct Behind {
    seen: mpsc::Sender<Seen>,
    /// A piece of an answer is sent for each permit.
    pieces: Arc<Semaphore>,
}

/// Tells when it is dropped.
struct Guard(mpsc::Sender<Seen>);

impl Drop for Guard {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(Seen::Gone);
    }
}

/// An inference server that is not one.
struct StandIn {
    address: SocketAddr,
    seen: mpsc::Receiver<Seen>,
    pieces: Arc<Semaphore>,
    _runtime: tokio::runtime::Runtime,
}

impl StandIn {
    /// Starts one that tells of its model what is given; nothing, as other servers do, for `null`.
    fn start(info: Value) -> Self {
        Self::start_with(if info == Value::Null { StatusCode::NOT_FOUND } else { StatusCode::OK }, info)
    }

    fn start_with(status: StatusCode, info: Value) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, seen) = mpsc::channel();
        let pieces = Arc::new(Semaphore::new(0));
        let app = Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/health", get(async || Json(json!({"status": "ok"}))))
            .route(
                "/v1/models",
                get(async || Json(json!({"data": [{"id": "another", "max_model_len": 99}]}))),
            )
            .route("/model/info", get(async move || (status, Json(info))))
            .with_state(Behind { seen: sender, pieces: Arc::clone(&pieces) });
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, seen, pieces, _runtime: runtime }
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("something happens at the server")
    }

    fn asked(&self) -> Vec<(String, String)> {
        match self.next() {
            Seen::Asked(_, headers) => headers,
            Seen::Gone => panic!("nothing was asked"),
        }
    }
}

async fn complete(State(behind): State<Behind>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let message = body.pointer("/messages/0/content").and_then(Value::as_str).unwrap_or_default().to_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    behind.seen.send(Seen::Asked(message.clone(), headers.collect())).unwrap();
    let guard = Guard(behind.seen.clone());
    let refusal =
        json!({"error": {"message": "the queue is full", "type": "rate_limit_error", "code": "queue_full"}});
    match message.as_str() {
        "wait" => std::future::pending().await,
        "refuse" => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7"), ("set-cookie", "a=b")], Json(refusal))
                .into_response()
        }
        "markup" => ([(header::CONTENT_TYPE, "text/html")], "<script>alert(1)</script>").into_response(),
        _ => {
            let pieces = Arc::clone(&behind.pieces);
            let events = stream::iter(1..=3).then(move |number| {
                let pieces = Arc::clone(&pieces);
                let _held = &guard;
                async move {
                    pieces.acquire_owned().await.unwrap().forget();
                    Ok::<_, Infallible>(format!("data: {number}\n\n"))
                }
            });
            let events = events.chain(stream::iter([Ok("data: [DONE]\n\n".to_owned())]));
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
        }
    }
}

/// The dashboards before a stand-in.
struct Page {
    _folder: tempfile::TempDir,
    site: Server,
    server: StandIn,
    token: String,
}

impl Page {
    fn new() -> Self {
        Self::before(json!({
            "model_id": format!("{PROJECT}/problems_v1"), "format": "f32", "context_length": 512, "parameters": 1000,
        }))
    }

    fn before(info: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = fabricate(folder.path()).unwrap_or_else(|e| panic!("{e}"));
        let server = StandIn::start(info);
        let servers = vec![server.address.to_string().parse().unwrap()];
        let site = start(lab, Chat { servers, api_key: Some(Secret::new(KEY)) });
        let page = site.get("/chat").1;
        let start = page.find("data-token=\"").unwrap() + "data-token=\"".len();
        let token = page[start..start + 32].to_owned();
        Self { _folder: folder, site, server, token }
    }

    fn path(&self) -> String {
        format!("/chat/completions?server={}", self.server.address)
    }

    fn ask(&self, message: &str) -> crate::http::Answer {
        self.site.post_json(&self.path(), &[("X-Nexa-Token", &self.token)], &conversation(message))
    }
}

fn start(lab: Lab, chat: Chat) -> Server {
    Server::start_site(Site { lab, tables: Arc::new(JsonLines), leaderboard: Arc::new(EMPTY), chat })
}

fn conversation(message: &str) -> String {
    json!({"messages": [{"role": "user", "content": message}], "stream": true}).to_string()
}

#[test]
fn an_answer_comes_piece_by_piece_as_the_server_writes_it() {
    let page = Page::new();
    page.server.pieces.add_permits(1);
    let mut answer = page.ask("stream");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.head.contains("content-type: text/event-stream"), "{}", answer.head);
    // The next piece exists only once the one before it was read here: nothing on the way holds any back.
    for number in 1..=3 {
        assert_eq!(answer.line(), Some(format!("data: {number}")));
        page.server.pieces.add_permits(1);
    }
    assert_eq!(answer.line().as_deref(), Some("data: [DONE]"));
    assert_eq!(answer.line(), None);
}

#[test]
fn the_server_gets_the_key_and_nothing_else_of_the_browser() {
    let page = Page::new();
    page.server.pieces.add_permits(3);
    let headers = [
        ("X-Nexa-Token", page.token.as_str()),
        ("Cookie", "a=b"),
        ("Authorization", "Bearer of-the-browser"),
    ];
    let answer = page.site.post_json(&page.path(), &headers, &conversation("stream"));
    assert!(!answer.head.contains(KEY) && !answer.text().contains(KEY));
    let seen = page.server.asked();
    let get = |name: &str| seen.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(get("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(get("host"), Some(page.server.address.to_string().as_str()));
    assert_eq!(get("content-type"), Some("application/json"));
    assert_eq!((get("cookie"), get("x-nexa-token"), get("content-length").is_some()), (None, None, true));
    let model = format!("/chat/model?server={}", page.server.address);
    for path in ["/chat", "/chat.json", &model] {
        assert!(!page.site.get(path).1.contains(KEY), "{path} tells the key");
    }
}

#[test]
fn a_browser_that_goes_takes_its_request_along() {
    let page = Page::new();
    page.server.pieces.add_permits(1);
    let mut answer = page.ask("stream");
    page.server.asked();
    assert_eq!(answer.line().as_deref(), Some("data: 1"));
    drop(answer);
    assert_eq!(page.server.next(), Seen::Gone, "in the middle of an answer");

    let connection =
        page.site.begin_json(&page.path(), &[("X-Nexa-Token", &page.token)], &conversation("wait"));
    page.server.asked();
    drop(connection);
    assert_eq!(page.server.next(), Seen::Gone, "before there is an answer");
}

#[test]
fn a_stop_of_the_dashboards_ends_open_answers() {
    let page = Page::new();
    page.server.pieces.add_permits(1);
    let mut answer = page.ask("stream");
    page.server.asked();
    assert_eq!(answer.line().as_deref(), Some("data: 1"));
    page.site.stop().unwrap();
    assert_eq!(answer.line(), None);
    assert_eq!(page.server.next(), Seen::Gone);
}

#[test]
fn what_the_server_refuses_is_handed_on_as_it_is() {
    let page = Page::new();
    let answer = page.ask("refuse");
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("retry-after: 7") && !answer.head.contains("set-cookie"), "{}", answer.head);
    let body: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(body["error"]["message"], "the queue is full");
    let answer = page.ask("markup");
    assert!(answer.head.contains("content-type: text/plain"), "a browser would show it: {}", answer.head);
}

#[test]
fn only_pages_of_this_process_may_ask() {
    let page = Page::new();
    let check = |headers: &[(&str, &str)], expected: u16| {
        let answer = page.site.post_json(&page.path(), headers, &conversation("refuse"));
        assert_eq!(answer.status, expected, "{headers:?}");
    };
    let token = ("X-Nexa-Token", page.token.as_str());
    check(&[], 403);
    check(&[("X-Nexa-Token", "0123")], 403);
    check(&[token, ("Origin", "http://evil.example")], 403);
    check(&[token, ("Sec-Fetch-Site", "cross-site")], 403);
    check(&[token, ("Host", "rebound.example")], 403);
    assert!(page.server.seen.try_recv().is_err(), "the server was asked");
    check(&[token], 429);
    assert!(matches!(page.server.next(), Seen::Asked(..)));
}

#[test]
fn no_server_is_asked_that_the_user_did_not_name() {
    let page = Page::new();
    let other = StandIn::start(Value::Null);
    let query = format!("?server={}", other.address);
    for path in ["/chat", "/chat.json", "/chat/model"] {
        let (status, body) = page.site.get(&format!("{path}{query}"));
        assert!(status == 404 && body.contains("--server http://"), "{path}: {status} {body}");
    }
    let headers = [("X-Nexa-Token", page.token.as_str())];
    let answer = page.site.post_json(&format!("/chat/completions{query}"), &headers, &conversation("stream"));
    assert_eq!(answer.status, 404);
    assert!(other.seen.try_recv().is_err(), "the other server was asked");
}

#[test]
fn a_conversation_that_is_too_long_is_refused_here() {
    let page = Page::new();
    let body = format!("\"{}\"", "a".repeat(2 << 20));
    let answer = page.site.post_json(&page.path(), &[("X-Nexa-Token", &page.token)], &body);
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("begin a new conversation"));
    assert!(page.server.seen.try_recv().is_err(), "the server was asked");
}

#[test]
fn a_model_is_linked_where_the_lab_knows_it() {
    let check = |info: Value, name: &str, url: Value| {
        let page = Page::before(info);
        let served = page.site.json("/chat/model");
        assert_eq!((&served["status"], &served["model"]["name"]), (&"ok".into(), &name.into()), "{served}");
        assert_eq!(served["model"]["url"], url, "{served}");
    };
    let known = format!("{PROJECT}/problems_v1");
    check(json!({"model_id": known}), &known, format!("/data/{known}").into());
    check(json!({"model_id": "prod", "manifest": known}), "prod", format!("/data/{known}").into());
    check(
        json!({"model_id": format!("{PROJECT}/student_v99")}),
        &format!("{PROJECT}/student_v99"),
        Value::Null,
    );
    check(Value::Null, "another", Value::Null);
}

#[test]
fn a_key_that_the_server_does_not_take_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
    let refusal = json!({"error": {"message": "missing or wrong API key"}});
    let server = StandIn::start_with(StatusCode::UNAUTHORIZED, refusal);
    let servers = vec![server.address.to_string().parse().unwrap()];
    let served = start(lab, Chat { servers, api_key: None }).json("/chat/model");
    assert_eq!((&served["status"], &served["error"]), (&"locked".into(), &"missing or wrong API key".into()));
    assert!(served["hint"].as_str().unwrap().contains("NEXA_API_KEY"), "{served}");
}

#[test]
fn a_server_that_is_not_there_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
    // A port that was free a moment ago and is closed again.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server: ServerAddress = address.to_string().parse().unwrap();
    let site = start(lab, Chat { servers: vec![server], api_key: None });
    let (status, body) = site.get("/chat/model");
    assert_eq!(status, 502, "{body}");
    for text in [address.to_string().as_str(), "connection refused", "nexa inference"] {
        assert!(body.contains(text), "no `{text}` in {body}");
    }
    // The page itself needs no server.
    assert_eq!(site.get("/chat").0, 200);
}
