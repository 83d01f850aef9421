//! `data.clean`: keeps the rows whose scores hold against the thresholds, and replaces what is sensitive in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::columns::{ID, REJECTION_GATE, REJECTION_REASON, REJECTION_VALUE};
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{self, Row};
use nexa_core::{Error as CoreError, files};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chain::Chain;
use super::funnel::{Counter, Funnel};
use super::redact::{Counts, Redactor, Sensitive};
use super::scored::{self, Scored};
use super::thresholds::{Judge, Rejection, Section, Thresholds};
use super::{DATASET_ROLE, SCORES_ROLE, rows};
use crate::rows::{Pass, Source};
use crate::tables::{RowWriter, Schema, stated_schema};
use crate::{Error, Result};

/// The name of the stage, and the place that its configuration errors name.
const NAME: &str = "data.clean";

const ROWS_FILE: &str = "parquet";
const REJECTED_FILE: &str = "rejected.parquet";
const FUNNEL_FILE: &str = "funnel.json";

/// What is kept, and what is replaced in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Thresholds of `gopher@1` that differ from the published ones; null lifts a rule.
    pub gopher: Section,
    /// Thresholds of `c4@1`.
    pub c4: Section,
    /// Thresholds of `fineweb@1`.
    pub fineweb: Section,
    /// The languages that are kept; none of them means all.
    pub language: Vec<String>,
    /// How sure a language must be, from 0 to 1.
    pub min_language_confidence: f64,
    /// What is replaced by placeholders in the rows that are kept.
    pub redact: Vec<Sensitive>,
}

impl Default for Config {
    fn default() -> Self {
        let Thresholds { gopher, c4, fineweb, language, min_language_confidence } = Thresholds::default();
        let redact = Sensitive::ALL.to_vec();
        Self { gopher, c4, fineweb, language, min_language_confidence, redact }
    }
}

impl Config {
    /// The thresholds of this configuration.
    pub fn thresholds(&self) -> Thresholds {
        Thresholds {
            gopher: self.gopher.clone(),
            c4: self.c4.clone(),
            fineweb: self.fineweb.clone(),
            language: self.language.clone(),
            min_language_confidence: self.min_language_confidence,
        }
    }
}

/// Judges rows by stored scores, in one pass over them: a data set's file says the types of all columns before the first
/// row is written. Memory holds one batch.
#[derive(Debug)]
pub struct Clean {
    config: Config,
    thresholds: Thresholds,
    redactor: Redactor,
}

impl Clean {
    /// Checks a configuration and fills in what it leaves to the gates.
    ///
    /// # Errors
    /// Fails with the nearest key on a threshold that no rule has, and on a language that is not known.
    pub fn new(mut config: Config) -> Result<Self> {
        let thresholds = config.thresholds().resolve(NAME)?;
        let Thresholds { gopher, c4, fineweb, language, .. } = thresholds.clone();
        config.redact.sort();
        config.redact.dedup();
        let redactor = Redactor::new(&config.redact);
        Ok(Self { config: Config { gopher, c4, fineweb, language, ..config }, thresholds, redactor })
    }

    fn clean(&self, context: &Context<'_>) -> Result<()> {
        let dataset = context.inputs.require(DATASET_ROLE)?;
        let scores = context.inputs.require(SCORES_ROLE)?;
        check_belongs(dataset, scores)?;
        let (config, chain) = scored::chain_of(scores)?;
        let work = Work {
            source: Source::of_artifact(dataset)?,
            text: config.text,
            judge: Judge::new(&chain, &self.thresholds, NAME)?,
            redactor: &self.redactor,
            chain,
        };
        let schemas = work.schemas(context)?;
        let mut out = Output::begin(context.output, schemas)?;
        let mut counter = Counter::new(work.judge.gates());
        work.judge_all(context, scores, &mut |verdict| {
            counter.count(verdict.rejection.as_ref());
            out.take(verdict)
        })?;
        let facts = out.finish()?;
        let funnel = counter.finish();
        if funnel.rows_out == 0 {
            return Err(nothing_kept(&funnel));
        }
        files::write_json(&context.output.join(FUNNEL_FILE), &funnel)?;
        context.set_rows(funnel.rows_out);
        context.state("funnel", &funnel)?;
        context.state("edited", facts.edited)?;
        context.state("redacted", &facts.redacted)?;
        Ok(())
    }
}

