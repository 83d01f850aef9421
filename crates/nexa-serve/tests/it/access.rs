//! Who is answered: keys, hosts, and pages of other origins.

use nexa_core::env::Secret;
use nexa_serve::{EngineConfig, ServerConfig};
use reqwest::{Method, StatusCode};

use crate::api::check_error;
use crate::fake::Fake;
use crate::life::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_has_a_key_may_ask() {
    let config = ServerConfig {
        api_keys: vec![Secret::new("first"), Secret::new("second")],
        ..ServerConfig::default()
    };
    let server = Server::with(Fake::saying("hi"), EngineConfig::default(), config).await;
    let check = async |name: &str, value: &str, status: u16| {
        let request = server.request(Method::GET, "/v1/models").header(name, value);
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{name}: {value}");
    };
    check("authorization", "Bearer first", 200).await;
    check("authorization", "bearer second", 200).await;
    check("x-api-key", "second", 200).await;
    check("authorization", "Bearer firs", 401).await;
    check("authorization", "Bearer ", 401).await;
    check("authorization", "Basic first", 401).await;
    check("x-api-key", "first ,second", 401).await;
    for path in ["/v1/models", "/metrics", "/model/info", "/nowhere"] {
        check_error(server.get(path).await, 401, None, Some("invalid_api_key")).await;
    }
    for path in ["/health", "/ready"] {
        assert_eq!(server.get(path).await.status(), StatusCode::OK);
    }
    let mistyped = server.request(Method::GET, "/v1/models").bearer_auth("sesame").send().await.unwrap();
    assert!(!mistyped.text().await.unwrap().contains("sesame"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_only_requests_for_this_machine_are_answered() {
    let open = Server::start(Fake::saying("hi")).await;
    let check = async |server: &Server, host: &str, status: u16| {
        for path in ["/health", "/v1/models"] {
            let request = server.request(Method::GET, path).header("host", host).bearer_auth("key");
            assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{host}: {path}");
        }
    };
    check(&open, "localhost:8000", 200).await;
    check(&open, "127.0.0.1", 200).await;
    check(&open, "rebound.example", 403).await;
    check(&open, "192.168.1.5:8000", 403).await;
    let refused = open.request(Method::GET, "/v1/models").header("host", "rebound.example").send().await;
    check_error(refused.unwrap(), 403, None, Some("foreign_host")).await;

    let config = ServerConfig { api_keys: vec![Secret::new("key")], ..ServerConfig::default() };
    let guarded = Server::with(Fake::saying("hi"), EngineConfig::default(), config).await;
    check(&guarded, "lab.example", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reply_carries_the_id_of_its_request() {
    let server = Server::start(Fake::saying("hi")).await;
    for path in ["/health", "/nowhere"] {
        let given = server.request(Method::GET, path).header("x-request-id", "abc-1").send().await.unwrap();
        assert_eq!(given.headers()["x-request-id"], "abc-1");
        let own = server.get(path).await;
        assert!(own.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
        assert!(!own.headers().contains_key("access-control-allow-origin"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_origins_read_replies_where_that_was_configured() {
    let config = |origins: &[&str]| ServerConfig {
        cors_origins: origins.iter().map(|origin| origin.parse().unwrap()).collect(),
        api_keys: vec![Secret::new("key")],
        ..ServerConfig::default()
    };
    let start = async |origins: &'static [&'static str]| {
        Server::with(Fake::saying("hi"), EngineConfig::default(), config(origins)).await
    };
    let allowed = async |server: &Server, origin: &str, key: &str| {
        let request = server.request(Method::GET, "/v1/models").header("origin", origin).bearer_auth(key);
        let reply = request.send().await.unwrap();
        let allowed = reply.headers().get("access-control-allow-origin");
        (reply.status().as_u16(), allowed.map(|origin| origin.to_str().unwrap().to_owned()))
    };
    const PAGE: &str = "https://lab.example";
    let some = start(&[PAGE]).await;
    assert_eq!(allowed(&some, PAGE, "key").await, (200, Some(PAGE.to_owned())));
    // The page can read why it was refused.
    assert_eq!(allowed(&some, PAGE, "wrong").await, (401, Some(PAGE.to_owned())));
    assert_eq!(allowed(&some, "https://other.example", "key").await, (200, None));
    let all = start(&["*"]).await;
    assert_eq!(
        allowed(&all, "https://other.example", "key").await.1.as_deref(),
        Some("https://other.example")
    );
    let none = start(&[]).await;
    assert_eq!(allowed(&none, PAGE, "key").await, (200, None));

    // Browsers ask beforehand, without a key.
    let ask = async |server: &Server, origin: &str| {
        server
            .request(Method::OPTIONS, "/v1/chat/completions")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization, content-type")
            .send()
            .await
            .unwrap()
    };
    let answer = ask(&some, PAGE).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()["access-control-allow-methods"], "GET, POST");
    assert_eq!(answer.headers()["access-control-allow-headers"], "authorization, content-type");
    assert!(
        !ask(&some, "https://other.example").await.headers().contains_key("access-control-allow-methods")
    );
    assert_eq!(ask(&none, PAGE).await.status(), StatusCode::UNAUTHORIZED);
}
