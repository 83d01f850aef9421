//! A server on loopback and its life: ready, draining, ended.

use std::net::SocketAddr;
use std::time::Duration;

use nexa_core::env::Secret;
use nexa_core::event::Cancel;
use nexa_core::{Diagnose, ExitCode};
use nexa_serve::{Engine, EngineConfig, Error, ServerConfig, run, serve};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake::Fake;

/// A running server and a client for it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    client: Client,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
}

impl Server {
    pub(crate) async fn start(model: Fake) -> Self {
        Self::with(model, EngineConfig::default(), ServerConfig::default()).await
    }

    pub(crate) async fn with(model: Fake, engine: EngineConfig, config: ServerConfig) -> Self {
        let engine = Engine::start(Box::new(model), engine).unwrap();
        let config = ServerConfig { port: 0, ..config };
        let (shutdown, asked) = oneshot::channel();
        let (ready, address) = oneshot::channel();
        let task = tokio::spawn({
            let engine = engine.clone();
            async move {
                let on_ready = |address| ready.send(address).unwrap();
                run(engine, &config, on_ready, async { asked.await.unwrap() }).await
            }
        });
        // The client wants a TLS provider though it never uses TLS here; another test may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().unwrap();
        Self { address: address.await.unwrap(), engine, client, shutdown: Some(shutdown), task }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        self.request(Method::POST, path).json(&body).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await.text().await.unwrap()
    }

    pub(crate) fn ask_to_stop(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn ended(self) -> Result<(), Error> {
        self.task.await.unwrap()
    }
}

/// A chat of one turn.
pub(crate) fn chat(more: Value) -> Value {
    let mut body =
        json!({"model": "fake", "messages": [{"role": "user", "content": "hi"}], "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_ends_running_answers_and_refuses_new_ones() {
    let (model, gate) = Fake::saying("slow").gated();
    let mut server = Server::with(model, EngineConfig::default(), ServerConfig::default()).await;
    let health = server.get("/health").await;
    assert_eq!(health.status(), StatusCode::OK);
    let expected = json!({"status": "ok", "model": "fake", "device": "cpu"});
    assert_eq!(health.json::<Value>().await.unwrap(), expected);

    let running = server.post("/v1/chat/completions", chat(json!({"stream": true}))).await;
    assert_eq!(running.status(), StatusCode::OK);
    server.ask_to_stop();
    while server.get("/health").await.status() == StatusCode::OK {}
    let health = server.get("/health").await;
    assert_eq!(health.json::<Value>().await.unwrap()["status"], "draining");
    let refused = server.post("/v1/chat/completions", chat(json!({}))).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], "shutting_down");

    drop(gate);
    let text = running.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    server.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlasts_the_drain_is_cut_off_with_an_error() {
    let model = Fake::endless().with_context_length(usize::MAX);
    let config = ServerConfig { drain_timeout: Duration::ZERO, ..ServerConfig::default() };
    let mut server = Server::with(model, EngineConfig::default(), config).await;
    let mut running = server.post("/v1/chat/completions", chat(json!({"stream": true}))).await;
    running.chunk().await.unwrap().expect("the stream has begun");
    server.ask_to_stop();
    let text = running.text().await.unwrap();
    let last = text.trim_end().rsplit("data: ").next().unwrap();
    let error: Value = serde_json::from_str(last).unwrap();
    assert_eq!(error["error"]["code"], "shutting_down");
    server.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_panics_ends_the_server() {
    let server = Server::start(Fake::endless().before_step(|_| panic!("gone"))).await;
    let failed = server.post("/v1/chat/completions", chat(json!({}))).await;
    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(failed.json::<Value>().await.unwrap()["error"]["code"], "model_failed");
    let error = server.ended().await.unwrap_err();
    assert_eq!(error.to_string(), "the engine of model `fake` has stopped: the model panicked: gone");
    assert_eq!(error.exit_code(), ExitCode::Unavailable);
}

#[test]
fn an_address_that_cannot_be_had_is_explained() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let check = |host: &str, port, message: &str, hint: &str, code| {
        let engine = Engine::start(Box::new(Fake::endless()), EngineConfig::default()).unwrap();
        let config = ServerConfig { host: host.to_owned(), port, ..ServerConfig::default() };
        let error = serve(engine, &config, |_| panic!("it cannot be ready"), &Cancel::default()).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        assert_eq!(error.exit_code(), code);
    };
    let message = format!("listen on 127.0.0.1:{port}: ");
    check("127.0.0.1", port, &message, &format!("another process uses port {port}"), ExitCode::Unavailable);
    let message = "listen on `0.0.0.0` without an API key";
    check("0.0.0.0", 0, message, "set `NEXA_API_KEY`", ExitCode::Usage);
    check("[::]", 0, "listen on `[::]` without an API key", "set `NEXA_API_KEY`", ExitCode::Usage);
}

#[test]
fn with_a_key_every_address_may_be_used_until_the_flag_is_set() {
    let engine = Engine::start(Box::new(Fake::endless()), EngineConfig::default()).unwrap();
    let config = ServerConfig {
        host: "0.0.0.0".to_owned(),
        port: 0,
        api_keys: vec![Secret::new("key")],
        ..ServerConfig::default()
    };
    let cancel = Cancel::default();
    serve(engine, &config, |_| cancel.cancel(), &cancel).unwrap();
    assert!(cancel.is_cancelled());
}
