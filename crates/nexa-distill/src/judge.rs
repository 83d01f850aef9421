//! Has models judge answers, one at a time or two against each other: a teacher's, or those of models that were
//! evaluated.
//!
//! Judges are asked as teachers are: each call is counted in the same budget and ledger, and an answer that was paid for
//! is never paid for again. A verdict that cannot be read is asked for again, twice at most, and kept then with what is
//! wrong. Every verdict is kept with its explanation, who gave it and a hash of what was asked; a row's score is the mean
//! over its judges of the mean over their readable verdicts, from 1 to 5. What verdicts say beyond that is computed from
//! them by `nexa-eval`.

mod config;
mod instructions;
mod logprobs;
mod mt_bench;
mod prompt;
mod question;
mod rubric;
mod stopping;
mod subject;
mod tally;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexa_core::artifact::Kind;
use nexa_core::env::Environment;
use nexa_core::event::Event;
use nexa_core::judging::{self, Verdict};
use nexa_core::lm::ModelLoader;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::Row;
use serde_json::{Value, json};

use crate::collect::Collect;
use crate::error::{check, check_share};
use crate::{Error, Result};

pub use config::{Config, Mode, Protocol, RubricSource};
pub use rubric::{Criterion, Item, Rubric, Rubrics};

use instructions::Instructions;
use prompt::Prompt;
use question::Question;
use stopping::Stopping;
use subject::Subjects;
use tally::Tally;

const STAGE: &str = "distill.judge";
/// The role of a teacher's answers.
const OUTPUTS_ROLE: &str = "outputs";

