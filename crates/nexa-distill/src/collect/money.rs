//! What calls cost, and the ceiling that is asked before each of them.
//!
//! The order of writing makes that nothing is paid twice and no payment is forgotten, wherever the process is killed:
//! the journal says that a call is sent before it is; the log of answers holds the answer with its cost; the ledger
//! comes last. [`Purse::open`] enters into the ledger what the others know and it does not.

use std::collections::{BTreeMap, HashSet};

use nexa_core::cost::{self, Ceiling, Charge, Entry, Ledger, ModelPrice};
use nexa_core::event::Event;
use nexa_core::stage::Context;

use super::Config;
use super::bill::{self, Bill, Cost};
use super::journal::Journal;
use crate::client::{Request, Usage};
use crate::teacher::{Endpoint, Provider};
use crate::{Error, Result};

/// The money of a run: what it has spent, and what is promised to calls under way.
#[derive(Debug)]
pub(super) struct Purse {
    model: String,
    price: Option<ModelPrice>,
    ceiling: Option<Ceiling>,
    journal: Journal,
    last_call: u64,
    /// The most that each call under way may cost, where a price is known.
    promised: BTreeMap<u64, Option<f64>>,
    /// What is known to be spent.
    spent_usd: f64,
    /// What calls of unknown cost may have cost; it counts against the ceiling as if it were spent.
    assumed_usd: f64,
    /// The most that one call has cost.
    dearest_usd: f64,
    /// Calls whose cost nobody told.
    unknown: u64,
}

impl Purse {
    /// Opens the purse with what earlier attempts of this run have spent. `paid` are the answers that they got, of
    /// which a killed attempt may not have entered the last into the ledger. Calls of which nothing is known but that
    /// they were sent are charged their worst case, as assumed.
    pub(super) fn open(
        context: &Context<'_>,
        config: &Config,
        endpoint: &Endpoint,
        paid: &[Bill],
    ) -> Result<Self> {
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
        let entered = Ledger::charges(context.workspace)?;
        let (journal, left) = Journal::open(context.workspace)?;
        let mut purse = Self {
            model: endpoint.model.clone(),
            price,
            ceiling,
            journal,
            last_call: left.last_call,
            promised: BTreeMap::new(),
            spent_usd: 0.0,
            assumed_usd: 0.0,
            dearest_usd: paid.iter().filter_map(|bill| bill.cost.usd).fold(0.0, f64::max),
            unknown: 0,
        };
        entered.iter().for_each(|charge| purse.count(charge));

        let mut ended: HashSet<u64> =
            entered.iter().flat_map(|charge| charge.calls.iter().copied()).collect();
        let mut missing: Vec<Bill> =
            paid.iter().filter(|bill| !ended.contains(&bill.call)).cloned().collect();
        ended.extend(paid.iter().map(|bill| bill.call));
        purse.last_call = ended.iter().copied().fold(purse.last_call, u64::max);
        let lost: Vec<Bill> = left
            .open
            .into_iter()
            .filter(|(call, _)| !ended.contains(call))
            .map(|(call, at_most_usd)| Bill::lost(call, at_most_usd))
            .collect();
        if !lost.is_empty() {
            context.emit(Event::warning(format!(
                "calls that were under way when the last attempt ended: {}; what they cost is unknown, and the most \
                 that they can have cost counts against the ceiling",
                lost.len()
            )));
        }
        missing.extend(lost);
        for charge in purse.charge(&missing) {
            context.charge(&charge)?;
        }
        Ok(purse)
    }

    /// The most that a call can cost, where a price is known; a ceiling requires one.
    ///
    /// A token is at least one byte, so the bytes of the prompt bound its tokens; each message adds a few of its own.
    /// A provider that has charged more than that for a call is expected to do so again.
    pub(super) fn worst_case(&self, request: &Request) -> Option<f64> {
        const TOKENS_PER_MESSAGE: u64 = 16;
        let prompt: u64 = request.messages.iter().map(|m| m.content.len() as u64 + TOKENS_PER_MESSAGE).sum();
        self.price.map(|price| price.usd(prompt, request.max_tokens).max(self.dearest_usd))
    }

