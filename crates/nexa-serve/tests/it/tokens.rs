//! `/tokenize` and `/detokenize`.

use serde_json::{Value, json};

use crate::api::check_error;
use crate::fake::{ASSISTANT, BEGIN, END, Fake};
use crate::life::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompts_and_conversations_are_encoded_as_they_are_read() {
    let server = Server::start(Fake::saying("hi")).await;
    let check = async |body: Value, expected: &[u32]| {
        let reply: Value = server.post("/tokenize", body.clone()).await.json().await.unwrap();
        assert_eq!(reply["tokens"], json!(expected), "{body}");
        assert_eq!(reply["count"], expected.len(), "{body}");
        assert_eq!(reply["max_model_len"], 512);
    };
    let [a, b] = b"ab".map(u32::from);
    check(json!({"prompt": "ab"}), &[a, b]).await;
    check(json!({"prompt": "<begin>ab"}), &[BEGIN, a, b]).await;
    let spelled: Vec<u32> = b"<begin>ab".map(u32::from).to_vec();
    check(json!({"prompt": "<begin>ab", "add_special_tokens": false}), &spelled).await;
    check(json!({"prompt": ""}), &[]).await;
    let messages = json!([{"role": "user", "content": "ab"}]);
    check(json!({"messages": messages}), &[BEGIN, a, b, END, ASSISTANT]).await;
    check(json!({"messages": messages, "add_generation_prompt": false}), &[BEGIN, a, b, END]).await;

    let body = json!({"prompt": "<begin>ab", "return_token_strs": true});
    let reply: Value = server.post("/tokenize", body).await.json().await.unwrap();
    assert_eq!(reply["token_strs"], json!(["<begin>", "a", "b"]));

    // What a completion of the prompt counts is what was told.
    for prompt in ["Grüße", "<begin>ab"] {
        let told: Value = server.post("/tokenize", json!({"prompt": prompt})).await.json().await.unwrap();
        let body = json!({"prompt": prompt, "max_tokens": 1});
        let read: Value = server.post("/v1/completions", body).await.json().await.unwrap();
        assert_eq!(read["usage"]["prompt_tokens"], told["count"], "{prompt}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_decoded_to_the_text_that_they_came_from() {
    let server = Server::start(Fake::saying("hi")).await;
    for text in ["", "ab", "Grüße, 世界 🦀"] {
        let encoded: Value = server.post("/tokenize", json!({"prompt": text})).await.json().await.unwrap();
        let decoded = server.post("/detokenize", json!({"tokens": encoded["tokens"]})).await;
        assert_eq!(decoded.json::<Value>().await.unwrap(), json!({"prompt": text}));
    }
    let special = server.post("/detokenize", json!({"tokens": [BEGIN, 97, END]})).await;
    assert_eq!(special.json::<Value>().await.unwrap()["prompt"], "<begin>a<end>");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_encoded_or_decoded_is_refused() {
    let server = Server::start(Fake::saying("hi").without_template()).await;
    let check = async |path: &str, body: Value, status, param: &str, code: &str| {
        check_error(server.post(path, body).await, status, Some(param), Some(code)).await;
    };
    check("/tokenize", json!({}), 400, "prompt", "invalid_value").await;
    check("/tokenize", json!({"prompt": 3}), 400, "prompt", "invalid_value").await;
    check("/tokenize", json!({"prompt": "a", "model": "gpt-9"}), 404, "model", "model_not_found").await;
    check("/tokenize", json!({"prompt": "a", "tokens": [1]}), 400, "tokens", "unknown_parameter").await;
    let messages = json!([{"role": "user", "content": "a"}]);
    check("/tokenize", json!({"messages": messages}), 400, "messages", "invalid_value").await;
    check("/detokenize", json!({}), 400, "tokens", "invalid_value").await;
    check("/detokenize", json!({"tokens": "a"}), 400, "tokens", "invalid_value").await;
    check("/detokenize", json!({"tokens": [-1]}), 400, "tokens", "invalid_value").await;
    check("/detokenize", json!({"tokens": [9_999]}), 400, "tokens", "invalid_value").await;
}
