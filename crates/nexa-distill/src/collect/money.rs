//! What calls cost, and the ceiling that is asked before each of them.
//!
//! The order of writing makes that nothing is paid twice and no payment is forgotten, wherever the process is killed:
//! the journal says that a call is sent before it is; the log of answers holds the answer with its cost; the ledger
//! comes last. [`Purse::open`] enters into the ledger what the others know and it does not.

use std::collections::{BTreeMap, HashSet};

use nexa_core::cost::{self, Ceiling, Charge, Entry, Ledger, ModelPrice, Prices};
use nexa_core::event::Event;
use nexa_core::stage::Context;

use super::Config;
use super::bill::{self, AtMost, Bill, Cost};
use super::journal::{Calls, Journal};
use crate::client::{Request, Usage};
use crate::teacher::TeacherSpec;
use crate::{Error, Result};

/// The money of a run: what it has spent, and what is promised to calls under way.
#[derive(Debug)]
pub(super) struct Purse {
    model: String,
    price: Option<ModelPrice>,
    ceiling: Option<Ceiling>,
    max_tokens: Option<u64>,
    journal: Journal,
    last_call: u64,
    /// The most that each call under way may come to.
    promised: BTreeMap<u64, AtMost>,
    /// Tokens that were used, with the most that calls can have used that nobody told of.
    used_tokens: u64,
    /// What is known to be spent.
    spent_usd: f64,
    /// What calls of unknown cost may have cost; it counts against the ceiling as if it were spent.
    assumed_usd: f64,
    /// The most that one call has cost.
    dearest_usd: f64,
    /// Calls whose cost nobody told.
    unknown: u64,
}

/// What earlier attempts of a run left outside of its journal and its ledger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Earlier<'a> {
    /// The answers that they got, of which a killed attempt may not have entered the last into the ledger.
    pub(super) paid: &'a [Bill],
    /// The calls that the provider still works on.
    pub(super) with_provider: &'a [Calls],
}

