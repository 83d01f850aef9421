//! What comes back from the engine's thread.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::{Stream, StreamExt};
use nexa_core::guard::Guard;
use nexa_core::lm::{self, FinishReason};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::TokenLogprob;
use super::queue::Queue;
use super::watch::Watch;

/// A piece of an answer.
#[derive(Debug)]
pub enum Event {
    /// The probabilities of the prompt's tokens, if they were asked for; the first token has none.
    Prompt {
        /// One for every token but the first.
        logprobs: Vec<TokenLogprob>,
    },
    /// More text; never half a character, never part of a stop string, and empty only where it has probabilities.
    Delta {
        /// The text.
        text: String,
        /// The probabilities of the tokens since the last piece, if they were asked for.
        logprobs: Vec<TokenLogprob>,
        /// What the answer has taken so far.
        usage: Usage,
    },
    /// The answer is complete.
    Done {
        /// Why it ended.
        finish_reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
    /// The answer ends here because something went wrong.
    Failed {
        /// What went wrong.
        error: lm::Error,
    },
}

impl Event {
    fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }
}

/// The tokens of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer, the end-of-turn token included.
    pub completion_tokens: usize,
    /// Tokens of the prompt that the model had seen before.
    pub cached_tokens: usize,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text, without special tokens and stop strings.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it took.
    pub usage: Usage,
    /// The probabilities of its tokens, if they were asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// The probabilities of the prompt's tokens but the first, if they were asked for.
    pub prompt_logprobs: Vec<TokenLogprob>,
}

/// An answer as it is written: a stream that ends after [`Event::Done`] or [`Event::Failed`]. Dropping it cancels the
/// request.
#[derive(Debug)]
pub struct Answer {
    events: UnboundedReceiver<(usize, Event)>,
    queue: Arc<Queue>,
    watch: Option<Watch>,
    /// What comes before the next event of the engine.
    next: Option<Event>,
    ended: bool,
}

impl Answer {
    pub(super) fn new(events: UnboundedReceiver<(usize, Event)>, queue: Arc<Queue>) -> Self {
        Self { events, queue, watch: None, next: None, ended: false }
    }

    /// Holds the text against rules before it is shown. The answer ends with [`FinishReason::ContentFilter`] before what they
    /// refuse, which cancels the rest.
    #[must_use]
    pub fn guarded(self, guard: Arc<dyn Guard>) -> Self {
        Self { watch: Some(Watch::new(guard)), ..self }
    }

    /// What is shown of an event; nothing where all of it is held back.
    fn watched(&mut self, event: Event) -> Option<Event> {
        let Some(watch) = &mut self.watch else { return Some(event) };
        let (passed, usage, end) = match event {
            Event::Delta { text, usage, .. } => (watch.push(&text), usage, None),
            Event::Done { finish_reason, usage } => (watch.finish(), usage, Some(finish_reason)),
            other => return Some(other),
        };
        let end = if passed.is_refused { Some(FinishReason::ContentFilter) } else { end };
        let end = end.map(|finish_reason| Event::Done { finish_reason, usage });
        if passed.text.is_empty() {
            return end;
        }
        self.next = end;
        Some(Event::Delta { text: passed.text, logprobs: Vec::new(), usage })
    }

    /// Waits for the end of the answer.
    ///
    /// # Errors
    /// Fails with what [`Event::Failed`] says.
    pub async fn complete(mut self) -> Result<Completion, lm::Error> {
        let (mut text, mut logprobs, mut prompt_logprobs) = (String::new(), Vec::new(), Vec::new());
        while let Some(event) = self.next().await {
            match event {
                Event::Prompt { logprobs } => prompt_logprobs = logprobs,
                Event::Delta { text: more, logprobs: rated, .. } => {
                    text.push_str(&more);
                    logprobs.extend(rated);
                }
                Event::Done { finish_reason, usage } => {
                    return Ok(Completion { text, finish_reason, usage, logprobs, prompt_logprobs });
                }
                Event::Failed { error } => return Err(error),
            }
        }
        Err(self.queue.why_stopped())
    }
}

impl Stream for Answer {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        while !self.ended {
            let shown = match self.next.take() {
                Some(event) => Some(event),
                None => {
                    let event = match ready!(self.events.poll_recv(context)) {
                        Some((_, event)) => event,
                        // The thread went away without a word.
                        None => Event::Failed { error: self.queue.why_stopped() },
                    };
                    self.watched(event)
                }
            };
            if let Some(event) = shown {
                if event.is_last() {
                    self.ended = true;
                    // Nothing more is wanted of an answer that a rule has ended.
                    self.events.close();
                }
                return Poll::Ready(Some(event));
            }
        }
        Poll::Ready(None)
    }
}

/// The thread's end of a caller's channel. Several requests of one caller may share a channel; each carries its
/// position among them.
#[derive(Debug)]
pub(super) struct Sink<T> {
    position: usize,
    sender: UnboundedSender<(usize, T)>,
}

impl<T> Sink<T> {
    pub(super) fn new(position: usize, sender: &UnboundedSender<(usize, T)>) -> Self {
        Self { position, sender: sender.clone() }
    }

    /// Sends to the caller; one who has gone away is noticed through [`Sink::is_closed`].
    pub(super) fn send(&self, value: T) {
        let _ = self.sender.send((self.position, value));
    }

    /// Whether the caller has gone away.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}
