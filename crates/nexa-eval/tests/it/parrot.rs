//! A model whose probabilities and answers are made of the texts themselves, so that a test can say what must come out.

use std::path::Path;
use std::sync::{Arc, Mutex};

use nexa_core::lm::{
    ChatMessage, ChatModel, ChatReply, ChatRequest, CompletionRequest, Error, FinishReason, LoadedModel,
    ModelInfo, ModelLoader, Role, Sampling, Score, ScoreRequest, TextCompleter, TextScorer,
};

/// A model that answers by a function of its prompt, and finds every character `nats` improbable.
#[derive(Clone)]
pub(crate) struct Parrot {
    /// What it writes after a prompt.
    pub(crate) answer: fn(&str) -> String,
    /// What a continuation costs after a context.
    pub(crate) nats: fn(&str, &str) -> f64,
    /// Whether it takes plain text and tells probabilities, or conversations alone.
    pub(crate) is_api: bool,
    /// Which conversations it does not accept.
    pub(crate) refuses: fn(&str) -> bool,
    /// Fails when it has been called so often.
    pub(crate) fails_after: usize,
    /// Every request, in the order in which they came: `kind|text`.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    pub(crate) calls: Arc<Mutex<usize>>,
}

impl Parrot {
    pub(crate) fn new(answer: fn(&str) -> String) -> Self {
        Self {
            answer,
            nats: |_, continuation| continuation.len() as f64,
            is_api: false,
            refuses: |_| false,
            fails_after: usize::MAX,
            asked: Arc::default(),
            calls: Arc::default(),
        }
    }

    /// Everything that was asked so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn enter(&self, requests: Vec<String>) -> Result<(), Error> {
        let mut calls = self.calls.lock().unwrap();
        if *calls == self.fails_after {
            return Err(Error::Failed { model: "parrot".to_owned(), message: "gone".to_owned() });
        }
        *calls += 1;
        self.asked.lock().unwrap().extend(requests);
        Ok(())
    }

    fn reply(&self, prompt: &str, sampling: &Sampling) -> ChatReply {
        let mut text = (self.answer)(prompt);
        if sampling.temperature > 0.0 {
            text = format!("{text}~{}", sampling.seed % 1000);
        }
        let cut = sampling.stop.iter().filter_map(|stop| text.find(stop)).min();
        text.truncate(cut.unwrap_or(text.len()));
        // A word is a token.
        let words: Vec<&str> = text.split_inclusive(' ').collect();
        let finish_reason =
            if words.len() > sampling.max_tokens { FinishReason::Length } else { FinishReason::Stop };
        let text = words.iter().take(sampling.max_tokens).copied().collect();
        ChatReply { text, finish_reason, prompt_tokens: 1, completion_tokens: words.len(), cut_tokens: 0 }
    }
}

fn conversation(messages: &[ChatMessage]) -> String {
    messages.iter().map(|turn| format!("<{}>{}", turn.role.as_str(), turn.content)).collect()
}

impl ChatModel for Parrot {
    fn name(&self) -> &str {
        "parrot"
    }

    fn chat(&self, requests: &[ChatRequest], done: &mut dyn FnMut(usize)) -> Result<Vec<ChatReply>, Error> {
        let texts: Vec<String> = requests.iter().map(|request| conversation(&request.messages)).collect();
        self.enter(texts.iter().map(|text| format!("chat|{text}")).collect())?;
        (0..requests.len()).for_each(done);
        Ok(texts.iter().zip(requests).map(|(text, request)| self.reply(text, &request.sampling)).collect())
    }

    fn chat_each(
        &self,
        requests: &[ChatRequest],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<ChatReply, String>>, Error> {
        let replies = self.chat(requests, done)?.into_iter().zip(requests);
        let each = |(reply, request): (ChatReply, &ChatRequest)| {
            let is_refused = (self.refuses)(&conversation(&request.messages));
            if is_refused { Err("bad_request: too odd".to_owned()) } else { Ok(reply) }
        };
        Ok(replies.map(each).collect())
    }
}

impl TextCompleter for Parrot {
    fn complete(
        &self,
        requests: &[CompletionRequest],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<ChatReply>, Error> {
        self.enter(requests.iter().map(|request| format!("complete|{}", request.prompt)).collect())?;
        (0..requests.len()).for_each(done);
        Ok(requests.iter().map(|request| self.reply(&request.prompt, &request.sampling)).collect())
    }

    fn render_prompt(&self, messages: &[ChatMessage]) -> Result<String, Error> {
        let is_open = messages.last().is_some_and(|turn| turn.role == Role::Assistant);
        Ok(conversation(messages) + if is_open { "" } else { "<assistant>" })
    }
}

impl TextScorer for Parrot {
    fn score(&self, requests: &[ScoreRequest], done: &mut dyn FnMut(usize)) -> Result<Vec<Score>, Error> {
        let parts = |request: &ScoreRequest| match request {
            ScoreRequest::Continuation { context, continuation } => (context.clone(), continuation.clone()),
            ScoreRequest::Text(text) => (String::new(), text.clone()),
            ScoreRequest::Chat(messages) => (String::new(), conversation(messages)),
        };
        let parts: Vec<(String, String)> = requests.iter().map(parts).collect();
        self.enter(parts.iter().map(|(context, text)| format!("score|{context}|{text}")).collect())?;
        (0..requests.len()).for_each(done);
        let score = |(context, text): &(String, String)| {
            let nats = (self.nats)(context, text);
            Score {
                logprob_nats: -nats,
                tokens: text.len(),
                bytes: text.len(),
                is_greedy: nats < 3.0,
                cut_tokens: 0,
            }
        };
        Ok(parts.iter().map(score).collect())
    }
}

impl ModelLoader for Parrot {
    fn load(&self, checkpoint: &Path) -> Result<LoadedModel<'static>, Error> {
        let name = std::fs::read_to_string(checkpoint.join("name")).unwrap();
        let own = || Arc::new(self.clone());
        Ok(LoadedModel {
            info: ModelInfo {
                weights_hash: format!("blake3:{name}"),
                name,
                architecture: "parrot".to_owned(),
                parameters: 0,
                context_length: 1000,
                device: "cpu".to_owned(),
                format: "f32".to_owned(),
                weight_bytes: 0,
            },
            chat: own(),
            scorer: (!self.is_api).then(|| own() as Arc<dyn TextScorer>),
            completer: (!self.is_api).then(|| own() as Arc<dyn TextCompleter>),
        })
    }
}
