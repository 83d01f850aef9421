//! What calls cost, as it is written down: each call once, the known apart from the assumed.

use nexa_core::cost::{Charge, Entry};
use serde::{Deserialize, Serialize};

use crate::client::Usage;

/// What a call cost, as far as that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cost {
    /// US dollars, where they are known.
    pub(super) usd: Option<f64>,
    /// US dollars that it cost at most, where no more is known.
    pub(super) at_most_usd: Option<f64>,
    /// Tokens that it used at most, where the provider did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at_most_tokens: Option<u64>,
}

impl Cost {
    /// The cost of a call, known.
    pub(super) fn known(usd: f64) -> Self {
        Self { usd: Some(usd), ..Self::default() }
    }

    /// The cost of a call that nobody told. That it is at most nothing is known.
    pub(super) fn at_most(usd: Option<f64>) -> Self {
        match usd {
            Some(0.0) => Self::known(0.0),
            at_most_usd => Self { at_most_usd, ..Self::default() },
        }
    }
}

/// The most that a call can use and cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct AtMost {
    /// US dollars, where a price is known.
    pub(super) usd: Option<f64>,
    /// Tokens of prompt and answer.
    pub(super) tokens: u64,
}

/// What one call used and cost.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bill {
    /// The call, as its run numbers it.
    pub(super) call: u64,
    /// Whether it was answered.
    pub(super) is_answered: bool,
    pub(super) usage: Usage,
    pub(super) cost: Cost,
}

impl Bill {
    /// The bill of a call whose end nobody saw.
    pub(super) fn lost(call: u64, at_most: AtMost) -> Self {
        let cost = Cost { at_most_tokens: Some(at_most.tokens), ..Cost::at_most(at_most.usd) };
        Self { call, is_answered: false, usage: Usage::default(), cost }
    }
}

/// Makes the entries of a ledger for some bills: one for the known costs, one for those with a bound, one for the rest.
pub(super) fn charges(model: &str, bills: &[Bill]) -> Vec<Charge> {
    let of = |belongs: fn(&Cost) -> bool| bills.iter().filter(|bill| belongs(&bill.cost)).collect();
    let groups: [Vec<&Bill>; 3] = [
        of(|cost| cost.usd.is_some()),
        of(|cost| cost.usd.is_none() && cost.at_most_usd.is_some()),
        of(|cost| cost.usd.is_none() && cost.at_most_usd.is_none()),
    ];
    groups.iter().filter(|group| !group.is_empty()).map(|group| charge(model, group)).collect()
}

/// Sums bills whose costs are known in the same way.
fn charge(model: &str, bills: &[&Bill]) -> Charge {
    let tokens = |of: fn(&Usage) -> Option<u64>| bills.iter().filter_map(|bill| of(&bill.usage)).sum();
    // Of costs that are known in the same way, all have an amount or none has.
    let usd = |of: fn(&Cost) -> Option<f64>| bills.iter().map(|bill| of(&bill.cost)).sum::<Option<f64>>();
    Charge {
        entry: Entry::Tokens {
            model: model.to_owned(),
            requests: bills.iter().filter(|bill| bill.is_answered).count() as u64,
            prompt_tokens: tokens(|usage| usage.prompt_tokens),
            completion_tokens: tokens(|usage| usage.completion_tokens),
            usd: usd(|cost| cost.usd),
        },
        calls: bills.iter().map(|bill| bill.call).collect(),
        at_most_usd: usd(|cost| cost.at_most_usd),
        at_most_tokens: bills
            .iter()
            .filter_map(|bill| bill.cost.at_most_tokens)
            .reduce(u64::saturating_add)
            .filter(|tokens| *tokens > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_assumed_and_unknown_costs_are_entered_apart() {
        let answered = |call, tokens, cost| Bill {
            call,
            is_answered: true,
            usage: Usage { prompt_tokens: Some(tokens), ..Usage::default() },
            cost,
        };
        let bills = [
            answered(1, 1, Cost::known(0.5)),
            answered(2, 2, Cost::at_most(None)),
            answered(3, 3, Cost::known(0.25)),
            Bill::lost(4, AtMost { usd: Some(2.0), tokens: 7 }),
            Bill::lost(5, AtMost { usd: Some(0.0), tokens: 0 }),
        ];
        let found: Vec<_> = charges("m", &bills)
            .into_iter()
            .map(|charge| match charge.entry {
                Entry::Tokens { requests, prompt_tokens, usd, .. } => {
                    (charge.calls, requests, prompt_tokens, usd, charge.at_most_usd, charge.at_most_tokens)
                }
                Entry::Machine { .. } => panic!("{charge:?}"),
            })
            .collect();
        let expected = [
            (vec![1, 3, 5], 2, 4, Some(0.75), None, None),
            (vec![4], 0, 0, None, Some(2.0), Some(7)),
            (vec![2], 1, 2, None, None, None),
        ];
        assert_eq!(found, expected);
    }
}
