//! Adapters that are served beside the model.

use nexa_serve::{EngineConfig, ServerConfig};
use serde_json::{Value, json};

use crate::api::check_error;
use crate::fake::Fake;
use crate::life::{Server, chat};

const LOAD: &str = "/v1/load_lora_adapter";
const UNLOAD: &str = "/v1/unload_lora_adapter";

async fn check(response: reqwest::Response, status: u16, param: &str, code: &str) {
    check_error(response, status, Some(param), Some(code)).await;
}

/// A server that loads adapters for requests.
async fn server(model: Fake) -> Server {
    let config = ServerConfig { lora_folder: Some("".into()), ..ServerConfig::default() };
    Server::with(model, EngineConfig::default(), config).await
}

async fn load(server: &Server, name: &str, path: &str) -> u64 {
    let reply: Value =
        server.post(LOAD, json!({"lora_name": name, "lora_path": path})).await.json().await.unwrap();
    assert_eq!(reply["lora_name"], name, "{reply}");
    reply["lora_generation"].as_u64().unwrap()
}

async fn answer(server: &Server, more: Value) -> Value {
    let mut body = chat(json!({"seed": 3, "max_tokens": 12}));
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/v1/chat/completions", body).await.json().await.unwrap()
}

fn text(reply: &Value) -> &str {
    reply["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{reply}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_is_a_model_from_its_loading_to_its_unloading() {
    let server = server(Fake::mixing()).await;
    let plain = answer(&server, json!({})).await;
    let first = load(&server, "tuned", "7").await;
    let tuned = answer(&server, json!({"model": "tuned", "lora_generation": first})).await;
    assert_ne!(text(&tuned), text(&plain));
    assert_eq!(tuned["model"], "tuned");
    assert_eq!(tuned["system_fingerprint"], format!("fp_0123456789ab+tuned#{first}"));
    assert_eq!(text(&answer(&server, json!({"model": "fake"})).await), text(&plain));

    let listed: Value = server.get("/v1/models").await.json().await.unwrap();
    let entry = &listed["data"][1];
    assert_eq!(
        (&entry["id"], &entry["parent"], &entry["lora_generation"]),
        (&json!("tuned"), &json!("fake"), &json!(first))
    );
    let alone: Value = server.get("/v1/models/tuned").await.json().await.unwrap();
    assert_eq!(&alone, entry);

    // Vectors are those of the model alone, which is said.
    let embedded = server.post("/v1/embeddings", json!({"model": "tuned", "input": "x"})).await;
    check(embedded, 400, "model", "invalid_value").await;

    let second = load(&server, "tuned", "8").await;
    assert!(second > first);
    assert_ne!(text(&answer(&server, json!({"model": "tuned"})).await), text(&tuned));
    let path = "/v1/chat/completions";
    let stale = json!({"model": "tuned", "lora_generation": first});
    let (conflict, generation) = ("lora_generation_mismatch", "lora_generation");
    check(server.post(path, chat(stale)).await, 409, generation, conflict).await;
    let stale = json!({"lora_name": "tuned", "lora_generation": first});
    check(server.post(UNLOAD, stale).await, 409, generation, conflict).await;
    let gone: Value = server.post(UNLOAD, json!({"lora_name": "tuned"})).await.json().await.unwrap();
    assert_eq!(gone["lora_generation"], second);
    check(server.post(path, chat(json!({"model": "tuned"}))).await, 404, "model", "model_not_found").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_keeps_the_adapter_that_it_began_with() {
    let (model, open) = Fake::mixing().gated();
    let server = server(model).await;
    load(&server, "tuned", "7").await;
    let asked = answer(&server, json!({"model": "tuned"}));
    let unloaded = async {
        while server.metrics().await.contains("nexa_num_requests_running{model_name=\"fake\"} 0") {
            tokio::task::yield_now().await;
        }
        let reply = server.post(UNLOAD, json!({"lora_name": "tuned"})).await;
        assert_eq!(reply.status(), 200);
        drop(open);
    };
    let (kept, ()) = tokio::join!(asked, unloaded);
    load(&server, "tuned", "7").await;
    assert_eq!(text(&answer(&server, json!({"model": "tuned"})).await), text(&kept));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_adapter_or_lies_elsewhere_is_refused() {
    let loads = server(Fake::mixing()).await;
    for path in ["/etc", "../7", "a/../../7", ""] {
        let body = json!({"lora_name": "tuned", "lora_path": path});
        check(loads.post(LOAD, body).await, 400, "lora_path", "invalid_value").await;
    }
    let body = json!({"lora_name": "fake", "lora_path": "7"});
    check(loads.post(LOAD, body).await, 400, "lora_name", "invalid_value").await;
    let missing = loads.post(LOAD, json!({"lora_name": "tuned", "lora_path": "nothing"})).await;
    assert_eq!(missing.status(), 400);
    let error: Value = missing.json().await.unwrap();
    assert_eq!(error["error"]["message"], "nothing is no adapter");
    check(loads.post(UNLOAD, json!({"lora_name": "tuned"})).await, 404, "model", "model_not_found").await;
    let of_model = chat(json!({"lora_generation": 1}));
    check(loads.post("/v1/chat/completions", of_model).await, 400, "lora_generation", "invalid_value").await;

    let fixed = Server::start(Fake::mixing()).await;
    let refused = fixed.post(LOAD, json!({"lora_name": "tuned", "lora_path": "7"})).await;
    assert_eq!(refused.status(), 403);
}
