//! Answers as they are written, in server-sent events: the opening chunk, the text, the ending, the usage if it was
//! asked for, and `[DONE]`. A failure in the middle ends the stream with an `error` object instead, which OpenAI's
//! clients raise as an exception.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::error::ApiError;
use super::reply::Reply;
use crate::{Answer, Event, Usage};

/// How long a stream may be silent before a comment keeps proxies from closing it.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Streams answers as they come. Dropping the response, as when the client goes away, drops the answers and so cancels
/// them.
pub(super) fn respond(reply: Reply, answers: Vec<Answer>, include_usage: bool) -> Response {
    let openings: Vec<String> = (0..answers.len())
        .filter_map(|index| Some(with_usage(reply.opening(index)?, include_usage).to_string()))
        .collect();
    let mut told = Told { reply, include_usage, characters: vec![0; answers.len()], usages: Vec::new() };
    let events =
        answers.into_iter().enumerate().map(|(index, answer)| answer.map(move |event| (index, event)));
    let rest =
        stream::select_all(events).flat_map(move |(index, event)| stream::iter(told.chunks(index, event)));
    let events =
        stream::iter(openings).chain(rest).map(|data| Ok::<_, Infallible>(sse::Event::default().data(data)));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    // Buffering proxies would hold the text back.
    ([("x-accel-buffering", "no")], Sse::new(events).keep_alive(keep_alive)).into_response()
}

/// A stream, and what it has said so far.
struct Told {
    reply: Reply,
    include_usage: bool,
    /// Characters of each answer.
    characters: Vec<usize>,
    /// The usage of each answer that is complete.
    usages: Vec<Usage>,
}

impl Told {
    /// What stands after `data:` for one event of the engine.
    fn chunks(&mut self, index: usize, event: Event) -> Vec<String> {
        match event {
            Event::Prompt { .. } => Vec::new(),
            Event::Delta { text, logprobs } => {
                let offset = self.characters[index];
                self.characters[index] += text.chars().count();
                vec![self.shown(self.reply.delta(index, &text, &logprobs, offset))]
            }
            Event::Done { finish_reason, usage } => {
                let mut chunks = vec![self.shown(self.reply.ending(index, finish_reason))];
                self.usages.push(usage);
                if self.usages.len() == self.characters.len() {
                    if self.include_usage {
                        chunks.push(self.reply.usage(&self.usages).to_string());
                    }
                    chunks.push("[DONE]".to_owned());
                }
                chunks
            }
            Event::Failed { error } => {
                vec![ApiError::from_model(error, self.reply.prompt_param()).body().to_string()]
            }
        }
    }

    fn shown(&self, chunk: Value) -> String {
        with_usage(chunk, self.include_usage).to_string()
    }
}

/// Where usage was asked for, every chunk has the key, and only the last has a value.
fn with_usage(mut chunk: Value, include_usage: bool) -> Value {
    if include_usage {
        chunk["usage"] = Value::Null;
    }
    chunk
}
