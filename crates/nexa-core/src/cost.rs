//! What things cost: prices, entries of a run's ledger, and sums in which "unknown" is never 0.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::LineLog;
use crate::{Error, Result, files};

/// What machines and models cost, from `nexa.yaml`. There are no built-in prices: they change, and a wrong one is
/// worse than none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prices {
    /// US dollars for an hour of this machine; absent means unknown, 0 means that it costs nothing.
    pub machine_usd_per_hour: Option<f64>,
    /// The day on which the prices were looked up, as `2026-11-24`: what a forecast and a record say of them.
    pub as_of: Option<String>,
    /// Prices by model name, as given after the provider: `openai/gpt-4o`. `openai/gpt-4o@batch` is the price of the
    /// same model in batches.
    pub models: BTreeMap<String, ModelPrice>,
}

/// What a model's tokens cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// US dollars for a million tokens of prompts.
    pub input_usd_per_million: f64,
    /// US dollars for a million tokens of answers.
    pub output_usd_per_million: f64,
}

impl ModelPrice {
    /// The price of a call in US dollars.
    pub fn usd(&self, prompt_tokens: u64, completion_tokens: u64) -> f64 {
        (prompt_tokens as f64 * self.input_usd_per_million
            + completion_tokens as f64 * self.output_usd_per_million)
            / 1e6
    }
}

/// What was used, and what it cost where that is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Entry {
    /// Time on a machine.
    Machine {
        /// Seconds of wall-clock time.
        seconds: f64,
        /// US dollars, where the machine has a price.
        usd: Option<f64>,
    },
    /// Tokens of a model behind an API.
    Tokens {
        /// The model's name.
        model: String,
        /// Calls that were answered.
        requests: u64,
        /// Tokens of prompts.
        prompt_tokens: u64,
        /// Tokens of answers.
        completion_tokens: u64,
        /// US dollars: as the provider reported, else from `nexa.yaml`, else unknown.
        usd: Option<f64>,
    },
}

/// An entry for certain calls, which says what the entry alone cannot. A ledger's other lines are such entries as well,
/// for no call in particular.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Charge {
    /// What was used, and what it cost where that is known.
    #[serde(flatten)]
    pub entry: Entry,
    /// The calls that it is for, as the stage numbers those of its run: what stands here is not entered again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<u64>,
    /// US dollars that the calls cost at most, where the entry does not know what they cost. It counts against a
    /// ceiling, and into no sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most_usd: Option<f64>,
    /// Tokens that the calls used at most, where the entry does not know how many. They count against a ceiling on
    /// tokens, and into no sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most_tokens: Option<u64>,
}

/// A sum of entries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spend {
    /// US dollars that are known.
    pub usd: f64,
    /// What was used without a known price, such as `machine time`. Not empty means that `usd` is a lower bound.
    pub unknown: Vec<String>,
    /// Seconds of machines.
    pub machine_seconds: f64,
    /// Answered API calls.
    pub requests: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
}

impl Spend {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        let (usd, what) = match entry {
            Entry::Machine { seconds, usd } => {
                self.machine_seconds += seconds;
                (*usd, "machine time".to_owned())
            }
            Entry::Tokens { model, requests, prompt_tokens, completion_tokens, usd } => {
                self.requests += requests;
                self.prompt_tokens += prompt_tokens;
                self.completion_tokens += completion_tokens;
                (*usd, format!("tokens of {model}"))
            }
        };
        match usd {
            Some(usd) => self.usd += usd,
            None => self.note_unknown(what),
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.usd += other.usd;
        self.machine_seconds += other.machine_seconds;
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        for what in &other.unknown {
            self.note_unknown(what.clone());
        }
    }

    fn note_unknown(&mut self, what: String) {
        if !self.unknown.contains(&what) {
            self.unknown.push(what);
            self.unknown.sort();
        }
    }
}

impl fmt::Display for Spend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unknown.is_empty() {
            write!(f, "${:.4}", self.usd)
        } else if self.usd > 0.0 {
            write!(f, "${:.4} + unknown ({})", self.usd, self.unknown.join(", "))
        } else {
            write!(f, "unknown ({})", self.unknown.join(", "))
        }
    }
}

/// The ledger of one run: `ledger.jsonl`, only ever appended to.
#[derive(Debug)]
pub struct Ledger {
    log: LineLog,
}

impl Ledger {
    /// Opens the ledger of a run's folder.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be opened.
    pub fn open(run_folder: &Path) -> Result<Self> {
        Ok(Self { log: LineLog::open(&run_folder.join("ledger.jsonl"))? })
    }

