//! One row as a model will see it.

use nexa_core::lm::Tokenizer as _;
use nexa_model::Stop;
use serde::Serialize;

use super::build::Source;
use super::encode::judge;
use super::encoder::Encoder;
use super::format::SampleType;
use super::options::ExcessLength;
use super::rows;
use crate::Error;

/// A row as tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// What the row is found by.
    pub id: String,
    /// The line of the file.
    pub line: usize,
    /// What a row of the file is.
    #[serde(rename = "type")]
    pub sample_type: SampleType,
    /// Its sequences: one, or the better and the worse one of a preference, or the pieces of a long text.
    pub sequences: Vec<Vec<Token>>,
    /// What training would leave out, cut or miss.
    pub warnings: Vec<String>,
}

/// A token as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Its number.
    pub id: u32,
    /// What it adds to the text; a token that ends in the middle of a character adds it with the next one.
    pub text: String,
    /// Whether it carries loss.
    pub trained: bool,
}

/// Encodes a row, counted from 1, as training would.
///
/// # Errors
/// As [`super::Samples::open`], for this row; and when the file has fewer rows.
pub fn inspect(source: &Source<'_>, row: usize) -> Result<Inspection, Error> {
    let mut rows = rows::open(source.path, source.options.split, source.tables)?;
    let first = rows.next().transpose()?;
    let empty = || Error::NoSamples { path: source.path.to_owned(), lines: 0, reason: String::new() };
    let first = first.ok_or_else(empty)?;
    let encoder = Encoder::new(source, &first)?;
    let found = if row <= 1 { Some(first) } else { rows.nth(row - 2).transpose()? };
    let found = found.ok_or_else(|| Error::Sample {
        path: source.path.to_owned(),
        line: row,
        problem: "the file has fewer rows".to_owned(),
    })?;
    let failed = |problem: String| found.error(source.path, problem);
    let options = source.options;
    let encoded = encoder.encode(&found)?;
    let mut warnings = Vec::new();
    for (number, turn) in encoded.iter().flat_map(|sequence| sequence.turns.iter().enumerate()) {
        let number = number + 1;
        match turn.stop {
            Stop::Trained => {}
            Stop::Untrained => {
                warnings.push(format!("trained turn {number} ends with a stop token that carries no loss"))
            }
            Stop::Missing => warnings.push(format!("trained turn {number} ends without a stop token")),
        }
        if !turn.follows_prompt {
            warnings.push(format!("trained turn {number} follows other tokens than its own prompt"));
        }
    }
    let mut lenient = options.clone();
    if lenient.excess_length == ExcessLength::Raise {
        lenient.excess_length = ExcessLength::Drop;
    }
    let fate = judge(encoded.clone(), &lenient).map_err(failed)?;
    let told = fate.report.left_out(options.sequence_len);
    warnings.extend(told.into_iter().map(|reason| format!("left out: {reason}")));
    if fate.report.truncated > 0 {
        warnings.push(format!("cut to {} tokens", options.sequence_len));
    }
    warnings.extend(fate.report.misalignments);
    let is_changed = fate.report.truncated + fate.report.divided > 0;
    let shown = if is_changed { fate.samples.concat() } else { encoded };
    let sequences = shown
        .iter()
        .map(|sequence| {
            let texts = texts(source, &sequence.token_ids);
            let tokens = sequence.token_ids.iter().zip(&sequence.trained).zip(texts);
            tokens.map(|((&id, &trained), text)| Token { id, text, trained }).collect()
        })
        .collect();
    let sample_type = encoder.kind;
    Ok(Inspection { id: found.id(source.path), line: found.line, sample_type, sequences, warnings })
}

/// What each token adds to the text before it.
fn texts(source: &Source<'_>, token_ids: &[u32]) -> Vec<String> {
    let mut texts = Vec::with_capacity(token_ids.len());
    // Tokens whose text is not whole yet.
    let mut start = 0;
    let decode = |ids: &[u32]| source.tokenizer.decode(ids).unwrap_or_default();
    for (at, &id) in token_ids.iter().enumerate() {
        let text = decode(&token_ids[start..=at]);
        if text.is_empty() && start == at {
            // A special token decodes to nothing.
            texts.push(source.tokenizer.token_text(id).unwrap_or_default());
            start = at + 1;
        } else if text.ends_with('\u{fffd}') && at + 1 - start < 4 {
            texts.push(String::new());
        } else {
            // SentencePiece-like decoders drop the blank before the first token; the vocabulary shows it.
            let piece = source.tokenizer.token_text(id).unwrap_or_default();
            let blank = start == at && piece.starts_with('▁') && !text.starts_with(' ');
            texts.push(if blank { format!(" {text}") } else { text });
            start = at + 1;
        }
    }
    texts
}
