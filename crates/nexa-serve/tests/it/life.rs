//! A server on loopback and its life: ready, draining, ended.

use std::net::SocketAddr;
use std::time::Duration;

use nexa_core::env::Secret;
use nexa_core::event::Cancel;
use nexa_core::{Diagnose, ExitCode};
use nexa_serve::{Engine, EngineConfig, Error, Life, Loaded, ServerConfig, run, serve};
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
        Self::of(Loaded::from(engine), config).await
    }

    /// A server whose model is warm.
    pub(crate) async fn of(loaded: Loaded, config: ServerConfig) -> Self {
        let engine = loaded.engine.clone();
        let server = Self::loading(engine, move || Ok(loaded), config).await;
        server.engine.ready().await.unwrap();
        while server.get("/ready").await.status() != StatusCode::OK {}
        server
    }

    /// A server that listens, and loads its model as it is told.
    pub(crate) async fn loading(
        engine: Engine,
        load: impl FnOnce() -> Result<Loaded, Error> + Send + 'static,
        config: ServerConfig,
    ) -> Self {
        let config = ServerConfig { port: 0, ..config };
        let (shutdown, asked) = oneshot::channel();
        let (bound, address) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut bound = Some(bound);
            let tell = |life| {
                if let Life::Listening(address) = life {
                    bound.take().unwrap().send(address).unwrap();
                }
            };
            run(load, &config, tell, async { asked.await.unwrap() }).await
        });
        // The client wants a TLS provider though it never uses TLS here; another test may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().unwrap();
        Self { address: address.await.unwrap(), engine, client, shutdown: Some(shutdown), task }
    }

    /// A server that loads its model for as long as the sender lives.
    pub(crate) async fn held() -> (Self, std::sync::mpsc::Sender<()>) {
        let (open, opened) = std::sync::mpsc::channel::<()>();
        let engine = Engine::start(Box::new(Fake::saying("hi")), EngineConfig::default()).unwrap();
        let loaded = Loaded::from(engine.clone());
        let load = move || {
            let _ = opened.recv();
            Ok(loaded)
        };
        (Self::loading(engine, load, ServerConfig::default()).await, open)
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
    while server.get("/ready").await.status() == StatusCode::OK {}
    let ready = server.get("/ready").await;
    assert!(ready.headers().contains_key("retry-after"));
    assert_eq!(ready.json::<Value>().await.unwrap()["status"], "draining");
    // It still lives: who is being answered is not cut off.
    let health = server.get("/health").await;
    assert_eq!(health.status(), StatusCode::OK);
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
async fn while_the_model_is_loaded_the_server_lives_and_says_so() {
    let (server, open) = Server::held().await;
    for path in ["/health", "/ready"] {
        let early = server.get(path).await;
        assert_eq!(early.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(early.headers().contains_key("retry-after"));
        let expected = json!({"status": "loading", "model": null, "device": null});
        assert_eq!(early.json::<Value>().await.unwrap(), expected);
    }
    for path in ["/v1/models", "/metrics", "/model/info"] {
        let early = server.get(path).await;
        assert_eq!(early.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(early.headers().contains_key("retry-after"));
        assert_eq!(early.json::<Value>().await.unwrap()["error"]["code"], "loading");
    }
    let early = server.post("/v1/chat/completions", chat(json!({}))).await;
    assert_eq!(early.json::<Value>().await.unwrap()["error"]["code"], "loading");
    assert_eq!(server.get("/nowhere").await.status(), StatusCode::NOT_FOUND);
    drop(open);
    while server.get("/ready").await.status() != StatusCode::OK {}
    assert_eq!(server.get("/health").await.status(), StatusCode::OK);
    assert_eq!(server.post("/v1/chat/completions", chat(json!({}))).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warming_up_is_alive_and_not_ready() {
    let (model, gate) = Fake::saying("hi").gated_from_the_start();
    let engine = Engine::start(Box::new(model), EngineConfig::default()).unwrap();
    let loaded = Loaded::from(engine.clone());
    let server = Server::loading(engine, move || Ok(loaded), ServerConfig::default()).await;
    while server.get("/health").await.status() != StatusCode::OK {}
    let ready = server.get("/ready").await;
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json::<Value>().await.unwrap()["status"], "warming");
    drop(gate);
    while server.get("/ready").await.status() != StatusCode::OK {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_cannot_be_loaded_ends_the_server() {
    let engine = Engine::start(Box::new(Fake::saying("hi")), EngineConfig::default()).unwrap();
    let load = || Err(Error::EngineConfig { key: "max_batch" });
    let server = Server::loading(engine.clone(), load, ServerConfig::default()).await;
    assert_eq!(server.ended().await.unwrap_err().exit_code(), ExitCode::Config);
    let server = Server::loading(engine, || panic!("no such file"), ServerConfig::default()).await;
    assert!(matches!(server.ended().await, Err(Error::LoadPanicked)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_can_be_stopped_while_its_model_is_loaded() {
    let (mut server, open) = Server::held().await;
    server.ask_to_stop();
    server.ended().await.unwrap();
    drop(open);
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
        let load = move || Ok::<_, Error>(Loaded::from(engine));
        let error = serve(load, &config, |_| panic!("it cannot listen"), &Cancel::default()).unwrap_err();
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
    let load = move || Ok::<_, Error>(Loaded::from(engine));
    let tell = |life| {
        if let Life::Ready(_) = life {
            cancel.cancel();
        }
    };
    serve(load, &config, tell, &cancel).unwrap();
    assert!(cancel.is_cancelled());
}