    /// Appends an entry, durably.
    ///
    /// # Errors
    /// Fails with the path when it cannot be written.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        self.log.append(entry)?;
        self.log.sync()
    }

    /// Appends a charge, durably.
    ///
    /// # Errors
    /// Fails with the path when it cannot be written.
    pub fn charge(&mut self, charge: &Charge) -> Result<()> {
        self.log.append(charge)?;
        self.log.sync()
    }

    /// Every entry in the ledger of a run's folder, in the order in which they were made.
    ///
    /// # Errors
    /// Fails with path and line on a malformed entry.
    pub fn charges(run_folder: &Path) -> Result<Vec<Charge>> {
        files::read_lines(&run_folder.join("ledger.jsonl"))
    }

    /// Sums the ledger of a run's folder.
    ///
    /// # Errors
    /// Fails with path and line on a malformed entry.
    pub fn total(run_folder: &Path) -> Result<Spend> {
        let mut spend = Spend::default();
        for entry in files::read_lines::<Entry>(&run_folder.join("ledger.jsonl"))? {
            spend.add(&entry);
        }
        Ok(spend)
    }
}

/// A ceiling on API spending that is asked before each call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceiling {
    /// US dollars that may be spent.
    pub max_usd: f64,
}

impl Ceiling {
    /// Whether a call may be made: what is spent, plus what is in flight, plus its worst case, stays within.
    pub fn allows(&self, spent_usd: f64, in_flight_usd: f64, worst_case_usd: f64) -> bool {
        spent_usd + in_flight_usd + worst_case_usd <= self.max_usd
    }

    /// The lower of two ceilings that may each be absent.
    pub fn lowest(one: Option<f64>, other: Option<f64>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(Self { max_usd: one.min(other) }),
            (one, other) => one.or(other).map(|max_usd| Self { max_usd }),
        }
    }
}

/// The price of a model, or an error that says where to give one, for stages that must know it.
///
/// # Errors
/// Fails when `nexa.yaml` has no price for the model.
pub fn require_price(prices: &Prices, model: &str) -> Result<ModelPrice> {
    prices.models.get(model).copied().ok_or_else(|| Error::NoPrice { model: model.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_never_zero() {
        let mut spend = Spend::default();
        spend.add(&Entry::Machine { seconds: 10.0, usd: None });
        assert_eq!(spend.to_string(), "unknown (machine time)");
        spend.add(&Entry::Tokens {
            model: "m".to_owned(),
            requests: 1,
            prompt_tokens: 5,
            completion_tokens: 7,
            usd: Some(0.5),
        });
        assert_eq!(spend.to_string(), "$0.5000 + unknown (machine time)");
    }

    #[test]
    fn a_charge_is_an_entry_to_whoever_sums_and_an_entry_is_a_charge_for_no_call() {
        let folder = tempfile::tempdir().unwrap();
        let entry = |usd| Entry::Tokens {
            model: "m".to_owned(),
            requests: 1,
            prompt_tokens: 5,
            completion_tokens: 7,
            usd,
        };
        let plain =
            Charge { entry: entry(Some(0.5)), calls: Vec::new(), at_most_usd: None, at_most_tokens: None };
        let assumed =
            Charge { entry: entry(None), calls: vec![3, 4], at_most_usd: Some(2.0), at_most_tokens: Some(9) };
        let mut ledger = Ledger::open(folder.path()).unwrap();
        ledger.append(&plain.entry).unwrap();
        ledger.charge(&assumed).unwrap();
        assert_eq!(Ledger::charges(folder.path()).unwrap(), [plain, assumed]);
        assert_eq!(Ledger::total(folder.path()).unwrap().to_string(), "$0.5000 + unknown (tokens of m)");
    }

    #[test]
    fn prices_are_per_million_tokens() {
        let price = ModelPrice { input_usd_per_million: 2.5, output_usd_per_million: 10.0 };
        assert_eq!(price.usd(1_000_000, 100_000), 3.5);
    }

    #[test]
    fn a_ceiling_counts_what_is_in_flight() {
        let ceiling = Ceiling::lowest(Some(1.0), Some(2.0)).unwrap();
        assert!(ceiling.allows(0.5, 0.25, 0.25));
        assert!(!ceiling.allows(0.5, 0.5, 0.25));
        assert_eq!(Ceiling::lowest(None, None), None);
    }
}
