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
use crate::{Answer, Event};

/// How long a stream may be silent before a comment keeps proxies from closing it.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Streams an answer. Dropping the response, as when the client goes away, drops the answer and so cancels it.
pub(super) fn respond(reply: Reply, answer: Answer, include_usage: bool) -> Response {
    let opening = reply.opening().map(|chunk| with_usage(chunk, include_usage).to_string());
    let rest = answer.flat_map(move |event| stream::iter(chunks(&reply, event, include_usage)));
    let events =
        stream::iter(opening).chain(rest).map(|data| Ok::<_, Infallible>(sse::Event::default().data(data)));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    // Buffering proxies would hold the text back.
    ([("x-accel-buffering", "no")], Sse::new(events).keep_alive(keep_alive)).into_response()
}

/// What stands after `data:` for one event of the engine.
fn chunks(reply: &Reply, event: Event, include_usage: bool) -> Vec<String> {
    match event {
        Event::Prompt { .. } => Vec::new(),
        Event::Delta { text, .. } => vec![with_usage(reply.delta(&text), include_usage).to_string()],
        Event::Done { finish_reason, usage } => {
            let mut chunks = vec![with_usage(reply.ending(finish_reason), include_usage).to_string()];
            if include_usage {
                chunks.push(reply.usage(usage).to_string());
            }
            chunks.push("[DONE]".to_owned());
            chunks
        }
        Event::Failed { error } => {
            vec![ApiError::from_model(error, reply.prompt_param()).body().to_string()]
        }
    }
}

/// Where usage was asked for, every chunk has the key, and only the last has a value.
fn with_usage(mut chunk: Value, include_usage: bool) -> Value {
    if include_usage {
        chunk["usage"] = Value::Null;
    }
    chunk
}
