//! Prompts and answers that are held against rules.

use std::sync::Arc;

use nexa_core::guard::{Action, Finding, Guard, Place};
use nexa_serve::{EngineConfig, ServerConfig};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::api::check_error;
use crate::fake::Fake;
use crate::life::{Server, chat};

/// Refuses `bomb`, and replaces `secret`.
#[derive(Debug)]
struct Words;

impl Guard for Words {
    fn find(&self, text: &str, _: Place) -> Vec<Finding> {
        let mut found = Vec::new();
        for (word, action) in [("bomb", Action::Refuse), ("secret", Action::Redact)] {
            for (at, word) in text.match_indices(word) {
                found.push(Finding { range: at..at + word.len(), rule: word.to_owned(), action });
            }
        }
        found.sort_by_key(|finding| finding.range.start);
        found
    }

    fn hold_back(&self) -> usize {
        8
    }
}

async fn server(answer: &str) -> Server {
    let config = ServerConfig { guard: Some(Arc::new(Words)), ..ServerConfig::default() };
    Server::with(Fake::saying(answer), EngineConfig::default(), config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_that_a_rule_is_against_is_not_answered() {
    let server = server("yes").await;
    let asked = |text: &str| json!({"messages": [{"role": "user", "content": text}]});
    let refused = server.post("/v1/chat/completions", chat(asked("a bomb"))).await;
    check_error(refused, 400, Some("messages"), Some("content_filter")).await;
    let parts = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a bomb"}]}]});
    let refused = server.post("/v1/chat/completions", chat(parts)).await;
    check_error(refused, 400, Some("messages"), Some("content_filter")).await;
    for prompt in [json!("a bomb"), json!(b"a bomb"), json!(b"a secret")] {
        let refused = server.post("/v1/completions", json!({ "prompt": prompt })).await;
        check_error(refused, 400, Some("prompt"), Some("content_filter")).await;
    }
    check_error(
        server.post("/infer", json!({"prompt": "bomb"})).await,
        400,
        Some("prompt"),
        Some("content_filter"),
    )
    .await;

    // `[secret]` is two bytes longer than what it replaces.
    let tokens = async |text: &str| {
        let reply: Value = server.post("/v1/chat/completions", chat(asked(text))).await.json().await.unwrap();
        reply["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    assert_eq!(tokens("a secret").await, tokens("a______ ").await + 2);
    let told = server.post("/v1/completions", json!({"prompt": "x", "logprobs": 1})).await;
    assert_eq!(told.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_ends_before_what_a_rule_refuses() {
    let check = async |answer: &str, expected: &str, reason: &str| {
        let server = server(answer).await;
        let whole: Value = server.post("/v1/chat/completions", chat(json!({}))).await.json().await.unwrap();
        let choice = &whole["choices"][0];
        assert_eq!(
            (&choice["message"]["content"], &choice["finish_reason"]),
            (&json!(expected), &json!(reason))
        );
        let tokens = whole["usage"]["completion_tokens"].as_u64().unwrap();
        assert!(tokens > 0 && tokens <= answer.len() as u64 + 1, "{whole}");

        let options = json!({"stream": true, "stream_options": {"include_usage": true}});
        let page = server.post("/v1/chat/completions", chat(options)).await.text().await.unwrap();
        let chunks: Vec<Value> =
            page.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
        let streamed: String =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(streamed, expected);
        assert!(chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == reason), "{page}");
        assert!(page.ends_with("data: [DONE]\n\n"), "{page}");
        // What was cancelled is gone.
        while !server.metrics().await.contains("nexa_num_requests_running{model_name=\"fake\"} 0") {}
    };
    check("all is well", "all is well", "stop").await;
    check("the secret and a secret word", "the [secret] and a [secret] word", "stop").await;
    check("make a bomb of it, and more of that", "make a ", "content_filter").await;
    check("the bomb", "the ", "content_filter").await;
}
