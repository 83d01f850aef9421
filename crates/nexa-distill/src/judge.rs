//! Has models judge a teacher's answers by a rubric, one answer at a time or two against each other.
//!
//! Judges are asked as teachers are: each call is counted in the same budget and ledger, and an answer that was paid for
//! is never paid for again. Every verdict is kept with its explanation; a row's score is the mean over its judges of the
//! mean over their readable verdicts, from 1 to 5.

mod prompt;
mod rubric;
mod tally;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexa_core::artifact::Kind;
use nexa_core::columns;
use nexa_core::env::Environment;
use nexa_core::event::Event;
use nexa_core::lm::ModelLoader;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::Row;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::collect::{self, Asked, Collect, Misfit, OnFailure, ResponseSchema};
use crate::error::{check, check_share};
use crate::teacher::TeacherSpec;
use crate::{Error, Result, table};

pub use rubric::{Criterion, Item, Rubric};

use prompt::Question;
use tally::{Tally, Verdict};

const STAGE: &str = "distill.judge";
/// The file of all verdicts.
const VERDICTS: &str = "verdicts.parquet";

/// What is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each answer by itself.
    #[default]
    Single,
    /// The answers to one prompt in pairs, in both orders; a judge that follows the order has judged a tie.
    Pairs,
}

/// Who judges, by what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The rubric: a file of YAML or JSON, with `criteria` of five levels or a `checklist`.
    pub rubric: PathBuf,
    /// The judges, named as teachers are. Several are a jury.
    pub judges: Vec<String>,
    /// Single answers or pairs. Default `single`.
    pub mode: Mode,
    /// Verdicts of each judge on each answer or pair. Default 1.
    pub samples: u32,
    /// Sampling temperature. Default 0, at which a judge is most like itself.
    pub temperature: f64,
    /// The longest verdict, in tokens. Default 1024.
    pub max_tokens: u64,
    /// The seed of sample 0; sample `k` has this plus `k`. Default 0.
    pub seed: u64,
    /// Judges this many rows from the beginning. Default: all.
    pub limit: Option<usize>,
    /// The share of verdicts that may be unreadable without failing the stage. Default 0.2.
    pub max_unreadable_share: f64,
    /// Tells the judges' APIs the shape of verdicts, so that they cannot write anything else. Default: where the judge is
    /// named by a provider whose API takes a schema; of a URL it is not known.
    pub constrain: Option<bool>,
    /// Calls under way at once, at most; does not change the result. Default 64.
    pub max_concurrent_requests: usize,
    /// Further attempts for a call that failed in passing; does not change the result. Default 6.
    pub max_retries: u32,
    /// Seconds after which a call counts as failed; does not change the result. Default 120.
    pub timeout_s: u64,
    /// The ceiling on what this run may spend on calls, in US dollars; does not change the result. Default: that of
    /// `nexa.yaml`, if any.
    pub max_cost_usd: Option<f64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rubric: PathBuf::from("rubric.yaml"),
            judges: Vec::new(),
            mode: Mode::Single,
            samples: 1,
            temperature: 0.0,
            max_tokens: 1024,
            seed: 0,
            limit: None,
            max_unreadable_share: 0.2,
            constrain: None,
            max_concurrent_requests: 64,
            max_retries: 6,
            timeout_s: 120,
            max_cost_usd: None,
        }
    }
}

/// The stage `distill.judge`: role `outputs` in, for the judge `local` also `teacher`; scores and verdicts out.
#[derive(Debug, Clone)]
pub struct Judge {
    config: Config,
    rubric_file: PathBuf,
    rubric: Rubric,
    judges: Vec<Collect>,
}

impl Judge {
    /// Makes the stage; a relative path of the rubric begins in `folder`. The environment says where some judges are.
    ///
    /// # Errors
    /// Fails on a rubric that cannot be used, with its place, on a value that makes no sense, with its key, and on a
    /// judge that cannot be meant.
    pub fn new(config: Config, folder: &Path, environment: &Environment) -> Result<Self> {
        check(STAGE, "judges", "empty")
            .that(!config.judges.is_empty(), "name at least one teacher: `judges=[openai:gpt-4o]`")?;
        check(STAGE, "samples", config.samples).that(config.samples > 0, "there must be at least one")?;
        check_share(STAGE, "max_unreadable_share", config.max_unreadable_share)?;
        let rubric_file = folder.join(&config.rubric);
        let rubric = Rubric::read(&rubric_file)?;
        let judges = config
            .judges
            .iter()
            .enumerate()
            .map(|(position, judge)| {
                let is_first = !config.judges[..position].contains(judge);
                check(STAGE, "judges", judge)
                    .that(is_first, "each judge is asked once; `samples` asks again")?;
                check(STAGE, "judges", judge).that(judge != "embedded", "it can only solve word problems")?;
                Collect::new(config.asking(judge, verdict::schema(&rubric, config.mode))?, environment)
            })
            .collect::<Result<_>>()?;
        Ok(Self { config, rubric_file, rubric, judges })
    }

