//! What a chat template is given, and what carries loss in what it writes.

use std::ops::Range;

use nexa_core::lm::ChatMessage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The role whose turns a model writes.
pub(super) const ASSISTANT: &str = "assistant";

/// One message with every key that a template may read: `role`, `content`, `reasoning_content`, `tool_calls`, …
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: String,
    /// What is said: mostly text; a template may know lists of parts.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub content: Value,
    /// The other keys; null ones are not shown to the template.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Message {
    /// Makes a message that only says something.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Value::String(content.into()), rest: Map::new() }
    }
}

impl From<&ChatMessage> for Message {
    fn from(message: &ChatMessage) -> Self {
        Self::new(message.role.as_str(), message.content.as_str())
    }
}

/// A conversation with all that a template may be given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// The turns.
    pub messages: Vec<Message>,
    /// JSON schemas of the tools that the model may call.
    pub tools: Option<Value>,
    /// Documents for retrieval, with `title` and `text`.
    pub documents: Option<Value>,
    /// Further variables, over those of the tokenizer.
    pub template_kwargs: Map<String, Value>,
}

impl From<&[ChatMessage]> for Conversation {
    fn from(messages: &[ChatMessage]) -> Self {
        Self { messages: messages.iter().map(Message::from).collect(), ..Self::default() }
    }
}

/// Which tokens of a conversation carry loss, in the words of Axolotl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossMask {
    /// The roles whose turns are to be predicted.
    pub roles_to_train: Vec<String>,
    /// Which stop tokens are to be predicted.
    pub train_on_eos: TrainOnEos,
    /// Whether every token is to be predicted, whoever wrote it.
    pub train_on_inputs: bool,
}

impl Default for LossMask {
    fn default() -> Self {
        Self {
            roles_to_train: vec![ASSISTANT.to_owned()],
            train_on_eos: TrainOnEos::Turn,
            train_on_inputs: false,
        }
    }
}

/// Which stop tokens are to be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainOnEos {
    /// The one after each turn that is trained.
    Turn,
    /// The last one of the conversation alone.
    Last,
    /// Every one, after turns of other roles too.
    All,
    /// None.
    None,
}

/// A conversation as token ids, with a mark on those that carry loss.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodedConversation {
    /// The rendered conversation.
    pub token_ids: Vec<u32>,
    /// For each token, whether it is to be predicted.
    pub trained: Vec<bool>,
    /// The turns that are trained, in their order.
    pub turns: Vec<EncodedTurn>,
}

/// A turn that is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedTurn {
    /// Its tokens, the stop token included.
    pub tokens: Range<usize>,
    /// What became of the token that ends it.
    pub stop: Stop,
    /// Whether the tokens before it are those of its own prompt. Where they are not, the template shows the earlier
    /// turns differently once the conversation has gone on, and the turn is trained in a context that it will never
    /// be asked for in.
    pub follows_prompt: bool,
}

/// What became of the token that ends a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// It carries loss: the model learns to stop.
    Trained,
    /// It is there and carries no loss.
    Untrained,
    /// The template writes none.
    Missing,
}