    /// Whether a call may be made now.
    pub(super) fn allows(&self, worst_case_usd: Option<f64>) -> bool {
        let promised_usd = self.promised.values().flatten().fold(0.0, |sum, usd| sum + usd);
        self.ceiling.is_none_or(|ceiling| {
            let spent_usd = self.spent_usd + self.assumed_usd;
            ceiling.allows(spent_usd, promised_usd, worst_case_usd.unwrap_or(0.0))
        })
    }

    /// Sets the worst case of a call aside until it has ended, and returns the call's number. It may be sent after the
    /// next [`sync`](Self::sync).
    pub(super) fn promise(&mut self, worst_case_usd: Option<f64>) -> Result<u64> {
        self.last_call += 1;
        // What can cost nothing needs no record.
        if worst_case_usd != Some(0.0) {
            self.journal.sent(self.last_call, worst_case_usd)?;
        }
        self.promised.insert(self.last_call, worst_case_usd);
        Ok(self.last_call)
    }

    /// Makes the promises durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.journal.sync()
    }

    /// What a call under way cost: as the provider reported, else by price and tokens, else at most its worst case.
    pub(super) fn cost(&self, call: u64, usage: &Usage) -> Cost {
        let by_price = || Some(self.price?.usd(usage.prompt_tokens?, usage.completion_tokens?));
        match usage.reported_usd.or_else(by_price) {
            Some(usd) => Cost::known(usd),
            None => Cost::at_most(self.promised.get(&call).copied().flatten()),
        }
    }

    /// Takes back what was set aside for a call that is not charged.
    pub(super) fn not_billed(&mut self, call: u64) -> Result<()> {
        match self.promised.remove(&call) {
            Some(Some(0.0)) | None => Ok(()),
            Some(_) => self.journal.not_billed(call),
        }
    }

    /// The bills of the calls that are still under way, for when nobody waits for them any longer.
    pub(super) fn abandoned(&self) -> Vec<Bill> {
        self.promised.iter().map(|(&call, &at_most_usd)| Bill::lost(call, at_most_usd)).collect()
    }

    /// Counts bills in place of what was set aside for their calls, and returns the entries for the ledger.
    pub(super) fn charge(&mut self, bills: &[Bill]) -> Vec<Charge> {
        for bill in bills {
            self.promised.remove(&bill.call);
            self.dearest_usd = bill.cost.usd.map_or(self.dearest_usd, |usd| self.dearest_usd.max(usd));
        }
        let charges = bill::charges(&self.model, bills);
        charges.iter().for_each(|charge| self.count(charge));
        charges
    }

    fn count(&mut self, charge: &Charge) {
        let Entry::Tokens { requests, prompt_tokens, completion_tokens, usd, .. } = &charge.entry else {
            return;
        };
        match usd {
            Some(usd) => self.spent_usd += usd,
            None => {
                // What had no price when it was spent may have one now.
                let by_price = || Some(self.price?.usd(*prompt_tokens, *completion_tokens));
                self.assumed_usd += charge.at_most_usd.or_else(by_price).unwrap_or(0.0);
                self.unknown += (*requests).max(charge.calls.len() as u64);
            }
        }
    }

    /// The error of a call that the ceiling forbids.
    pub(super) fn exceeded(&self, next_usd: Option<f64>, done: usize, total: usize) -> Error {
        Error::Budget {
            max_usd: self.ceiling.map_or(f64::INFINITY, |ceiling| ceiling.max_usd),
            spent_usd: self.spent_usd,
            assumed_usd: self.assumed_usd,
            next_usd: next_usd.unwrap_or(0.0),
            done,
            total,
        }
    }

    /// The spending in a few characters.
    pub(super) fn note(&self) -> String {
        let known = format!("${:.4}", self.spent_usd);
        match (self.unknown, self.assumed_usd) {
            (0, _) => known,
            (calls, 0.0) => format!("{known} + {calls} calls of unknown cost"),
            (calls, usd) => format!("{known} + up to ${usd:.4} for {calls} calls of unknown cost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purse(price: Option<f64>, ceiling: Option<f64>) -> (tempfile::TempDir, Purse) {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(folder.path()).unwrap();
        let purse = Purse {
            model: "m".to_owned(),
            price: price.map(|usd| ModelPrice { input_usd_per_million: usd, output_usd_per_million: usd }),
            ceiling: ceiling.map(|max_usd| Ceiling { max_usd }),
            journal,
            last_call: 0,
            promised: BTreeMap::new(),
            spent_usd: 0.0,
            assumed_usd: 0.0,
            dearest_usd: 0.0,
            unknown: 0,
        };
        (folder, purse)
    }

    fn usage(reported_usd: Option<f64>, tokens: Option<u64>) -> Usage {
        Usage { prompt_tokens: tokens, completion_tokens: tokens, reported_usd }
    }

    #[test]
    fn the_providers_word_counts_first_and_the_unknown_is_never_nothing() {
        let check = |price, worst_case_usd, usage: Usage, expected: Cost| {
            let (_folder, mut purse) = purse(price, None);
            let call = purse.promise(worst_case_usd).unwrap();
            assert_eq!(purse.cost(call, &usage), expected);
        };
        check(Some(1.0), Some(9.0), usage(Some(0.5), Some(1_000_000)), Cost::known(0.5));
        check(Some(1.0), Some(9.0), usage(None, Some(1_000_000)), Cost::known(2.0));
        check(None, None, usage(None, Some(1_000_000)), Cost::at_most(None));
        check(Some(1.0), Some(9.0), usage(None, None), Cost::at_most(Some(9.0)));
        check(Some(0.0), Some(0.0), usage(None, None), Cost::known(0.0));
    }

    #[test]
    fn promises_count_until_their_calls_have_ended() {
        let (_folder, mut purse) = purse(Some(1.0), Some(1.0));
        let mut check = |ends: fn(&mut Purse, u64), expected: f64| {
            let call = purse.promise(Some(0.25)).unwrap();
            ends(&mut purse, call);
            assert!(purse.allows(Some(expected)) && !purse.allows(Some(expected + 0.0625)));
        };
        check(|purse, call| purse.not_billed(call).unwrap(), 1.0);
        check(|purse, call| drop(purse.charge(&[Bill::lost(call, Some(0.25))])), 0.75);
        check(|_, _| (), 0.5);
    }

    #[test]
    fn what_is_assumed_is_not_called_known() {
        let (_folder, mut purse) = purse(Some(1.0), Some(10.0));
        for _ in 0..2 {
            purse.promise(Some(2.0)).unwrap();
        }
        let charges = purse.charge(&purse.abandoned());
        assert_eq!((charges.len(), &charges[0].calls, charges[0].at_most_usd), (1, &vec![1, 2], Some(4.0)));
        assert_eq!(purse.note(), "$0.0000 + up to $4.0000 for 2 calls of unknown cost");
        assert!(purse.abandoned().is_empty());
        let error = purse.exceeded(Some(7.0), 0, 5).to_string();
        assert!(error.contains("up to $4.0000 more by calls whose cost nobody told"), "{error}");
    }

    #[test]
    fn what_had_no_price_is_counted_once_it_has_one() {
        let (_folder, mut purse) = purse(Some(1.0), Some(10.0));
        let entry = Entry::Tokens {
            model: "m".to_owned(),
            requests: 3,
            prompt_tokens: 4_000_000,
            completion_tokens: 5_000_000,
            usd: None,
        };
        purse.count(&Charge { entry, calls: Vec::new(), at_most_usd: None });
        assert!(purse.allows(Some(1.0)) && !purse.allows(Some(1.5)));
        assert_eq!(purse.unknown, 3);
    }
}
