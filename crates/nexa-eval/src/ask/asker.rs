//! The answers of a model as they come, kept so that no request is put twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Instant;

use nexa_core::event::Event;
use nexa_core::files::{self, LineLog};
use nexa_core::hash::ContentHash;
use nexa_core::lm::{self, ChatReply, LoadedModel, Score};
use nexa_core::stage::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ask::cache::{Cache, Line};
use crate::ask::{Asked, Request};
use crate::{Error, Result};

/// The log of a run, in its folder.
const FILE: &str = "samples.jsonl";

/// Scores that are asked at once for each answer that would be: they take less time, and the more there are, the more of
/// their beginnings they share.
const SCORES_PER_ANSWER: usize = 8;

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample<T> {
    /// The model's result.
    Result(T),
    /// The request is longer than the model's context.
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The model's positions.
        context_length: usize,
    },
    /// Whoever answers for the model does not accept the request. It is asked for again by the next run.
    Failed {
        /// Why.
        reason: String,
    },
}

impl<T> Sample<T> {
    /// A result, or why there is none.
    fn of(result: Result<T, String>) -> Self {
        result.map_or_else(|reason| Self::Failed { reason }, Self::Result)
    }

    /// The model's result, if there is one.
    pub fn result(&self) -> Option<&T> {
        match self {
            Self::Result(result) => Some(result),
            Self::TooLong { .. } | Self::Failed { .. } => None,
        }
    }
}

/// Puts requests to one model, in batches, and keeps what it says.
pub struct Asker<'a> {
    context: &'a Context<'a>,
    model: &'a LoadedModel<'a>,
    batch: usize,
    log: LineLog,
    finished: HashMap<String, Value>,
    cache: Option<Cache>,
    /// Prompts of each task that lost their beginning.
    cut: BTreeMap<String, usize>,
    /// Requests of each task that failed for good.
    failed: BTreeMap<String, usize>,
    /// The share of a task's requests that may.
    max_failed_share: f64,
}

/// A request that is still open.
struct Open<'a> {
    key: String,
    asked: &'a Asked,
}

/// Requests that are put together.
#[derive(Clone, Copy)]
struct Batch<'b, 'a> {
    task: &'b str,
    open: &'b [Open<'a>],
    /// Requests of the task that are done already.
    before: usize,
    /// All requests of the task.
    total: usize,
}

/// Puts some requests to a model and returns what came of each in their order, calling back as each is done.
type Ask<'f, T> = dyn FnMut(&[&Request], &mut dyn FnMut(usize)) -> Result<Vec<Sample<T>>, lm::Error> + 'f;