/// The stage `distill.judge`: role `outputs` in, or `evaluation` and perhaps `versus`, for the judge `local` also
/// `teacher`; scores and verdicts out.
#[derive(Debug, Clone)]
pub struct Judge {
    config: Config,
    rubric_file: Option<PathBuf>,
    rubrics: Option<Rubrics>,
    /// For each mode, how the judges are asked: one mode's verdicts have another shape than the other's.
    single: Vec<Collect>,
    pairs: Vec<Collect>,
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
        if let Some(alpha) = config.stop_when_decided {
            let is_rate = alpha > 0.0 && alpha < 1.0;
            check(STAGE, "stop_when_decided", alpha).that(is_rate, "an error rate lies between 0 and 1")?;
        }
        for (position, judge) in config.judges.iter().enumerate() {
            let is_first = !config.judges[..position].contains(judge);
            check(STAGE, "judges", judge).that(is_first, "each judge is asked once; `samples` asks again")?;
        }
        let (rubrics, rubric_file) = rubrics(&config, folder)?;
        let asking = |mode: Mode| -> Result<Vec<Collect>> {
            let schema = rubrics.as_ref().and_then(Rubrics::any).map(|rubric| verdict::schema(rubric, mode));
            let judge = |position| Collect::new(config.asking(position, schema.clone())?, environment);
            (0..config.judges.len()).map(judge).collect()
        };
        let (single, pairs) = (asking(Mode::Single)?, asking(Mode::Pairs)?);
        Ok(Self { config, rubric_file, rubrics, single, pairs })
    }

    /// Lets a checkpoint be a judge, named `local`; `loader` opens it.
    #[must_use]
    pub fn with_loader(self, loader: &Arc<dyn ModelLoader>) -> Self {
        let with_loader = |judges: Vec<Collect>| {
            judges.into_iter().map(|judge| judge.with_loader(Arc::clone(loader))).collect()
        };
        Self { single: with_loader(self.single), pairs: with_loader(self.pairs), ..self }
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let subjects = Subjects::read(context, self.config.limit)?;
        let mode = self.mode(&subjects)?;
        let questions = match mode {
            Mode::Single => question::singles(&subjects, self.config.protocol),
            Mode::Pairs => question::pairs(&subjects, self.config.protocol),
        };
        let rows = subjects.judged().len();
        if questions.is_empty() {
            let message = "no prompt has two answers to compare".to_owned();
            return Err(Error::NothingLeft { stage: STAGE, rows, message });
        }
        let unanswered = subjects.unanswered();
        if unanswered > 0 {
            context.emit(Event::warning(format!(
                "{unanswered} of {rows} items have no answer to judge; they have no score"
            )));
        }
        let judging = Judging {
            context,
            subjects: &subjects,
            instructions: Arc::new(Instructions::new(&self.config, self.rubrics.clone(), mode)),
            judges: match mode {
                Mode::Single => &self.single,
                Mode::Pairs => &self.pairs,
            },
        };
        let mut tally = Tally::new(&subjects, judging.instructions.highest());
        match self.stopping(&subjects)? {
            None => judging.ask(&questions, &mut tally)?,
            Some(mut stopping) => {
                for round in stopping::rounds(questions, &subjects, self.config.seed) {
                    judging.ask(&round, &mut tally)?;
                    if stopping.is_decided(&round, &tally) {
                        break;
                    }
                }
                let standing = stopping.standing();
                if let Some(decided) = standing.decided {
                    let better = if decided.first_is_better { "`evaluation`" } else { "`versus`" };
                    let items = decided.items;
                    context.emit(Event::info(format!(
                        "decided after {items} of {rows} items: {better} is better"
                    )));
                }
                context.state("sequential", standing)?;
            }
        }
        context.state("unanswered", unanswered)?;
        context.state("mode", mode)?;
        self.write(context, &tally)
    }

    /// The test that says when to stop, where that is wanted.
    fn stopping(&self, subjects: &Subjects) -> Result<Option<Stopping>> {
        let Some(alpha) = self.config.stop_when_decided else { return Ok(None) };
        let message = "only two evaluations can be decided between; name the other one as `versus`";
        check(STAGE, "stop_when_decided", alpha).that(subjects.is_versus, message)?;
        Ok(Some(Stopping::new(alpha)))
    }

    /// The mode: as it is set, else by the inputs.
    fn mode(&self, subjects: &Subjects) -> Result<Mode> {
        match (self.config.mode, subjects.is_versus) {
            (Some(Mode::Single), true) => Err(Error::BadSetting {
                stage: STAGE,
                key: "mode".to_owned(),
                value: "single".to_owned(),
                message: "two evaluations are compared in pairs; leave `versus` or `mode` out".to_owned(),
            }),
            (Some(mode), _) => Ok(mode),
            (None, true) => Ok(Mode::Pairs),
            (None, false) => Ok(Mode::Single),
        }
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
        tables.write(&context.output.join(judging::FILE), &tally.rows())?;
        if unreadable > 0 {
            context.emit(Event::warning(format!(
                "{unreadable} of {total} verdicts could not be read, though they were asked for again; they stand in `{}`, \
                 with what is wrong",
                judging::FILE
            )));
        }
        let known: Vec<f64> =
            scores.iter().filter_map(|row| row[nexa_core::columns::SCORE].as_f64()).collect();
        let mean =
            (!known.is_empty()).then(|| tally::rounded(known.iter().sum::<f64>() / known.len() as f64));
        context.set_rows(scores.len() as u64);
        context.state("judges", &self.config.judges)?;
        context.state("protocol", self.config.protocol)?;
        if let Some(rubrics) = &self.rubrics {
            context.state("rubric", rubrics.name())?;
        }
        context.state("verdicts", total)?;
        context.state("unreadable", unreadable)?;
        context.state("asked_again", tally.repeated())?;
        context.state("mean_score", mean)?;
        Ok(())
    }
}

/// Judges at work on some subjects.
struct Judging<'a> {
    context: &'a Context<'a>,
    subjects: &'a Subjects,
    instructions: Arc<Instructions>,
    judges: &'a [Collect],
}

impl Judging<'_> {
    /// Asks every judge some questions, and adds what they say.
    fn ask(&self, questions: &[Question], tally: &mut Tally<'_>) -> Result<()> {
        let prompts: Vec<Prompt> = questions
            .iter()
            .map(|question| self.instructions.prompt(question, self.subjects))
            .collect::<Result<_>>()?;
        let rows: Vec<Row> =
            prompts.iter().enumerate().map(|(position, prompt)| prompt.row(position)).collect();
        for judge in self.judges {
            let reader = Arc::clone(&self.instructions);
            let reading = judge.clone().with_reader(Arc::new(move |text: &str| reader.read(text).err()));
            for asked in reading.ask(self.context, &rows, &self.subjects.place)? {
                let question = questions[asked.row];
                let verdict = Verdict {
                    judge: judge.named().to_owned(),
                    prompt_hash: Some(prompts[asked.row].hash()),
                    ..verdict_on(&question, self.subjects)
                };
                tally.add(question, self.instructions.verdict(verdict, asked));
            }
        }
        Ok(())
    }
}

