//! `POST /v1/embeddings`: texts as vectors.
//!
//! The vector of a text is the mean, over its tokens, of the hidden states that the output layer reads, divided by its
//! length, so that the product of two is their cosine. The text is encoded as `/v1/completions` reads it.
//!
//! # Source
//! Mean pooling: Reimers and Gurevych, "Sentence-BERT", 2019, section 3. It was measured there on models trained for it;
//! a decoder that was not gives vectors that tell subjects apart and little more.

use axum::Json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{Fields, token_ids, wrong_type};
use super::state::{Model, Served};
use crate::Error;

/// Texts that one request may have, as in OpenAI's API.
const MAX_INPUTS: usize = 2048;

/// How the numbers of a vector are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// As a list.
    Float,
    /// The bytes of little-endian numbers in single precision, as text.
    Base64,
}

/// A text, or tokens that are taken as they are.
enum Input {
    Text(String),
    Tokens(Vec<u32>),
}

/// A request, taken apart.
pub(super) struct Request {
    model: Option<String>,
    inputs: Vec<Input>,
    encoding: Encoding,
    dimensions: Option<i64>,
}

/// Embeds one text or many.
pub(super) async fn create(Model(served): Model, fields: Fields) -> Result<Json<Value>, ApiError> {
    let deadline = served.deadline();
    let Request { model, inputs, encoding, dimensions } = take(fields)?;
    let model = served.model(model)?;
    let encoded = served.blocking(move |served| encode(served, inputs)).await;
    let sequences = encoded.map_err(|error| ApiError::from_engine(error, "input"))?;
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    let vectors = deadline.bound(async {
        let embedded = served.engine.embed(sequences).await;
        embedded.map_err(|error| ApiError::from_engine(error, "input"))
    });
    let vectors = vectors.await?;
    if let Some((wanted, vector)) = dimensions.zip(vectors.first())
        && usize::try_from(wanted) != Ok(vector.len())
    {
        let message = format!("`dimensions` is {wanted}, but vectors of this model have {}", vector.len());
        return Err(ApiError::bad_param("dimensions", message));
    }
    let data: Vec<Value> = vectors
        .into_iter()
        .enumerate()
        .map(|(index, vector)| {
            json!({"object": "embedding", "index": index, "embedding": written(&normalised(vector), encoding)})
        })
        .collect();
    Ok(Json(json!({
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}

/// Takes a request apart.
pub(super) fn take(mut fields: Fields) -> Result<Request, ApiError> {
    let model = fields.string("model")?;
    let inputs = take_inputs(&mut fields)?;
    let encoding = match fields.string("encoding_format")?.as_deref() {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(other) => {
            let message = format!("`encoding_format` is `{other}`, but must be `float` or `base64`");
            return Err(ApiError::bad_param("encoding_format", message));
        }
    };
    let dimensions = fields.integer("dimensions", 1)?;
    fields.finish()?;
    Ok(Request { model, inputs, encoding, dimensions })
}

/// Takes `input`: a text, token ids, or an array of either.
fn take_inputs(fields: &mut Fields) -> Result<Vec<Input>, ApiError> {
    let wanted = "a string, an array of token ids, or an array of either";
    let items = match fields.value("input") {
        None => return Err(ApiError::bad_param("input", "`input` is missing")),
        Some(Value::String(text)) => return Ok(vec![Input::Text(text)]),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_type("input", wanted, &other)),
    };
    if items.is_empty() {
        return Err(ApiError::bad_param("input", "`input` is empty"));
    }
    if items.iter().all(Value::is_number) {
        return Ok(vec![Input::Tokens(token_ids("input", &Value::Array(items))?)]);
    }
    if items.len() > MAX_INPUTS {
        return Err(ApiError::bad_param("input", format!("`input` holds more than {MAX_INPUTS} texts")));
    }
    items
        .into_iter()
        .map(|item| match item {
            Value::String(text) => Ok(Input::Text(text)),
            Value::Array(_) => Ok(Input::Tokens(token_ids("input", &item)?)),
            other => Err(wrong_type("input", wanted, &other)),
        })
        .collect()
}

fn encode(served: &Served, inputs: Vec<Input>) -> Result<Vec<Vec<u32>>, Error> {
    let tokenizer = served.engine.tokenizer();
    let encode = |input| match input {
        Input::Tokens(token_ids) => Ok(token_ids),
        Input::Text(text) => Ok(tokenizer.encode_text(&text)?),
    };
    inputs.into_iter().map(encode).collect()
}

/// A vector of length 1; one without a direction stays as it is.
fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|number| *number = (f64::from(*number) / length) as f32);
    }
    vector
}

fn written(vector: &[f32], encoding: Encoding) -> Value {
    match encoding {
        Encoding::Float => json!(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            STANDARD.encode(bytes).into()
        }
    }
}
