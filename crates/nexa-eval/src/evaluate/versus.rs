//! Asks no more documents than are needed to tell which of two models is better.
//!
//! Documents are asked in an order that is drawn, some at once, and held against what the other model said of the same ones;
//! after each round a test that may be looked at at every time says whether to go on. Whether it stops depends on answers
//! alone, so an evaluation that was killed stops where one that was not would.

use std::collections::BTreeMap;

use nexa_core::artifact::Artifact;
use nexa_core::draw;
use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::hash::ContentHash;
use nexa_core::sequential::{SequentialTest, Standing, anytime_interval};
use nexa_core::stage::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::held_out::HeldOut;
use super::suite::questions;
use crate::ask::Asker;
use crate::evaluate::Config;
use crate::harness::{self, Document, Loaded, Outcome};
use crate::metric::Name;
use crate::predictions::Prediction;
use crate::task::Task;
use crate::{Error, Evaluation, Result};

/// The role of what is compared with.
pub(super) const ROLE: &str = "versus";

/// The name of the file in an evaluation.
pub(super) const FILE: &str = "versus.json";

/// Documents that are asked at once: enough to keep a model busy, and few beside what a decision takes.
const ROUND: usize = 32;

/// An evaluation that another one is held against while it is made.
pub(super) struct Versus {
    base: Evaluation,
    alpha: f64,
}

/// What was decided, by content and never by names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The content of the other evaluation.
    pub base_hash: ContentHash,
    /// The metric that was tested.
    pub name: Name,
    /// Documents that were asked.
    pub asked: usize,
    /// Those of them that either model has no answer to, where silence shows nothing: the test is over the others.
    #[serde(default)]
    pub left_out: usize,
    /// Documents that there are.
    pub of: usize,
    /// The mean over those that were tested.
    pub value: f64,
    /// The other evaluation's mean over the same ones.
    pub base_value: f64,
    /// How the test stands; the first model is the one that was evaluated.
    pub standing: Standing,
    /// The interval of the difference, first less second, which holds at every time.
    pub interval: (f64, f64),
}

/// What is asked of whom: a task over a held-out split, and tasks of the harness.
pub(super) struct Wanted<'a> {
    pub(super) held_out: Option<&'a HeldOut<'a>>,
    pub(super) loaded: &'a [Loaded<'a>],
}

/// Asks documents at some places, and says what the tested metric is of each.
type Ask<'f> = dyn FnMut(&[usize]) -> Result<Vec<Option<f64>>> + 'f;

/// The metric that is tested.
struct Tested {
    name: Name,
    /// The sign with which more of it is better.
    sign: f64,
    /// Whether a document without an answer is left out.
    needs_answer: bool,
}

impl Versus {
    /// Reads what is compared with, where the settings want that.
    ///
    /// # Errors
    /// Fails where setting and input do not come together, not one task is asked, or the other model was asked differently.
    pub(super) fn read(context: &Context<'_>, config: &Config, wanted: &Wanted<'_>) -> Result<Option<Self>> {
        let wrong = |message: &str| Err(Error::Versus { message: message.to_owned() });
        match (config.stop_when_decided, context.inputs.get(ROLE)) {
            (None, None) => Ok(None),
            (Some(_), None) => wrong("`stop_when_decided` needs an evaluation to decide against: `versus`"),
            (None, Some(_)) => wrong("`versus` is of use only with `stop_when_decided`"),
            (Some(alpha), _) if !(alpha > 0.0 && alpha < 1.0) => {
                wrong(&format!("an error rate lies between 0 and 1, not at {alpha}"))
            }
            (Some(alpha), Some(base)) => {
                let base = Evaluation::read(base, context.services.tables)?;
                let found = Self { base, alpha };
                if let Some(reason) = found.difference(config, wanted)? {
                    let message = format!("{} cannot be decided against: {reason}", found.base.id());
                    return Err(Error::Versus { message });
                }
                Ok(Some(found))
            }
        }
    }

    /// What the other model was asked differently, if it was.
    fn difference(&self, config: &Config, wanted: &Wanted<'_>) -> Result<Option<String>> {
        let facts = &self.base.facts;
        match (config.held_out().as_slice(), wanted.held_out, wanted.loaded) {
            ([Task::ExactMatch], Some(held_out), []) => Ok(match &facts.test_set {
                None => Some("it asked nothing of a held-out split".to_owned()),
                Some(asked) => held_out.test_set().difference(asked),
            }),
            ([], _, [task]) => {
                let name = &task.task.spec.task;
                Ok(match facts.questions.get(name) {
                    None => Some(format!("it was not asked `{name}`")),
                    Some(asked) if asked.hash != questions(task, config).hash => Some(format!(
                        "it was asked `{name}` differently: {} documents with {} examples, or with other settings",
                        asked.documents, asked.num_fewshot
                    )),
                    Some(_) => None,
                })
            }
            _ => {
                let message =
                    "it is decided by one task: `exact_match` or one task of the harness".to_owned();
                Err(Error::Versus { message })
            }
        }
    }

