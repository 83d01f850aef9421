//! `data.score`: what the gates measure of each row, stored beside the rows.

use std::path::Path;

use nexa_core::Error;
use nexa_core::artifact::Kind;
use nexa_core::columns::ID;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{self, Row};
use rayon::prelude::*;
use serde_json::Value;

use super::chain::{Chain, Config, Measured};
use super::gates::Scratch;
use super::{DATASET_ROLE, rows};
use crate::Result;
use crate::rows::{Pass, Source};
use crate::tables::{ParquetWriter, Schema};

/// The name of the stage, and the place that its configuration errors name.
pub(super) const NAME: &str = "data.score";

/// Measures every row of a data set: batch by batch, the rows of a batch on all threads.
#[derive(Debug)]
pub struct Score {
    config: Config,
    chain: Chain,
}

impl Score {
    /// Looks up the gates of a configuration.
    ///
    /// # Errors
    /// Fails with the nearest name on a gate that does not exist, and on one that is named twice.
    pub fn new(config: Config) -> Result<Self> {
        let chain = Chain::new(&config, NAME)?;
        Ok(Self { config, chain })
    }

    fn score(&self, context: &Context<'_>) -> Result<()> {
        let dataset = context.inputs.require(DATASET_ROLE)?;
        let source = Source::of_artifact(dataset)?;
        let path = &source.path;
        let columns = self.chain.columns();
        let schema = schema(&self.chain, &columns).map_err(|e| Error::malformed(path, e))?;
        let mut writer = ParquetWriter::create(&context.output.join("parquet"), &schema)?;
        let rows = Pass { context, source: &source, note: "scoring" }.run(|_, batch| {
            let scored: Vec<Row> = batch
                .par_iter()
                .map_init(Scratch::default, |scratch, row| self.row(row, &columns, path, scratch))
                .collect::<Result<_>>()?;
            Ok(writer.append(&scored)?)
        })?;
        writer.finish()?;
        context.set_rows(rows);
        context.state("gates", &self.config.gates)?;
        Ok(())
    }

    fn row(&self, row: &Row, columns: &[String], path: &Path, scratch: &mut Scratch) -> Result<Row> {
        let id = table::text(row, ID, path)?;
        let column = rows::text_column(row, self.config.text.as_deref(), path)?;
        let text = rows::text(row, column, path)?;
        Ok(scored(&self.chain, columns, id, &self.chain.measure(&text, scratch)))
    }
}

/// The row of a text's numbers.
fn scored(chain: &Chain, columns: &[String], id: &str, measured: &Measured) -> Row {
    let mut row = Row::new();
    row.insert(ID.to_owned(), id.into());
    if chain.detects_language() {
        rows::add_language(&mut row, measured.language.map(|found| (found.code, found.confidence)));
    }
    row.extend(columns.iter().zip(&measured.scores).map(|(column, &score)| (column.clone(), score.into())));
    row
}

/// The columns of scores: known beforehand, so that rows are written as they come.
fn schema(chain: &Chain, columns: &[String]) -> std::result::Result<Schema, String> {
    let language = Some(super::gates::Language { code: "en", confidence: 0.5 });
    let measured = Measured { language, scores: vec![0.5; columns.len()] };
    let mut schema = Schema::default();
    schema.observe(&scored(chain, columns, "", &measured)).map_err(|conflict| conflict.to_string())?;
    Ok(schema)
}

impl Stage for Score {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::Scores
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        serde_json::to_value(&self.config).expect("text and flags can always be JSON")
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.score(context)?)
    }
}
