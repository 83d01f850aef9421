//! The tasks over a held-out split of training data.

use std::collections::BTreeMap;

use nexa_core::artifact::Artifact;
use nexa_core::event::Event;
use nexa_core::lm::ChatReply;
use nexa_core::stage::Context;

use crate::ask::{Asker, Sample};
use crate::contamination::{Documents, Measured, Overlaps, TaskOverlap};
use crate::evaluate::Config;
use crate::evaluate::versus::{Decision, Versus};
use crate::facts::TestSet;
use crate::metric::{self, Metric, Name};
use crate::predictions::Prediction;
use crate::task::{ExactMatch, Item, Perplexity, Task, read_items};
use crate::{Error, Result};

/// A held-out split whose items have been read.
pub(super) struct HeldOut<'a> {
    config: &'a Config,
    dataset: &'a Artifact,
    items: Vec<Item>,
    tasks: Vec<Task>,
    /// The seed by which the items were drawn, where they are not the first ones.
    drawn: Option<u64>,
}

/// What the tasks came to.
pub(super) struct Found {
    pub(super) metrics: Vec<Metric>,
    pub(super) predictions: Vec<Prediction>,
    /// What was decided, and the places of the items that were asked for it.
    pub(super) decision: Option<(Decision, Vec<usize>)>,
}

impl<'a> HeldOut<'a> {
    /// Reads the items and checks that the tasks can grade them, before a model is loaded; `None` where no task wants them.
    pub(super) fn read(context: &Context<'a>, config: &'a Config) -> Result<Option<Self>> {
        let tasks = config.held_out();
        let Some(first) = tasks.first() else { return Ok(None) };
        let no_dataset = || Error::NoDataset { task: first.as_str().to_owned() };
        let dataset = context.inputs.get("sft_dataset").ok_or_else(no_dataset)?;
        let (split, path) = (config.split, dataset.file(config.split.file())?);
        let mut items = read_items(context.services.tables, &path)?;
        items.truncate(config.limit.map_or(items.len(), |limit| limit.of(items.len())));
        if items.is_empty() {
            return Err(Error::EmptySplit { dataset: dataset.id().to_string(), split: split.as_str() });
        }
        let mut without = items.iter().filter(|item| item.reference.is_none());
        if tasks.contains(&Task::ExactMatch)
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
        Ok(Some(Self { config, dataset, items, tasks, drawn: None }))
    }

