//! What can be asked of a model.

use nexa_core::hash::ContentHash;
use nexa_core::lm::{ChatMessage, ChatRequest, CompletionRequest, Sampling, ScoreRequest};
use serde::Serialize;
use serde_json::json;

/// A request, as its key holds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The next turn of a conversation.
    Chat {
        /// The conversation so far.
        messages: Vec<ChatMessage>,
        /// How tokens are chosen.
        sampling: Sampling,
    },
    /// What goes on from a text.
    Complete {
        /// The text.
        prompt: String,
        /// How tokens are chosen.
        sampling: Sampling,
    },
    /// The probability of a conversation's assistant turns.
    ScoreChat {
        /// The conversation.
        messages: Vec<ChatMessage>,
    },
    /// The probability of a continuation.
    ScoreContinuation {
        /// What stands before.
        context: String,
        /// What is scored.
        continuation: String,
    },
    /// The probability of a whole text.
    ScoreText {
        /// The text.
        text: String,
    },
}

/// A request with what it belongs to.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// The item that it is asked for, in messages.
    pub item: String,
    /// Requests of one number stay in one batch.
    pub unit: usize,
}

impl Request {
    /// What it is known by. Answers to one question that are drawn anew differ in their seeds.
    pub(super) fn key(&self) -> ContentHash {
        ContentHash::of_json(&json!(self))
    }

    /// Characters that the model has to read, for an order in which long requests come first.
    pub(super) fn length(&self) -> usize {
        let turns = |messages: &[ChatMessage]| messages.iter().map(|turn| turn.content.len()).sum();
        match self {
            Self::Chat { messages, .. } | Self::ScoreChat { messages } => turns(messages),
            Self::Complete { prompt, .. } => prompt.len(),
            Self::ScoreContinuation { context, continuation } => context.len() + continuation.len(),
            Self::ScoreText { text } => text.len(),
        }
    }

    pub(super) fn chat(&self) -> Option<ChatRequest> {
        match self {
            Self::Chat { messages, sampling } => {
                Some(ChatRequest { messages: messages.clone(), sampling: sampling.clone() })
            }
            _ => None,
        }
    }

    pub(super) fn completion(&self) -> Option<CompletionRequest> {
        match self {
            Self::Complete { prompt, sampling } => {
                Some(CompletionRequest { prompt: prompt.clone(), sampling: sampling.clone() })
            }
            _ => None,
        }
    }

    pub(super) fn score(&self) -> Option<ScoreRequest> {
        Some(match self {
            Self::ScoreChat { messages } => ScoreRequest::Chat(messages.clone()),
            Self::ScoreContinuation { context, continuation } => {
                ScoreRequest::Continuation { context: context.clone(), continuation: continuation.clone() }
            }
            Self::ScoreText { text } => ScoreRequest::Text(text.clone()),
            Self::Chat { .. } | Self::Complete { .. } => return None,
        })
    }
}
