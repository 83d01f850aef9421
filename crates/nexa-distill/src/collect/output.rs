//! What was collected, as tables: the rows with their answers, and the rows that have none.

use std::collections::{BTreeMap, BTreeSet};

use nexa_core::columns;
use nexa_core::event::Event;
use nexa_core::stage::Context;
use nexa_core::table::{JsonLines, Row, Tables};
use serde_json::{Value, json};

use super::collection::Collection;
use super::job::Place;
use super::{Config, REFUSAL};
use crate::client::Answer;
use crate::{Error, Result, table};

/// The file of the run's folder that holds what providers said of what failed for good.
const REASONS: &str = "reasons.jsonl";

/// Rows of answers, and the rows without one, the latter also with the provider's words.
#[derive(Debug, Default)]
pub(super) struct Collected {
    outputs: Vec<Row>,
    failed: Vec<Row>,
    reasons: Vec<Row>,
    /// Rows that were answered, with nothing that can be used.
    dropped: usize,
}

impl Collected {
    /// Puts the ends of jobs to the rows that wanted them.
    pub(super) fn new(rows: &[Row], places: &[Place], collection: &Collection<'_>) -> Self {
        let config = collection.work.config;
        let has_reasoning = places
            .iter()
            .filter_map(|place| collection.answer(place.job).ok())
            .any(|answer| answer.reasoning.is_some());
        let mut collected = Self::default();
        for place in places {
            let row = &rows[place.row];
            let (kind, message) = match collection.answer(place.job) {
                Ok(answer) => {
                    let mut row = output_row(row, place.sample_index, config, answer);
                    if has_reasoning {
                        row.insert(
                            columns::TEACHER_REASONING.to_owned(),
                            table::value(answer.reasoning.clone()),
                        );
                    }
                    collected.outputs.push(row);
                    continue;
                }
                Err(why) => why,
            };
            collected.dropped += usize::from(collection.is_unusable(place.job));
            let mut row = row.clone();
            row.insert(columns::SAMPLE_INDEX.to_owned(), json!(place.sample_index));
            row.insert("failure".to_owned(), json!(kind));
            collected.failed.push(row.clone());
            row.insert("reason".to_owned(), json!(message));
            collected.reasons.push(row);
        }
        collected
    }

    /// Writes the tables.
    ///
    /// # Errors
    /// Fails when nothing can be used, or more calls failed for good than may.
    pub(super) fn write(&self, context: &Context<'_>, config: &Config) -> Result<()> {
        let Self { outputs, failed, reasons, dropped } = self;
        if !failed.is_empty() {
            // A provider may word the same refusal anew each time, so its words stay out of the artifact.
            JsonLines.write(&context.workspace.join(REASONS), reasons)?;
        }
        let total = outputs.len() + failed.len();
        let max_share = config.max_failed_share;
        let refused = failed.len() - dropped;
        if outputs.is_empty() || refused as f64 > max_share * total as f64 {
            let cell = |row: &Row, column: &str| table::cell(row, column).unwrap_or_default();
            let first = reasons
                .first()
                .map_or_else(String::new, |row| format!("{}: {}", cell(row, "failure"), cell(row, "reason")));
            let teacher = config.teacher.clone();
            return Err(Error::TooManyFailed { teacher, failed: failed.len(), total, max_share, first });
        }
        context.services.tables.write(&context.output.join("parquet"), outputs)?;
        if !failed.is_empty() {
            JsonLines.write(&context.output.join("failed.jsonl"), failed)?;
            context.emit(Event::warning(format!(
                "{} of {total} answers failed for good; they stand in `failed.jsonl`, with the provider's words in \
                 `{REASONS}` of the run, and `--force` asks for them again",
                failed.len()
            )));
        }
        self.state(context)
    }

    fn state(&self, context: &Context<'_>) -> Result<()> {
        let tokens: u64 =
            self.outputs.iter().filter_map(|row| row[columns::COMPLETION_TOKENS].as_u64()).sum();
        let models: BTreeSet<&str> =
            self.outputs.iter().filter_map(|row| row[columns::MODEL_ID].as_str()).collect();
        let mut endings = BTreeMap::<&str, usize>::new();
        for row in &self.outputs {
            *endings.entry(row[columns::FINISH_REASON].as_str().unwrap_or_default()).or_default() += 1;
        }
        context.set_rows(self.outputs.len() as u64);
        context.set_tokens(tokens);
        context.state("failed", self.failed.len())?;
        context.state("dropped", self.dropped)?;
        context.state("models", models)?;
        context.state("finish_reasons", endings)?;
        Ok(())
    }
}

fn output_row(input: &Row, sample_index: u32, config: &Config, answer: &Answer) -> Row {
    let mut row = input.clone();
    if config.samples_per_prompt > 1 {
        let id = table::cell(input, columns::ID).unwrap_or_default();
        row.insert(columns::ID.to_owned(), json!(format!("{id}-s{sample_index}")));
    }
    row.insert(columns::SAMPLE_INDEX.to_owned(), json!(sample_index));
    row.insert(columns::TEACHER_OUTPUT.to_owned(), json!(answer.text));
    row.insert(columns::MODEL_ID.to_owned(), json!(answer.model_id));
    let finish_reason = if answer.is_refusal { REFUSAL } else { answer.finish_reason.as_str() };
    row.insert(columns::FINISH_REASON.to_owned(), json!(finish_reason));
    row.insert(columns::PROMPT_TOKENS.to_owned(), json!(answer.usage.prompt_tokens));
    row.insert(columns::COMPLETION_TOKENS.to_owned(), json!(answer.usage.completion_tokens));
    if config.top_logprobs.is_some() {
        // Nested as deep as it is, it stands as JSON.
        let logprobs = answer.logprobs.as_ref().map(Value::to_string);
        row.insert(columns::LOGPROBS.to_owned(), table::value(logprobs));
    }
    row
}
