//! `POST /tokenize` and `/detokenize`, in the form that vLLM gives them.

use axum::Json;
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{Fields, token_ids};
use super::messages::{Conversation, take_messages};
use super::state::{Model, Named, Served};
use super::tools::take_tools;
use crate::Error;

/// A request of `/tokenize`, taken apart.
pub(super) struct Encode {
    model: Option<String>,
    source: Source,
    with_texts: bool,
}

/// What is to be encoded.
enum Source {
    Text {
        text: String,
        with_special: bool,
    },
    /// A conversation, and what the chat template is shown of the tools that the model may call.
    Chat {
        conversation: Conversation,
        tools: Option<Value>,
        opens_answer: bool,
    },
}

/// Encodes a text, or a conversation with the chat template.
pub(super) async fn tokenize(Model(served): Model, fields: Fields) -> Result<Json<Value>, ApiError> {
    let Encode { model, source, with_texts } = take_encode(fields)?;
    served.target(Named { name: model, generation: None })?;
    let param = match &source {
        Source::Text { .. } => "prompt",
        Source::Chat { .. } => "messages",
    };
    if let Source::Chat { tools: Some(_), .. } = &source
        && served.engine.tokenizer().tool_syntax().is_none()
    {
        return Err(ApiError::no_tools());
    }
    let encoded = served.blocking(move |served| encode(served, &source)).await;
    let tokens = encoded.map_err(|error| ApiError::from_engine(error, param))?;
    let tokenizer = served.engine.tokenizer();
    let text =
        |&id: &u32| String::from_utf8_lossy(&tokenizer.token_bytes(id).unwrap_or_default()).into_owned();
    let texts: Option<Vec<String>> = with_texts.then(|| tokens.iter().map(text).collect());
    Ok(Json(json!({
        "count": tokens.len(),
        "max_model_len": served.engine.info().context_length,
        "tokens": tokens,
        "token_strs": texts,
    })))
}

/// Puts the texts of tokens together; special tokens are written by their names.
pub(super) async fn detokenize(Model(served): Model, fields: Fields) -> Result<Json<Value>, ApiError> {
    let (model, tokens) = take_decode(fields)?;
    served.target(Named { name: model, generation: None })?;
    let tokenizer = served.engine.tokenizer();
    let mut bytes = Vec::new();
    for &id in &tokens {
        let token = tokenizer.token_bytes(id).ok_or_else(|| {
            ApiError::bad_param("tokens", format!("`tokens` holds {id}, which the vocabulary does not have"))
        })?;
        bytes.extend(token);
    }
    Ok(Json(json!({ "prompt": String::from_utf8_lossy(&bytes) })))
}

/// Takes a request of `/tokenize` apart.
pub(super) fn take_encode(mut fields: Fields) -> Result<Encode, ApiError> {
    let model = fields.string("model")?;
    let with_texts = fields.flag("return_token_strs")?;
    let source = take_source(&mut fields)?;
    fields.finish()?;
    Ok(Encode { model, source, with_texts })
}

/// Takes a request of `/detokenize` apart.
pub(super) fn take_decode(mut fields: Fields) -> Result<(Option<String>, Vec<u32>), ApiError> {
    let model = fields.string("model")?;
    let tokens = match fields.value("tokens") {
        None => return Err(ApiError::bad_param("tokens", "`tokens` is missing")),
        Some(value) => token_ids("tokens", &value)?,
    };
    fields.finish()?;
    Ok((model, tokens))
}

fn take_source(fields: &mut Fields) -> Result<Source, ApiError> {
    if fields.has("messages") {
        let conversation = take_messages(fields)?;
        let tools = take_tools(fields)?.map(|tools| tools.shown);
        let opens_answer = fields.optional_flag("add_generation_prompt")?.unwrap_or(true);
        if !opens_answer && (tools.is_some() || conversation.calls_tools()) {
            let message = "a conversation with tools or calls of them is rendered only with the opening of an answer: leave \
                           `add_generation_prompt` out, or set it to true";
            return Err(ApiError::bad_param("add_generation_prompt", message));
        }
        // The template writes the special tokens of a conversation.
        fields.flag("add_special_tokens")?;
        return Ok(Source::Chat { conversation, tools, opens_answer });
    }
    match fields.string("prompt")? {
        Some(text) => {
            let with_special = fields.optional_flag("add_special_tokens")?.unwrap_or(true);
            Ok(Source::Text { text, with_special })
        }
        None => Err(ApiError::bad_param("prompt", "`prompt` or `messages` is missing")),
    }
}

fn encode(served: &Served, source: &Source) -> Result<Vec<u32>, Error> {
    let tokenizer = served.engine.tokenizer();
    Ok(match source {
        Source::Chat { conversation, tools, opens_answer: true } => {
            served.engine.encode(&conversation.clone().prompt(tools.clone()))?
        }
        Source::Chat { conversation, opens_answer: false, .. } => {
            tokenizer.encode_chat(conversation.messages())?.token_ids
        }
        Source::Text { text, with_special: true } => tokenizer.encode_text(text)?,
        Source::Text { text, with_special: false } => tokenizer.encode(text)?,
    })
}
