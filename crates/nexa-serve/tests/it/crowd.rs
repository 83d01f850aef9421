//! Many clients at once, and those of them that go away.

use nexa_serve::{EngineConfig, ServerConfig};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::engine::{PATIENCE, metric};
use crate::fake::Fake;
use crate::life::{Server, chat};

const PATH: &str = "/v1/chat/completions";

fn sent(server: &Server, body: Value) -> JoinHandle<reqwest::Result<reqwest::Response>> {
    tokio::spawn(server.request(Method::POST, PATH).json(&body).send())
}

/// Requests that run, and that wait.
async fn load(server: &Server) -> (u64, u64) {
    let page = server.metrics().await;
    (metric(&page, "num_requests_running"), metric(&page, "num_requests_waiting"))
}

/// Waits until so many requests run, and wait.
async fn until_load(server: &Server, expected: (u64, u64)) {
    let waiting = async { while load(server).await != expected {} };
    let reached = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(reached.is_ok(), "expected a load of {expected:?}, found {:?}", load(server).await);
}

fn finished(page: &str, reason: &str) -> u64 {
    let head = format!("nexa_request_success_total{{model_name=\"fake\",finished_reason=\"{reason}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&head)).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gauges_tell_who_runs_and_who_waits() {
    let (model, gate) = Fake::saying("hi").gated();
    let engine = EngineConfig { max_batch: 2, ..EngineConfig::default() };
    let server = Server::with(model, engine, ServerConfig::default()).await;
    let mut requests = vec![sent(&server, chat(json!({})))];
    // The first is alone in the first step, which waits for a word.
    until_load(&server, (1, 0)).await;
    requests.extend((0..4).map(|_| sent(&server, chat(json!({})))));
    until_load(&server, (1, 4)).await;
    gate.send(()).unwrap();
    until_load(&server, (2, 3)).await;
    drop(gate);
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert_eq!(load(&server).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_and_goes_away_takes_nobody_with_it() {
    for stream in [false, true] {
        let (model, gate) = Fake::saying("a longer answer").gated();
        let engine = EngineConfig { max_batch: 1, ..EngineConfig::default() };
        let server = Server::with(model, engine, ServerConfig::default()).await;
        let running = sent(&server, chat(json!({})));
        until_load(&server, (1, 0)).await;
        let leaving = sent(&server, chat(json!({"stream": stream})));
        until_load(&server, (1, 1)).await;
        let staying = sent(&server, chat(json!({})));
        until_load(&server, (1, 2)).await;
        if stream {
            drop(leaving.await.unwrap().unwrap());
        } else {
            leaving.abort();
            assert!(leaving.await.unwrap_err().is_cancelled());
        }
        // The server hears of it between two of the steps, which go on word by word.
        let heard = async {
            while load(&server).await == (1, 2) {
                let _ = gate.send(());
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("the server hears of it");
        drop(gate);
        for kept in [running, staying] {
            let reply: Value = kept.await.unwrap().unwrap().json().await.unwrap();
            assert_eq!(reply["choices"][0]["message"]["content"], "a longer answer");
        }
        let page = server.metrics().await;
        assert_eq!((finished(&page, "abort"), finished(&page, "stop")), (1, 2), "stream: {stream}");
        assert_eq!((metric(&page, "num_requests_running"), metric(&page, "num_requests_waiting")), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_give_up_and_the_next_is_answered() {
    let model = Fake::endless().with_context_length(usize::MAX);
    let engine = EngineConfig { max_batch: 4, ..EngineConfig::default() };
    let server = Server::with(model, engine, ServerConfig::default()).await;
    let crowd: Vec<_> = (0..200).map(|n| sent(&server, chat(json!({"stream": n % 2 == 0})))).collect();
    until_load(&server, (4, 196)).await;
    for request in crowd {
        request.abort();
        // Those that stream may have their header already; dropping it goes away as well.
        let _ = request.await;
    }
    let next =
        async { server.post(PATH, chat(json!({"max_tokens": 3}))).await.json::<Value>().await.unwrap() };
    let reply = tokio::time::timeout(PATIENCE, next).await.expect("nobody is before it any more");
    assert_eq!(reply["choices"][0]["message"]["content"], "aaa");
    let left = async {
        loop {
            let page = server.metrics().await;
            if finished(&page, "abort") == 200 {
                break page;
            }
        }
    };
    let page = tokio::time::timeout(PATIENCE, left).await.expect("all of them leave");
    assert_eq!(finished(&page, "length"), 1);
    assert_eq!(load(&server).await, (0, 0));
    assert!(page.contains("nexa_kv_cache_usage_perc{model_name=\"fake\"} 0\n"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_gives_the_same_text_whoever_else_asks() {
    let server = Server::start(Fake::mixing()).await;
    let ask = |seed: u64| sent(&server, chat(json!({"seed": seed, "temperature": 1, "max_tokens": 12})));
    let text = async |request: JoinHandle<reqwest::Result<reqwest::Response>>| {
        let reply: Value = request.await.unwrap().unwrap().json().await.unwrap();
        reply["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    let alone = text(ask(7)).await;
    let together: Vec<_> = [7, 8, 7, 9].into_iter().map(ask).collect();
    let mut texts = Vec::new();
    for request in together {
        texts.push(text(request).await);
    }
    assert_eq!((&texts[0], &texts[2]), (&alone, &alone));
    assert_ne!(texts[1], alone);
    assert_ne!(texts[3], texts[1]);
}
