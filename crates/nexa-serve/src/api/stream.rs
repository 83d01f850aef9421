//! Answers as they are written, in server-sent events: the opening chunk, the text, the ending, the usage if it was
//! asked for, and `[DONE]`. A failure in the middle ends the stream with an `error` object instead, which OpenAI's
//! clients raise as an exception.

use std::convert::Infallible;

use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;

use super::deadline::Deadline;
use super::error::ApiError;
use super::logprobs::OffsetTracker;
use super::reply::Reply;
use super::tools::{Calls, Told};
use crate::{Answer, Event, TokenLogprob, Usage};

/// Streams answers as they come, until the deadline, which holds though the client reads nothing. Dropping the response, as
/// when the client goes away, drops the answers and so cancels them.
pub(super) fn respond(
    reply: Reply,
    answers: Vec<Answer>,
    include_usage: bool,
    deadline: Deadline,
) -> Response {
    let openings: Vec<String> = (0..answers.len())
        .filter_map(|index| Some(with_usage(reply.opening(index)?, include_usage).to_string()))
        .collect();
    let trackers = (0..answers.len()).map(|index| reply.tracker(index)).collect();
    let keep_alive = KeepAlive::new().interval(reply.keep_alive);
    let calls = answers.iter().map(|_| reply.tools.map(Calls::new)).collect();
    let held = vec![Vec::new(); answers.len()];
    let usages = vec![None; answers.len()];
    let mut told = Telling { reply, include_usage, trackers, calls, held, usages };
    let events =
        answers.into_iter().enumerate().map(|(index, answer)| answer.map(move |event| (index, event)));
    let rest = deadline.end(until_failure(stream::select_all(events)));
    let rest = rest.flat_map(move |happened| stream::iter(told.chunks(happened)));
    let events =
        stream::iter(openings).chain(rest).map(|data| Ok::<_, Infallible>(sse::Event::default().data(data)));
    // Buffering proxies would hold the text back.
    ([("x-accel-buffering", "no")], Sse::new(events).keep_alive(keep_alive)).into_response()
}

/// The events of all answers up to the first failure, with which all answers end.
fn until_failure(events: impl Stream<Item = (usize, Event)> + Unpin) -> impl Stream<Item = (usize, Event)> {
    stream::unfold(Some(events), async |state| {
        let mut events = state?;
        let (index, event) = events.next().await?;
        let is_over = matches!(event, Event::Failed { .. });
        Some(((index, event), (!is_over).then_some(events)))
    })
}

/// A stream, and what it has said so far.
struct Telling {
    reply: Reply,
    include_usage: bool,
    /// Where the next token of each answer stands in its text.
    trackers: Vec<OffsetTracker>,
    /// The calls of each answer, where tools are offered.
    calls: Vec<Option<Calls>>,
    /// Probabilities of each answer whose text may yet become a call.
    held: Vec<Vec<TokenLogprob>>,
    /// The usage of each answer, once it is complete.
    usages: Vec<Option<Usage>>,
}

impl Telling {
    /// What stands after `data:` for an event of an answer, or for the deadline.
    fn chunks(&mut self, happened: Result<(usize, Event), ApiError>) -> Vec<String> {
        let (index, event) = match happened {
            Ok(happened) => happened,
            Err(late) => return vec![late.body().to_string()],
        };
        match event {
            Event::Prompt { logprobs } => {
                self.reply.prompt(index, &logprobs).map(|chunk| self.shown(chunk)).into_iter().collect()
            }
            Event::Delta { .. } if self.reply.is_silent() => Vec::new(),
            Event::Delta { text, logprobs, .. } => match &mut self.calls[index] {
                None => vec![self.text(index, &text, &logprobs)],
                Some(calls) => {
                    self.held[index].extend(logprobs);
                    let told = calls.push(&text);
                    self.told(index, told)
                }
            },
            Event::Done { finish_reason, usage } => {
                let told = self.calls[index].as_mut().map(Calls::finish).unwrap_or_default();
                let mut chunks = self.told(index, told);
                let has_calls = self.calls[index].as_ref().is_some_and(Calls::have_any);
                chunks.push(self.shown(self.reply.ending(index, finish_reason, has_calls)));
                self.usages[index] = Some(usage);
                let all: Option<Vec<Usage>> = self.usages.iter().copied().collect();
                if let Some(usages) = all {
                    if self.include_usage {
                        chunks.push(self.reply.usage(&usages).to_string());
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

    /// A chunk with more text of an answer.
    fn text(&mut self, index: usize, text: &str, logprobs: &[TokenLogprob]) -> String {
        let chunk = self.reply.delta(index, text, logprobs, &mut self.trackers[index]);
        self.shown(chunk)
    }

    /// Chunks with text and calls of an answer; the first has the probabilities that were held back.
    fn told(&mut self, index: usize, told: Vec<Told>) -> Vec<String> {
        let told = told.into_iter().map(|told| {
            let logprobs = std::mem::take(&mut self.held[index]);
            match told {
                Told::Text(text) => self.text(index, &text, &logprobs),
                Told::Call(call) => self.shown(self.reply.call(index, call, &logprobs)),
            }
        });
        told.collect()
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
