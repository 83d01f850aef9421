//! The engine as the model that evaluation and distillation see.

use nexa_core::lm::{ChatModel, ChatReply, ChatRequest, Error, FinishReason};
use tokio::sync::mpsc;

use super::answer::Sink;
use super::queue::WhenFull;
use super::{Engine, Event, Prompt, Usage};

impl ChatModel for Engine {
    fn name(&self) -> &str {
        &self.info().name
    }

    /// Keeps the batch full and waits where other callers have filled the queue. Blocks: not for asynchronous code.
    fn chat(&self, requests: &[ChatRequest], done: &mut dyn FnMut(usize)) -> Result<Vec<ChatReply>, Error> {
        let (sender, mut events) = mpsc::unbounded_channel();
        let mut texts = vec![String::new(); requests.len()];
        let mut replies: Vec<Option<ChatReply>> = vec![None; requests.len()];
        let mut next = 0;
        let mut open = 0;
        while next < requests.len() || open > 0 {
            while next < requests.len() && open < self.window() {
                let ChatRequest { messages, sampling } = &requests[next];
                let prompt = Prompt::Messages(messages.clone());
                let request = self.request(&prompt, sampling.clone(), Sink::new(next, &sender))?;
                self.queue().push(request, WhenFull::Wait).map_err(|error| self.seam_error(error))?;
                next += 1;
                open += 1;
            }
            // `sender` is kept, so the channel stays open; a thread that ends tells every request.
            let Some((position, event)) = events.blocking_recv() else { break };
            match event {
                Event::Delta { text, .. } => texts[position].push_str(&text),
                Event::Prompt { .. } => {}
                Event::Done { finish_reason, usage } => {
                    let text = std::mem::take(&mut texts[position]);
                    replies[position] = Some(reply(text, finish_reason, usage));
                    open -= 1;
                    done(position);
                }
                Event::Failed { error } => return Err(error),
            }
        }
        replies.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| self.queue().why_stopped())
    }
}

impl Engine {
    /// An error of this crate in the words of the seam.
    pub(super) fn seam_error(&self, error: crate::Error) -> Error {
        match error {
            crate::Error::Model(error) => error,
            crate::Error::Draining => Error::Interrupted,
            other => Error::Failed { model: self.info().name.clone(), message: other.to_string() },
        }
    }
}

fn reply(text: String, finish_reason: FinishReason, usage: Usage) -> ChatReply {
    let Usage { prompt_tokens, completion_tokens, .. } = usage;
    ChatReply { text, finish_reason, prompt_tokens, completion_tokens }
}
