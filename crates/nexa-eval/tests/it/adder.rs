//! A model that adds: a few lines that answer, score, refuse and stop as a test asks for.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nexa_core::event::Cancel;
use nexa_core::lm::{
    ChatModel, ChatReply, ChatRequest, Error, FinishReason, LoadedModel, ModelInfo, ModelLoader, Score,
    ScoreRequest, TextScorer,
};

/// A model that answers `a + b?` rightly where `is_right(a)`, and whose answers cost `bits` a byte.
#[derive(Clone)]
pub(crate) struct Adder {
    pub(crate) is_right: fn(usize) -> bool,
    pub(crate) nats_per_byte: fn(usize) -> f64,
    pub(crate) context_words: usize,
    pub(crate) has_scorer: bool,
    /// Cancels, or fails, when the call of this number begins.
    pub(crate) stops_at_call: usize,
    pub(crate) stop: Stop,
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
pub(crate) enum Stop {
    Cancel(Cancel),
    Fail,
}

impl Adder {
    pub(crate) fn new(is_right: fn(usize) -> bool) -> Self {
        Self {
            is_right,
            nats_per_byte: |_| 0.5,
            context_words: 100,
            has_scorer: true,
            stops_at_call: usize::MAX,
            stop: Stop::Fail,
            calls: Arc::default(),
            asked: Arc::default(),
        }
    }

    fn enter(&self, what: &str, prompts: &[&str]) -> Result<(), Error> {
        if let Some(long) = prompts.iter().find(|prompt| prompt.split(' ').count() > self.context_words) {
            return Err(Error::TooLong {
                tokens: long.split(' ').count(),
                context_length: self.context_words,
            });
        }
        if self.calls.fetch_add(1, Ordering::SeqCst) + 1 == self.stops_at_call {
            match &self.stop {
                Stop::Cancel(cancel) => cancel.cancel(),
                Stop::Fail => {
                    return Err(Error::Failed { model: "adder".to_owned(), message: "gone".to_owned() });
                }
            }
        }
        self.asked.lock().unwrap().extend(prompts.iter().map(|prompt| format!("{what} {prompt}")));
        Ok(())
    }
}

fn terms(prompt: &str) -> (usize, usize) {
    let (a, b) = prompt.trim_end_matches('?').split_once(" + ").unwrap();
    (a.parse().unwrap(), b.split(' ').next().unwrap().parse().unwrap())
}

impl ChatModel for Adder {
    fn name(&self) -> &str {
        "adder"
    }

    fn chat(&self, requests: &[ChatRequest], done: &mut dyn FnMut(usize)) -> Result<Vec<ChatReply>, Error> {
        let prompts: Vec<&str> =
            requests.iter().map(|request| request.messages[0].content.as_str()).collect();
        self.enter("chat", &prompts)?;
        Ok(prompts
            .iter()
            .enumerate()
            .map(|(at, prompt)| {
                done(at);
                let (a, b) = terms(prompt);
                let text = if (self.is_right)(a) { format!("#### {}", a + b) } else { format!("maybe {a}") };
                ChatReply {
                    text,
                    finish_reason: FinishReason::Stop,
                    prompt_tokens: 3,
                    completion_tokens: 2,
                    cut_tokens: 0,
                }
            })
            .collect())
    }
}

impl TextScorer for Adder {
    fn score(&self, requests: &[ScoreRequest], done: &mut dyn FnMut(usize)) -> Result<Vec<Score>, Error> {
        let turn = |request: &ScoreRequest| match request {
            ScoreRequest::Chat(messages) => (messages[0].content.clone(), messages[1].content.len()),
            other => unreachable!("a held-out split asks for conversations, not {other:?}"),
        };
        let turns: Vec<(String, usize)> = requests.iter().map(turn).collect();
        self.enter("score", &turns.iter().map(|(prompt, _)| prompt.as_str()).collect::<Vec<_>>())?;
        let score = |(at, (prompt, bytes)): (usize, &(String, usize))| {
            done(at);
            let nats = (self.nats_per_byte)(terms(prompt).0);
            Score {
                logprob_nats: -nats * *bytes as f64,
                tokens: bytes / 2 + 1,
                bytes: *bytes,
                is_greedy: false,
                cut_tokens: 0,
            }
        };
        Ok(turns.iter().enumerate().map(score).collect())
    }
}

impl ModelLoader for Adder {
    fn load(&self, checkpoint: &Path) -> Result<LoadedModel<'static>, Error> {
        let name = std::fs::read_to_string(checkpoint.join("name")).unwrap();
        Ok(LoadedModel {
            info: ModelInfo {
                weights_hash: format!("blake3:{name}"),
                name,
                architecture: "adder".to_owned(),
                parameters: 0,
                context_length: self.context_words,
                device: "cpu".to_owned(),
                format: "f32".to_owned(),
                weight_bytes: 0,
            },
            chat: Arc::new(self.clone()),
            scorer: self.has_scorer.then(|| Arc::new(self.clone()) as Arc<dyn TextScorer>),
            completer: None,
        })
    }
}
