//! Bodies that are almost requests: whatever they are, they are answered or refused, and the server goes on.
//!
//! This is the bounded sibling of `fuzz/fuzz_targets/request.rs`, with the same seeds.

use std::panic::catch_unwind;

use nexa_serve::api::parse_body;
use nexa_serve::{EngineConfig, ServerConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use crate::fake::Fake;
use crate::life::Server;

/// Valid requests, by route.
const SEEDS: &[(&str, &str)] = &[
    ("/v1/chat/completions", include_str!("../../../../fuzz/seeds/request/chat.json")),
    ("/v1/completions", include_str!("../../../../fuzz/seeds/request/completion.json")),
    ("/v1/embeddings", include_str!("../../../../fuzz/seeds/request/embedding.json")),
    ("/infer", include_str!("../../../../fuzz/seeds/request/infer.json")),
    ("/tokenize", include_str!("../../../../fuzz/seeds/request/tokenize.json")),
    ("/detokenize", include_str!("../../../../fuzz/seeds/request/detokenize.json")),
    ("/v1/chat/completions", include_str!("../../../../fuzz/seeds/request/tools.json")),
    ("/v1/load_lora_adapter", include_str!("../../../../fuzz/seeds/request/load_adapter.json")),
    ("/v1/unload_lora_adapter", include_str!("../../../../fuzz/seeds/request/unload_adapter.json")),
];

/// What stands in requests, and what should not.
const PIECES: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "0.1",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "[]",
    "{}",
    "[[[[",
    "\"n\":128,",
    "\"stream\":true,",
    "\"echo\":true,",
    "\"stop\":[\"\"],",
    "\"logit_bias\":{\"-1\":1},",
    "\"messages\":null,",
    "\"prompt\":[4294967296],",
    "\"seed\":-9223372036854775808,",
    "\u{feff}",
    "🦀",
    ",",
    "}",
];

/// Changes a body in one to eight places.
fn mutated(seed: &str, draws: &mut ChaCha8Rng) -> Vec<u8> {
    let mut body = seed.as_bytes().to_vec();
    for _ in 0..draws.random_range(1..=8) {
        let at = draws.random_range(0..=body.len());
        let end = (at + draws.random_range(0..12)).min(body.len());
        match draws.random_range(0..5) {
            0 => drop(body.splice(at..end, [])),
            1 => drop(body.splice(at..at, [draws.random::<u8>()])),
            2 => {
                let piece = PIECES[draws.random_range(0..PIECES.len())];
                drop(body.splice(at..end, piece.bytes()));
            }
            3 => {
                let copy = body[at..end].to_vec();
                drop(body.splice(at..at, copy));
            }
            _ => {
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= 1 << draws.random_range(0..8);
                }
            }
        }
    }
    body
}

#[test]
fn parsers_refuse_what_they_do_not_take_and_never_panic() {
    let mut draws = ChaCha8Rng::seed_from_u64(0);
    for (path, seed) in SEEDS {
        assert_eq!(parse_body(path, seed.as_bytes()), Ok(()), "{path}");
        let mut taken = 0;
        for _ in 0..5_000 {
            let body = mutated(seed, &mut draws);
            let parsed = catch_unwind(|| parse_body(path, &body));
            match parsed.unwrap_or_else(|_| panic!("{path}: {}", String::from_utf8_lossy(&body))) {
                Ok(()) => taken += 1,
                Err(status) => assert_eq!(status, 400, "{path}: {}", String::from_utf8_lossy(&body)),
            }
        }
        assert!(taken > 0, "{path}: mutations that all break the JSON test its parser alone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_requests_are_answered_or_refused() {
    let server = Server::with(Fake::saying("hi"), EngineConfig::default(), ServerConfig::default()).await;
    let mut draws = ChaCha8Rng::seed_from_u64(1);
    for round in 0..40 {
        for (path, seed) in SEEDS {
            let body = mutated(seed, &mut draws);
            let shown = String::from_utf8_lossy(&body).into_owned();
            let request =
                server.request(Method::POST, path).header(CONTENT_TYPE, "application/json").body(body);
            let reply = request.send().await.unwrap();
            let status = reply.status();
            assert!(status.is_success() || status.is_client_error(), "{round}: {path}: {status}: {shown}");
            reply.text().await.unwrap();
        }
    }
    let whole =
        server.request(Method::POST, "/infer").header(CONTENT_TYPE, "application/json").body(SEEDS[3].1);
    assert_eq!(whole.send().await.unwrap().status(), 200);
}
