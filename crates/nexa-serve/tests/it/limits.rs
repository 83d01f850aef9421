//! What the server does not bear: too many tokens, requests without end, clients that do not finish a sentence.

use std::time::Duration;

use nexa_serve::{EngineConfig, ServerConfig};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::api::check_error;
use crate::engine::{PATIENCE, metric};
use crate::fake::Fake;
use crate::life::{Server, chat};

const PATH: &str = "/v1/chat/completions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_tokens_may_wait_and_no_more() {
    let (model, gate) = Fake::saying("hi").gated();
    let engine = EngineConfig { max_batch: 1, max_queued_tokens: 20, ..EngineConfig::default() };
    let server = Server::with(model, engine, ServerConfig::default()).await;
    let ask = async |letters: usize| {
        let messages = json!([{"role": "user", "content": "x".repeat(letters)}]);
        server.post(PATH, chat(json!({"stream": true, "messages": messages}))).await
    };
    let running = ask(1).await;
    while metric(&server.metrics().await, "num_requests_running") == 0 {}
    // Where none waits, one may that is too large for the queue. Each conversation has 3 tokens more than letters.
    let large = ask(30).await;
    assert_eq!(large.status(), StatusCode::OK);
    let refused = ask(1).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    check_error(refused, 429, None, Some("queue_full")).await;
    let refused = server.post("/v1/embeddings", json!({"input": "ab"})).await;
    check_error(refused, 429, None, Some("queue_full")).await;
    drop(large);
    drop(gate);
    assert!(running.text().await.unwrap().contains("[DONE]"));
    while metric(&server.metrics().await, "num_requests_waiting") > 0 {}
    assert_eq!(ask(1).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_takes_too_long_is_cancelled() {
    // Long enough that even a busy machine has begun to answer by then.
    let config = ServerConfig { request_timeout: Some(Duration::from_secs(1)), ..ServerConfig::default() };
    let model = Fake::endless().with_context_length(usize::MAX);
    let server = Server::with(model, EngineConfig::default(), config).await;
    let infer = json!({"prompt": "x", "max_tokens": 1_000_000_000_u32});
    let (chat_reply, infer_reply, page) = tokio::join!(
        server.post(PATH, chat(json!({}))),
        server.post("/infer", infer),
        // A stream that has begun ends with the error, after what was written.
        async { server.post(PATH, chat(json!({"stream": true, "n": 2}))).await.text().await.unwrap() },
    );
    check_error(chat_reply, 504, None, Some("request_timeout")).await;
    check_error(infer_reply, 504, None, Some("request_timeout")).await;
    let data: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let [first, .., last] = data.as_slice() else { panic!("{page}") };
    assert!(first.contains("\"role\":\"assistant\""), "{first}");
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["code"], "request_timeout");
    // All four answers leave the engine.
    let mut page = server.metrics().await;
    while !page.contains("finished_reason=\"abort\"} 4\n") {
        page = server.metrics().await;
    }
    assert_eq!((metric(&page, "num_requests_running"), metric(&page, "num_requests_waiting")), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_in_the_middle_ends_the_whole_stream() {
    let mut steps = 0;
    let model = Fake::endless().with_context_length(usize::MAX).before_step(move |_| {
        steps += 1;
        if steps < 4 { Ok(()) } else { Err(nexa_core::lm::Error::Invalid("no more".to_owned())) }
    });
    let server = Server::start(model).await;
    let page = server.post(PATH, chat(json!({"stream": true, "n": 2}))).await.text().await.unwrap();
    let data: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let errors = data.iter().filter(|data| data.starts_with("{\"error\"")).count();
    assert_eq!((errors, page.contains("[DONE]")), (1, false), "{page}");
    assert!(data.last().unwrap().contains("no more"), "{page}");
}

/// Sends some bytes and reads what comes until the connection ends.
async fn say(server: &Server, bytes: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, read).await.expect("the connection is ended").unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_finish_their_request_lose_their_connection() {
    let config = ServerConfig { read_timeout: Duration::from_millis(500), ..ServerConfig::default() };
    let server = Server::with(Fake::saying("hi"), EngineConfig::default(), config).await;
    // Nothing, half a header, and a header whose body does not come.
    say(&server, "").await;
    let answer = say(&server, "POST /infer HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await;
    assert!(!answer.contains(" 200 "), "{answer}");
    let header = "POST /infer HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n";
    let answer = say(&server, &format!("{header}{{")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"slow_request\""), "{answer}");
    // What is no HTTP at all.
    let answer = say(&server, "\u{16}\u{3}\u{1}\r\n\r\n").await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(server.post("/infer", json!({"prompt": "x"})).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_is_refused_though_nothing_tells_its_length() {
    let config = ServerConfig { max_body_bytes: 2_000, ..ServerConfig::default() };
    let server = Server::with(Fake::saying("hi"), EngineConfig::default(), config).await;
    let chunked = |letters: usize| {
        let body = chat(json!({"user": "x".repeat(letters)})).to_string();
        let header = format!(
            "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        format!("{header}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let answer = say(&server, &chunked(1_000)).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = say(&server, &chunked(3_000)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"code\":\"request_too_large\""), "{answer}");
}

/// Sends a chat that fills what lies between server and client, and reads nothing of the eight answers.
async fn unread(server: &Server, more: Value) -> TcpStream {
    let mut body = chat(json!({"stream": true, "n": 8, "logprobs": true, "top_logprobs": 20}));
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = body.to_string();
    let header = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let socket = TcpSocket::new_v4().unwrap();
    // The less the system keeps for the client, the sooner the server stands still.
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream.write_all(format!("{header}{body}").as_bytes()).await.unwrap();
    stream
}

/// Waits until the eight answers of a client have left the engine.
async fn are_cancelled(server: &Server) {
    let waiting = async { while !server.metrics().await.contains("finished_reason=\"abort\"} 8\n") {} };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the answers are cancelled");
    assert_eq!(metric(&server.metrics().await, "num_requests_running"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_does_not_outlast_the_timeout_of_requests() {
    // Nothing else ends its answers while the test waits.
    let config = ServerConfig {
        request_timeout: Some(Duration::from_secs(1)),
        write_timeout: PATIENCE * 10,
        ..ServerConfig::default()
    };
    let model = Fake::endless().with_context_length(usize::MAX);
    let server = Server::with(model, EngineConfig::default(), config).await;
    let _client = unread(&server, json!({})).await;
    are_cancelled(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_loses_its_connection() {
    let config = ServerConfig { write_timeout: Duration::from_millis(300), ..ServerConfig::default() };
    let model = Fake::endless().with_context_length(usize::MAX);
    let server = Server::with(model, EngineConfig::default(), config).await;
    let _client = unread(&server, json!({})).await;
    are_cancelled(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly_gets_its_answer_and_keeps_nobody_waiting() {
    let model = Fake::endless().with_context_length(usize::MAX);
    let server = Server::with(model, EngineConfig::default(), ServerConfig::default()).await;
    let mut slow = unread(&server, json!({"max_tokens": 400})).await;
    // It has read nothing yet.
    let other: Value = server.post(PATH, chat(json!({"max_tokens": 3}))).await.json().await.unwrap();
    assert_eq!(other["choices"][0]["message"]["content"], "aaa");
    let mut answer = Vec::new();
    let mut piece = [0; 1_000];
    let reading = async {
        loop {
            match slow.read(&mut piece).await.unwrap() {
                0 => break,
                read => answer.extend_from_slice(&piece[..read]),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the answer ends");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("data: [DONE]\n\n"), "{}", answer.len());
    assert_eq!(answer.matches("\"finish_reason\":\"length\"").count(), 8);
}