    /// Runs the tasks that the model can do.
    pub(super) fn run(
        &mut self,
        context: &Context<'_>,
        asker: &mut Asker<'_>,
        is_alone: bool,
        versus: Option<&Versus>,
    ) -> Result<Found> {
        if let Some(versus) = versus {
            return self.decide(context, asker, versus);
        }
        let (mut predictions, mut too_long) = (Vec::new(), BTreeMap::new());
        let mut note = |task, lengths: Vec<TooLong<'_>>| {
            too_long.insert(task, lengths.len());
            warn_of_too_long(context, task, self.items.len(), &lengths);
        };
        if self.tasks.contains(&Task::ExactMatch) {
            let task = ExactMatch { max_tokens: self.config.max_tokens, seed: self.config.seed };
            let found = task.answers(asker, &self.items)?;
            asker.tell_failed(Task::ExactMatch.as_str(), &found)?;
            note(Task::ExactMatch, too_long_items(&self.items, &found));
            predictions
                .extend(self.items.iter().zip(&found).map(|(item, one)| Prediction::of_answer(item, one)));
        }
        if self.tasks.contains(&Task::Perplexity) {
            let model = asker.model();
            // What was asked for by itself must not be left out.
            if model.scorer.is_none() && !(predictions.is_empty() && is_alone) {
                let name = &model.info.name;
                let text = format!("model `{name}` tells no probabilities, so `perplexity` is left out");
                context.emit(Event::warning(text));
            } else {
                let found = Perplexity.scores(asker, &self.items)?;
                note(Task::Perplexity, too_long_items(&self.items, &found));
                predictions
                    .extend(self.items.iter().zip(&found).map(|(item, one)| Prediction::of_score(item, one)));
            }
        }
        let metrics = metric::measure(&predictions, &too_long, self.config.seed);
        if metrics.is_empty() && is_alone {
            let task = Task::Perplexity.as_str().to_owned();
            return Err(Error::NothingMeasured { task, total: self.items.len() });
        }
        Ok(Found { metrics, predictions, decision: None })
    }

    /// Asks for answers until it is decided which of two models is better; the items that were asked stay.
    fn decide(&mut self, context: &Context<'_>, asker: &mut Asker<'_>, versus: &Versus) -> Result<Found> {
        let task = ExactMatch { max_tokens: self.config.max_tokens, seed: self.config.seed };
        let ids: Vec<String> = self.items.iter().map(|item| item.id.clone()).collect();
        let mut asked: BTreeMap<usize, Sample<ChatReply>> = BTreeMap::new();
        let decision = versus.decide_held_out(&ids, self.config.seed, &mut |places| {
            let items: Vec<Item> = places.iter().map(|&at| self.items[at].clone()).collect();
            let found = task.answers(asker, &items)?;
            let right = |(item, one): (&Item, &Sample<ChatReply>)| {
                Prediction::of_answer(item, one).correct.map(|right| f64::from(u8::from(right)))
            };
            let values = items.iter().zip(&found).map(right).collect();
            asked.extend(places.iter().copied().zip(found));
            Ok(values)
        })?;
        let (places, answers): (Vec<usize>, Vec<Sample<ChatReply>>) = asked.into_iter().unzip();
        asker.tell_failed(Task::ExactMatch.as_str(), &answers)?;
        self.items = places.iter().map(|&at| self.items[at].clone()).collect();
        self.drawn = Some(self.config.seed);
        let lengths = too_long_items(&self.items, &answers);
        warn_of_too_long(context, Task::ExactMatch, self.items.len(), &lengths);
        let too_long = BTreeMap::from([(Task::ExactMatch, lengths.len())]);
        let answers = self.items.iter().zip(&answers);
        let predictions: Vec<_> = answers.map(|(item, one)| Prediction::of_answer(item, one)).collect();
        let metrics = metric::measure(&predictions, &too_long, self.config.seed);
        Ok(Found { metrics, predictions, decision: Some((decision, places)) })
    }

    /// The documents of each task, for what they have in common with training data.
    pub(super) fn documents(&self) -> Documents {
        let said = |item: &Item| {
            item.messages.iter().map(|turn| turn.content.as_str()).collect::<Vec<_>>().join("\n")
        };
        let texts: Vec<String> = self.items.iter().map(said).collect();
        self.tasks.iter().map(|task| (task.as_str().to_owned(), texts.clone())).collect()
    }

    /// What each task has in common with training data, with its metrics over some of the predictions.
    pub(super) fn overlaps(&self, overlaps: &Overlaps, predictions: &[Prediction]) -> Vec<TaskOverlap> {
        let of_task = |task: &Task| {
            let own: Vec<&Prediction> = predictions.iter().filter(|one| one.task == task.as_str()).collect();
            let names = || Name::HELD_OUT.into_iter().filter(|name| name.held_out_task() == Some(*task));
            let measure = |some: &[&Prediction]| {
                let one = |name: Name| Measured {
                    estimate: name.measure(some, self.config.seed),
                    metric: name.metric.into_owned(),
                    filter: name.filter.into_owned(),
                };
                names().map(one).collect::<Vec<Measured>>()
            };
            let marked = |marks: &[bool]| {
                let some = own.iter().zip(marks).filter(|(_, is_marked)| **is_marked);
                measure(&some.map(|(one, _)| *one).collect::<Vec<_>>())
            };
            (!own.is_empty()).then(|| TaskOverlap::of(overlaps, task.as_str(), &measure(&own), marked))
        };
        self.tasks.iter().filter_map(of_task).collect()
    }

    /// What was asked.
    pub(super) fn test_set(&self) -> TestSet {
        let manifest = &self.dataset.manifest;
        let file = manifest.files.iter().find(|file| file.name == self.config.split.file());
        TestSet {
            dataset_hash: manifest.content_hash.clone(),
            split: self.config.split,
            // The split was read by this name, so it stands in the manifest.
            split_hash: file.map_or_else(|| manifest.content_hash.clone(), |file| file.hash.clone()),
            items: self.items.len(),
            max_tokens: self.config.max_tokens,
            drawn: self.drawn,
        }
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
        Sample::Result(_) | Sample::Failed { .. } => None,
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
