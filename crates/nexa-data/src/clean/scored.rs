//! Scores as they were stored: the chain that made them, and row by row what it found.

use std::path::PathBuf;

use nexa_core::artifact::Artifact;
use nexa_core::columns::{ID, LANGUAGE, LANGUAGE_CONFIDENCE};
use nexa_core::table::{self, Row};
use nexa_core::{Error, Result, config};
use serde_json::Value;

use super::chain::{Chain, Config};
use super::score::NAME;
use crate::catalog::table_path;
use crate::tables::Records;

/// The configuration and the chain that made scores.
///
/// # Errors
/// Fails when something else than `data.score` made the artifact, or a gate of another version.
pub fn chain_of(scores: &Artifact) -> Result<(Config, Chain)> {
    let place = scores.manifest_path();
    let producer = &scores.manifest.producer;
    if producer.stage != NAME {
        return Err(Error::malformed(place, format!("made by {}, not by {NAME}", producer.stage)));
    }
    let place = place.display().to_string();
    let config: Config = config::from_value(producer.config.clone(), &place)?;
    let chain = Chain::new(&config, &place)?;
    Ok((config, chain))
}

/// What was found in one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scored {
    pub(super) id: String,
    pub(super) language: Option<(String, f64)>,
    pub(super) scores: Vec<f64>,
}

impl Scored {
    /// The language, for a verdict.
    pub(super) fn language(&self) -> Option<(&str, f64)> {
        self.language.as_ref().map(|(code, confidence)| (code.as_str(), *confidence))
    }
}

/// Reads stored scores in the order of the rows.
///
/// # Errors
/// Fails when the artifact holds no table; each row fails with the place when it holds not what the chain measures.
pub(super) fn read(scores: &Artifact, chain: &Chain) -> crate::Result<impl Iterator<Item = Result<Scored>>> {
    let path = table_path(scores, None)?;
    let columns = chain.columns();
    Ok(Records::open(&path)?.rows().map(move |row| parse(&row?, &columns, &path)))
}

fn parse(row: &Row, columns: &[String], path: &PathBuf) -> Result<Scored> {
    let number = |column: &String| {
        row.get(column)
            .and_then(Value::as_f64)
            .ok_or_else(|| Error::malformed(path, format!("column `{column}` holds no number")))
    };
    let confidence = row.get(LANGUAGE_CONFIDENCE).and_then(Value::as_f64);
    let language = row.get(LANGUAGE).and_then(Value::as_str).map(str::to_owned).zip(confidence);
    let id = table::text(row, ID, path)?.to_owned();
    Ok(Scored { id, language, scores: columns.iter().map(number).collect::<Result<_>>()? })
}
