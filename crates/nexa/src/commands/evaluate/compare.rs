//! `nexa evaluate --compare`: two evaluations item by item, or several against the first.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_eval::compare::{Against, MetricComparison};
use nexa_eval::{Comparison, compare};

use super::{against, evaluation};
use crate::app::App;
use crate::args::Global;
use crate::commands::leaderboard::{decimal, p_value, percent};
use crate::render::{self, error::reported, table};

/// How many items on which two models differ are shown; JSON shows all.
const SHOWN_ITEMS: usize = 3;

/// Compares two evaluations, or several with the first one.
pub(super) fn run(global: &Global, names: &[String]) -> Result<ExitCode> {
    let app = App::open(global)?;
    let found = names.iter().map(|name| evaluation(&app, name)).collect::<Result<Vec<_>>>()?;
    match found.as_slice() {
        [a, b] => {
            let comparison = compare(a, b, &app.tables).map_err(reported)?;
            if global.json { render::json(&comparison)? } else { show(&comparison) }
        }
        [first, others @ ..] => {
            let found = Against::base(first, others, &app.tables).map_err(reported)?;
            if global.json {
                render::json(&found)?;
            } else {
                render::out(&against::table(&found));
                for contender in &found.contenders {
                    held_out_is_left_out(contender.held_out_not_compared.as_deref());
                }
            }
        }
        [] => {}
    }
    Ok(ExitCode::Success)
}

fn show(comparison: &Comparison) {
    let (a, b) = (&comparison.a.checkpoint, &comparison.b.checkpoint);
    let mut rows = Vec::new();
    if let Some(metric) = &comparison.exact_match {
        rows.push(row("exact match", metric, percent));
    }
    if let Some(metric) = &comparison.bits_per_byte {
        rows.push(row("bits per byte", metric, decimal));
    }
    rows.extend(comparison.tasks.iter().map(|task| row(&task.name.to_string(), &task.comparison, decimal)));
    render::out(&table::table(
        &["metric", a, b, "difference", "95 % interval", "p, corrected", &format!("{a} is")],
        &rows,
    ));
    held_out_is_left_out(comparison.held_out_not_compared.as_deref());
    if let Some(outcomes) = &comparison.outcomes {
        render::out(&format!(
            "both right {}, only {a} {}, only {b} {}, neither {}",
            outcomes.both, outcomes.only_a, outcomes.only_b, outcomes.neither
        ));
    }
    for (name, items) in [(a, &comparison.only_a_right), (b, &comparison.only_b_right)] {
        for item in items.iter().take(SHOWN_ITEMS) {
            render::out(&format!("only {name}: {}  {}", item.id, render::error::one_line(&item.prompt)));
        }
    }
}

/// Tells why what was asked of held-out splits is not compared, where it is not.
pub(super) fn held_out_is_left_out(reason: Option<&str>) {
    if let Some(reason) = reason {
        render::note(&format!("held-out splits are not compared: {reason}"));
    }
}

fn row(name: &str, metric: &MetricComparison, format: fn(f64) -> String) -> Vec<String> {
    let difference = &metric.difference;
    let interval = match (difference.ci_low, difference.ci_high) {
        (Some(low), Some(high)) => format!("{} to {}", format(low), format(high)),
        _ => "unknown".to_owned(),
    };
    vec![
        name.to_owned(),
        format(metric.a.value),
        format(metric.b.value),
        format(difference.value),
        interval,
        p_value(metric.p_adjusted),
        metric.verdict.as_str().to_owned(),
    ]
}