/// Refuses scores of other rows than those that are cleaned.
fn check_belongs(dataset: &Artifact, scores: &Artifact) -> Result<()> {
    let own = &dataset.manifest.content_hash;
    let belongs = scores.manifest.parents.iter().any(|parent| parent.content_hash == *own);
    if belongs {
        return Ok(());
    }
    Err(Error::OtherRows { scores: scores.id().to_string(), dataset: dataset.id().to_string() })
}

fn nothing_kept(funnel: &Funnel) -> Error {
    let rules = funnel.steps.iter().flat_map(|step| {
        step.rejected.iter().map(move |(rule, rows)| (*rows, format!("{rule} of {}", step.gate)))
    });
    let rule = rules.max().map_or_else(String::new, |(rows, rule)| format!("{rule} rejected {rows}"));
    Error::NothingKept { rows: funnel.rows_in, rule }
}

/// One cleaning at work.
struct Work<'a> {
    source: Source,
    text: Option<String>,
    judge: Judge,
    redactor: &'a Redactor,
    chain: Chain,
}

/// What becomes of one row.
struct Verdict {
    row: Row,
    rejection: Option<Rejection>,
    edited: bool,
    redacted: Counts,
}

/// The columns of the kept and of the rejected rows.
struct Schemas {
    kept: Schema,
    rejected: Schema,
}

impl Work<'_> {
    /// The types of all columns: those that the file states and those that are added, else those that the rows have.
    fn schemas(&self, context: &Context<'_>) -> Result<Schemas> {
        let Some(stated) = stated_schema(&self.source.path)? else { return self.observe(context) };
        let conflict =
            |conflict: &dyn std::fmt::Display| CoreError::malformed(&self.source.path, conflict.to_string());
        let mut schemas = Schemas { kept: stated.clone(), rejected: stated };
        let mut added = Row::new();
        self.add_language(&mut added, Some(("en", 0.5)));
        schemas.kept.observe(&added).map_err(|e| conflict(&e))?;
        add_rejection(&mut added, "", "", 0.5);
        schemas.rejected.observe(&added).map_err(|e| conflict(&e))?;
        Ok(schemas)
    }

    /// The types that the rows have, from a pass of its own.
    fn observe(&self, context: &Context<'_>) -> Result<Schemas> {
        let mut schemas = Schemas { kept: Schema::default(), rejected: Schema::default() };
        Pass { context, source: &self.source, note: "reading" }.run(|first, batch| {
            for (number, mut row) in (first + 1..).zip(batch) {
                let conflict =
                    |conflict| CoreError::malformed(&self.source.path, format!("row {number}: {conflict}"));
                self.add_language(&mut row, Some(("en", 0.5)));
                schemas.kept.observe(&row).map_err(|e| conflict(e.to_string()))?;
                add_rejection(&mut row, "", "", 0.5);
                schemas.rejected.observe(&row).map_err(|e| conflict(e.to_string()))?;
            }
            Ok(())
        })?;
        Ok(schemas)
    }

    /// Every row with its scores, in order.
    fn judge_all(
        &self,
        context: &Context<'_>,
        scores: &Artifact,
        take: &mut dyn FnMut(Verdict) -> Result<()>,
    ) -> Result<()> {
        let mut scores = scored::read(scores, &self.chain)?;
        Pass { context, source: &self.source, note: "cleaning" }.run(|_, batch| {
            let mut pairs = Vec::with_capacity(batch.len());
            for row in batch {
                let scored =
                    scores.next().ok_or_else(|| self.misplaced("the scores end before the rows"))??;
                pairs.push((row, scored));
            }
            let verdicts: Vec<Verdict> = pairs
                .into_par_iter()
                .map(|(row, scored)| self.verdict(row, &scored))
                .collect::<Result<_>>()?;
            verdicts.into_iter().try_for_each(&mut *take)
        })?;
        Ok(())
    }

    fn verdict(&self, mut row: Row, scored: &Scored) -> Result<Verdict> {
        if table::text(&row, ID, &self.source.path)? != scored.id {
            return Err(self.misplaced(&format!("the scores have `{}` in the place of a row", scored.id)));
        }
        let rejection = self.judge.verdict(scored.language(), &scored.scores);
        self.add_language(&mut row, scored.language());
        if let Some(Rejection { gate, reason, value, .. }) = &rejection {
            add_rejection(&mut row, gate, reason, *value);
            return Ok(Verdict { row, rejection, edited: false, redacted: Counts::new() });
        }
        let column = rows::text_column(&row, self.text.as_deref(), &self.source.path)?.to_owned();
        let mut redactor = self.redactor.row();
        let mut edited = false;
        rows::change(&mut row, &column, |text, is_whole| {
            // Lines of a conversation belong to their messages; only a text of its own loses what gates take out.
            let kept = if is_whole { self.chain.edit(text) } else { self.chain.normalise(text) };
            edited |= kept != text;
            redactor.redact(&kept).or_else(|| (kept != text).then(|| kept.into_owned()))
        });
        Ok(Verdict { row, rejection: None, edited, redacted: redactor.finish() })
    }

    /// Adds the columns of the language, where the chain finds it.
    fn add_language(&self, row: &mut Row, language: Option<(&str, f64)>) {
        if self.chain.detects_language() {
            rows::add_language(row, language);
        }
    }

    fn misplaced(&self, message: &str) -> Error {
        CoreError::Integrity { path: self.source.path.clone(), message: message.to_owned() }.into()
    }
}

