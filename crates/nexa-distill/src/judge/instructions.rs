//! What judges are asked to do, and how what they say is read: by a rubric or as MT-bench does, one answer or two.

use super::config::{Config, Mode, Protocol};
use super::prompt::{self, Prompt};
use super::question::Question;
use super::rubric::{LEVELS, Rubric, Rubrics};
use super::subject::Subjects;
use super::verdict::{self, Read};
use super::{Verdict, logprobs, mt_bench, tally};
use crate::collect::Asked;
use crate::{Error, Result};

/// The instructions of a run.
#[derive(Debug)]
pub(super) struct Instructions {
    protocol: Protocol,
    rubrics: Option<Rubrics>,
    mode: Mode,
    shows_reference: bool,
}

impl Instructions {
    pub(super) fn new(config: &Config, rubrics: Option<Rubrics>, mode: Mode) -> Self {
        Self { protocol: config.protocol, rubrics, mode, shows_reference: config.show_reference }
    }

    /// The highest score that a judge can give.
    pub(super) fn highest(&self) -> f64 {
        match self.protocol {
            Protocol::Rubric => LEVELS as f64,
            Protocol::MtBench => mt_bench::HIGHEST,
        }
    }

    /// What a judge is asked.
    ///
    /// # Errors
    /// Fails on an item for which there is no rubric.
    pub(super) fn prompt(&self, question: &Question, subjects: &Subjects) -> Result<Prompt> {
        let (first, second) = question.shown();
        let turns = &subjects.all[first].turns;
        let other = second.map(|second| &subjects.all[second].turns);
        let shows = self.shows_reference;
        // Of the whole the last turn is the one that counts.
        let turn = question.turn.unwrap_or(u32::MAX);
        Ok(match (self.protocol, other) {
            (Protocol::MtBench, None) => mt_bench::single(turns, turn, shows),
            (Protocol::MtBench, Some(other)) => mt_bench::pair(turns, other, turn, shows),
            (Protocol::Rubric, None) => prompt::single(turns, self.rubric(question, subjects)?, shows),
            (Protocol::Rubric, Some(other)) => {
                prompt::pair(turns, other, self.rubric(question, subjects)?, shows)
            }
        })
    }

    fn rubric(&self, question: &Question, subjects: &Subjects) -> Result<&Rubric> {
        let id = subjects.all[question.subject].name();
        let rubrics = self.rubrics.as_ref();
        rubrics.and_then(|rubrics| rubrics.get(&id)).ok_or_else(|| Error::BadRubric {
            place: format!("rubric `{}`", rubrics.map(Rubrics::name).unwrap_or_default()),
            message: format!("there is none for item `{id}`"),
        })
    }

    /// Reads what a judge said, or says what is wrong with it.
    pub(super) fn read(&self, text: &str) -> Result<Read, String> {
        match (self.protocol, self.mode) {
            (Protocol::MtBench, Mode::Single) => mt_bench::rating(text),
            (Protocol::MtBench, Mode::Pairs) => mt_bench::winner(text),
            (Protocol::Rubric, Mode::Pairs) => verdict::winner(text),
            (Protocol::Rubric, Mode::Single) => {
                // Rubrics of one file have the same parts.
                let rubric = self.rubrics.as_ref().and_then(Rubrics::any);
                verdict::scores(text, rubric.ok_or_else(|| "there is no rubric".to_owned())?)
            }
        }
    }

    /// Completes a verdict with what was said; what is not readable is kept, with what is wrong.
    pub(super) fn verdict(&self, verdict: Verdict, asked: Asked) -> Verdict {
        let verdict = Verdict { sample_index: asked.sample_index, repeats: asked.repeats, ..verdict };
        let answer = match asked.answer {
            Ok(answer) => answer,
            Err((kind, _)) => {
                return Verdict { problem: Some(kind.to_owned()), text: Some(String::new()), ..verdict };
            }
        };
        let verdict = Verdict { judge_model: Some(answer.model_id), ..verdict };
        match self.read(&answer.text) {
            Ok(read) => {
                let expected =
                    answer.logprobs.and_then(|logprobs| logprobs::expected_score(&read, &logprobs));
                Verdict {
                    score: Some(tally::rounded(read.score)),
                    expected_score: expected.map(tally::rounded),
                    decisions: Some(read.decisions.to_string()),
                    explanation: Some(read.explanation),
                    ..verdict
                }
            }
            Err(problem) => Verdict { problem: Some(problem), text: Some(answer.text), ..verdict },
        }
    }
}
