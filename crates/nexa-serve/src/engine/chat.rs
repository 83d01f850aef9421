//! The engine as the model that evaluation and distillation see: it answers conversations and goes on from texts.

use nexa_core::lm::{
    ChatMessage, ChatModel, ChatReply, ChatRequest, CompletionRequest, Error, FinishReason, Sampling,
    TextCompleter,
};
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
        let prompt = |position: usize| {
            let ChatRequest { messages, sampling } = &requests[position];
            Ok(Asked { prompt: Prompt::Messages(messages.clone()), sampling, cut_tokens: 0 })
        };
        self.answers(requests.len(), &prompt, done)
    }
}

impl TextCompleter for Engine {
    /// As [`ChatModel::chat`] of this engine. Blocks: not for asynchronous code.
    fn complete(
        &self,
        requests: &[CompletionRequest],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<ChatReply>, Error> {
        let context_length = self.info().context_length;
        let prompt = |position: usize| {
            let CompletionRequest { prompt, sampling } = &requests[position];
            let mut token_ids = self.tokenizer().encode_text(prompt)?;
            let most = context_length.saturating_sub(sampling.max_tokens);
            if most == 0 {
                return Err(Error::TooLong { tokens: sampling.max_tokens + 1, context_length });
            }
            let cut_tokens = token_ids.len().saturating_sub(most);
            token_ids.drain(..cut_tokens);
            Ok(Asked { prompt: Prompt::Tokens(token_ids), sampling, cut_tokens })
        };
        self.answers(requests.len(), &prompt, done)
    }

    fn render_prompt(&self, messages: &[ChatMessage]) -> Result<String, Error> {
        self.tokenizer().render_prompt(messages)
    }
}

/// A request as the engine takes it.
struct Asked<'a> {
    prompt: Prompt,
    sampling: &'a Sampling,
    /// Tokens that the prompt lost at its beginning.
    cut_tokens: usize,
}

/// Makes the request at a place.
type MakePrompt<'a> = dyn Fn(usize) -> Result<Asked<'a>, Error> + 'a;

impl Engine {
    /// Answers some requests, and returns the replies in their order.
    fn answers(
        &self,
        count: usize,
        prompt: &MakePrompt<'_>,
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<ChatReply>, Error> {
        let (sender, mut events) = mpsc::unbounded_channel();
        let mut texts = vec![String::new(); count];
        let mut cut = vec![0; count];
        let mut replies: Vec<Option<ChatReply>> = vec![None; count];
        let mut next = 0;
        let mut open = 0;
        while next < count || open > 0 {
            while next < count && open < self.window() {
                let Asked { prompt, sampling, cut_tokens } = prompt(next)?;
                cut[next] = cut_tokens;
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
                    replies[position] = Some(reply(text, finish_reason, usage, cut[position]));
                    open -= 1;
                    done(position);
                }
                Event::Failed { error } => return Err(error),
            }
        }
        replies.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| self.queue().why_stopped())
    }

    /// An error of this crate in the words of the seam.
    pub(super) fn seam_error(&self, error: crate::Error) -> Error {
        match error {
            crate::Error::Model(error) => error,
            crate::Error::Draining => Error::Interrupted,
            other => Error::Failed { model: self.info().name.clone(), message: other.to_string() },
        }
    }
}

fn reply(text: String, finish_reason: FinishReason, usage: Usage, cut_tokens: usize) -> ChatReply {
    let Usage { prompt_tokens, completion_tokens, .. } = usage;
    ChatReply { text, finish_reason, prompt_tokens, completion_tokens, cut_tokens }
}
