//! Prints the logits of a checkpoint, for comparison with other implementations.
//!
//! `cargo run --release -p nexa-model --example logits -- CHECKPOINT TEXT... > logits.json`
//!
//! Writes one object: `prompts`, each with its rendered `token_ids` and the `logits` after every token, and `texts`,
//! each with its `token_ids`.

use std::path::Path;

use nexa_core::lm::{ChatMessage, Feed, LanguageModel, Role};
use nexa_model::LocalModel;

#[expect(clippy::print_stdout, reason = "the output of an example is what it is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: logits CHECKPOINT TEXT...")?;
    let mut model = LocalModel::load(Path::new(&folder))?;
    let tokenizer = model.tokenizer();
    let mut prompts = Vec::new();
    let mut texts = Vec::new();
    for text in arguments {
        let messages = [ChatMessage::new(Role::User, text.as_str())];
        let token_ids = tokenizer.encode_prompt(&messages)?;
        let sequence = model.open(&[]).sequence;
        let mut logits = Vec::new();
        for id in &token_ids {
            logits.push(model.step(&[Feed::new(sequence, &[*id])])?.remove(0));
        }
        model.close(sequence);
        prompts.push(serde_json::json!({ "messages": messages, "token_ids": token_ids, "logits": logits }));
        texts.push(serde_json::json!({ "text": text, "token_ids": tokenizer.encode(&text)? }));
    }
    println!("{}", serde_json::json!({ "prompts": prompts, "texts": texts }));
    Ok(())
}
