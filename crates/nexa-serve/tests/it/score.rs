//! Scoring through the engine's thread.

use nexa_core::lm::{
    ChatMessage, CompletionRequest, LanguageModel, Role, Sampling, Score, ScoreRequest, Scored,
    TextCompleter, TextScorer,
};
use nexa_serve::{Engine, EngineConfig, Prompt};

use crate::engine::engine;
use crate::fake::{ASSISTANT, BEGIN, END, Fake};

/// What the model says of some tokens, summed by hand.
fn by_hand(token_ids: &[u32], scored: std::ops::Range<usize>, bytes: usize) -> Score {
    let scores =
        Fake::mixing().score(&[Scored { token_ids, wanted: token_ids.len() - 1 }]).unwrap().remove(0);
    let scores = &scores[scored.start - 1..scored.end - 1];
    Score {
        logprob_nats: scores.iter().map(|score| f64::from(score.logprob_nats)).sum(),
        tokens: scores.len(),
        bytes,
        is_greedy: scores.iter().all(|score| score.is_greedy),
        cut_tokens: 0,
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
fn a_text_longer_than_the_context_is_scored_whole() {
    let text: String = ('a'..='z').cycle().take(30).collect();
    let engine = engine(Fake::mixing().with_context_length(12));
    let requests = [ScoreRequest::Text(text.clone()), ScoreRequest::Text(String::new())];
    let scores = engine.score(&requests, &mut |_| {}).unwrap();
    let all = [vec![BEGIN], ids(&text)].concat();
    // Windows of 12 tokens after the one before them; the last one reaches back.
    let windows =
        [by_hand(&all[..13], 1..13, 12), by_hand(&all[12..25], 1..13, 12), by_hand(&all[18..], 7..13, 6)];
    let sum: f64 = windows.iter().map(|window| window.logprob_nats).sum();
    assert!((scores[0].logprob_nats - sum).abs() < 1e-9, "{} for {sum}", scores[0].logprob_nats);
    assert_eq!((scores[0].tokens, scores[0].bytes), (30, 30));
    let nothing = Score { logprob_nats: 0.0, tokens: 0, bytes: 0, is_greedy: true, cut_tokens: 0 };
    assert_eq!(scores[1], nothing);
}

#[test]
fn a_completion_loses_the_beginning_that_leaves_no_room() {
    let engine = engine(Fake::saying("yes").with_context_length(12));
    let request = |prompt: &str, max_tokens| CompletionRequest {
        prompt: prompt.to_owned(),
        sampling: Sampling { max_tokens, ..Sampling::default() },
    };
    let replies = engine.complete(&[request("0123456789>", 8), request(">", 8)], &mut |_| {}).unwrap();
    assert_eq!([&replies[0].text, &replies[1].text], ["yes", "yes"]);
    assert_eq!([replies[0].prompt_tokens, replies[1].prompt_tokens], [4, 1]);
    let error = engine.complete(&[request(">", 12)], &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "sequence of 13 tokens is longer than the context of 12");
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
