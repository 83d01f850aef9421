//! What an evaluation is set to.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use nexa_core::lm::Calls;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::task::Task;

/// The seed of examples: that of lm-evaluation-harness.
const FEWSHOT_SEED: u64 = 1234;

/// What an evaluation is set to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is measured: `exact_match` and `perplexity` over a held-out split, tasks, groups and tags by name, paths of task
    /// files, and `text:PATH` for the perplexity of any text.
    pub tasks: Vec<String>,
    /// The split that `exact_match` and `perplexity` read.
    pub split: Split,
    /// Takes the first documents of each task only: so many, or such a share, rounded up.
    pub limit: Option<Limit>,
    /// Ends an answer to `exact_match` after this many tokens.
    pub max_tokens: usize,
    /// Examples before each question; what the task says where nothing is said.
    pub num_fewshot: Option<usize>,
    /// Folders of task files.
    pub include_path: Vec<PathBuf>,
    /// Files or folders of documents, by task, group or data set.
    pub data: BTreeMap<String, PathBuf>,
    /// Whether prompts of tasks are written with the model's chat template.
    pub apply_chat_template: bool,
    /// Whether examples are turns of their own there; yes where nothing is said.
    pub fewshot_as_multiturn: Option<bool>,
    /// What the model is told before everything.
    pub system_instruction: Option<String>,
    /// Goes over the `generation_kwargs` of every task.
    pub gen_kwargs: Option<Value>,
    /// Resamples for the standard errors of metrics that are no means; 0 leaves all errors out.
    pub bootstrap: usize,
    /// Answers asked of the model at once, and kept at once; of scores eight times as many. Changes no number.
    pub batch: NonZeroUsize,
    /// Whether answers of earlier runs to the same questions are taken. Changes no number.
    pub cache: bool,
    /// How a model behind an API is called. Changes no number; whether there is a result depends on what may fail and cost.
    pub calls: Calls,
    /// Whether documents are looked for in the training data of the checkpoint.
    pub contamination: bool,
    /// Ends once it is decided whether the model is better or worse than that of the input `versus`, and is wrong about two
    /// equally good ones with a chance of at most this.
    pub stop_when_decided: Option<f64>,
    /// Seeds the choice of examples.
    pub fewshot_seed: u64,
    /// Seeds answers that are drawn, and the intervals.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tasks: Task::ALL.map(|task| task.as_str().to_owned()).into(),
            split: Split::Test,
            limit: None,
            max_tokens: 160,
            num_fewshot: None,
            include_path: Vec::new(),
            data: BTreeMap::new(),
            apply_chat_template: false,
            fewshot_as_multiturn: None,
            system_instruction: None,
            gen_kwargs: None,
            bootstrap: 100_000,
            batch: const { NonZeroUsize::new(64).expect("64 is not 0") },
            cache: true,
            calls: Calls::default(),
            contamination: true,
            stop_when_decided: None,
            fewshot_seed: FEWSHOT_SEED,
            seed: 0,
        }
    }
}

impl Config {
    /// The tasks over a held-out split, each once.
    pub(crate) fn held_out(&self) -> Vec<Task> {
        Task::ALL.into_iter().filter(|task| self.tasks.iter().any(|name| name == task.as_str())).collect()
    }

    /// The names of all other tasks.
    pub(crate) fn others(&self) -> Vec<String> {
        self.tasks.iter().filter(|name| Task::named(name).is_none()).cloned().collect()
    }

    /// What decides the result, but for the tasks that names stand for.
    pub(crate) fn key(&self) -> Value {
        // Neither the batch, the cache nor how an API is called changes a number, and tasks and files are told apart by their content.
        let Self { tasks: _, include_path: _, data: _, batch: _, cache: _, calls: _, .. } = self;
        json!({
            "tasks": self.held_out(), "split": self.split, "limit": self.limit, "max_tokens": self.max_tokens,
            "num_fewshot": self.num_fewshot, "apply_chat_template": self.apply_chat_template,
            "fewshot_as_multiturn": self.fewshot_as_multiturn, "system_instruction": self.system_instruction,
            "gen_kwargs": self.gen_kwargs, "bootstrap": self.bootstrap, "contamination": self.contamination,
            "stop_when_decided": self.stop_when_decided, "fewshot_seed": self.fewshot_seed, "seed": self.seed,
        })
    }
}

/// How many documents are taken: a number, or below 1 a share of those that there are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "Value")]
pub struct Limit(f64);

impl Limit {
    /// The first so many documents.
    pub fn first(count: NonZeroUsize) -> Self {
        Self(count.get() as f64)
    }

    /// How many of all documents are taken.
    pub fn of(self, total: usize) -> usize {
        let count = if self.0 < 1.0 { (total as f64 * self.0).ceil() } else { self.0 };
        (count as usize).min(total)
    }
}

impl TryFrom<f64> for Limit {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        let is_whole = value.fract() == 0.0;
        if value > 0.0 && value.is_finite() && (value < 1.0 || is_whole) {
            Ok(Self(value))
        } else {
            Err(format!("{value} is neither a number of documents nor a share between 0 and 1"))
        }
    }
}

impl From<Limit> for Value {
    fn from(limit: Limit) -> Self {
        if limit.0 < 1.0 { limit.0.into() } else { (limit.0 as u64).into() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_a_share() {
        let check = |value: f64, total: usize, expected: usize| {
            assert_eq!(Limit::try_from(value).unwrap().of(total), expected, "{value} of {total}");
        };
        check(5.0, 10, 5);
        check(50.0, 10, 10);
        check(0.25, 10, 3);
        check(1.0, 10, 1);
        for wrong in [0.0, -1.0, 1.5, f64::NAN, f64::INFINITY] {
            assert!(Limit::try_from(wrong).is_err(), "{wrong}");
        }
    }
}