    /// Lets a checkpoint be a judge, named `local`; `loader` opens it.
    #[must_use]
    pub fn with_loader(self, loader: &Arc<dyn ModelLoader>) -> Self {
        let judges = self.judges.into_iter().map(|judge| judge.with_loader(Arc::clone(loader))).collect();
        Self { judges, ..self }
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let outputs = context.inputs.require("outputs")?;
        let place = outputs.file("parquet")?;
        let mut rows = table::read(context, outputs)?;
        rows.truncate(self.config.limit.unwrap_or(usize::MAX));
        table::required_column(None, columns::TEACHER_OUTPUT, &rows[0], &place)?;
        let questions = match self.config.mode {
            Mode::Single => prompt::singles(rows.len()),
            Mode::Pairs => prompt::pairs(&rows),
        };
        if questions.is_empty() {
            let message = "no prompt has two answers to compare".to_owned();
            return Err(Error::NothingLeft { stage: STAGE, rows: rows.len(), message });
        }
        let prompts: Vec<Row> = questions
            .iter()
            .enumerate()
            .map(|(position, question)| prompt::row(position, question, &rows, &self.rubric))
            .collect();
        let mut tally = Tally::new(&rows);
        for (judge, named) in self.judges.iter().zip(&self.config.judges) {
            for Asked { row, sample_index, answer } in judge.ask(context, &prompts, &place)? {
                let question = questions[row];
                let read = match answer {
                    Ok(text) => self.read(&text, question),
                    Err(kind) => Err((kind.to_owned(), String::new())),
                };
                tally.add(Verdict { question, judge: named.clone(), sample_index, read });
            }
        }
        self.write(context, &tally)
    }

    /// Reads a verdict; what is not readable is kept, with what is wrong.
    fn read(&self, text: &str, question: Question) -> Result<verdict::Read, (String, String)> {
        let read = match question.order {
            None => verdict::scores(text, &self.rubric),
            Some(_) => verdict::winner(text),
        };
        read.map_err(|message| (message, text.to_owned()))
    }

    fn write(&self, context: &Context<'_>, tally: &Tally<'_>) -> Result<()> {
        let (unreadable, total) = (tally.unreadable(), tally.len());
        if unreadable as f64 > self.config.max_unreadable_share * total as f64 {
            let first = tally.first_problem().unwrap_or_default().to_owned();
            return Err(Error::UnreadableVerdicts { unreadable, total, first });
        }
        let tables = context.services.tables;
        let scores = tally.scores();
        tables.write(&context.output.join("parquet"), &scores)?;
        tables.write(&context.output.join(VERDICTS), &tally.rows())?;
        if unreadable > 0 {
            context.emit(Event::warning(format!(
                "{unreadable} of {total} verdicts could not be read; they stand in `{VERDICTS}`, with what is wrong"
            )));
        }
        let known: Vec<f64> = scores.iter().filter_map(|row| row[columns::SCORE].as_f64()).collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        context.set_rows(scores.len() as u64);
        context.state("judges", &self.config.judges)?;
        context.state("rubric", self.rubric.name())?;
        context.state("verdicts", total)?;
        context.state("unreadable", unreadable)?;
        context.state("mean_score", tally::rounded(mean))?;
        Ok(())
    }
}

impl Config {
    /// How one of the judges is asked.
    fn asking(&self, judge: &str, schema: Map<String, Value>) -> Result<collect::Config> {
        let takes_schema = judge.parse::<TeacherSpec>()?.provider().takes_schema();
        let is_told = self.constrain.unwrap_or(takes_schema);
        Ok(collect::Config {
            teacher: judge.to_owned(),
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            samples_per_prompt: self.samples,
            seed: self.seed,
            max_concurrent_requests: self.max_concurrent_requests,
            max_retries: self.max_retries,
            timeout_s: self.timeout_s,
            max_cost_usd: self.max_cost_usd,
            response_schema: is_told.then_some(ResponseSchema::Inline(schema)),
            // A verdict is read wherever it stands in an answer, and what is not readable is kept and counted.
            on_failure: OnFailure { schema: Misfit::Keep, ..OnFailure::default() },
            ..collect::Config::default()
        })
    }
}

impl Stage for Judge {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::Verdicts
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        // How each judge is asked is what a collection of it would have in its key.
        json!({
            "rubric": self.rubric,
            "mode": self.config.mode,
            "limit": self.config.limit,
            "judges": self.judges.iter().map(Stage::config).collect::<Vec<_>>(),
        })
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        vec![self.rubric_file.clone()]
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}
