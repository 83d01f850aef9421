//! `/v1/embeddings`.

use nexa_serve::{EngineConfig, ServerConfig};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::api::check_error;
use crate::fake::Fake;
use crate::life::{Server, chat};

/// What the fake model gives for some bytes, divided by its length.
fn expected(bytes: &[u8]) -> [f64; 2] {
    let mean = bytes.iter().map(|&byte| f64::from(byte)).sum::<f64>() / bytes.len() as f64;
    let length = mean.hypot(100.0);
    [mean / length, 100.0 / length]
}

fn check_vector(found: &[f64], bytes: &[u8]) {
    assert_eq!(found.len(), 2);
    for (a, b) in found.iter().zip(expected(bytes)) {
        assert!((a - b).abs() < 1e-6, "{found:?}");
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_input_gives_vectors_of_length_one() {
    let server = Server::start(Fake::saying("hi")).await;
    let check = async |input: Value, texts: &[&str]| {
        let body = json!({"model": "fake", "input": input, "user": "me"});
        let reply: Value = server.post("/v1/embeddings", body).await.json().await.unwrap();
        let tokens: usize = texts.iter().map(|text| text.len()).sum();
        assert_eq!(reply["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
        assert_eq!((&reply["object"], &reply["model"]), (&json!("list"), &json!("fake")));
        let data = reply["data"].as_array().unwrap();
        assert_eq!(data.len(), texts.len());
        for ((index, item), text) in data.iter().enumerate().zip(texts) {
            assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(index)));
            check_vector(&numbers(&item["embedding"]), text.as_bytes());
        }
    };
    check(json!("ab"), &["ab"]).await;
    check(json!(["ab", "xyz"]), &["ab", "xyz"]).await;
    check(json!([97, 98]), &["ab"]).await;
    check(json!([[97, 98], "xyz"]), &["ab", "xyz"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn base64_holds_the_bytes_of_the_same_numbers() {
    let server = Server::start(Fake::saying("hi")).await;
    let body = |format| json!({"input": "ab", "encoding_format": format, "dimensions": 2});
    let reply: Value = server.post("/v1/embeddings", body("base64")).await.json().await.unwrap();
    let text = reply["data"][0]["embedding"].as_str().unwrap();
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is no digit"),
    };
    let mut bytes = Vec::new();
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = four.iter().fold(0, |bits, &byte| bits << 6 | digit(byte)) << (6 * (4 - four.len()));
        bytes.extend(bits.to_be_bytes()[1..four.len()].iter());
    }
    let (numbers, []) = bytes.as_chunks::<4>() else { panic!("{text}") };
    let numbers: Vec<f64> = numbers.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
    check_vector(&numbers, b"ab");
    assert_eq!(server.post("/v1/embeddings", body("float")).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_embedded_is_refused() {
    let server = Server::start(Fake::saying("hi").with_context_length(8)).await;
    let check = async |body: Value, status, param: Option<&str>, code: Option<&str>| {
        check_error(server.post("/v1/embeddings", body).await, status, param, code).await;
    };
    let invalid = Some("invalid_value");
    check(json!({}), 400, Some("input"), invalid).await;
    check(json!({"input": []}), 400, Some("input"), invalid).await;
    check(json!({"input": [1, "a"]}), 400, Some("input"), invalid).await;
    check(json!({"input": vec!["a"; 2_049]}), 400, Some("input"), invalid).await;
    check(json!({"input": ""}), 400, None, None).await;
    check(json!({"input": [[]]}), 400, None, None).await;
    check(json!({"input": [9_999]}), 400, None, None).await;
    check(json!({"input": "x".repeat(9)}), 400, Some("input"), Some("context_length_exceeded")).await;
    check(json!({"input": "a", "encoding_format": "int8"}), 400, Some("encoding_format"), invalid).await;
    check(json!({"input": "a", "dimensions": 3}), 400, Some("dimensions"), invalid).await;
    check(json!({"input": "a", "model": "gpt-9"}), 404, Some("model"), Some("model_not_found")).await;
    check(json!({"input": "a", "temperature": 1}), 400, Some("temperature"), Some("unknown_parameter")).await;
    // As long as the context is not too long.
    assert_eq!(server.post("/v1/embeddings", json!({"input": "x".repeat(8)})).await.status(), StatusCode::OK);

    let without = Server::start(Fake::saying("hi").without_hidden_states()).await;
    let refused = without.post("/v1/embeddings", json!({"input": "a"})).await;
    check_error(refused, 400, None, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_go_on_beside_embeddings() {
    let (model, gate) = Fake::endless().with_context_length(usize::MAX).gated();
    let server = Server::with(model, EngineConfig::default(), ServerConfig::default()).await;
    let running = server.post("/v1/chat/completions", chat(json!({"stream": true}))).await;
    let asked = server.request(reqwest::Method::POST, "/v1/embeddings").json(&json!({"input": "ab"})).send();
    let asked = tokio::spawn(asked);
    // Steps go on word by word until the vector is there.
    while !asked.is_finished() {
        let _ = gate.send(());
        tokio::task::yield_now().await;
    }
    assert_eq!(asked.await.unwrap().unwrap().status(), StatusCode::OK);
    drop(running);
    drop(gate);
}
