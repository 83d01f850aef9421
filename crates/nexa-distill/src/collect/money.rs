//! What calls cost, and the ceiling that is asked before each of them.

use nexa_core::cost::{self, Ceiling, Entry, ModelPrice};
use nexa_core::files;
use nexa_core::stage::Context;

use super::Config;
use crate::client::{Answer, Request};
use crate::teacher::{Endpoint, Provider};
use crate::{Error, Result};

/// The money of a run: what it has spent, and what is promised to calls under way.
#[derive(Debug)]
pub(super) struct Purse {
    model: String,
    price: Option<ModelPrice>,
    ceiling: Option<Ceiling>,
    spent_usd: f64,
    /// The most that one call has cost.
    dearest_usd: f64,
    promised_usd: f64,
    /// Calls whose cost nobody told.
    unknown: u64,
}

impl Purse {
    /// Opens the purse with what earlier attempts of this run have spent.
    pub(super) fn open(context: &Context<'_>, config: &Config, endpoint: &Endpoint) -> Result<Self> {
        let settings = context.services.lab.settings();
        let ceiling = Ceiling::lowest(config.max_cost_usd, settings.budget.max_usd_per_run);
        let price = match (endpoint.provider, ceiling) {
            // It runs on this machine, whose time has a price of its own.
            (Provider::Embedded, _) => {
                Some(ModelPrice { input_usd_per_million: 0.0, output_usd_per_million: 0.0 })
            }
            (_, Some(_)) => Some(cost::require_price(&settings.prices, &endpoint.model)?),
            (_, None) => settings.prices.models.get(&endpoint.model).copied(),
        };
        let ledger = files::read_lines::<Entry>(&context.workspace.join("ledger.jsonl"))?;
        let spent_usd = ledger
            .iter()
            .map(|entry| match entry {
                Entry::Tokens { usd, .. } => usd.unwrap_or(0.0),
                Entry::Machine { .. } => 0.0,
            })
            .fold(0.0, |sum, usd| sum + usd);
        Ok(Self {
            model: endpoint.model.clone(),
            price,
            ceiling,
            spent_usd,
            dearest_usd: 0.0,
            promised_usd: 0.0,
            unknown: 0,
        })
    }

    /// The most that a call can cost; 0 where no price is known, which no ceiling allows.
    ///
    /// A token is at least one byte, so the bytes of the prompt bound its tokens; each message adds a few of its own.
    /// A provider that has charged more than that for a call is expected to do so again.
    pub(super) fn worst_case(&self, request: &Request) -> f64 {
        const TOKENS_PER_MESSAGE: u64 = 16;
        let prompt: u64 = request.messages.iter().map(|m| m.content.len() as u64 + TOKENS_PER_MESSAGE).sum();
        self.price.map_or(0.0, |price| price.usd(prompt, request.max_tokens)).max(self.dearest_usd)
    }

    /// Whether a call may be made now.
    pub(super) fn allows(&self, worst_case_usd: f64) -> bool {
        self.ceiling.is_none_or(|ceiling| ceiling.allows(self.spent_usd, self.promised_usd, worst_case_usd))
    }

    /// Sets the worst case of a call aside until it has ended.
    pub(super) fn promise(&mut self, worst_case_usd: f64) {
        self.promised_usd += worst_case_usd;
    }

    /// Takes back what was set aside.
    pub(super) fn release(&mut self, worst_case_usd: f64) {
        self.promised_usd -= worst_case_usd;
    }