fn add_rejection(row: &mut Row, gate: &str, reason: &str, value: f64) {
    row.insert(REJECTION_GATE.to_owned(), gate.into());
    row.insert(REJECTION_REASON.to_owned(), reason.into());
    row.insert(REJECTION_VALUE.to_owned(), value.into());
}

/// The tables under way.
struct Output {
    kept: Sheet,
    rejected: Sheet,
    facts: Facts,
}

/// What was done to the rows that were kept.
#[derive(Default)]
struct Facts {
    edited: u64,
    redacted: BTreeMap<Sensitive, u64>,
}

/// A table that is made with its first row.
struct Sheet {
    path: PathBuf,
    schema: Schema,
    writer: Option<RowWriter>,
}

impl Output {
    fn begin(folder: &Path, schemas: Schemas) -> Result<Self> {
        let sheet = |file, schema| Sheet { path: folder.join(file), schema, writer: None };
        Ok(Self {
            kept: sheet(ROWS_FILE, schemas.kept),
            rejected: sheet(REJECTED_FILE, schemas.rejected),
            facts: Facts::default(),
        })
    }

    fn take(&mut self, verdict: Verdict) -> Result<()> {
        self.facts.edited += u64::from(verdict.edited);
        for (kind, count) in verdict.redacted {
            *self.facts.redacted.entry(kind).or_default() += count;
        }
        let sheet = if verdict.rejection.is_none() { &mut self.kept } else { &mut self.rejected };
        sheet.add(verdict.row)
    }

    fn finish(self) -> Result<Facts> {
        self.kept.finish()?;
        self.rejected.finish()?;
        Ok(self.facts)
    }
}

impl Sheet {
    fn add(&mut self, row: Row) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(RowWriter::create(&self.path, &self.schema)?),
        };
        Ok(writer.append(row)?)
    }

    fn finish(self) -> Result<()> {
        self.writer.map(RowWriter::finish).transpose()?;
        Ok(())
    }
}

impl Stage for Clean {
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
        serde_json::to_value(&self.config).expect("text and finite numbers can always be JSON")
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.clean(context)?)
    }
}
