//! Makes data of what reviewers decided: rejected rows go, edited ones get their new text, and what a gate rejected by
//! mistake comes back.
//!
//! The decisions are those of [`nexa_core::review`]; here they only take effect. Nothing is lost: what is left out
//! stands among the rejected rows, with the gate `review` and the reason, and an edited row keeps the teacher's text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::columns;
use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::hash::ContentHash;
use nexa_core::lab::Lab;
use nexa_core::review::{Agreement, Deck, Journal, Labels, Opinion, Outcome, Record, Verdict, outcome};
use nexa_core::run::RunRecord;
use nexa_core::stage::{Context, Inputs, Stage, StageError};
use nexa_core::table::Row;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::check;
use crate::filter::MEASURED;
use crate::{Error, Result, table};

const STAGE: &str = "distill.review";

/// Where the rejected rows stand in an artifact.
const REJECTED: &str = "rejected.parquet";

/// What stands for the decision where reviewers disagree.
const DISAGREE: &str = "disagree";

/// The gate of what reviewers left out.
pub const GATE: &str = "review";

/// Which decisions count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Leaves out rows that passed the gates and that not enough reviewers have decided on. Default false: they pass.
    pub require_review: bool,
    /// So many reviewers must have decided on a row before that counts. Default 1.
    pub min_reviewers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { require_review: false, min_reviewers: 1 }
    }
}

/// The stage `distill.review`: role `filtered`, or `outputs` where no gates were asked; what reviewers let through,
/// what they and the gates did not, and how far they agree out.
#[derive(Debug, Clone)]
pub struct Review {
    lab: Lab,
    config: Config,
}

/// How many rows went where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that were shown: those that passed the gates, and those that did not.
    pub rows_in: usize,
    /// Rows that go on.
    pub rows_out: usize,
    /// Of these, those that reviewers accepted.
    pub accepted: usize,
    /// Of these, those that a gate had rejected.
    pub taken_back: usize,
    /// Of these, those with an edited text.
    pub edited: usize,
    /// Of these, those that not enough reviewers have decided on.
    pub unreviewed: usize,
    /// Rows that reviewers rejected.
    pub rejected: usize,
    /// Rows that reviewers want to be asked for again.
    pub regenerate: usize,
    /// Rows that are left out as reviewers disagree.
    pub disagreed: usize,
    /// Rows that are left out as `require_review` says.
    pub not_reviewed: usize,
}

/// Rows, sorted by what reviewers decided.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sorted {
    /// Rows that go on.
    pub passed: Vec<Row>,
    /// Rows that do not, with `rejection_gate` and `rejection_reason`.
    pub rejected: Vec<Row>,
    /// How many went where.
    pub counts: Counts,
}

impl Review {
    /// Makes the stage, for labels of a lab.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key.
    pub fn new(lab: &Lab, config: Config) -> Result<Self> {
        check(STAGE, "min_reviewers", config.min_reviewers)
            .that(config.min_reviewers > 0, "nothing could ever be pending")?;
        Ok(Self { lab: lab.clone(), config })
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let artifact = source(context.inputs)?;
        let labels = Labels::new(&self.lab, artifact.id());
        let journals = labels.read_all()?;
        check_unchanged(context, &label_files(&labels)?)?;
        let deck = read_deck(context, artifact)?;
        tell_problems(context, &deck, &journals);

        let sorted = sort(&deck, &journals, &self.config);
        if sorted.passed.is_empty() {
            let message = "reviewers left nothing".to_owned();
            return Err(Error::NothingLeft { stage: STAGE, rows: deck.len(), message });
        }
        context.services.tables.write(&context.output.join("parquet"), &sorted.passed)?;
        if !sorted.rejected.is_empty() {
            context.services.tables.write(&context.output.join(REJECTED), &sorted.rejected)?;
        }
        carry_measures(context, artifact)?;
        context.set_rows(sorted.passed.len() as u64);
        context.state("review", &sorted.counts)?;
        context.state("reviewers", journals.keys().collect::<Vec<_>>())?;
        context.state("agreement", Agreement::of(&journals))?;
        let Counts { accepted, edited, taken_back, rejected, regenerate, disagreed, unreviewed, .. } =
            sorted.counts;
        context.emit(Event::info(format!(
            "{accepted} rows accepted, {edited} edited ({taken_back} of them taken back from a gate), {rejected} \
             rejected, {regenerate} to be asked for again, {unreviewed} passed unreviewed"
        )));
        if disagreed > 0 {
            context.emit(Event::warning(format!(
                "{disagreed} rows are left out because reviewers disagree; a third can settle it in `nexa ui`"
            )));
        }
        Ok(())
    }
}

