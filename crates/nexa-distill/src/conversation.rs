//! Conversations that a row holds in `messages`, in place of a single prompt.

use nexa_core::columns;
use nexa_core::lm::{ChatMessage, Role};
use nexa_core::table::Row;
use serde::Deserialize;
use serde_json::Value;

/// What a row's `messages` ask, where it has some: a conversation that ends with the assistant's turn is asked without
/// it, as that turn is what the teacher is to write.
///
/// # Errors
/// Says what is wrong with the column.
pub(crate) fn turns(row: &Row) -> Result<Option<Vec<ChatMessage>>, String> {
    let mut turns = match row.get(columns::MESSAGES) {
        None | Some(Value::Null) => return Ok(None),
        // A column of text holds the list as JSON.
        Some(Value::String(text)) => serde_json::from_str(text),
        Some(value) => Vec::<ChatMessage>::deserialize(value),
    }
    .map_err(|e| format!("column `{}`: {e}", columns::MESSAGES))?;
    while turns.last().is_some_and(|turn| turn.role == Role::Assistant) {
        turns.pop();
    }
    if !turns.iter().any(|turn| turn.role == Role::User) {
        return Err(format!("column `{}`: no turn of the user", columns::MESSAGES));
    }
    Ok(Some(turns))
}

/// Turns after what stands before them, unless they begin with a system prompt of their own.
pub(crate) fn after(system_prompt: Option<&str>, turns: Vec<ChatMessage>) -> Vec<ChatMessage> {
    let has_system = turns.first().is_some_and(|turn| turn.role == Role::System);
    let system_prompt = system_prompt.filter(|_| !has_system);
    system_prompt.map(|text| ChatMessage::new(Role::System, text)).into_iter().chain(turns).collect()
}

/// The turns after the system prompt.
pub(crate) fn without_system(turns: &[ChatMessage]) -> &[ChatMessage] {
    match turns {
        [first, rest @ ..] if first.role == Role::System => rest,
        all => all,
    }
}

/// Turns as one text: a single one as it is, several with who speaks.
pub(crate) fn text(turns: &[ChatMessage]) -> String {
    match turns {
        [turn] => turn.content.clone(),
        turns => {
            let lines: Vec<_> =
                turns.iter().map(|turn| format!("{}: {}", turn.role.as_str(), turn.content)).collect();
            lines.join("\n\n")
        }
    }
}