/// The rubrics of a configuration that has some, and the file that they came from.
fn rubrics(config: &Config, folder: &Path) -> Result<(Option<Rubrics>, Option<PathBuf>)> {
    match (config.protocol, &config.rubric) {
        (Protocol::MtBench, _) => Ok((None, None)),
        (Protocol::Rubric, RubricSource::File(file)) => {
            let file = folder.join(file);
            Ok((Some(Rubrics::read(&file)?), Some(file)))
        }
        (Protocol::Rubric, RubricSource::Inline(rubrics)) => {
            rubrics.check().map_err(|message| Error::BadRubric { place: "rubric".to_owned(), message })?;
            Ok((Some(rubrics.as_ref().clone()), None))
        }
    }
}

/// A verdict on a question, before anything was said.
fn verdict_on(question: &Question, subjects: &Subjects) -> Verdict {
    let subject = &subjects.all[question.subject];
    let other = question.other.map(|(other, _)| &subjects.all[other]);
    Verdict {
        id: subject.name(),
        other_id: other.map(subject::Subject::name),
        model: subject.model.clone(),
        other_model: other.and_then(|other| other.model.clone()),
        task: subject.task.clone(),
        domain: subject.domain.clone(),
        group: subject.group.clone(),
        turn: question.turn,
        order: question.other.map(|(_, order)| order),
        length: Some(subject.length(question.turn)),
        other_length: other.map(|other| other.length(question.turn)),
        ..Verdict::default()
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
        2
    }

    fn config(&self) -> Value {
        // How each judge is asked follows from its name, where it is, and the rest; a record can be followed again.
        let of_judges =
            |key: &str| self.single.iter().map(|judge| judge.config()[key].take()).collect::<Vec<_>>();
        let mut value = json!({
            "protocol": self.config.protocol,
            "mode": self.config.mode,
            "show_reference": self.config.show_reference,
            "samples": self.config.samples,
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens(),
            "top_logprobs": self.config.top_logprobs,
            "constrain": self.config.constrain,
            "limit": self.config.limit,
            "stop_when_decided": self.config.stop_when_decided,
            "judges": of_judges("teacher"),
            "sources": of_judges("source"),
        });
        if let Some(rubrics) = &self.rubrics {
            value["rubric"] = json!(rubrics);
        }
        value
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        self.rubric_file.clone().into_iter().collect()
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

#[cfg(test)]
mod tests {
    use super::subject::{Subject, Turn};
    use super::*;

    /// A subject with so many turns of question and answer.
    pub(super) fn answered(turns: &[(&str, &str)]) -> Subject {
        let turn = |(question, answer): &(&str, &str)| Turn {
            question: (*question).to_owned(),
            reference: None,
            answer: (*answer).to_owned(),
        };
        Subject {
            id: json!("a"),
            model: None,
            task: None,
            domain: None,
            group: None,
            turns: turns.iter().map(turn).collect(),
        }
    }

    /// Subjects that are judged, all of them.
    pub(super) fn subjects(all: Vec<Subject>) -> Subjects {
        Subjects { judged: all.len(), all, is_versus: false, place: PathBuf::new() }
    }

    #[test]
    fn a_record_can_be_followed_again() {
        let rubric = rubric::tests::rubric(rubric::tests::CRITERIA).unwrap();
        let config = Config {
            rubric: RubricSource::Inline(Box::new(Rubrics::Shared(rubric))),
            judges: vec!["http://127.0.0.1:1/v1#m".to_owned(), "openai:gpt-4o".to_owned()],
            top_logprobs: Some(5),
            ..Config::default()
        };
        let environment = Environment::of([]);
        let record = Judge::new(config, Path::new("."), &environment).unwrap().config();
        let followed = nexa_core::config::from_value(record.clone(), "record").unwrap();
        assert_eq!(Judge::new(followed, Path::new("."), &environment).unwrap().config(), record);
        let elsewhere = Environment::of([("OPENAI_BASE_URL", "http://127.0.0.1:2/v1")]);
        let followed = nexa_core::config::from_value(record, "record").unwrap();
        let error = Judge::new(followed, Path::new("."), &elsewhere).unwrap_err().to_string();
        assert!(error.contains("source"), "{error}");
    }
}
