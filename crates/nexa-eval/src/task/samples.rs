//! The answers of a model as they come, kept so that no item is asked twice.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use nexa_core::event::Event;
use nexa_core::files::{self, LineLog};
use nexa_core::lm;
use nexa_core::stage::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::task::{Item, Task};
use crate::{Error, Result};

/// What came of asking one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample<T> {
    /// The model's result.
    Result(T),
    /// The item is longer than the model's context.
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The model's positions.
        context_length: usize,
    },
}

impl<T> Sample<T> {
    /// The model's result, if there is one.
    pub fn result(&self) -> Option<&T> {
        match self {
            Self::Result(result) => Some(result),
            Self::TooLong { .. } => None,
        }
    }
}

/// A line of `samples.jsonl`.
#[derive(Serialize, Deserialize)]
struct Line<S> {
    task: Task,
    id: String,
    sample: S,
}

/// Items that are asked together.
struct Batch<'a> {
    task: Task,
    items: &'a [&'a Item],
    /// Items of the task that are done already.
    before: usize,
    /// All items of the task.
    total: usize,
}

/// The log of finished samples in a run's folder: `samples.jsonl`.
pub struct SampleLog<'a> {
    context: &'a Context<'a>,
    batch: usize,
    model: String,
    log: LineLog,
    finished: HashMap<(Task, String), Value>,
}

impl<'a> SampleLog<'a> {
    /// Opens the log of a run, with what earlier attempts finished.
    ///
    /// # Errors
    /// Fails with path and line when the log cannot be read.
    pub fn open(context: &'a Context<'a>, model: &str, batch: usize) -> Result<Self> {
        let path: &Path = &context.workspace.join("samples.jsonl");
        let log = LineLog::open(path)?;
        let finished = files::read_lines::<Line<Value>>(path)?
            .into_iter()
            .map(|line| ((line.task, line.id), line.sample))
            .collect();
        Ok(Self { context, batch, model: model.to_owned(), log, finished })
    }

    /// Asks every item that has no sample yet, a batch at a time, and returns the samples of all in their order.
    ///
    /// `ask` puts some items to the model; `tokens` says how many tokens a result took, for the rate that is shown.
    ///
    /// # Errors
    /// Fails when the model does, when the user wants to stop, or when the log cannot be written. Finished batches are
    /// kept.
    pub fn collect<T: Serialize + DeserializeOwned>(
        &mut self,
        task: Task,
        items: &[Item],
        ask: &mut Ask<'_, T>,
        tokens: impl Fn(&T) -> usize,
    ) -> Result<Vec<Sample<T>>> {
        let open: Vec<&Item> =
            items.iter().filter(|item| !self.finished.contains_key(&(task, item.id.clone()))).collect();
        let started = Instant::now();
        let mut used = 0;
        for (number, batch) in open.chunks(self.batch).enumerate() {
            self.context.check_cancel()?;
            let before = items.len() - open.len() + number * self.batch;
            let samples = self.ask(&Batch { task, items: batch, before, total: items.len() }, ask)?;
            for (item, sample) in batch.iter().zip(samples) {
                used += sample.result().map_or(0, &tokens);
                self.keep(task, &item.id, &sample)?;
            }
            self.log.sync()?;
        }
        if !open.is_empty() {
            let seconds = started.elapsed().as_secs_f64();
            self.context.emit(Event::info(format!(
                "{task}: {} items, {used} tokens in {seconds:.1} s, {:.0} tokens/s",
                open.len(),
                used as f64 / seconds.max(1e-9)
            )));
        }
        items.iter().map(|item| self.sample(task, &item.id)).collect()
    }

    /// Asks one batch. A batch that holds an item longer than the context is halved until that item stands alone.
    fn ask<T>(&self, batch: &Batch<'_>, ask: &mut Ask<'_, T>) -> Result<Vec<Sample<T>>> {
        let &Batch { task, items, before, total } = batch;
        let mut done = before;
        let mut progress = |_| {
            done += 1;
            self.context.emit(Event::progress(done as u64, Some(total as u64), "items", task.as_str()));
        };
        match ask(items, &mut progress) {
            Ok(results) if results.len() == items.len() => {
                Ok(results.into_iter().map(Sample::Result).collect())
            }
            Ok(results) => Err(Error::WrongCount {
                model: self.model.clone(),
                task,
                asked: items.len(),
                returned: results.len(),
            }),
            Err(lm::Error::TooLong { tokens, context_length }) if items.len() == 1 => {
                Ok(vec![Sample::TooLong { tokens, context_length }])
            }
            Err(lm::Error::TooLong { .. }) => {
                let (first, second) = items.split_at(items.len() / 2);
                let mut samples = self.ask(&Batch { items: first, ..*batch }, ask)?;
                let second = Batch { items: second, before: before + first.len(), ..*batch };
                samples.extend(self.ask(&second, ask)?);
                Ok(samples)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn keep<T: Serialize>(&mut self, task: Task, id: &str, sample: &Sample<T>) -> Result<()> {
        let malformed =
            |e| nexa_core::Error::malformed(self.context.workspace, format!("sample of `{id}`: {e}"));
        let sample = serde_json::to_value(sample).map_err(malformed)?;
        self.log.append(&Line { task, id: id.to_owned(), sample: &sample })?;
        self.finished.insert((task, id.to_owned()), sample);
        Ok(())
    }

    /// Reads a sample back, so that a resumed run and a straight one see the same values.
    fn sample<T: DeserializeOwned>(&self, task: Task, id: &str) -> Result<Sample<T>> {
        let value = self.finished.get(&(task, id.to_owned())).cloned().unwrap_or(Value::Null);
        let path = self.context.workspace.join("samples.jsonl");
        Ok(serde_json::from_value(value)
            .map_err(|e| nexa_core::Error::malformed(path, format!("sample of `{id}` for `{task}`: {e}")))?)
    }
}

/// Puts some items to a model and returns its results in their order, calling back as each is done.
pub type Ask<'a, T> = dyn FnMut(&[&Item], &mut dyn FnMut(usize)) -> Result<Vec<T>, lm::Error> + 'a;
