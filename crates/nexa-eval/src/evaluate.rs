//! The stage `evaluate`: a checkpoint and a held-out split in, predictions and metrics out.
//!
//! Items that were answered before a kill are read from `samples.jsonl` of the run, so the artifact of a resumed run is
//! that of a straight one to the last byte. How long it took stands in the run's events, never in the artifact.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::lm::{FinishReason, LoadedModel, ModelLoader};
use nexa_core::stage::{Context, Stage, StageError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::facts::{self, Facts, TestSet};
use crate::metric::{self, Metric, Name};
use crate::predictions::{self, Prediction};
use crate::task::{ExactMatch, Item, Perplexity, Sample, SampleLog, Task, read_items};
use crate::{Error, Result};

/// The stage's word in records.
pub const STAGE: &str = "evaluate";

/// What an evaluation is set to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is measured.
    pub tasks: BTreeSet<Task>,
    /// The split that is read.
    pub split: Split,
    /// Takes the first rows of the split only, in the order of the file.
    pub limit: Option<NonZeroUsize>,
    /// Ends an answer after this many tokens.
    pub max_tokens: usize,
    /// Items handed to the model at once, and kept at once. Changes no result.
    pub batch: NonZeroUsize,
    /// Seeds the bootstrap.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tasks: [Task::ExactMatch, Task::Perplexity].into(),
            split: Split::Test,
            limit: None,
            max_tokens: 160,
            batch: const { NonZeroUsize::new(64).expect("64 is not 0") },
            seed: 0,
        }
    }
}

/// A split that was held out of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For results that are reported.
    Test,
    /// For choices that are made on the way.
    Validation,
}

impl Split {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Validation => "validation",
        }
    }

    /// The name of its file in a data set.
    pub fn file(self) -> &'static str {
        match self {
            Self::Test => "test.jsonl",
            Self::Validation => "validation.jsonl",
        }
    }
}

/// The stage.
pub struct Evaluate {
    config: Config,
    loader: Arc<dyn ModelLoader>,
}

impl Evaluate {
    /// Sets up an evaluation; `loader` opens the checkpoint.
    pub fn new(config: Config, loader: Arc<dyn ModelLoader>) -> Self {
        Self { config, loader }
    }

    /// Reads the items and checks that the tasks can grade them, before a model is loaded.
    fn items(&self, context: &Context<'_>, dataset: &Artifact) -> Result<Vec<Item>> {
        if self.config.tasks.is_empty() {
            return Err(Error::NoTask);
        }
        let split = self.config.split;
        let path = dataset.file(split.file())?;
        let items = read_items(context.services.tables, &path, self.config.limit.map(NonZeroUsize::get))?;
        if items.is_empty() {
            return Err(Error::EmptySplit { dataset: dataset.id().to_string(), split: split.as_str() });
        }
        let mut without = items.iter().filter(|item| item.reference.is_none());
        if self.config.tasks.contains(&Task::ExactMatch)
            && let Some(first) = without.next()
        {
            return Err(Error::MissingReferences {
                dataset: dataset.id().to_string(),
                split: split.as_str(),
                missing: 1 + without.count(),
                total: items.len(),
                first: first.id.clone(),
            });
        }
        Ok(items)
    }