    /// Counts answers, and returns the entries for the ledger: one for those whose cost is known, one for the others.
    pub(super) fn charge<'a>(&mut self, answers: impl IntoIterator<Item = (&'a Answer, f64)>) -> Vec<Entry> {
        let mut known = (Bill::default(), 0.0);
        let mut unknown = Bill::default();
        for (answer, worst_case_usd) in answers {
            match self.cost(answer, worst_case_usd) {
                Some(usd) => {
                    self.dearest_usd = self.dearest_usd.max(usd);
                    known.0.add(answer);
                    known.1 += usd;
                }
                None => unknown.add(answer),
            }
        }
        self.spent_usd += known.1;
        self.unknown += unknown.requests;
        [(known.0, Some(known.1)), (unknown, None)]
            .into_iter()
            .filter(|(bill, _)| bill.requests > 0)
            .map(|(bill, usd)| bill.entry(&self.model, usd))
            .collect()
    }

    /// What an answer cost: as the provider reported, else by price and tokens. Where the tokens were not reported
    /// either, a run with a ceiling counts the worst case.
    fn cost(&self, answer: &Answer, worst_case_usd: f64) -> Option<f64> {
        let by_price = || Some(self.price?.usd(answer.prompt_tokens?, answer.completion_tokens?));
        answer.reported_usd.or_else(by_price).or_else(|| self.ceiling.map(|_| worst_case_usd))
    }

    /// The error of a call that the ceiling forbids.
    pub(super) fn exceeded(&self, next_usd: f64, done: usize, total: usize) -> Error {
        let max_usd = self.ceiling.map_or(f64::INFINITY, |ceiling| ceiling.max_usd);
        Error::Budget { max_usd, spent_usd: self.spent_usd, next_usd, done, total }
    }

    /// The spending in a few characters.
    pub(super) fn note(&self) -> String {
        match self.unknown {
            0 => format!("${:.4}", self.spent_usd),
            calls => format!("${:.4} + {calls} calls of unknown cost", self.spent_usd),
        }
    }
}

#[derive(Default)]
struct Bill {
    requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Bill {
    fn add(&mut self, answer: &Answer) {
        self.requests += 1;
        self.prompt_tokens += answer.prompt_tokens.unwrap_or(0);
        self.completion_tokens += answer.completion_tokens.unwrap_or(0);
    }

    fn entry(self, model: &str, usd: Option<f64>) -> Entry {
        Entry::Tokens {
            model: model.to_owned(),
            requests: self.requests,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            usd,
        }
    }
}

#[cfg(test)]
mod tests {
    use nexa_core::lm::FinishReason;

    use super::*;

    fn answer(reported_usd: Option<f64>, tokens: Option<u64>) -> Answer {
        Answer {
            text: String::new(),
            finish_reason: FinishReason::Stop,
            model_id: "m".to_owned(),
            prompt_tokens: tokens,
            completion_tokens: tokens,
            reported_usd,
        }
    }

    fn purse(price: Option<f64>, ceiling: Option<f64>) -> Purse {
        Purse {
            model: "m".to_owned(),
            price: price.map(|usd| ModelPrice { input_usd_per_million: usd, output_usd_per_million: usd }),
            ceiling: ceiling.map(|max_usd| Ceiling { max_usd }),
            spent_usd: 0.0,
            dearest_usd: 0.0,
            promised_usd: 0.0,
            unknown: 0,
        }
    }

    #[test]
    fn the_providers_word_counts_first_and_the_unknown_is_never_nothing() {
        let check = |price, ceiling, answer: Answer, expected: Option<f64>| {
            assert_eq!(purse(price, ceiling).cost(&answer, 9.0), expected);
        };
        check(Some(1.0), None, answer(Some(0.5), Some(1_000_000)), Some(0.5));
        check(Some(1.0), None, answer(None, Some(1_000_000)), Some(2.0));
        check(None, None, answer(None, Some(1_000_000)), None);
        check(Some(1.0), None, answer(None, None), None);
        check(Some(1.0), Some(10.0), answer(None, None), Some(9.0));
    }

    #[test]
    fn known_and_unknown_costs_are_entered_apart() {
        let answers = [answer(Some(0.5), Some(1)), answer(None, Some(2)), answer(Some(0.25), Some(3))];
        let entries = purse(None, None).charge(answers.iter().map(|answer| (answer, 0.0)));
        let found: Vec<_> = entries
            .iter()
            .map(|entry| match entry {
                Entry::Tokens { requests, prompt_tokens, usd, .. } => (*requests, *prompt_tokens, *usd),
                Entry::Machine { .. } => panic!("{entry:?}"),
            })
            .collect();
        assert_eq!(found, [(2, 4, Some(0.75)), (1, 2, None)]);
    }

    #[test]
    fn promises_count_until_they_are_released() {
        let mut purse = purse(Some(1.0), Some(1.0));
        assert!(purse.allows(0.6));
        purse.promise(0.6);
        assert!(!purse.allows(0.6));
        purse.release(0.6);
        assert!(purse.allows(0.6));
        purse.charge([(&answer(Some(0.5), None), 0.6)]);
        assert!(!purse.allows(0.6) && purse.allows(0.5));
    }
}
