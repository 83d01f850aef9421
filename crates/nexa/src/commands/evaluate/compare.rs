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
            if global.json { render::json(&found)? } else { render::out(&against::table(&found)) }
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
    for task in &comparison.tasks {
        let mut cells = row(&task.name.to_string(), &task.comparison, decimal);
        // Several metrics are tested at once, and the verdict goes by what that makes of the p-value.
        cells[5] = p_value(task.p_adjusted);
        rows.push(cells);
    }
    render::out(&table::table(
        &["metric", a, b, "difference", "95 % interval", "p", &format!("{a} is")],
        &rows,
    ));
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
        p_value(difference.p_value),
        metric.verdict.as_str().to_owned(),
    ]
}
