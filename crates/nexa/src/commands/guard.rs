//! `nexa guard`: what guard rules catch, and what they block for nothing.

use anyhow::Result;
use nexa_core::{Error, ExitCode};
use nexa_data::guard::Rules;
use nexa_data::tables::FileTables;
use nexa_eval::guard::{self, GuardReport, Labelled};
use nexa_eval::statistics::Estimate;

use crate::args::{Global, GuardArgs};
use crate::commands::leaderboard::percent;
use crate::render::{self, error::reported, table};

/// Holds labelled texts against rules; fails where a bound that was asked for does not hold.
pub(crate) fn run(global: &Global, args: &GuardArgs) -> Result<ExitCode> {
    let rules = Rules::read(&args.rules)?;
    let texts = guard::read(&FileTables, &args.data).map_err(reported)?;
    check_bounds(args, &texts)?;
    let report = guard::measure(&rules, &texts);
    if global.json {
        render::json(&report)?;
    } else {
        show(&rules, &report);
    }
    let fails = |bound: Option<f64>, found: Option<Estimate>, is_beyond: fn(f64, f64) -> bool| {
        bound.zip(found).is_some_and(|(bound, found)| is_beyond(found.value, bound))
    };
    let too_few = fails(args.min_recall, report.recall, |found, least| found < least);
    let too_many = fails(args.max_false_positives, report.false_positive_rate, |found, most| found > most);
    if too_few {
        render::note("too little of what should be blocked is caught");
    }
    if too_many {
        render::note("too much is blocked that should not be");
    }
    Ok(if too_few || too_many { ExitCode::Failure } else { ExitCode::Success })
}

/// Sees to it that every bound can be checked.
///
/// # Errors
/// Fails on a bound that is no share, and on one that there are no rows for, with their label.
fn check_bounds(args: &GuardArgs, texts: &[Labelled]) -> Result<()> {
    let bounds = [
        ("--min-recall", args.min_recall, true, "unsafe"),
        ("--max-false-positives", args.max_false_positives, false, "safe"),
    ];
    for (option, bound, is_blocked, label) in bounds {
        let Some(bound) = bound else { continue };
        if !(0.0..=1.0).contains(&bound) {
            let message = format!("`{option}` is {bound}, and a share lies between 0 and 1");
            return Err(Error::config("command line", message).into());
        }
        if !texts.iter().any(|text| text.is_blocked == is_blocked) {
            let message = format!("no row is labelled `{label}`, so `{option}` cannot be checked");
            return Err(Error::malformed(&args.data, message).into());
        }
    }
    Ok(())
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
