//! `nexa guard`: what guard rules catch, and what they block for nothing.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_data::guard::Rules;
use nexa_data::tables::FileTables;
use nexa_eval::guard::{self, GuardReport};
use nexa_eval::statistics::Estimate;

use crate::args::{Global, GuardArgs};
use crate::commands::leaderboard::percent;
use crate::render::{self, error::reported, table};

/// Holds labelled texts against rules; fails where a bound that was asked for does not hold.
pub(crate) fn run(global: &Global, args: &GuardArgs) -> Result<ExitCode> {
    let rules = Rules::read(&args.rules)?;
    let texts = guard::read(&FileTables, &args.data).map_err(reported)?;
    let report = guard::measure(&rules, &texts);
    if global.json {
        render::json(&report)?;
    } else {
        show(&rules, &report);
    }
    let value = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.value);
    let too_few = args.min_recall.is_some_and(|least| value(report.recall).is_none_or(|found| found < least));
    let too_many = args
        .max_false_positives
        .is_some_and(|most| value(report.false_positive_rate).is_some_and(|found| found > most));
    if too_few {
        render::note("too little of what should be blocked is caught");
    }
    if too_many {
        render::note("too much is blocked that should not be");
    }
    Ok(if too_few || too_many { ExitCode::Failure } else { ExitCode::Success })
}

fn show(rules: &Rules, report: &GuardReport) {
    let share = |name: &str, estimate: Option<Estimate>| {
        let (value, interval, n) = match estimate {
            None => ("unknown".to_owned(), String::new(), String::new()),
            Some(Estimate { value, ci_low, ci_high, n, .. }) => {
                let interval =
                    ci_low.zip(ci_high).map(|(low, high)| format!("{} to {}", percent(low), percent(high)));
                (percent(value), interval.unwrap_or_default(), n.to_string())
            }
        };
        vec![name.to_owned(), value, interval, n]
    };
    let shares = [
        share("caught of what should be blocked", report.recall),
        share("blocked of what should not be", report.false_positive_rate),
        share("right of what was found", report.precision),
    ];
    render::out(&table::table(&["share", "value", "95 % interval", "texts"], &shares));
    let counts: Vec<Vec<String>> = rules
        .names()
        .map(|rule| {
            let counts = report.rules.get(rule).copied().unwrap_or_default();
            vec![rule.to_owned(), counts.right.to_string(), counts.wrong.to_string()]
        })
        .collect();
    render::out(&table::table(&["rule", "right", "wrong"], &counts));
}
