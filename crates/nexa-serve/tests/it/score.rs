//! Scoring through the engine's thread.

use nexa_core::lm::{ChatMessage, LanguageModel, Role, Sampling, Score, ScoreRequest, TextScorer};
use nexa_serve::{Engine, EngineConfig, Prompt};

use crate::engine::engine;
use crate::fake::{ASSISTANT, BEGIN, END, Fake};

/// What the model says of some tokens, summed by hand.
fn by_hand(token_ids: &[u32], scored: std::ops::Range<usize>, bytes: usize) -> Score {
    let scores = Fake::mixing().score(&[token_ids]).unwrap().remove(0);
    let scores = &scores[scored.start - 1..scored.end - 1];
    Score {
        logprob_nats: scores.iter().map(|score| f64::from(score.logprob_nats)).sum(),
        tokens: scores.len(),
        bytes,
        is_greedy: scores.iter().all(|score| score.is_greedy),
    }
}

fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

fn continuation(context: &str, continuation: &str) -> ScoreRequest {
    ScoreRequest::Continuation { context: context.to_owned(), continuation: continuation.to_owned() }
}

#[test]
fn scores_are_those_of_the_model_in_the_order_of_the_requests() {
    let chat = [ChatMessage::new(Role::User, "q"), ChatMessage::new(Role::Assistant, "ab")];
    let requests =
        [continuation("context", " yes"), continuation("", "y"), ScoreRequest::Chat(chat.to_vec())];
    let chat_ids = [vec![BEGIN], ids("q"), vec![END, ASSISTANT], ids("ab"), vec![END]].concat();
    let expected = [
        by_hand(&ids("context yes"), 7..11, 4),
        by_hand(&[vec![BEGIN], ids("y")].concat(), 1..2, 1),
        by_hand(&chat_ids, 4..7, 2),
    ];
    // One job at a time, and all at once.
    for score_tokens in [1, 4096] {
        let config = EngineConfig { score_tokens, ..EngineConfig::default() };
        let engine = Engine::start(Box::new(Fake::mixing()), config).unwrap();
        let mut done = Vec::new();
        let scores = engine.score(&requests, &mut |position| done.push(position)).unwrap();
        assert_eq!(scores, expected);
        done.sort_unstable();
        assert_eq!(done, [0, 1, 2]);
    }
    assert!(engine(Fake::mixing()).score(&[], &mut |_| {}).unwrap().is_empty());
}

#[test]
fn the_greedy_continuation_is_called_greedy() {
    let engine = engine(Fake::saying("yes"));
    let scores = engine.score(&[continuation(">", "yes"), continuation(">", "yet")], &mut |_| {}).unwrap();
    assert_eq!([scores[0].is_greedy, scores[1].is_greedy], [true, false]);
}

#[test]
fn scoring_does_not_wait_for_the_end_of_answers() {
    let engine = engine(Fake::endless().with_context_length(usize::MAX));
    let endless = Sampling { max_tokens: usize::MAX, ..Sampling::default() };
    let answer = engine.submit(&Prompt::Text("x".to_owned()), endless).unwrap();
    let scores = engine.score(&[continuation("x", "aa"), continuation("x", "ab")], &mut |_| {}).unwrap();
    assert_eq!([scores[0].is_greedy, scores[1].is_greedy], [true, false]);
    drop(answer);
}

#[test]
fn scoring_after_the_end_is_an_error() {
    let engine = engine(Fake::mixing());
    engine.drain();
    let error = engine.score(&[continuation("a", "b")], &mut |_| {}).unwrap_err();
    let possible = ["interrupted", "model `fake`: the engine of model `fake` has stopped: it was shut down"];
    assert!(possible.contains(&error.to_string().as_str()), "{error}");
}

#[test]
fn a_panic_while_scoring_is_an_error_that_names_it() {
    let engine = engine(Fake::new(|pieces| match pieces.concat().as_slice() {
        [BEGIN] => vec![0.0; crate::fake::VOCAB],
        _ => panic!("no more"),
    }));
    let error = engine.score(&[continuation("a", "b")], &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "model `fake`: the model panicked: no more");
}
