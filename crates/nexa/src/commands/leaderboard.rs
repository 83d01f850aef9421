//! `nexa leaderboard`: the evaluated checkpoints of a project, best first, with intervals and paired tests.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_eval::Leaderboard;
use nexa_eval::leaderboard::Row;
use nexa_eval::statistics::Estimate;

use crate::app::App;
use crate::args::Global;
use crate::render::{self, error::reported, table};

/// Prints the leaderboard of the project.
pub(crate) fn run(global: &Global) -> Result<ExitCode> {
    let app = App::open(global)?;
    show(&app, global.json)?;
    Ok(ExitCode::Success)
}

/// Prints the leaderboard of the app's project.
pub(crate) fn show(app: &App, as_json: bool) -> Result<()> {
    let project = app.project()?;
    let board = Leaderboard::of_project(&app.store(), project.name(), &app.tables).map_err(reported)?;
    if as_json {
        return render::json(&board);
    }
    if board.rows.is_empty() {
        render::note(&format!("no evaluation in project {} yet: `nexa evaluate` makes one", project.name()));
        return Ok(());
    }
    for rows in board.by_test_set() {
        let Some(first) = rows.first() else { continue };
        let test_set = &first.test_set;
        render::note(&format!(
            "{}, split {}, {} items",
            first.dataset,
            test_set.split.as_str(),
            table::count(test_set.items as u64)
        ));
        let head = [
            "rank",
            "checkpoint",
            "exact match",
            "95 % interval",
            "bits/byte",
            "95 % interval",
            "against the best",
            "cost of the checkpoint",
        ];
        render::out(&table::table(&head, &rows.iter().map(row).collect::<Vec<_>>()));
    }
    Ok(())
}

fn row(row: &Row) -> Vec<String> {
    let against = row.versus_best.map_or_else(String::new, |test| {
        format!("{}, p {}", test.verdict.as_str(), p_value(test.p_adjusted))
    });
    vec![
        row.rank.map(|rank| rank.to_string()).unwrap_or_default(),
        row.checkpoint.clone(),
        row.exact_match.map(|e| percent(e.value)).unwrap_or_default(),
        row.exact_match.map(|e| interval(&e, percent)).unwrap_or_default(),
        row.bits_per_byte.map(|e| decimal(e.value)).unwrap_or_default(),
        row.bits_per_byte.map(|e| interval(&e, decimal)).unwrap_or_default(),
        against,
        row.checkpoint_spend.as_ref().map(ToString::to_string).unwrap_or_default(),
    ]
}

/// A share in percent: `97.5%`.
pub(crate) fn percent(value: f64) -> String {
    format!("{:.1}%", value * 100.0)
}

/// A number with three decimals.
pub(crate) fn decimal(value: f64) -> String {
    format!("{value:.3}")
}

/// The ends of an interval: `95.1% to 99.0%`.
pub(crate) fn interval(estimate: &Estimate, format: fn(f64) -> String) -> String {
    match (estimate.ci_low, estimate.ci_high) {
        (Some(low), Some(high)) => format!("{} to {}", format(low), format(high)),
        _ => "unknown".to_owned(),
    }
}

/// A p-value to the precision that means something.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}