impl Stage for Review {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::Filtered
    }

    fn code_version(&self) -> u32 {
        2
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn files_beside(&self, inputs: &Inputs) -> nexa_core::Result<Vec<PathBuf>> {
        label_files(&Labels::new(&self.lab, source(inputs)?.id()))
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

/// Applies the decisions on every row.
pub fn sort(deck: &Deck, journals: &BTreeMap<String, Journal>, config: &Config) -> Sorted {
    let mut sorted =
        Sorted { counts: Counts { rows_in: deck.len(), ..Counts::default() }, ..Sorted::default() };
    for record in deck.records() {
        let outcome = outcome(journals, record.row_id, config.min_reviewers);
        sorted.add(record, &outcome, config);
    }
    sorted.counts.rows_out = sorted.passed.len();
    sorted
}

impl Sorted {
    fn add(&mut self, record: Record<'_>, outcome: &Outcome<'_>, config: &Config) {
        let counts = &mut self.counts;
        let mut row = record.row.clone();
        let Some(opinion) = outcome.opinion() else {
            let reason = match outcome {
                Outcome::Disagreed(opinions) => {
                    counts.disagreed += 1;
                    mark(&mut row, json!(DISAGREE), opinions);
                    Some(disagreement(opinions))
                }
                _ if record.gate().is_some() => {
                    mark(&mut row, Value::Null, &[]);
                    return self.rejected.push(row);
                }
                _ if config.require_review => {
                    counts.not_reviewed += 1;
                    mark(&mut row, Value::Null, &[]);
                    Some(format!("fewer than {} have reviewed it", config.min_reviewers))
                }
                _ => {
                    counts.unreviewed += 1;
                    mark(&mut row, Value::Null, &[]);
                    None
                }
            };
            return match reason {
                Some(reason) => self.reject(row, &reason),
                None => self.passed.push(row),
            };
        };
        let decision = opinion.decision;
        mark(&mut row, json!(decision.verdict), &[opinion]);
        let reason = decision.reason.as_deref();
        match decision.verdict {
            Verdict::Reject => counts.rejected += 1,
            Verdict::Regenerate => counts.regenerate += 1,
            Verdict::Accept => counts.accepted += 1,
            Verdict::Edit => counts.edited += 1,
        }
        if !decision.verdict.keeps() {
            return self.reject(row, reason.unwrap_or("no reason was given"));
        }
        counts.taken_back += usize::from(record.gate().is_some());
        row.shift_remove(columns::REJECTION_GATE);
        row.shift_remove(columns::REJECTION_REASON);
        if let Some(text) = &decision.text {
            let original = row.insert(columns::TEACHER_OUTPUT.to_owned(), json!(text));
            row.insert(columns::EDITED_BY.to_owned(), json!(opinion.reviewer));
            row.insert(columns::ORIGINAL_OUTPUT.to_owned(), original.unwrap_or_default());
        }
        self.passed.push(row);
    }

    fn reject(&mut self, mut row: Row, reason: &str) {
        row.insert(columns::REJECTION_GATE.to_owned(), json!(GATE));
        row.insert(columns::REJECTION_REASON.to_owned(), json!(reason));
        self.rejected.push(row);
    }
}

/// Whether a row is left out although no reviewer has said that it is bad: too few have seen it, or they disagree.
pub(crate) fn is_undecided(row: &Row) -> bool {
    let text = |column: &str| row.get(column).and_then(Value::as_str);
    text(columns::REJECTION_GATE) == Some(GATE) && matches!(text(columns::REVIEW), None | Some(DISAGREE))
}

/// Whether reviewers want a row to be asked for again.
pub(crate) fn is_wanted_again(row: &Row) -> bool {
    row.get(columns::REVIEW).and_then(Value::as_str) == Some(Verdict::Regenerate.as_str())
}

/// Writes into a row what was decided, and makes room for an edit.
fn mark(row: &mut Row, review: Value, opinions: &[Opinion<'_>]) {
    let names: Vec<&str> = opinions.iter().map(|opinion| opinion.reviewer).collect();
    let names = table::value((!names.is_empty()).then(|| names.join(", ")));
    // Rejected rows keep what a gate wrote behind them; every row of a table has the columns of its first.
    let gate =
        [columns::REJECTION_GATE, columns::REJECTION_REASON].map(|column| (column, row.shift_remove(column)));
    row.insert(columns::REVIEW.to_owned(), review);
    row.insert(columns::REVIEWED_BY.to_owned(), names);
    row.insert(columns::EDITED_BY.to_owned(), Value::Null);
    row.insert(columns::ORIGINAL_OUTPUT.to_owned(), Value::Null);
    for (column, value) in gate {
        value.map(|value| row.insert(column.to_owned(), value));
    }
}

fn disagreement(opinions: &[Opinion<'_>]) -> String {
    let words = opinions.iter().map(|one| format!("{}: {}", one.reviewer, one.decision.verdict));
    format!("reviewers disagree ({})", words.collect::<Vec<_>>().join(", "))
}

/// What was reviewed.
fn source(inputs: &Inputs) -> nexa_core::Result<&Artifact> {
    match inputs.get("outputs") {
        Some(outputs) => Ok(outputs),
        None => inputs.require("filtered"),
    }
}

fn read_deck(context: &Context<'_>, artifact: &Artifact) -> Result<Deck> {
    let passed = table::read(context, artifact)?;
    let has_rejected = artifact.manifest.files.iter().any(|file| file.name == REJECTED);
    // Only gates reject what there is to review; calls that failed have no answer.
    let rejected = if has_rejected && artifact.manifest.kind == Kind::Filtered {
        context.services.tables.read(&artifact.file(REJECTED)?)?
    } else {
        Vec::new()
    };
    Ok(Deck::new(artifact.id(), Arc::new(passed), Arc::new(rejected))?)
}

/// Hands on what the gates measured, which decisions do not change: bounds can be moved, and answers compared, after a
/// review as before it.
fn carry_measures(context: &Context<'_>, artifact: &Artifact) -> Result<()> {
    for name in MEASURED {
        if artifact.manifest.files.iter().any(|file| file.name == name) {
            files::write_atomic(&context.output.join(name), &files::read(&artifact.file(name)?)?)?;
        }
    }
    Ok(())
}

fn label_files(labels: &Labels) -> nexa_core::Result<Vec<PathBuf>> {
    labels.reviewers()?.iter().map(|reviewer| labels.path(reviewer)).collect()
}

/// Refuses labels to which something was added since the key of the work was made of them.
fn check_unchanged(context: &Context<'_>, paths: &[PathBuf]) -> Result<()> {
    let record = RunRecord::read(context.workspace)?;
    let keyed: Vec<&ContentHash> =
        record.inputs.iter().filter(|parent| parent.is_file()).map(|parent| &parent.content_hash).collect();
    for path in paths {
        if !keyed.contains(&&ContentHash::of_file(path)?) {
            let message = "a reviewer wrote to it just now; run the same command again".to_owned();
            return Err(nexa_core::Error::malformed(path, message).into());
        }
    }
    Ok(())
}

/// Says what is odd about the labels, though the work goes on.
fn tell_problems(context: &Context<'_>, deck: &Deck, journals: &BTreeMap<String, Journal>) {
    if journals.is_empty() {
        context.emit(Event::warning("nobody has reviewed it yet; every row that passed the gates goes on"));
    }
    for (reviewer, journal) in journals {
        if let Some(line) = journal.cut_line {
            context
                .emit(Event::warning(format!("labels of {reviewer}: line {line} is cut off and left out")));
        }
        let unknown = journal.history.decided().filter(|(row_id, _)| deck.find(row_id).is_none()).count();
        if unknown > 0 {
            let text = format!("labels of {reviewer}: {unknown} decisions are on rows that are not there");
            context.emit(Event::warning(text));
        }
    }
}
