//! Prints ids and loss masks of conversations, for `scripts/check_chat_templates.py`.
//!
//! `chat FOLDER` reads one JSON object with `messages`, and perhaps `tools`, a line and writes one with `token_ids`,
//! `trained` and `prompt` for each; `prompt` are the ids of the messages with the opening of an answer after them.

#![expect(clippy::print_stdout, reason = "the output is the point")]

use std::io::BufRead as _;
use std::path::Path;

use nexa_core::lm::Error;
use nexa_model::{ChatTokenizer, Conversation, LossMask, Message};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: chat FOLDER < conversations.jsonl")?;
    let tokenizer = ChatTokenizer::load(Path::new(&folder))?;
    for line in std::io::stdin().lock().lines() {
        let value: Value = serde_json::from_str(&line?)?;
        let messages: Vec<Message> = serde_json::from_value(value["messages"].clone())?;
        let tools = value.get("tools").cloned();
        let chat = Conversation { messages, tools, ..Conversation::default() };
        println!("{}", encode(&tokenizer, &chat).unwrap_or_else(|error| json!({"error": error.to_string()})));
    }
    Ok(())
}

fn encode(tokenizer: &ChatTokenizer, chat: &Conversation) -> Result<Value, Error> {
    let encoded = tokenizer.encode_conversation(chat, &LossMask::default())?;
    let prompt = tokenizer.encode_conversation_prompt(chat, false)?;
    Ok(json!({"token_ids": encoded.token_ids, "trained": encoded.trained, "prompt": prompt}))
}