impl Purse {
    /// Opens the purse with what earlier attempts of this run have spent. Calls to the teacher of which nothing is known
    /// but that they were sent are charged their worst case, as assumed.
    pub(super) fn open(
        context: &Context<'_>,
        config: &Config,
        teacher: &TeacherSpec,
        Earlier { paid, with_provider }: Earlier<'_>,
    ) -> Result<Self> {
        let settings = context.services.lab.settings();
        let ceiling = Ceiling::lowest(config.max_cost_usd, settings.budget.max_usd_per_run);
        let price = price(&settings.prices, config, teacher);
        if let (Some(_), None) = (ceiling, price) {
            cost::require_price(&settings.prices, teacher.model())?;
        }
        let entered = Ledger::charges(context.workspace)?;
        let (journal, left) = Journal::open(context.workspace, &teacher.to_string())?;
        let mut purse = Self {
            model: teacher.model().to_owned(),
            price,
            ceiling,
            max_tokens: config.max_total_tokens,
            journal,
            last_call: left.last_call,
            promised: BTreeMap::new(),
            used_tokens: 0,
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
        let (waiting, gone): (Vec<_>, Vec<_>) = left
            .open
            .into_iter()
            .filter(|(call, _)| !ended.contains(call))
            .partition(|(call, _)| with_provider.iter().any(|calls| calls.contains(*call)));
        purse.promised.extend(waiting);
        // What another judge's calls may have cost counts here too; it is that judge who enters it.
        for (_, at_most) in left.open_elsewhere.iter().filter(|(call, _)| !ended.contains(call)) {
            purse.assumed_usd += at_most.usd.unwrap_or(0.0);
            purse.used_tokens = purse.used_tokens.saturating_add(at_most.tokens);
        }
        let lost: Vec<Bill> = gone.into_iter().map(|(call, at_most)| Bill::lost(call, at_most)).collect();
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

    /// The most that a call can come to. A ceiling requires a price.
    ///
    /// A token is at least one byte, so the bytes of the prompt bound its tokens; each message adds a few of its own.
    /// A provider that has charged more than that for a call is expected to do so again.
    pub(super) fn worst_case(&self, request: &Request) -> AtMost {
        const TOKENS_PER_MESSAGE: u64 = 16;
        let prompt = request.prompt_bytes() + TOKENS_PER_MESSAGE * request.messages.len() as u64;
        let usd = self.price.map(|price| price.usd(prompt, request.max_tokens).max(self.dearest_usd));
        AtMost { usd, tokens: prompt.saturating_add(request.max_tokens) }
    }

    /// Whether a call may be made now.
    pub(super) fn allows(&self, worst_case: AtMost) -> bool {
        if self.ceiling.is_none() && self.max_tokens.is_none() {
            return true;
        }
        let promised_usd =
            self.promised.values().filter_map(|at_most| at_most.usd).fold(0.0, |sum, usd| sum + usd);
        let promised_tokens = self.promised.values().map(|at_most| at_most.tokens).sum::<u64>();
        let spent_usd = self.spent_usd + self.assumed_usd;
        self.ceiling
            .is_none_or(|ceiling| ceiling.allows(spent_usd, promised_usd, worst_case.usd.unwrap_or(0.0)))
            && self.max_tokens.is_none_or(|max| {
                self.used_tokens.saturating_add(promised_tokens).saturating_add(worst_case.tokens) <= max
            })
    }

    /// Sets the worst case of a call aside until it has ended, and returns the call's number. It may be sent after the
    /// next [`sync`](Self::sync).
    pub(super) fn promise(&mut self, worst_case: AtMost) -> Result<u64> {
        self.last_call += 1;
        // What can cost nothing needs no record, unless its tokens count.
        if worst_case.usd != Some(0.0) || self.max_tokens.is_some() {
            self.journal.sent(self.last_call, worst_case)?;
        }
        self.promised.insert(self.last_call, worst_case);
        Ok(self.last_call)
    }

    /// The number of the call that is promised next.
    pub(super) fn next_call(&self) -> u64 {
        self.last_call + 1
    }

    /// Makes the promises durable, where a ceiling depends on them. A process that is killed leaves them behind in any
    /// case; without a ceiling, a machine that crashes takes no more with it than the count of calls of unknown cost.
    pub(super) fn sync(&mut self) -> Result<()> {
        if self.ceiling.is_some() || self.max_tokens.is_some() { self.journal.sync() } else { Ok(()) }
    }

    /// What a call under way cost: as the provider reported, else by price and tokens, else at most its worst case.
    pub(super) fn cost(&self, call: u64, usage: &Usage) -> Cost {
        let by_price = || Some(self.price?.usd(usage.prompt_tokens?, usage.completion_tokens?));
        let promised = self.promised.get(&call).copied().unwrap_or_default();
        let cost = match usage.reported_usd.or_else(by_price) {
            Some(usd) => Cost::known(usd),
            None => Cost::at_most(promised.usd),
        };
        let is_told = usage.prompt_tokens.is_some() && usage.completion_tokens.is_some();
        Cost { at_most_tokens: (!is_told && self.max_tokens.is_some()).then_some(promised.tokens), ..cost }
    }

    /// Takes back what was set aside for a call that is not charged.
    pub(super) fn not_billed(&mut self, call: u64) -> Result<()> {
        match self.promised.remove(&call) {
            Some(AtMost { usd: Some(0.0), .. }) if self.max_tokens.is_none() => Ok(()),
            Some(_) => self.journal.not_billed(call),
            None => Ok(()),
        }
    }

    /// The bills of the calls that are still under way, for when nobody waits for them any longer.
    pub(super) fn abandoned(&self) -> Vec<Bill> {
        self.promised.iter().map(|(&call, &at_most)| Bill::lost(call, at_most)).collect()
    }

    /// Counts bills in place of what was set aside for their calls, and returns the entries for the ledger.
    pub(super) fn charge(&mut self, bills: &[Bill]) -> Vec<Charge> {
        for bill in bills {
            self.promised.remove(&bill.call);
            self.dearest_usd = bill.cost.usd.map_or(self.dearest_usd, |usd| self.dearest_usd.max(usd));
        }
        let charges = self.entries(bills);
        charges.iter().for_each(|charge| self.count(charge));
        charges
    }

    /// The entries of the ledger for some bills.
    pub(super) fn entries(&self, bills: &[Bill]) -> Vec<Charge> {
        bill::charges(&self.model, bills)
    }

    fn count(&mut self, charge: &Charge) {
        let Entry::Tokens { requests, prompt_tokens, completion_tokens, usd, .. } = &charge.entry else {
            return;
        };
        let told = prompt_tokens.saturating_add(*completion_tokens);
        let untold = charge.at_most_tokens.unwrap_or(0);
        self.used_tokens = self.used_tokens.saturating_add(told).saturating_add(untold);
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

    /// The error of a call that a ceiling forbids.
    pub(super) fn exceeded(&self, next: AtMost, done: usize, total: usize) -> Error {
        if let Some(max_tokens) = self.max_tokens
            && self.used_tokens.saturating_add(next.tokens) > max_tokens
        {
            let (used_tokens, next_tokens) = (self.used_tokens, next.tokens);
            return Error::TokenBudget { max_tokens, used_tokens, next_tokens, done, total };
        }
        Error::Budget {
            max_usd: self.ceiling.map_or(f64::INFINITY, |ceiling| ceiling.max_usd),
            spent_usd: self.spent_usd,
            assumed_usd: self.assumed_usd,
            next_usd: next.usd.unwrap_or(0.0),
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

/// What a teacher's tokens cost: nothing where they are computed on this machine, whose time has a price of its own;
/// in batches as the table says of them, else as it says of the model, which is never too little.
pub(super) fn price(prices: &Prices, config: &Config, teacher: &TeacherSpec) -> Option<ModelPrice> {
    if teacher.provider().is_here() {
        return Some(ModelPrice { input_usd_per_million: 0.0, output_usd_per_million: 0.0 });
    }
    let of = |name: &str| prices.models.get(name).copied();
    let in_batches = config.batch.then(|| of(&format!("{}@batch", teacher.model()))).flatten();
    in_batches.or_else(|| of(teacher.model()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purse(price: Option<f64>, ceiling: Option<f64>) -> (tempfile::TempDir, Purse) {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(folder.path(), "t").unwrap();
        let purse = Purse {
            model: "m".to_owned(),
            price: price.map(|usd| ModelPrice { input_usd_per_million: usd, output_usd_per_million: usd }),
            ceiling: ceiling.map(|max_usd| Ceiling { max_usd }),
            max_tokens: None,
            journal,
            last_call: 0,
            promised: BTreeMap::new(),
            used_tokens: 0,
            spent_usd: 0.0,
            assumed_usd: 0.0,
            dearest_usd: 0.0,
            unknown: 0,
        };
        (folder, purse)
    }

    fn usd(usd: f64) -> AtMost {
        AtMost { usd: Some(usd), tokens: 0 }
    }

    fn usage(reported_usd: Option<f64>, tokens: Option<u64>) -> Usage {
        Usage { prompt_tokens: tokens, completion_tokens: tokens, reported_usd }
    }

    #[test]
    fn the_providers_word_counts_first_and_the_unknown_is_never_nothing() {
        let check = |price, worst_case_usd, usage: Usage, expected: Cost| {
            let (_folder, mut purse) = purse(price, None);
            let call = purse.promise(AtMost { usd: worst_case_usd, tokens: 0 }).unwrap();
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
            let call = purse.promise(usd(0.25)).unwrap();
            ends(&mut purse, call);
            assert!(purse.allows(usd(expected)) && !purse.allows(usd(expected + 0.0625)));
        };
        check(|purse, call| purse.not_billed(call).unwrap(), 1.0);
        check(|purse, call| drop(purse.charge(&[Bill::lost(call, usd(0.25))])), 0.75);
        check(|_, _| (), 0.5);
    }

    #[test]
    fn what_is_assumed_is_not_called_known() {
        let (_folder, mut purse) = purse(Some(1.0), Some(10.0));
        for _ in 0..2 {
            purse.promise(usd(2.0)).unwrap();
        }
        let charges = purse.charge(&purse.abandoned());
        assert_eq!((charges.len(), &charges[0].calls, charges[0].at_most_usd), (1, &vec![1, 2], Some(4.0)));
        assert_eq!(purse.note(), "$0.0000 + up to $4.0000 for 2 calls of unknown cost");
        assert!(purse.abandoned().is_empty());
        let error = purse.exceeded(usd(7.0), 0, 5).to_string();
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
        purse.count(&Charge { entry, calls: Vec::new(), at_most_usd: None, at_most_tokens: None });
        assert!(purse.allows(usd(1.0)) && !purse.allows(usd(1.5)));
        assert_eq!(purse.unknown, 3);
    }

    #[test]
    fn tokens_have_a_ceiling_of_their_own() {
        let (_folder, mut purse) = purse(None, None);
        purse.max_tokens = Some(100);
        let tokens = |tokens| AtMost { usd: None, tokens };
        let told = purse.promise(tokens(40)).unwrap();
        let untold = purse.promise(tokens(30)).unwrap();
        assert!(purse.allows(tokens(30)) && !purse.allows(tokens(31)));
        let bill = |call, usage: Usage, cost| Bill { call, is_answered: true, usage, cost };
        let (short, none) = (usage(None, Some(5)), Usage::default());
        let bills =
            [bill(told, short, purse.cost(told, &short)), bill(untold, none, purse.cost(untold, &none))];
        let charges = purse.charge(&bills);
        // Five tokens of prompt, five of answer, and the most that the other can have used.
        assert!(purse.allows(tokens(60)) && !purse.allows(tokens(61)));
        assert_eq!(charges[0].at_most_tokens, Some(30));
        let error = purse.exceeded(tokens(61), 2, 5).to_string();
        assert!(error.contains("stay below 100 tokens: 40 are used"), "{error}");
    }
}
