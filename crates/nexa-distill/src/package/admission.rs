//! Lets conversations in that the student's template renders and that fit; the others are kept, with the reason.

use nexa_core::columns;
use nexa_core::lm::Tokenizer;
use nexa_core::table::Row;
use serde_json::json;

use super::{Item, Lengths};

/// The gate of what did not fit.
pub(super) const GATE: &str = "package";

/// Conversations, sorted.
pub(super) struct Admitted {
    /// Those that are let in, with their tokens.
    pub(super) items: Vec<Item>,
    /// Those that are not, with the reason.
    pub(super) rejected: Vec<Row>,
}

/// Renders and counts every conversation with the student's tokenizer.
pub(super) fn admit(items: Vec<Item>, tokenizer: &dyn Tokenizer, max_tokens: Option<u32>) -> Admitted {
    let mut admitted = Admitted { items: Vec::with_capacity(items.len()), rejected: Vec::new() };
    for mut item in items {
        match fits(&item, tokenizer, max_tokens) {
            Ok(tokens) => {
                item.tokens = Some(tokens);
                admitted.items.push(item);
            }
            Err(reason) => admitted.rejected.push(Row::from_iter([
                (columns::ID.to_owned(), json!(item.id)),
                (columns::GROUP.to_owned(), json!(item.group)),
                (columns::MESSAGES.to_owned(), json!(item.messages)),
                (columns::REJECTION_GATE.to_owned(), json!(GATE)),
                (columns::REJECTION_REASON.to_owned(), json!(reason)),
            ])),
        }
    }
    admitted
}

fn fits(item: &Item, tokenizer: &dyn Tokenizer, max_tokens: Option<u32>) -> Result<Lengths, String> {
    let chat = tokenizer.encode_chat(&item.messages).map_err(|error| error.to_string())?;
    let tokens = chat.token_ids.len();
    if let Some(max) = max_tokens.filter(|max| tokens > *max as usize) {
        return Err(format!("{tokens} tokens, more than {max}"));
    }
    let completion = chat.trained.iter().filter(|is_trained| **is_trained).count();
    if completion == 0 {
        return Err("the template leaves nothing to learn".to_owned());
    }
    Ok(Lengths { prompt: tokens - completion, completion })
}