impl<'a> Asker<'a> {
    /// Opens the log of a run, with what earlier attempts finished. Such a share of a task's requests may fail for good.
    ///
    /// # Errors
    /// Fails with path and line when a log cannot be read.
    pub fn open(
        context: &'a Context<'a>,
        model: &'a LoadedModel<'a>,
        batch: usize,
        max_failed_share: f64,
    ) -> Result<Self> {
        let path = context.workspace.join(FILE);
        let log = LineLog::open(&path)?;
        let finished = files::read_lines::<Line<Value>>(&path)?;
        let finished = finished.into_iter().map(|line| (line.key, line.sample)).collect();
        let (cut, failed) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { context, model, batch, log, finished, cache: None, cut, failed, max_failed_share })
    }

    /// Takes what earlier runs asked the same checkpoint from the lab's cache, and adds to it.
    ///
    /// # Errors
    /// Fails with path and line when the cache cannot be read.
    pub fn with_cache(self, checkpoint: &ContentHash) -> Result<Self> {
        let cache = Cache::open(self.context, checkpoint, &self.model.info)?;
        Ok(Self { cache: Some(cache), ..self })
    }

    /// The model that is asked.
    pub fn model(&self) -> &'a LoadedModel<'a> {
        self.model
    }

    /// Asks for answers, to conversations or to texts; all requests are of one kind.
    ///
    /// # Errors
    /// Fails when the model does or has no such faculty, when the user wants to stop, or when the log cannot be written.
    /// Finished batches are kept.
    pub fn replies(&mut self, task: &str, asked: &[Asked]) -> Result<Vec<Sample<ChatReply>>> {
        let model = self.model;
        let needs_completer = asked.iter().any(|asked| matches!(asked.request, Request::Complete { .. }));
        let completer = match &model.completer {
            None if needs_completer => {
                let (task, model) = (task.to_owned(), model.info.name.clone());
                return Err(Error::NoCompletions { task, model });
            }
            completer => completer,
        };
        let mut ask = |requests: &[&Request],
                       done: &mut dyn FnMut(usize)|
         -> Result<Vec<Sample<ChatReply>>, lm::Error> {
            match completer {
                Some(completer) if needs_completer => {
                    let texts: Vec<_> = requests.iter().filter_map(|request| request.completion()).collect();
                    Ok(completer.complete(&texts, done)?.into_iter().map(Sample::Result).collect())
                }
                _ => {
                    let chats: Vec<_> = requests.iter().filter_map(|request| request.chat()).collect();
                    Ok(model.chat.chat_each(&chats, done)?.into_iter().map(Sample::of).collect())
                }
            }
        };
        let batch = self.batch;
        let replies = self.collect((task, batch), asked, &mut ask, |reply| reply.completion_tokens)?;
        self.tell_cut(task, &replies, |reply| reply.cut_tokens)?;
        Ok(replies)
    }

    /// Asks for probabilities.
    ///
    /// # Errors
    /// As [`Self::replies`], and when a log-probability is no number.
    pub fn scores(&mut self, task: &str, asked: &[Asked]) -> Result<Vec<Sample<Score>>> {
        let model = self.model;
        let Some(scorer) = &model.scorer else {
            return Err(Error::NoScorer { model: model.info.name.clone(), task: task.to_owned() });
        };
        // JSON has no infinities, so a batch with one must not reach the log.
        let mut not_finite = None;
        let mut ask =
            |requests: &[&Request], done: &mut dyn FnMut(usize)| -> Result<Vec<Sample<Score>>, lm::Error> {
                let texts: Vec<_> = requests.iter().filter_map(|request| request.score()).collect();
                let scores = scorer.score(&texts, done)?;
                let bad = requests.iter().zip(&scores).find(|(_, score)| !score.logprob_nats.is_finite());
                if let Some((request, score)) = bad {
                    not_finite = Some(((*request).clone(), score.logprob_nats));
                    return Err(lm::Error::Invalid("a log-probability is no number".to_owned()));
                }
                Ok(scores.into_iter().map(Sample::Result).collect())
            };
        let batch = self.batch.saturating_mul(SCORES_PER_ANSWER);
        let scores = self.collect((task, batch), asked, &mut ask, |score| score.tokens);
        match not_finite {
            Some((request, logprob_nats)) => {
                let item = asked.iter().find(|asked| asked.request == request);
                let id = item.map(|asked| asked.item.clone()).unwrap_or_default();
                Err(Error::NotFinite { model: model.info.name.clone(), id, logprob_nats })
            }
            None => {
                let scores = scores?;
                self.tell_cut(task, &scores, |score| score.cut_tokens)?;
                Ok(scores)
            }
        }
    }

    /// States how many prompts of a task lost their beginning, which is where examples stand, and tells it.
    fn tell_cut<T>(&mut self, task: &str, samples: &[Sample<T>], cut: impl Fn(&T) -> usize) -> Result<()> {
        let count = samples.iter().filter_map(Sample::result).filter(|result| cut(result) > 0).count();
        if count > 0 {
            *self.cut.entry(task.to_owned()).or_default() += count;
            self.context.state("prompts_cut", &self.cut)?;
            let (total, room) = (samples.len(), self.model.info.context_length);
            self.context.emit(Event::warning(format!(
                "{task}: {count} of {total} prompts are longer than the context of {room} tokens and lost their beginning"
            )));
        }
        Ok(())
    }

    /// Holds what failed of all requests of a task against the share that may, states it, and tells it. Whoever asks calls it
    /// once the task is asked, for what was answered earlier counts as well.
    ///
    /// # Errors
    /// Fails where it is more, with the first reason.
    pub(crate) fn tell_failed<'s, T: 's>(
        &mut self,
        task: &str,
        samples: impl IntoIterator<Item = &'s Sample<T>>,
    ) -> Result<()> {
        let (mut total, mut reasons) = (0_usize, Vec::new());
        for sample in samples {
            total += 1;
            if let Sample::Failed { reason } = sample {
                reasons.push(reason);
            }
        }
        let Some(first) = reasons.first() else { return Ok(()) };
        let failed = reasons.len();
        let max_share = self.max_failed_share;
        if failed as f64 > max_share * total as f64 {
            let (model, task) = (self.model.info.name.clone(), task.to_owned());
            return Err(Error::TooManyFailed {
                model,
                task,
                failed,
                total,
                max_share,
                first: (*first).clone(),
            });
        }
        self.failed.insert(task.to_owned(), failed);
        self.context.state("requests_failed", &self.failed)?;
        self.context.emit(Event::warning(format!(
            "{task}: {failed} of {total} requests have no answer and count as empty ones; the first: {first}"
        )));
        Ok(())
    }

    /// Asks every request that has no sample yet, a batch at a time, and returns the samples of all in their order.
    fn collect<T: Serialize + DeserializeOwned>(
        &mut self,
        (task, size): (&str, usize),
        asked: &[Asked],
        ask: &mut Ask<'_, T>,
        tokens: impl Fn(&T) -> usize,
    ) -> Result<Vec<Sample<T>>> {
        let keys: Vec<String> = asked.iter().map(|asked| asked.request.key().as_str().to_owned()).collect();
        let open = self.open_requests(asked, &keys);
        let started = Instant::now();
        let (mut used, mut done) = (0, asked.len() - open.len());
        for batch in batches(&open, size) {
            self.context.check_cancel()?;
            let samples = self.ask(Batch { task, open: batch, before: done, total: asked.len() }, ask)?;
            for (open, sample) in batch.iter().zip(samples) {
                used += sample.result().map_or(0, &tokens);
                self.keep(&open.key, &sample)?;
            }
            self.log.sync()?;
            done += batch.len();
        }
        if !open.is_empty() {
            let seconds = started.elapsed().as_secs_f64();
            self.context.emit(Event::info(format!(
                "{task}: {} requests, {used} tokens in {seconds:.1} s, {:.0} tokens/s",
                open.len(),
                used as f64 / seconds.max(1e-9)
            )));
        }
        keys.iter().map(|key| self.sample(key)).collect()
    }

    /// The requests that nobody has answered yet, the long ones first: what needs most memory shows at once whether there
    /// is enough. Those of one unit stay together.
    fn open_requests<'r>(&mut self, asked: &'r [Asked], keys: &[String]) -> Vec<Open<'r>> {
        let mut longest: HashMap<usize, usize> = HashMap::new();
        for one in asked {
            let length = longest.entry(one.unit).or_default();
            *length = (*length).max(one.request.length());
        }
        let mut seen = HashSet::new();
        let mut open = Vec::new();
        for (asked, key) in asked.iter().zip(keys) {
            if self.finished.contains_key(key) || !seen.insert(key) {
                continue;
            }
            match self.cache.as_ref().and_then(|cache| cache.get(key)) {
                Some(sample) => drop(self.finished.insert(key.clone(), sample.clone())),
                None => open.push(Open { key: key.clone(), asked }),
            }
        }
        open.sort_by_key(|one| {
            let unit = one.asked.unit;
            (std::cmp::Reverse(longest.get(&unit).copied().unwrap_or(0)), unit)
        });
        open
    }

    /// Asks one batch. A batch that holds a request longer than the context is halved until that one stands alone.
    fn ask<T>(&self, batch: Batch<'_, '_>, ask: &mut Ask<'_, T>) -> Result<Vec<Sample<T>>> {
        let Batch { task, open, before, total } = batch;
        let mut done = before;
        let mut progress = |_| {
            done += 1;
            self.context.emit(Event::progress(done as u64, Some(total as u64), "items", task));
        };
        let requests: Vec<&Request> = open.iter().map(|open| &open.asked.request).collect();
        match ask(&requests, &mut progress) {
            Ok(samples) if samples.len() == open.len() => Ok(samples),
            Ok(samples) => Err(Error::WrongCount {
                model: self.model.info.name.clone(),
                task: task.to_owned(),
                asked: open.len(),
                returned: samples.len(),
            }),
            Err(lm::Error::TooLong { tokens, context_length }) if open.len() == 1 => {
                Ok(vec![Sample::TooLong { tokens, context_length }])
            }
            Err(lm::Error::TooLong { .. }) => {
                let (first, second) = open.split_at(open.len() / 2);
                let mut samples = self.ask(Batch { open: first, ..batch }, ask)?;
                samples.extend(self.ask(Batch { open: second, before: before + first.len(), ..batch }, ask)?);
                Ok(samples)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps what came of a request. What failed is no answer, and stands in no log.
    fn keep<T: Serialize>(&mut self, key: &str, sample: &Sample<T>) -> Result<()> {
        let is_failed = matches!(sample, Sample::Failed { .. });
        let sample = serde_json::to_value(sample).map_err(|error| self.malformed(key, &error))?;
        if !is_failed {
            self.log.append(&Line { key: key.to_owned(), sample: &sample })?;
            if let Some(cache) = &mut self.cache {
                cache.keep(key, &sample)?;
            }
        }
        self.finished.insert(key.to_owned(), sample);
        Ok(())
    }

    /// Reads a sample back, so that a resumed run and a straight one see the same values.
    fn sample<T: DeserializeOwned>(&self, key: &str) -> Result<Sample<T>> {
        let value = self.finished.get(key).cloned().unwrap_or(Value::Null);
        Ok(serde_json::from_value(value).map_err(|error| self.malformed(key, &error))?)
    }

    fn malformed(&self, key: &str, error: &serde_json::Error) -> nexa_core::Error {
        let path: PathBuf = self.context.workspace.join(FILE);
        nexa_core::Error::malformed(path, format!("sample of request {key}: {error}"))
    }
}

/// Cuts requests into batches of at least `size`, never inside a unit.
fn batches<'b, 'a>(open: &'b [Open<'a>], size: usize) -> Vec<&'b [Open<'a>]> {
    let mut batches = Vec::new();
    let mut start = 0;
    for end in 1..=open.len() {
        let is_whole = open.get(end).is_none_or(|next| next.asked.unit != open[end - 1].asked.unit);
        if end == open.len() || (end - start >= size && is_whole) {
            batches.push(&open[start..end]);
            start = end;
        }
    }
    batches
}
