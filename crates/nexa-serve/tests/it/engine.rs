//! Batching, sampling, ending, cancelling and failing.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use futures_util::StreamExt;
use nexa_core::lm::{ChatMessage, ChatModel, ChatRequest, Error as ModelError, FinishReason, Role, Sampling};
use nexa_serve::{Answer, Completion, Engine, EngineConfig, Error, Event, Phase, Prompt, Usage};

use crate::fake::Fake;

/// Long enough for any machine; reached only by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn engine(model: Fake) -> Engine {
    sized(model, EngineConfig::default())
}

fn sized(model: Fake, config: EngineConfig) -> Engine {
    Engine::start(Box::new(model), config).unwrap()
}

fn small(max_batch: usize, max_queued: usize) -> EngineConfig {
    EngineConfig { max_batch, max_queued, ..EngineConfig::default() }
}

fn ask(engine: &Engine, text: &str, sampling: Sampling) -> Answer {
    engine.submit(&Prompt::Text(text.to_owned()), sampling).unwrap()
}

async fn answered(engine: &Engine, text: &str, sampling: Sampling) -> Completion {
    ask(engine, text, sampling).complete().await.unwrap()
}

/// A value of a metric without further labels.
pub(crate) fn metric(page: &str, name: &str) -> u64 {
    let head = format!("nexa_{name}{{model_name=\"fake\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&head)).expect("the metric is there");
    line.parse().unwrap()
}

/// Waits until a condition on the metrics holds.
async fn until(engine: &Engine, holds: impl Fn(&str) -> bool) {
    let waiting = async {
        while !holds(&engine.metrics()) {
            tokio::task::yield_now().await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(reached.is_ok(), "{}", engine.metrics());
}

/// Requests that run, and that wait.
fn load(page: &str) -> (u64, u64) {
    (metric(page, "num_requests_running"), metric(page, "num_requests_waiting"))
}

fn wait_until_closed(closed: &Receiver<u64>, sequence: u64) {
    while closed.recv_timeout(PATIENCE).expect("the sequence is closed") != sequence {}
}

#[tokio::test]
async fn a_request_gives_the_same_tokens_alone_and_in_a_batch() {
    let prompts: Vec<String> = (0..12).map(|n| "prompt ".repeat(1 + n * n % 11)).collect();
    let sampling = |n: usize| Sampling {
        temperature: 1.0,
        seed: n as u64 % 3,
        max_tokens: 5 + n,
        ..Sampling::default()
    };
    let config = |max_batch| EngineConfig { max_batch, prefill_chunk: 16, ..EngineConfig::default() };

    let alone = sized(Fake::mixing(), config(1));
    let mut expected = Vec::new();
    for (n, prompt) in prompts.iter().enumerate() {
        expected.push(answered(&alone, prompt, sampling(n)).await);
    }
    for max_batch in [2, 5, 12] {
        let (model, gate) = Fake::mixing().gated();
        let together = sized(model, config(max_batch));
        let answers: Vec<Answer> =
            prompts.iter().enumerate().map(|(n, prompt)| ask(&together, prompt, sampling(n))).collect();
        drop(gate);
        for (answer, expected) in answers.into_iter().zip(&expected) {
            assert_eq!(&answer.complete().await.unwrap(), expected, "batch of {max_batch}");
        }
    }
}

/// A model that repeats itself, so that guesses are often right.
fn whole() -> Fake {
    Fake::new(|pieces| {
        let mut state = 7_u64;
        for token in pieces.concat().iter().rev().take(3) {
            state = (state ^ u64::from(*token)).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(31);
        }
        (0..crate::fake::VOCAB as u64).map(|id| ((state ^ (id % 7)) % 11) as f32 / 4.0).collect()
    })
}

#[tokio::test]
async fn where_prompts_are_cut_changes_no_token() {
    let prompts =
        ["short".to_owned(), "a longer prompt ".repeat(5), "the longest of all prompts ".repeat(15)];
    let sampling = |seed| Sampling { temperature: 1.0, seed, max_tokens: 20, ..Sampling::default() };
    let answers = async |prefill_chunk: usize| {
        let (model, fed) = Fake::mixing().slow(Duration::ZERO);
        let engine = sized(model, EngineConfig { prefill_chunk, ..EngineConfig::default() });
        let answers: Vec<Answer> =
            prompts.iter().zip(0..).map(|(prompt, seed)| ask(&engine, prompt, sampling(seed))).collect();
        let mut completions = Vec::new();
        for answer in answers {
            completions.push(answer.complete().await.unwrap());
        }
        // Beside a chunk, the other two write a token each.
        let largest = fed.try_iter().max().unwrap();
        assert!(largest <= prefill_chunk + 2, "{largest} tokens in a step");
        completions
    };
    let expected = answers(16).await;
    for prefill_chunk in [1, 7, 32, 512] {
        assert_eq!(answers(prefill_chunk).await, expected, "{prefill_chunk}");
    }
}

/// Checks that the first sequence is closed soon after its caller, which has just left. A step of the answers and one of an
/// embedding may follow, of the turn in which it left.
fn check_closed_soon(fed: &Receiver<usize>, closed: &Receiver<u64>) {
    // Those that began before it had left.
    fed.try_iter().for_each(drop);
    wait_until_closed(closed, 2);
    let steps: Vec<usize> = fed.try_iter().collect();
    assert!(steps.len() <= 2, "{steps:?}");
}

/// A model of 250 tokens a second, and a text that takes it 12 seconds.
fn slow() -> (Fake, Receiver<usize>, String) {
    let (model, fed) = Fake::endless().with_context_length(4096).slow(Duration::from_millis(4));
    (model, fed, "word ".repeat(600))
}

/// Waits until the fourth step has begun, when the steps are as large as they become.
fn wait_for_steps(fed: &Receiver<usize>) {
    for _ in 0..4 {
        fed.recv_timeout(PATIENCE).expect("a step");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_while_a_long_prompt_is_read_frees_its_memory_at_once() {
    let (model, fed, prompt) = slow();
    let (model, closed) = model.telling_closed();
    let engine = engine(model);
    let answer = ask(&engine, &prompt, Sampling::default());
    // The first is the warm-up.
    wait_for_steps(&fed);
    drop(answer);
    check_closed_soon(&fed, &closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_while_a_long_text_is_embedded_frees_its_memory_at_once() {
    let (model, fed, text) = slow();
    let (model, closed) = model.telling_closed();
    let engine = engine(model);
    let embedding = tokio::spawn({
        let (engine, ids) = (engine.clone(), text.bytes().map(u32::from).collect());
        async move { engine.embed(vec![ids]).await }
    });
    wait_for_steps(&fed);
    assert_eq!(metric(&engine.metrics(), "num_requests_running"), 1);
    embedding.abort();
    assert!(embedding.await.unwrap_err().is_cancelled());
    check_closed_soon(&fed, &closed);
    until(&engine, |page| page.contains("finished_reason=\"abort\"} 1\n")).await;
    assert_eq!(metric(&engine.metrics(), "num_requests_running"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_written_between_the_parts_of_an_embedding() {
    let (model, fed) = Fake::endless().with_context_length(4096).slow(Duration::from_millis(1));
    let engine = engine(model);
    let text: Vec<u32> = "word ".repeat(400).bytes().map(u32::from).collect();
    let mut answer = ask(&engine, "x", Sampling { max_tokens: 4000, ..Sampling::default() });
    assert!(matches!(answer.next().await, Some(Event::Delta { .. })));
    let embedded = engine.embed(vec![text.clone()]).await.unwrap();
    let mean = text.iter().sum::<u32>() as f32 / text.len() as f32;
    assert!((embedded[0][0] - mean).abs() < 1e-3 && embedded[0][1] == 100.0, "{embedded:?}");
    drop(answer);
    let steps: Vec<usize> = fed.try_iter().collect();
    let parts: Vec<usize> = (0..steps.len()).filter(|&at| steps[at] > 1).collect();
    assert!(parts.len() > 2, "{steps:?}");
    assert!(parts.windows(2).all(|two| two[1] > two[0] + 1), "{steps:?}");
    let page = engine.metrics();
    assert_eq!(metric(&page, "prompt_tokens_total"), 1 + text.len() as u64);
    assert!(page.contains("finished_reason=\"stop\"} 1\n"), "{page}");
}

#[tokio::test]
async fn embeddings_take_memory_of_the_budget_and_wait_for_it() {
    let text = |tokens: usize| vec![vec![u32::from(b'e'); tokens]];
    let (model, gate) = Fake::endless().with_budget(100).gated();
    let tight = engine(model);
    let answers = [30, 50].map(|max_tokens| {
        ask(&tight, &"x".repeat(30), Sampling { max_tokens, ignore_eos: true, ..Sampling::default() })
    });
    // More than the answers leave: it waits for their end, and never takes what they need.
    let embedding = tokio::spawn({
        let tight = tight.clone();
        async move { tight.embed(text(80)).await }
    });
    until(&tight, |page| load(page).0 + load(page).1 == 3).await;
    drop(gate);
    for (answer, tokens) in answers.into_iter().zip([30, 50]) {
        assert_eq!(answer.complete().await.unwrap().usage.completion_tokens, tokens);
    }
    assert_eq!(embedding.await.unwrap().unwrap(), [[101.0, 100.0]]);
    let error = tight.embed(text(101)).await.unwrap_err().to_string();
    assert!(error.contains("room for 100 tokens"), "{error}");
    assert_eq!(tight.embed(text(100)).await.unwrap().len(), 1);
    let page = tight.metrics();
    assert_eq!(load(&page), (0, 0));
    assert!(page.contains("nexa_kv_cache_usage_perc{model_name=\"fake\"} 0\n"), "{page}");
}

#[tokio::test]
async fn neither_a_text_nor_a_prompt_takes_memory_that_the_other_was_promised() {
    let config = EngineConfig { prefill_chunk: 16, ..EngineConfig::default() };
    let sampling = Sampling { max_tokens: 5, ..Sampling::default() };
    for embeds_first in [true, false] {
        let (gate, words) = channel::<()>();
        let (sender, fed) = channel();
        let model = Fake::endless().with_budget(100).before_step(move |feeds| {
            let _ = words.recv();
            for feed in feeds {
                let _ = sender.send(feed.sequence.0);
            }
            Ok(())
        });
        let engine = sized(model, config.clone());
        let embed = |tokens: usize| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.embed(vec![vec![u32::from(b'e'); tokens]]).await })
        };
        // The second comes while 16 tokens of the first are read. What it needs is free yet, but the first needs it too.
        let (embedding, answer) = if embeds_first {
            let embedding = embed(80);
            until(&engine, |page| load(page) == (1, 0)).await;
            (embedding, ask(&engine, &"x".repeat(70), sampling.clone()))
        } else {
            let answer = ask(&engine, &"x".repeat(80), sampling.clone());
            until(&engine, |page| load(page) == (1, 0)).await;
            (embed(60), answer)
        };
        until(&engine, |page| load(page) == (1, 1)).await;
        drop(gate);
        assert_eq!(embedding.await.unwrap().unwrap(), [[101.0, 100.0]]);
        assert_eq!(answer.complete().await.unwrap().text, "aaaaa");
        let page = engine.metrics();
        assert_eq!(metric(&page, "num_preemptions_total"), 0, "{embeds_first}");
        // The first reads its 80 tokens before the second reads any.
        let fed: Vec<u64> = fed.try_iter().collect();
        assert_eq!(fed[..5], [2; 5], "{embeds_first}: {fed:?}");
    }
}

#[tokio::test]
async fn who_waits_for_memory_counts_as_waiting() {
    let (model, gate) = Fake::endless().with_budget(30).gated();
    let engine = engine(model);
    let answers: Vec<Answer> = (0..8)
        .map(|_| ask(&engine, &"x".repeat(20), Sampling { max_tokens: 2, ..Sampling::default() }))
        .collect();
    until(&engine, |page| load(page).0 > 0).await;
    // One more step: that which waits for a word may have begun before the others came.
    gate.send(()).unwrap();
    until(&engine, |page| metric(page, "iteration_tokens_total_count") > 0).await;
    until(&engine, |page| load(page) == (1, 7)).await;
    // Only the one that has memory has left the queue.
    assert_eq!(metric(&engine.metrics(), "request_queue_time_seconds_count"), 1);
    drop(gate);
    for answer in answers {
        assert_eq!(answer.complete().await.unwrap().text, "aa");
    }
    assert_eq!(load(&engine.metrics()), (0, 0));
    assert_eq!(metric(&engine.metrics(), "request_queue_time_seconds_count"), 8);
}

#[tokio::test]
async fn guesses_change_no_token() {
    let sampling = |temperature, seed| Sampling { temperature, seed, max_tokens: 60, ..Sampling::default() };
    let prompt = "to be or not to be, that is to be or not to be";
    for guesses in [1, 4] {
        let plain = engine(whole());
        let guessing = sized(whole(), EngineConfig { guesses, ..EngineConfig::default() });
        for (temperature, seed) in [(0.0, 0), (0.7, 1), (1.0, 2)] {
            let expected = answered(&plain, prompt, sampling(temperature, seed)).await;
            assert_eq!(answered(&guessing, prompt, sampling(temperature, seed)).await, expected);
        }
        let right = metric(&guessing.metrics(), "spec_decode_num_accepted_tokens_total");
        let made = metric(&guessing.metrics(), "spec_decode_num_draft_tokens_total");
        assert!(0 < right && right < made, "{right} of {made}");
    }
}

#[tokio::test]
async fn who_waits_for_memory_goes_on_where_it_stopped() {
    let prompts: Vec<String> = (0..6).map(|n| format!("prompt {n} ").repeat(3)).collect();
    let sampling =
        |n: usize| Sampling { temperature: 1.0, seed: n as u64, max_tokens: 50, ..Sampling::default() };
    let plain = engine(whole());
    let (model, gate) = whole().with_budget(200).gated();
    let tight = engine(model);
    let answers: Vec<Answer> =
        prompts.iter().enumerate().map(|(n, prompt)| ask(&tight, prompt, sampling(n))).collect();
    drop(gate);
    for ((n, prompt), answer) in prompts.iter().enumerate().zip(answers) {
        assert_eq!(answer.complete().await.unwrap(), answered(&plain, prompt, sampling(n)).await, "{n}");
    }
    assert!(metric(&tight.metrics(), "num_preemptions_total") > 0);
    assert_eq!(metric(&tight.metrics(), "num_requests_running"), 0);

    let error = ask(&tight, &"x".repeat(150), Sampling { max_tokens: 100, ignore_eos: true, ..sampling(0) })
        .complete()
        .await;
    assert!(error.unwrap_err().to_string().contains("room for 200 tokens"));
    let error = ask(&tight, &"x".repeat(250), sampling(0)).complete().await;
    assert!(error.unwrap_err().to_string().contains("room for 200 tokens"));
}

#[tokio::test]
async fn probabilities_are_told_for_every_token() {
    let engine = engine(Fake::saying("a€b"));
    let sampling = Sampling { logprobs: Some(2), prompt_logprobs: Some(1), ..Sampling::default() };
    let completion = answered(&engine, "12>", sampling).await;
    assert_eq!(completion.text, "a€b");
    // Three bytes make the sign; the end of the turn is no part of the answer.
    let ids: Vec<u32> = completion.logprobs.iter().map(|token| token.token_id).collect();
    assert_eq!(ids, "a€b".bytes().map(u32::from).collect::<Vec<_>>());
    let expected = 9.0 - (9.0f32.exp() + 258.0).ln();
    for token in &completion.logprobs {
        assert!((token.logprob_nats - expected).abs() < 1e-5);
        assert_eq!((token.top.len(), token.top[0].0), (2, token.token_id));
    }
    let ids: Vec<u32> = completion.prompt_logprobs.iter().map(|token| token.token_id).collect();
    assert_eq!(ids, [u32::from(b'2'), u32::from(b'>')]);
}

#[tokio::test]
async fn the_end_of_a_turn_can_be_put_off() {
    let engine = engine(Fake::saying("ab"));
    let usual = Sampling { max_tokens: 10, ..Sampling::default() };
    let tokens = async |sampling: Sampling| answered(&engine, ">", sampling).await.usage.completion_tokens;
    assert_eq!(tokens(usual.clone()).await, 3);
    assert_eq!(tokens(Sampling { min_tokens: 5, ..usual.clone() }).await, 6);
    assert_eq!(tokens(Sampling { ignore_eos: true, ..usual }).await, 10);
}

/// As in vLLM: a stop string counts once a token after the least ends it.
#[tokio::test]
async fn stop_strings_wait_for_the_least_tokens_too() {
    let engine = engine(Fake::saying("One, two. Three"));
    let text = async |stop: &str, min_tokens| {
        let sampling = Sampling { stop: vec![stop.to_owned()], min_tokens, ..Sampling::default() };
        answered(&engine, ">", sampling).await.text
    };
    assert_eq!(text("wo", 0).await, "One, t");
    assert_eq!(text("wo", 7).await, "One, t");
    assert_eq!(text("wo", 8).await, "One, two. Three");
    // The second of two that are alike counts.
    assert_eq!(text("e", 3).await, "One, two. Thr");
}

#[tokio::test]
async fn what_many_prompts_begin_with_is_read_once() {
    let beginning = "the same instructions for all: ";
    let cached = async |fake: Fake| {
        let (fake, gate) = fake.gated_from_the_start();
        let engine = engine(fake);
        // Three requests begin the same, one does not, and all are there before the first step.
        let prompts =
            [format!("{beginning}a"), format!("{beginning}b"), "else".to_owned(), format!("{beginning}cd")];
        let answers =
            prompts.map(|prompt| ask(&engine, &prompt, Sampling { max_tokens: 2, ..Sampling::default() }));
        drop(gate);
        let mut cached = Vec::new();
        for answer in answers {
            cached.push(answer.complete().await.unwrap().usage.cached_tokens);
        }
        cached
    };
    assert_eq!(cached(Fake::endless().remembering()).await, [0, beginning.len(), 0, beginning.len()]);
    assert_eq!(cached(Fake::endless()).await, [0; 4]);
}

#[tokio::test]
async fn the_seed_decides_the_text() {
    let engine = engine(Fake::mixing());
    let sampling = |seed| Sampling { temperature: 1.0, seed, max_tokens: 40, ..Sampling::default() };
    let first = answered(&engine, "x", sampling(1)).await;
    assert_eq!(answered(&engine, "x", sampling(1)).await, first);
    assert_ne!(answered(&engine, "x", sampling(2)).await, first);
}

#[tokio::test]
async fn an_answer_ends_where_it_should() {
    let engine = engine(Fake::saying("One, two. Three…").with_context_length(24));
    let check = async |prompt: &str, max_tokens, stop: &[&str], text: &str, reason, tokens| {
        let stop = stop.iter().map(|&stop| stop.to_owned()).collect();
        let completion =
            answered(&engine, prompt, Sampling { max_tokens, stop, ..Sampling::default() }).await;
        let usage = Usage { prompt_tokens: prompt.len(), completion_tokens: tokens, cached_tokens: 0 };
        let expected = Completion {
            text: text.to_owned(),
            finish_reason: reason,
            usage,
            logprobs: Vec::new(),
            prompt_logprobs: Vec::new(),
        };
        assert_eq!(completion, expected);
    };
    // The end-of-turn token counts; the ellipsis has three bytes, so three tokens.
    check(">", 99, &[], "One, two. Three…", FinishReason::Stop, 19).await;
    check(">", 3, &[], "One", FinishReason::Length, 3).await;
    check(">", 99, &[", t"], "One", FinishReason::Stop, 6).await;
    check(">", 99, &["never", "two!"], "One, two. Three…", FinishReason::Stop, 19).await;
    // What could have begun a stop string is shown after all.
    check(">", 4, &[", three"], "One,", FinishReason::Length, 4).await;
    // The last character is cut in the middle.
    check(">", 16, &[], "One, two. Three\u{FFFD}", FinishReason::Length, 16).await;
    // The context of 24 is full after 4 tokens.
    check("12345678901234567890>", usize::MAX, &[], "One", FinishReason::Length, 3).await;
}

#[tokio::test]
async fn a_stream_holds_whole_characters_and_no_beginning_of_a_stop() {
    let engine = engine(Fake::saying("a€b\n\nc"));
    let stop = vec!["\n\n".to_owned()];
    let mut answer = ask(&engine, ">", Sampling { stop, ..Sampling::default() });
    let mut deltas = Vec::new();
    let last = loop {
        match answer.next().await.unwrap() {
            Event::Delta { text, .. } => deltas.push(text),
            other => break other,
        }
    };
    assert_eq!(deltas, ["a", "€", "b"]);
    assert!(matches!(last, Event::Done { finish_reason: FinishReason::Stop, .. }), "{last:?}");
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn a_dropped_answer_leaves_the_batch_and_its_neighbour_goes_on() {
    let (model, gate) = Fake::endless().gated();
    let (model, closed) = model.telling_closed();
    let engine = engine(model);
    let mut leaving = ask(&engine, "leaving", Sampling { max_tokens: 400, ..Sampling::default() });
    let staying = ask(&engine, "staying", Sampling { max_tokens: 3, ..Sampling::default() });
    gate.send(()).unwrap();
    assert!(matches!(leaving.next().await, Some(Event::Delta { .. })));
    drop(leaving);
    drop(gate);
    wait_until_closed(&closed, 2);
    assert_eq!(staying.complete().await.unwrap().text, "aaa");
    let page = engine.metrics();
    assert_eq!(metric(&page, "num_requests_running"), 0);
    assert!(page.contains("finished_reason=\"abort\"} 1\n"), "{page}");
}

#[tokio::test]
async fn a_dropped_answer_leaves_the_queue() {
    let (model, gate) = Fake::endless().gated();
    let engine = sized(model, small(1, 1));
    let running = ask(&engine, "running", Sampling { max_tokens: 2, ..Sampling::default() });
    let waiting = ask(&engine, "waiting", Sampling::default());
    let refused = engine.submit(&Prompt::Text("refused".to_owned()), Sampling::default());
    assert!(matches!(refused, Err(Error::QueueFull { in_flight: 2 })), "{refused:?}");
    drop(waiting);
    drop(gate);
    assert_eq!(running.complete().await.unwrap().text, "aa");
    let next = answered(&engine, "next", Sampling { max_tokens: 1, ..Sampling::default() }).await;
    assert_eq!(next.text, "a");
    let page = engine.metrics();
    assert_eq!(metric(&page, "num_requests_waiting"), 0);
    assert_eq!(metric(&page, "generation_tokens_total"), 3);
}

#[tokio::test]
async fn a_model_error_fails_only_the_requests_at_fault() {
    let (gate, words) = std::sync::mpsc::channel::<()>();
    let model = Fake::endless().before_step(move |feeds| {
        let _ = words.recv();
        match feeds.iter().find(|feed| feed.token_ids.contains(&u32::from(b'!'))) {
            Some(_) => Err(ModelError::Failed { model: "fake".to_owned(), message: "bad token".to_owned() }),
            None => Ok(()),
        }
    });
    let engine = engine(model);
    let sampling = Sampling { max_tokens: 4, ..Sampling::default() };
    let answers = ["one", "bad!", "two"].map(|text| ask(&engine, text, sampling.clone()));
    drop(gate);
    let [one, bad, two] = answers;
    assert_eq!(one.complete().await.unwrap().text, "aaaa");
    assert_eq!(two.complete().await.unwrap().text, "aaaa");
    assert_eq!(bad.complete().await.unwrap_err().to_string(), "model `fake`: bad token");
}

#[tokio::test]
async fn logits_that_are_no_numbers_fail_the_request() {
    let engine = engine(Fake::new(|pieces| {
        let value = if pieces.concat().contains(&u32::from(b'!')) { f32::NAN } else { 0.0 };
        vec![value; crate::fake::VOCAB]
    }));
    let error = ask(&engine, "!", Sampling::default()).complete().await.unwrap_err();
    assert_eq!(error.to_string(), "model `fake`: the logits hold no finite number");
    let fine = answered(&engine, "x", Sampling { max_tokens: 2, ..Sampling::default() }).await;
    assert_eq!(fine.text, "\0\0");
}

#[tokio::test]
async fn a_panic_of_the_model_becomes_an_error_of_every_caller() {
    let (gate, words) = std::sync::mpsc::channel::<()>();
    let model = Fake::endless().before_step(move |_| {
        let _ = words.recv();
        panic!("out of cheese")
    });
    let engine = sized(model, small(1, 4));
    let answers = ["running", "waiting"].map(|text| ask(&engine, text, Sampling::default()));
    drop(gate);
    for answer in answers {
        let error = answer.complete().await.unwrap_err().to_string();
        assert_eq!(error, "model `fake`: the model panicked: out of cheese");
    }
    let error = engine.stopped().await.unwrap_err().to_string();
    assert_eq!(error, "the engine of model `fake` has stopped: the model panicked: out of cheese");
    // What `/health` goes by.
    assert_eq!(engine.phase(), Phase::Stopped);
    assert!(matches!(engine.ready().await, Err(Error::Stopped { .. })));
    let later = engine.submit(&Prompt::Text("later".to_owned()), Sampling::default());
    assert!(matches!(later, Err(Error::Stopped { .. })), "{later:?}");
    let later = engine.embed(vec![vec![1]]).await;
    assert!(matches!(later, Err(Error::Stopped { .. })), "{later:?}");
}

#[tokio::test]
async fn draining_finishes_what_was_accepted_and_refuses_the_rest() {
    let (model, gate) = Fake::endless().gated();
    let engine = sized(model, small(1, 4));
    let sampling = Sampling { max_tokens: 2, ..Sampling::default() };
    let answers = ["running", "waiting"].map(|text| ask(&engine, text, sampling.clone()));
    engine.drain();
    let refused = engine.submit(&Prompt::Text("late".to_owned()), sampling);
    assert!(matches!(refused, Err(Error::Draining)), "{refused:?}");
    drop(gate);
    for answer in answers {
        assert_eq!(answer.complete().await.unwrap().text, "aa");
    }
    engine.stopped().await.unwrap();
    assert_eq!(engine.phase(), Phase::Stopped);
}

#[tokio::test]
async fn aborting_and_dropping_interrupt_what_is_unfinished() {
    let check = async |end: fn(Engine)| {
        let engine = sized(Fake::endless().with_context_length(usize::MAX), small(1, 4));
        let endless = Sampling { max_tokens: usize::MAX, ..Sampling::default() };
        let answers = ["running", "waiting"].map(|text| ask(&engine, text, endless.clone()));
        end(engine);
        for answer in answers {
            assert!(matches!(answer.complete().await, Err(ModelError::Interrupted)));
        }
    };
    check(|engine| engine.abort()).await;
    check(drop).await;
}

#[tokio::test]
async fn requests_that_cannot_be_answered_are_refused() {
    let engine = engine(Fake::endless().with_context_length(4));
    let check = |prompt: Prompt, sampling: Sampling, expected: &str| {
        assert_eq!(engine.submit(&prompt, sampling).unwrap_err().to_string(), expected);
    };
    let text = |text: &str| Prompt::Text(text.to_owned());
    let usual = Sampling::default;
    check(text("1234"), usual(), "sequence of 5 tokens is longer than the context of 4");
    check(Prompt::Tokens(vec![259]), usual(), "token id 259 is outside the vocabulary");
    let hot = Sampling { temperature: f32::NAN, ..usual() };
    check(text("x"), hot, "`temperature` is NaN, but must be 0 or more");
    check(text("x"), Sampling { top_p: 1.5, ..usual() }, "`top_p` is 1.5, but must be from 0 to 1");
    check(text("x"), Sampling { max_tokens: 0, ..usual() }, "`max_tokens` is 0, but must be at least 1");
    let empty_stop = Sampling { stop: vec![String::new()], ..usual() };
    check(text("x"), empty_stop, "`stop` holds an empty string");
    // An empty prompt is the prefix token.
    let completion = answered(&engine, "", Sampling { max_tokens: 1, ..usual() }).await;
    assert_eq!(completion.usage.prompt_tokens, 1);

    let config = EngineConfig { prefill_chunk: 0, ..EngineConfig::default() };
    let error = Engine::start(Box::new(Fake::endless()), config).err().expect("a size of 0 is refused");
    assert_eq!(error.to_string(), "engine config: `prefill_chunk` must be at least 1");
}

#[test]
fn many_chats_go_through_a_small_engine_in_the_order_of_the_requests() {
    let engine = sized(Fake::mixing(), small(3, 1));
    let requests: Vec<ChatRequest> = (0..40)
        .map(|n| ChatRequest {
            messages: vec![ChatMessage::new(Role::User, format!("question {n}"))],
            sampling: Sampling { max_tokens: 1 + n % 7, ..Sampling::default() },
        })
        .collect();
    let mut done = Vec::new();
    let replies = engine.chat(&requests, &mut |position| done.push(position)).unwrap();
    for (request, reply) in requests.iter().zip(&replies) {
        let alone = engine.chat(std::slice::from_ref(request), &mut |_| {}).unwrap();
        assert_eq!(&alone[0], reply);
    }
    done.sort_unstable();
    assert_eq!(done, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_chat_that_the_model_refuses_fails_the_call() {
    let engine = engine(Fake::endless().without_template());
    let messages = vec![ChatMessage::new(Role::User, "hello")];
    let request = ChatRequest { messages, sampling: Sampling::default() };
    let error = engine.chat(&[request], &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "tokenize: the model has no chat template");
}

#[tokio::test]
async fn requests_of_several_adapters_share_a_batch_and_each_is_as_alone() {
    let together = engine(Fake::mixing());
    let handles = |engine: &Engine| {
        let adapted = ["7", "8"].map(|salt| {
            engine.with_adapter(engine.load_adapter(salt.as_ref()).expect("a number is an adapter"))
        });
        [engine.clone()].into_iter().chain(adapted).collect::<Vec<_>>()
    };
    let sampling = |seed| Sampling { temperature: 1.0, seed, max_tokens: 12, ..Sampling::default() };
    let handles_together = handles(&together);
    let answers: Vec<_> = (0..9).map(|n| ask(&handles_together[n % 3], "one prompt", sampling(5))).collect();
    // Who asked with an adapter keeps it after it was dropped.
    drop(handles_together);
    let mut texts = Vec::new();
    for answer in answers {
        texts.push(answer.complete().await.unwrap().text);
    }
    for (n, handle) in handles(&sized(Fake::mixing(), small(1, 8))).iter().enumerate() {
        let alone = answered(handle, "one prompt", sampling(5)).await.text;
        assert!(texts.iter().skip(n).step_by(3).all(|text| *text == alone), "{texts:?}");
    }
    assert!(texts[0] != texts[1] && texts[1] != texts[2] && texts[0] != texts[2], "{texts:?}");

    let error = together.load_adapter("nothing".as_ref()).unwrap_err();
    assert!(matches!(error, ModelError::Invalid(message) if message == "nothing is no adapter"));
}
