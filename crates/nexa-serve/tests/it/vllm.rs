//! The server before an engine of another process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nexa_core::env::Secret;
use nexa_serve::{About, Error, Life, ServerConfig, VllmConfig, run_vllm};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::check_error;

/// A server before the stand-in for vLLM.
struct Server {
    address: SocketAddr,
    client: Client,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
    folder: tempfile::TempDir,
}

impl Server {
    fn vllm(folder: &Path, arguments: &[&str]) -> VllmConfig {
        VllmConfig {
            command: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/vllm_stand_in.py")),
            model: folder.to_owned(),
            name: "tiny".to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            max_in_flight: 2,
        }
    }

    /// A server that answers.
    async fn start(config: ServerConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vllm = Self::vllm(folder.path(), &["--seed", "7"]);
        let config = ServerConfig { port: 0, ..config };
        let (shutdown, asked) = oneshot::channel();
        let (ready, address) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut ready = Some(ready);
            let tell = |life| {
                if let Life::Ready(address) = life {
                    ready.take().unwrap().send(address).unwrap();
                }
            };
            run_vllm(vllm, About::default(), &config, tell, async { asked.await.unwrap() }).await
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().unwrap();
        Self { address: address.await.unwrap(), client, shutdown: Some(shutdown), task, folder }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    async fn ask(&self, body: Value) -> Response {
        self.request(Method::POST, "/v1/chat/completions").json(&body).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// Waits until the stand-in has written a line.
    async fn recorded(&self, line: &str) {
        let has = || {
            let text = std::fs::read_to_string(self.folder.path().join("record")).unwrap_or_default();
            text.lines().any(|found| found == line)
        };
        let waiting = async {
            while !has() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the line is written");
    }

    async fn stop(mut self) -> Result<(), Error> {
        self.shutdown.take().unwrap().send(()).unwrap();
        self.task.await.unwrap()
    }
}

fn endless() -> Value {
    json!({"messages": [], "stream": true, "max_tokens": 1000})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_passed_on_behind_our_keys_and_limits() {
    let config = ServerConfig {
        api_keys: vec![Secret::new("key")],
        aliases: vec!["other".to_owned()],
        max_body_bytes: 1000,
        ..ServerConfig::default()
    };
    let server = Server::start(config).await;
    server.recorded("started tiny other").await;
    check_error(server.get("/v1/models").await, 401, None, Some("invalid_api_key")).await;
    assert_eq!(server.get("/health").await.json::<Value>().await.unwrap()["model"], "tiny");

    let with_key = |method, path: &str| server.request(method, path).bearer_auth("key");
    let ask = async |path: &str, body: Value| with_key(Method::POST, path).json(&body).send().await.unwrap();
    // The name of the model is filled in, and what vLLM was started with reaches it.
    let answer: Value = ask("/v1/chat/completions", json!({"messages": []})).await.json().await.unwrap();
    assert_eq!(answer, json!({"model": "tiny", "seed": 7, "path": "/v1/chat/completions"}));
    let answer: Value = ask("/v1/completions", json!({"model": "other"})).await.json().await.unwrap();
    assert_eq!(answer["model"], "other");
    assert_eq!(ask("/v1/completions", json!({"model": "nobody"})).await.status(), StatusCode::NOT_FOUND);
    let streamed = ask("/v1/chat/completions", json!({"stream": true})).await;
    assert_eq!(streamed.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(streamed.text().await.unwrap(), "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: [DONE]\n\n");

    let long = ask("/v1/completions", json!({"prompt": "x".repeat(2000)})).await;
    check_error(long, 413, None, Some("request_too_large")).await;
    let no_json = with_key(Method::POST, "/tokenize").body("{}").send().await.unwrap();
    check_error(no_json, 415, None, Some("unsupported_media_type")).await;

    let models: Value = with_key(Method::GET, "/v1/models").send().await.unwrap().json().await.unwrap();
    assert_eq!(models["data"][1]["id"], "other");
    let metrics = with_key(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("nexa_num_requests_running{model_name=\"m\"} 0"), "{metrics}");
    let info: Value = with_key(Method::GET, "/v1/model/info").send().await.unwrap().json().await.unwrap();
    assert_eq!((&info["model_id"], &info["engine"]), (&json!("tiny"), &json!("vllm")));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_takes_the_request_along_and_too_many_are_refused() {
    let server = Server::start(ServerConfig::default()).await;
    let mut first = server.ask(endless()).await;
    let _second = server.ask(endless()).await;
    assert!(first.chunk().await.unwrap().is_some());
    let refused = server.ask(json!({"messages": []})).await;
    assert!(refused.headers().contains_key("retry-after"));
    check_error(refused, 429, None, Some("queue_full")).await;
    drop(first);
    server.recorded("cancelled").await;
    // Its place is free again.
    let answer = async { while server.ask(json!({"messages": []})).await.status() != StatusCode::OK {} };
    tokio::time::timeout(Duration::from_secs(30), answer).await.expect("there is room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_cancelled() {
    let timeout = Duration::from_millis(300);
    let server =
        Server::start(ServerConfig { request_timeout: Some(timeout), ..ServerConfig::default() }).await;
    let text = server.ask(endless()).await.text().await.unwrap();
    assert!(text.starts_with("data: 0\n\n") && text.contains("request_timeout"), "{text}");
    server.recorded("cancelled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_answer_at_the_deadline_is_not_taken_for_a_whole_one() {
    let timeout = Duration::from_millis(300);
    let server =
        Server::start(ServerConfig { request_timeout: Some(timeout), ..ServerConfig::default() }).await;
    let reply = server.ask(json!({"messages": [], "max_tokens": 2000})).await;
    assert_eq!(reply.status(), StatusCode::OK);
    let read =
        tokio::time::timeout(Duration::from_secs(30), reply.text()).await.expect("the connection ends");
    assert!(read.is_err(), "{read:?}");
    server.recorded("cancelled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_told_one_by_one_too() {
    let config = ServerConfig { aliases: vec!["org/other".to_owned()], ..ServerConfig::default() };
    let server = Server::start(config).await;
    for name in ["tiny", "org/other"] {
        let model: Value = server.get(&format!("/v1/models/{name}")).await.json().await.unwrap();
        assert_eq!(model, json!({"id": name, "object": "model"}));
    }
    check_error(server.get("/v1/models/gpt-9").await, 404, Some("model"), Some("model_not_found")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_tell_whether_the_program_is_well_now() {
    let server = Server::start(ServerConfig::default()).await;
    let unwell = server.folder.path().join("unwell");
    for is_well in [true, false, true] {
        if is_well {
            let _ = std::fs::remove_file(&unwell);
        } else {
            std::fs::write(&unwell, "").unwrap();
        }
        for path in ["/health", "/ready"] {
            let told = server.get(path).await;
            assert_eq!(told.status() == StatusCode::OK, is_well, "{path}");
            let status = if is_well { "ok" } else { "stopped" };
            assert_eq!(told.json::<Value>().await.unwrap()["status"], status, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_answers_end_before_the_process_does() {
    let mut server = Server::start(ServerConfig::default()).await;
    let running = server.ask(json!({"stream": true})).await;
    server.shutdown.take().unwrap().send(()).unwrap();
    assert!(running.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    server.recorded("complete").await;
    server.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_not_there_or_ends_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |vllm: VllmConfig| {
        let config = ServerConfig { port: 0, ..ServerConfig::default() };
        run_vllm(vllm, About::default(), &config, |_| {}, std::future::pending()).await.unwrap_err()
    };
    let missing = VllmConfig { command: PathBuf::from("no-such-vllm"), ..Server::vllm(folder.path(), &[]) };
    let error = run(missing).await;
    assert!(error.to_string().starts_with("run no-such-vllm: "), "{error}");
    assert!(nexa_core::Diagnose::hint(&error).unwrap().contains("--vllm PATH"));
    let error = run(Server::vllm(folder.path(), &["--fail"])).await;
    assert!(error.to_string().contains("has ended with exit status: 3"), "{error}");
}
