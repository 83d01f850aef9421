//! `data.decontaminate`: rows that hold what models are judged by are taken out.
//!
//! The method is `decontaminate@1`; `judge` says what it looks for and where the idea of each part comes from. In
//! short: a row is taken out where it holds enough of an item's question, enough of its answer, or the end of the
//! question followed by the beginning of the answer. Short items are looked for as a whole.

mod config;
mod index;
mod items;
mod judge;
mod outcome;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::columns::SPLIT;
use nexa_core::decontamination::{CheckedSet, EvaluationSet, SUMMARY_KEY};
use nexa_core::event::Event;
use nexa_core::hash::ContentHash;
use nexa_core::lab::Lab;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::Row;
use nexa_core::{Error as CoreError, files};
use rayon::prelude::*;
use serde_json::{Value, json};

pub use config::{Config, HeldOut};

use crate::rows::{Document, Pass, Source, Words, id_of};
use crate::tables::{Records, Schema};
use crate::{Result, catalog};
use index::Index;
use items::{Items, Reading};
use judge::{Judge, Match};
use outcome::{Contaminated, Judged, Report};

/// The method, as reports and rejected rows name it.
pub const METHOD: &str = "decontaminate@1";

/// The column that names the evaluation set of an item.
pub const EVALUATION_SET: &str = "evaluation_set";
/// The column that names an item in its set.
pub const EVALUATION_ID: &str = "evaluation_id";

/// The roles of artifacts that hold evaluation items: a data set, and the test split of SFT data.
const EVALUATION_ROLE: &str = "evaluation";
const SFT_ROLE: &str = "sft_dataset";

/// The name of the stage, and the place that its configuration errors name.
const NAME: &str = "data.decontaminate";

/// The files of the artifact beside the table of what stays and that of what does not.
const MATCHES_FILE: &str = "matches.parquet";
const REPORT_FILE: &str = "report.json";

/// The stage: a table in, its rows without those that hold evaluation items out.
#[derive(Debug, Clone)]
pub struct Decontaminate {
    config: Config,
    files: Vec<PathBuf>,
}

impl Decontaminate {
    /// Makes the stage, with the lab's evaluation sets where the configuration names none.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key.
    pub fn new(lab: &Lab, mut config: Config) -> Result<Self> {
        config.check()?;
        // The sets become part of the key, so that another `nexa.yaml` is other work.
        let sets = config.evaluation_sets.get_or_insert_with(|| lab.settings().evaluation_sets.clone());
        let files = sets.iter().map(|set| lab.root().join(&set.path)).collect();
        Ok(Self { config, files })
    }

    fn decontaminate(&self, context: &Context<'_>) -> Result<()> {
        let source = Source::of(context, NAME)?;
        let items = self.items(context, &source)?;
        if items.all.is_empty() {
            let message = "there are no evaluation items: name sets in `evaluation_sets` (here or in nexa.yaml), rows \
                           in `held_out`, or an input `evaluation` or `sft_dataset`";
            return Err(CoreError::config(NAME, message).into());
        }
        let index = Index::of(&self.config, &items);
        let judge = Judge { config: &self.config, index: &index };
        let judged = self.judge(context, &source, &judge)?;
        judged.write_matches(&items, &context.output.join(MATCHES_FILE))?;
        let (kept, removed) = judged.write_rows(context, &source, &items)?;
        let sets: Vec<CheckedSet> = items
            .sets
            .iter()
            .zip(&index.too_short)
            .map(|(set, too_short)| CheckedSet {
                name: set.name.clone(),
                hash: set.hash.clone(),
                items: set.items,
                too_short: *too_short,
            })
            .collect();
        let report = Report::of(&judged, &items, &sets);
        files::write_json(&context.output.join(REPORT_FILE), &report)?;
        for set in sets.iter().filter(|set| set.too_short > 0) {
            context.emit(Event::warning(format!(
                "{} of {} items of {} are too short to be looked for",
                set.too_short, set.items, set.name
            )));
        }
        context.set_rows(kept);
        context.state("method", METHOD)?;
        context.state("rows_in", judged.rows)?;
        context.state("rows_out", kept)?;
        context.state("removed", removed)?;
        context.state("held_out", judged.held_out)?;
        context.state(SUMMARY_KEY, sets)?;
        Ok(())
    }

