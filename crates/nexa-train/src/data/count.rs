//! How many tokens the rows of a file are for a student, before anything is cut or left out.

use rayon::prelude::*;
use serde::Serialize;

use super::build::{BLOCK, Source};
use super::encoder::Encoder;
use super::rows::{self, Numbered};
use crate::Error;

/// The tokens of a sequence: of a row, or of one of the two of a preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SequenceTokens {
    /// All of them.
    pub tokens: u64,
    /// Those that carry loss.
    pub trained: u64,
}

/// Counts the tokens of every sequence of a file, as training would encode it, in the order of its rows.
///
/// # Errors
/// Names file, line and columns of a row that fits no format, or that the chat template refuses.
pub fn count_tokens(source: &Source<'_>) -> Result<Vec<SequenceTokens>, Error> {
    let mut rows = rows::open(source.path, source.options.split, source.tables)?;
    let mut encoder = None;
    let mut counts = Vec::new();
    loop {
        let block: Vec<Numbered> = rows.by_ref().take(BLOCK).collect::<Result<_, Error>>()?;
        let Some(first) = block.first() else { return Ok(counts) };
        let encoder = match &encoder {
            Some(encoder) => encoder,
            None => encoder.insert(Encoder::new(source, first)?),
        };
        let count = |row: &Numbered| {
            let sequences = encoder.encode(row)?;
            let of = sequences.iter().map(|sequence| SequenceTokens {
                tokens: sequence.token_ids.len() as u64,
                trained: sequence.trained.iter().filter(|trained| **trained).count() as u64,
            });
            Ok(of.collect::<Vec<_>>())
        };
        // Of several rows that fail, the first one is told, whichever was reached first.
        let counted: Vec<Result<Vec<SequenceTokens>, Error>> = block.par_iter().map(count).collect();
        for sequences in counted {
            counts.extend(sequences?);
        }
    }
}
