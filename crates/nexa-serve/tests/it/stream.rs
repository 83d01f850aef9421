//! Replies whole and streamed, as OpenAI's clients read them.

use std::time::Duration;

use nexa_serve::{EngineConfig, ServerConfig};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::engine::{PATIENCE, metric};
use crate::fake::Fake;
use crate::life::{Server, chat};

/// The `data:` of a stream, without its end marker.
pub(crate) async fn chunks(server: &Server, path: &str, body: Value) -> Vec<Value> {
    let response = server.post(path, body).await;
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    let text = response.text().await.unwrap();
    let mut data: Vec<&str> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{text}");
    data.into_iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect()
}

fn assert_same_envelope(chunks: &[Value], object: &str) {
    for chunk in chunks {
        assert_eq!(chunk["id"], chunks[0]["id"]);
        assert_eq!(chunk["created"], chunks[0]["created"]);
        assert_eq!(chunk["object"], object);
        assert_eq!(chunk["model"], "fake");
        assert_eq!(chunk["system_fingerprint"], "fp_0123456789ab");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_chat_has_the_order_and_the_text_of_a_whole_one() {
    let server = Server::start(Fake::saying("Grüße, 世界!")).await;
    let path = "/v1/chat/completions";
    let whole: Value = server.post(path, chat(json!({}))).await.json().await.unwrap();
    assert_eq!(whole["object"], "chat.completion");
    assert!(whole["id"].as_str().unwrap().starts_with("chatcmpl-"));
    let message = json!({"role": "assistant", "content": "Grüße, 世界!", "refusal": null});
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
    assert_eq!(whole["choices"], json!([choice]));
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 17, "total_tokens": 22, "prompt_tokens_details": {"cached_tokens": 0}});
    assert_eq!(whole["usage"], usage);

    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let streamed = chunks(&server, path, chat(options)).await;
    assert_same_envelope(&streamed, "chat.completion.chunk");
    let [first, middle @ .., ending, last] = streamed.as_slice() else { panic!("{streamed:?}") };
    assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let text: String =
        middle.iter().map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap()).collect();
    assert_eq!(text, "Grüße, 世界!");
    let [.., final_text] = middle else { panic!("no text") };
    assert_eq!(final_text["choices"][0]["finish_reason"], Value::Null);
    assert_eq!(ending["choices"][0]["delta"], json!({}));
    assert_eq!(ending["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], usage);
    assert!(streamed[..streamed.len() - 1].iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));

    let without_usage = chunks(&server, path, chat(json!({"stream": true}))).await;
    assert_eq!(without_usage.len(), streamed.len() - 1);
    assert!(without_usage.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_completion_has_the_text_of_a_whole_one() {
    let server = Server::start(Fake::mixing()).await;
    let path = "/v1/completions";
    let body = |stream| json!({"model": "fake", "prompt": "once", "seed": -5, "max_tokens": 60, "top_k": 200, "stream": stream});
    let whole: Value = server.post(path, body(false)).await.json().await.unwrap();
    assert_eq!(whole["object"], "text_completion");
    let streamed = chunks(&server, path, body(true)).await;
    assert_same_envelope(&streamed, "text_completion");
    let text: String = streamed.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(whole["choices"][0]["text"], text.as_str());
    let [.., ending] = streamed.as_slice() else { panic!("no chunks") };
    assert_eq!(ending["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
    // Token ids are taken as they are.
    let as_ids = json!({"prompt": [111, 110, 99, 101], "seed": -5, "max_tokens": 60, "top_k": 200});
    let by_ids: Value = server.post(path, as_ids).await.json().await.unwrap();
    assert_eq!(by_ids["choices"], whole["choices"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_string_ends_a_chat_before_it() {
    let server = Server::start(Fake::saying("Answer: 4\n\nQuestion: 5")).await;
    for stop in [json!("\n\nQ"), json!(["zzz", "\n\n"])] {
        let reply = server.post("/v1/chat/completions", chat(json!({"stop": stop}))).await;
        let reply: Value = reply.json().await.unwrap();
        assert_eq!(reply["choices"][0]["message"]["content"], "Answer: 4");
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_frees_its_place() {
    for stream in [false, true] {
        let (model, gate) = Fake::endless().with_context_length(usize::MAX).gated();
        let (model, closed) = model.telling_closed();
        let server = Server::with(model, EngineConfig::default(), ServerConfig::default()).await;
        assert_eq!(closed.recv_timeout(PATIENCE), Ok(1), "the warm-up");
        let request = server.request(reqwest::Method::POST, "/v1/chat/completions");
        let sent = tokio::spawn(request.json(&chat(json!({"stream": stream}))).send());
        // The request is in the engine once a step has taken a word.
        gate.send(()).unwrap();
        while metric(&server.engine.metrics(), "generation_tokens_total") == 0 {
            tokio::task::yield_now().await;
        }
        if stream {
            drop(sent.await.unwrap().unwrap());
        } else {
            sent.abort();
            assert!(sent.await.unwrap_err().is_cancelled());
        }
        drop(gate);
        let freed = tokio::task::spawn_blocking(move || closed.recv_timeout(PATIENCE));
        assert_eq!(freed.await.unwrap(), Ok(2), "stream: {stream}");
        // The gauges follow when the engine has told everybody.
        while metric(&server.metrics().await, "num_requests_running") > 0 {}
        assert_eq!(metric(&server.metrics().await, "num_requests_waiting"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_is_kept_alive_by_comments() {
    let (model, gate) = Fake::saying("hi").gated();
    let config = ServerConfig { keep_alive: Duration::from_millis(20), ..ServerConfig::default() };
    let server = Server::with(model, EngineConfig::default(), config).await;
    let mut response = server.post("/v1/chat/completions", chat(json!({"stream": true}))).await;
    let mut page = Vec::new();
    while !page.windows(3).any(|three| three == b"\n:\n") {
        page.extend(response.chunk().await.unwrap().expect("the stream goes on"));
    }
    drop(gate);
    while let Some(more) = response.chunk().await.unwrap() {
        page.extend(more);
    }
    let page = String::from_utf8(page).unwrap();
    // Comments say nothing: what is left is the answer.
    let data: Vec<&str> = page.lines().filter(|line| !line.is_empty() && *line != ":").collect();
    assert!(data.iter().all(|line| line.starts_with("data: ")), "{page}");
    assert_eq!(data.last(), Some(&"data: [DONE]"));
}