    /// Reads the items of files, of artifacts, and of the rows that are held out.
    fn items(&self, context: &Context<'_>, source: &Source) -> Result<Items> {
        let mut items = Items::default();
        let named: &[EvaluationSet] = self.config.evaluation_sets.as_deref().unwrap_or_default();
        for (set, path) in named.iter().zip(&self.files) {
            items.begin(
                path.file_name().and_then(|name| name.to_str()).unwrap_or(&set.path),
                ContentHash::of_file(path)?,
            );
            let reading = Reading { question: &set.question, answer: &set.answer, place: path };
            add_all(&mut items, path, &reading, |_| true)?;
        }
        for role in [EVALUATION_ROLE, SFT_ROLE] {
            let Some(artifact) = context.inputs.get(role) else { continue };
            items.begin(role, artifact.manifest.content_hash.clone());
            let path = evaluation_table(artifact)?;
            let reading = Reading { question: &[], answer: &[], place: &path };
            add_all(&mut items, &path, &reading, |row| row.get(SPLIT).is_none_or(|split| split == "test"))?;
        }
        if let Some(held_out) = &self.config.held_out {
            items.begin("held_out", ContentHash::of_file(&source.path)?);
            let place = &source.path;
            let reading = Reading { question: &held_out.question, answer: &held_out.answer, place };
            add_all(&mut items, place, &reading, |row| is_held_out(held_out, row))?;
            if items.sets.last().is_some_and(|set| set.items == 0) {
                let message = format!("no row has `{}` = {}", held_out.column, held_out.values.join(" or "));
                return Err(CoreError::malformed(place, message).into());
            }
        }
        Ok(items)
    }

    /// The first pass: which rows hold which items.
    fn judge(&self, context: &Context<'_>, source: &Source, judge: &Judge<'_>) -> Result<Judged> {
        let mut schema = Schema::default();
        let mut document: Option<Document> = None;
        let mut contaminated = Vec::new();
        let mut held_out = 0;
        let rows = Pass { context, source, note: "looking for evaluation items" }.run(|first, batch| {
            if document.is_none() {
                document = Some(Document::choose(&self.config.columns, &batch[0], &source.path)?);
            }
            let Some(document) = &document else { return Ok(()) };
            for row in &batch {
                schema.observe(row).map_err(|e| CoreError::malformed(&source.path, e.to_string()))?;
            }
            let scratch = || (String::new(), Words::default());
            let found: Vec<Option<Vec<Match>>> = batch
                .par_iter()
                .map_init(scratch, |(text, words), row| {
                    if self.config.held_out.as_ref().is_some_and(|held_out| is_held_out(held_out, row)) {
                        return None;
                    }
                    document.read(row, text);
                    words.read(text, false);
                    Some(judge.judge(words))
                })
                .collect();
            for ((number, row), found) in (first..).zip(&batch).zip(found) {
                match found {
                    None => held_out += 1,
                    Some(matches) if matches.is_empty() => {}
                    Some(matches) => {
                        let id = id_of(row, number, &source.path)?;
                        contaminated.push(Contaminated { row: number, id, matches });
                    }
                }
            }
            Ok(())
        })?;
        let columns = document.map(|document| document.columns().to_vec()).unwrap_or_default();
        Ok(Judged { schema, columns, rows, held_out, contaminated })
    }
}

/// The table that holds the evaluation items of an artifact.
fn evaluation_table(artifact: &Artifact) -> Result<PathBuf> {
    let file = (artifact.manifest.kind == Kind::SftDataset).then_some("test.jsonl");
    catalog::table_path(artifact, file)
}

fn add_all(
    items: &mut Items,
    path: &Path,
    reading: &Reading<'_>,
    is_item: impl Fn(&Row) -> bool,
) -> Result<()> {
    for row in Records::open(path)?.rows() {
        let row = row?;
        if is_item(&row) {
            items.add(&row, reading)?;
        }
    }
    Ok(())
}

fn is_held_out(held_out: &HeldOut, row: &Row) -> bool {
    let is = |value: &str| held_out.values.iter().any(|held| held == value);
    match row.get(&held_out.column) {
        Some(Value::String(value)) => is(value),
        Some(Value::Null) | None => false,
        Some(other) => is(&other.to_string()),
    }
}

impl Stage for Decontaminate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::Dataset
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.decontaminate(context)?)
    }
}