    /// Runs the tasks that the model can do, and tells how many items were too long for each.
    fn predict(
        &self,
        context: &Context<'_>,
        model: &LoadedModel,
        items: &[Item],
    ) -> Result<(Vec<Prediction>, BTreeMap<Task, usize>)> {
        let name = &model.info.name;
        let mut samples = SampleLog::open(context, name, self.config.batch.get())?;
        let mut too_long = BTreeMap::new();
        let mut note = |task, lengths: Vec<TooLong<'_>>| {
            too_long.insert(task, lengths.len());
            warn_of_too_long(context, task, items.len(), &lengths);
        };
        let mut answers = None;
        if self.config.tasks.contains(&Task::ExactMatch) {
            let task = ExactMatch { max_tokens: self.config.max_tokens, seed: self.config.seed };
            let found = task.answers(model.chat.as_ref(), items, &mut samples)?;
            note(Task::ExactMatch, too_long_items(items, &found));
            answers = Some(found);
        }
        let mut scores = None;
        if self.config.tasks.contains(&Task::Perplexity) {
            if let Some(scorer) = &model.scorer {
                let found = Perplexity.scores(scorer.as_ref(), name, items, &mut samples)?;
                note(Task::Perplexity, too_long_items(items, &found));
                scores = Some(found);
            } else if answers.is_some() {
                let text = format!("model `{name}` tells no probabilities, so `perplexity` is left out");
                context.emit(Event::warning(text));
            } else {
                return Err(Error::NoScorer { model: name.clone() });
            }
        }
        let row = |(at, item): (usize, &Item)| {
            let answer = answers.as_ref().map(|answers| &answers[at]);
            Prediction::new(item, answer, scores.as_ref().map(|scores| &scores[at]))
        };
        Ok((items.iter().enumerate().map(row).collect(), too_long))
    }

    fn evaluate(&self, context: &Context<'_>) -> Result<()> {
        let checkpoint = context.inputs.require("checkpoint")?;
        let dataset = context.inputs.require("sft_dataset")?;
        let items = self.items(context, dataset)?;
        let model = self.loader.load(&checkpoint.path())?;
        let (predictions, too_long) = self.predict(context, &model, &items)?;
        let metrics = metric::measure(&predictions, &too_long, self.config.seed);
        if metrics.is_empty() {
            return Err(Error::NothingMeasured { task: Task::Perplexity, total: items.len() });
        }

        predictions::write(context.services.tables, context.output, &predictions)?;
        files::write_json(&context.output.join(metric::FILE), &metrics)?;
        let facts = Facts {
            checkpoint_hash: checkpoint.manifest.content_hash.clone(),
            weights_hash: model.info.weights_hash.clone(),
            tasks: metrics.iter().map(|metric| metric.task).collect(),
            test_set: self.test_set(dataset, items.len()),
        };
        files::write_json(&context.output.join(facts::FILE), &facts)?;
        context.set_rows(predictions.len() as u64);
        context.state("model", &model.info.name)?;
        if self.config.tasks.contains(&Task::ExactMatch) {
            let cut_off = FinishReason::Length.as_str();
            let cut_off =
                predictions.iter().filter(|one| one.finish_reason.as_deref() == Some(cut_off)).count();
            context.state("cut_off", cut_off)?;
        }
        for metric in &metrics {
            context.state(metric.metric.as_str(), metric.estimate())?;
            if matches!(metric.metric, Name::ExactMatch | Name::BitsPerByte) {
                context.emit(Event::info(headline(metric)));
            }
        }
        Ok(())
    }

    fn test_set(&self, dataset: &Artifact, items: usize) -> TestSet {
        let file = dataset.manifest.files.iter().find(|file| file.name == self.config.split.file());
        TestSet {
            dataset_hash: dataset.manifest.content_hash.clone(),
            split: self.config.split,
            // The split was read by this name, so it stands in the manifest.
            split_hash: file.map_or_else(|| dataset.manifest.content_hash.clone(), |file| file.hash.clone()),
            items,
            max_tokens: self.config.max_tokens,
        }
    }
}

impl Stage for Evaluate {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::Evaluation
    }

    fn code_version(&self) -> u32 {
        2
    }

    fn config(&self) -> Value {
        let Config { tasks, split, limit, max_tokens, batch: _, seed } = &self.config;
        json!({"tasks": tasks, "split": split, "limit": limit, "max_tokens": max_tokens, "seed": seed})
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.evaluate(context)?)
    }
}

/// An item that the model could not read.
struct TooLong<'a> {
    item: &'a Item,
    tokens: usize,
    context_length: usize,
}

fn too_long_items<'a, T>(items: &'a [Item], samples: &[Sample<T>]) -> Vec<TooLong<'a>> {
    let too_long = |(item, sample): (&'a Item, &Sample<T>)| match *sample {
        Sample::TooLong { tokens, context_length } => Some(TooLong { item, tokens, context_length }),
        Sample::Result(_) => None,
    };
    items.iter().zip(samples).filter_map(too_long).collect()
}

fn warn_of_too_long(context: &Context<'_>, task: Task, total: usize, too_long: &[TooLong<'_>]) {
    let Some(TooLong { item, tokens, context_length }) = too_long.first() else { return };
    let fate = match task {
        Task::ExactMatch => "count as wrong",
        Task::Perplexity => "are left out",
    };
    context.emit(Event::warning(format!(
        "{task}: {} of {total} items are longer than the model's context of {context_length} tokens and {fate}; \
         the first is `{}` with {tokens}",
        too_long.len(),
        item.id
    )));
}

fn headline(metric: &Metric) -> String {
    let interval = match metric.ci_low.zip(metric.ci_high) {
        Some((low, high)) => format!("{low:.4} to {high:.4}"),
        None => "unknown".to_owned(),
    };
    format!(
        "{} {:.4}, 95% interval {interval}, over {} items",
        metric.metric.as_str(),
        metric.value,
        metric.n
    )
}
