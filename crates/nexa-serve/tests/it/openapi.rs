//! Real replies against the document that describes them.

use nexa_serve::{Engine, EngineConfig, Loaded, ServerConfig};
use serde_json::{Value, json};

use crate::api::known;
use crate::fake::Fake;
use crate::life::{Server, chat};

/// Fails on a field that the schema does not know, or one that is missing or of another type.
fn check(document: &Value, schema: &Value, value: &Value) {
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:?} in {value}");
}

/// The schema of the replies of a route, following a reference to a response.
fn schema<'a>(document: &'a Value, [method, path, status]: [&str; 3], kind: &str) -> &'a Value {
    let mut response = &document["paths"][path][method]["responses"][status];
    if let Some(target) = response["$ref"].as_str() {
        response = document.pointer(&target[1..]).unwrap();
    }
    let schema = &response["content"][kind]["schema"];
    assert!(schema.is_object(), "{method} {path} {status} {kind}");
    schema
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_have_the_fields_that_the_document_names() {
    let engine = Engine::start(Box::new(Fake::mixing()), EngineConfig::default()).unwrap();
    let adapter = engine.load_adapter("8".as_ref()).unwrap();
    let loaded = Loaded { engine, about: known(), adapters: vec![("eight".to_owned(), adapter)] };
    let config = ServerConfig { lora_folder: Some("".into()), ..ServerConfig::default() };
    let server = Server::of(loaded, config).await;
    let document: Value = server.get("/openapi.json").await.json().await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));

    let usage = json!({"include_usage": true});
    let completion = json!({"prompt": "ab", "max_tokens": 3, "temperature": 0, "ignore_eos": true});
    let more = |mut body: Value, more: Value| {
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let all = json!({"logprobs": true, "top_logprobs": 2, "n": 2, "max_tokens": 4});
    let echo = json!({"echo": true, "logprobs": 2});
    let add = json!([{"type": "function", "function": {"name": "add"}}]);
    let call = json!({"tools": add, "tool_choice": "required", "max_tokens": 90});
    for (path, body) in [
        ("/v1/chat/completions", chat(json!({"max_tokens": 3}))),
        ("/v1/chat/completions", chat(call.clone())),
        ("/v1/chat/completions", chat(more(call, json!({"stream": true})))),
        ("/v1/load_lora_adapter", json!({"lora_name": "tuned", "lora_path": "7"})),
        ("/v1/unload_lora_adapter", json!({"lora_name": "tuned"})),
        ("/v1/chat/completions", chat(more(all.clone(), json!({"prompt_logprobs": 2})))),
        ("/v1/chat/completions", chat(more(all, json!({"stream": true, "stream_options": usage})))),
        ("/v1/completions", completion.clone()),
        ("/v1/completions", more(more(completion.clone(), echo.clone()), json!({"prompt_logprobs": 1}))),
        ("/v1/completions", more(more(completion, echo), json!({"stream": true, "stream_options": usage}))),
        ("/v1/embeddings", json!({"input": ["ab", "c"]})),
        ("/v1/embeddings", json!({"input": "ab", "encoding_format": "base64"})),
        ("/infer", json!({"prompt": "x", "max_tokens": 2})),
        ("/tokenize", json!({"prompt": "ab"})),
        ("/tokenize", json!({"prompt": "ab", "return_token_strs": true})),
        ("/detokenize", json!({"tokens": [97]})),
    ] {
        let reply = server.post(path, body.clone()).await;
        assert_eq!(reply.status(), 200, "{path}: {body}");
        let text = reply.text().await.unwrap();
        if body.get("stream").is_some() {
            let chunks = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let chunks: Vec<&str> = chunks.filter(|chunk| *chunk != "[DONE]").collect();
            assert!(chunks.len() >= 3, "{text}");
            let schema = schema(&document, ["post", path, "200"], "text/event-stream");
            for chunk in chunks {
                check(&document, schema, &serde_json::from_str(chunk).unwrap());
            }
        } else {
            let schema = schema(&document, ["post", path, "200"], "application/json");
            check(&document, schema, &serde_json::from_str(&text).unwrap());
        }
        let refused: Value = server.post(path, json!({"nonsense": 1})).await.json().await.unwrap();
        check(&document, schema(&document, ["post", path, "400"], "application/json"), &refused);
    }
    for path in ["/v1/models", "/v1/models/{id}", "/v1/model/info", "/model/info", "/health", "/ready"] {
        let reply: Value = server.get(&path.replace("{id}", "fake")).await.json().await.unwrap();
        check(&document, schema(&document, ["get", path, "200"], "application/json"), &reply);
    }
    let unknown: Value = server.get("/v1/models/gpt-9").await.json().await.unwrap();
    check(&document, schema(&document, ["get", "/v1/models/{id}", "404"], "application/json"), &unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_ready_says_so_in_the_documents_words() {
    let (server, open) = Server::held().await;
    let document: Value = server.get("/openapi.json").await.json().await.unwrap();
    for path in ["/health", "/ready", "/v1/models", "/v1/model/info"] {
        let reply: Value = server.get(path).await.json().await.unwrap();
        check(&document, schema(&document, ["get", path, "503"], "application/json"), &reply);
    }
    drop(open);
}
