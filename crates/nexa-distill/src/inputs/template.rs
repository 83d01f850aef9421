//! Prompt templates: text with `{column}` places.

use nexa_core::config;
use nexa_core::table::Row;

use crate::{Error, Result, table};

/// The variable that stands for the prompt column, whatever its name.
const PROMPT: &str = "prompt";

/// A template, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    name: String,
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(String),
}

impl Template {
    /// Reads a template's text.
    ///
    /// # Errors
    /// Fails on a brace that is not closed or not opened.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let bad = |message: String| Error::BadTemplate { template: name.to_owned(), message };
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
            } else if brace == "}" {
                return Err(bad("a `}` was never opened".to_owned()));
            } else {
                let end = rest.find('}').ok_or_else(|| bad(format!("`{{{rest}` is never closed")))?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Variable(rest[..end].trim().to_owned()));
                rest = &rest[end + 1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { name: name.to_owned(), text: text.to_owned(), pieces })
    }

    /// The template's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The template's text, as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks that a row has every variable.
    ///
    /// # Errors
    /// Fails on the first that it has not.
    pub fn check(&self, row: &Row) -> Result<()> {
        for piece in &self.pieces {
            if let Piece::Variable(variable) = piece
                && variable != PROMPT
                && !row.contains_key(variable)
            {
                let known = row.keys().map(String::as_str).chain([PROMPT]);
                return Err(Error::UnknownVariable {
                    template: self.name.clone(),
                    variable: variable.clone(),
                    nearest: config::nearest(variable, known).map(str::to_owned),
                });
            }
        }
        Ok(())
    }

    /// Fills the template in. A cell that is null leaves its place empty.
    pub fn fill(&self, prompt: &str, row: &Row) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Variable(variable) if variable == PROMPT => prompt.to_owned(),
                Piece::Variable(variable) => table::cell(row, variable).unwrap_or_default(),
            })
            .collect()
    }
}