    /// Asks a task of the harness until it is decided. The documents that were asked stay in the task, in their order; returned
    /// are their places, what came of them, and what was decided.
    ///
    /// # Errors
    /// As [`harness::run`], and where the metric has no values of single documents from 0 to 1.
    pub(super) fn run(
        &self,
        task: &mut Loaded<'_>,
        asker: &mut Asker<'_>,
        config: &Config,
    ) -> Result<(Vec<usize>, Vec<Outcome>, Decision)> {
        let documents = std::mem::take(&mut task.documents);
        let ids: Vec<String> = documents.iter().map(|document| document.id.clone()).collect();
        let mut waiting: Vec<Option<Document>> = documents.into_iter().map(Some).collect();
        let mut asked: BTreeMap<usize, (Document, Outcome)> = BTreeMap::new();
        let decision = self.decide(tested(task), &ids, config.seed, &mut |places| {
            let part = task.part(places.iter().filter_map(|&at| waiting[at].take()).collect());
            let outcomes = harness::run(&part, asker, config)?;
            let values = outcomes.iter().map(|outcome| outcome.graded[0].grades[0].number()).collect();
            asked.extend(places.iter().copied().zip(part.documents.into_iter().zip(outcomes)));
            Ok(values)
        })?;
        let (mut places, mut outcomes) = (Vec::new(), Vec::new());
        for (at, (document, outcome)) in asked {
            places.push(at);
            outcomes.push(outcome);
            task.documents.push(document);
        }
        Ok((places, outcomes, decision))
    }

    /// Asks items of a held-out split until it is decided; `ask` says of each at some places whether it is right.
    ///
    /// # Errors
    /// As `ask`.
    pub(super) fn decide_held_out(&self, ids: &[String], seed: u64, ask: &mut Ask<'_>) -> Result<Decision> {
        let tested = Tested { name: Name::EXACT_MATCH, sign: 1.0, needs_answer: false };
        self.decide(tested, ids, seed, ask)
    }

    fn decide(
        &self,
        Tested { name, sign, needs_answer }: Tested,
        ids: &[String],
        seed: u64,
        ask: &mut Ask<'_>,
    ) -> Result<Decision> {
        let base = self.values(&name);
        let mut test = SequentialTest::new(self.alpha);
        let (mut pairs, mut left_out) = (Vec::new(), 0);
        for round in order(ids, &name, seed).chunks(ROUND) {
            for (&at, own) in round.iter().zip(ask(round)?) {
                let other = base.get(&ids[at]).copied();
                if needs_answer && (own.is_none() || other.is_none()) {
                    left_out += 1;
                    continue;
                }
                let (own, other) = (value(&name, &ids[at], own)?, value(&name, &ids[at], other)?);
                test.push(sign * (own - other));
                pairs.push((own, other));
            }
            if test.decided().is_some() {
                break;
            }
        }
        if pairs.is_empty() {
            let message =
                format!("of {left_out} documents none has an answer of both models to `{}`", name.task);
            return Err(Error::Versus { message });
        }
        let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
        let differences: Vec<f64> = pairs.iter().map(|(own, other)| own - other).collect();
        Ok(Decision {
            base_hash: self.base.artifact.manifest.content_hash.clone(),
            asked: pairs.len() + left_out,
            left_out,
            of: ids.len(),
            value: mean(|pair| pair.0),
            base_value: mean(|pair| pair.1),
            standing: test.standing(),
            interval: anytime_interval(&differences, self.alpha),
            name,
        })
    }

    /// What the other model made of each document.
    fn values(&self, name: &Name) -> BTreeMap<String, f64> {
        let key = format!("{},{}", name.metric, name.filter);
        let value = |one: &Prediction| match name.held_out_task() {
            Some(_) => one.correct.map(|right| f64::from(u8::from(right))),
            None => one.metrics.get(&key).copied(),
        };
        self.base.of_task(&name.task).filter_map(|one| Some((one.id.clone(), value(one)?))).collect()
    }

    /// Writes what was decided, states it in the manifest, and tells it.
    pub(super) fn write(&self, context: &Context<'_>, decision: &Decision, model: &str) -> Result<()> {
        files::write_json(&context.output.join(FILE), decision)?;
        let base: &Artifact = &self.base.artifact;
        let Decision { asked, left_out, of, name, standing, value, base_value, .. } = decision;
        let verdict = match standing.decided {
            Some(decided) if decided.first_is_better => "better",
            Some(_) => "worse",
            None => "undecided",
        };
        context
            .state(ROLE, json!({"evaluation": base.id(), "verdict": verdict, "asked": asked, "of": of}))?;
        let beside = match left_out {
            0 => String::new(),
            count => format!(", {count} without an answer left out"),
        };
        let values = format!("{name} {value:.4} and {base_value:.4} over the same documents{beside}");
        let line = match standing.decided {
            Some(_) => format!(
                "decided after {asked} of {of} documents: {model} is {verdict} than {} ({values}; error rate {})",
                self.base.model, standing.alpha
            ),
            None => format!(
                "not decided after all {of} documents between {model} and {} ({values})",
                self.base.model
            ),
        };
        context.emit(Event::info(line));
        Ok(())
    }
}

/// A task is decided by its first metric, after its first filter.
fn tested(task: &Loaded<'_>) -> Tested {
    let (metric, chain) = (&task.task.metrics[0], &task.task.chains[0]);
    let name = Name {
        task: task.task.spec.task.clone().into(),
        metric: metric.kind.as_str().into(),
        filter: chain.name.clone().into(),
    };
    let needs_answer = task.task.spec.native.is_some_and(|native| native.needs_answer());
    Tested { name, sign: if metric.higher_is_better { 1.0 } else { -1.0 }, needs_answer }
}

/// A document's value, which must lie between 0 and 1 for the test to hold.
fn value(name: &Name, document: &str, value: Option<f64>) -> Result<f64> {
    let found = value.filter(|value| (0.0..=1.0).contains(value));
    found.ok_or_else(|| Error::Versus {
        message: format!(
            "`{name}` has no value from 0 to 1 for document {document}, so nothing can be decided by it"
        ),
    })
}

/// The places of documents in an order that the seed draws.
fn order(ids: &[String], name: &Name, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_cached_key(|&at| (draw::bits(seed, &["evaluate", &name.task, &ids[at]]), at));
    order
}
