//! `nexa distill thresholds`: what other bounds of the gates would let through, without measuring again.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::artifact::Kind;
use nexa_distill::filter::thresholds::{self, Change, Explored};
use nexa_distill::gates::Bounds;

use crate::app::App;
use crate::args::{BoundsArgs, Global};
use crate::render::{self, error::reported, table};

/// Explores bounds from the stored scores.
pub(crate) fn run(global: &Global, args: &BoundsArgs) -> Result<ExitCode> {
    let changes: Vec<Change> =
        args.changes.iter().map(|change| change.parse()).collect::<Result<_, _>>().map_err(reported)?;
    let app = App::open(global)?;
    let project = app.project()?;
    let artifact = match &args.artifact {
        Some(name) => app.store().resolve(project.name(), name)?,
        None => app.store().latest(project.name(), Kind::Filtered)?,
    };
    let explored = thresholds::explore(&artifact, &app.tables, &changes).map_err(reported)?;
    if global.json {
        render::json(&explored)?;
        return Ok(ExitCode::Success);
    }
    let gates: Vec<Vec<String>> = explored
        .gates
        .iter()
        .map(|gate| {
            vec![
                gate.gate.clone(),
                bounds(gate.before),
                if gate.before == gate.after { String::new() } else { bounds(gate.after) },
                table::count(gate.rejected_before as u64),
                table::count(gate.rejected_after as u64),
            ]
        })
        .collect();
    render::out(&table::table(&["gate", "bounds", "new bounds", "rejected", "would reject"], &gates));
    render::out(&format!("\n{}", passed(&explored)));
    let flips: Vec<Vec<String>> = explored
        .flips
        .iter()
        .take(args.limit)
        .map(|flip| {
            let fate = |gate: &Option<String>| {
                gate.as_ref().map_or("passes".to_owned(), |gate| format!("rejected by {gate}"))
            };
            let score = flip.score.map_or_else(String::new, |score| score.to_string());
            vec![flip.id.clone(), fate(&flip.before), fate(&flip.after), score]
        })
        .collect();
    if !flips.is_empty() {
        render::out(&format!("\n{}", table::table(&["row", "was", "would be", "score"], &flips)));
    }
    if explored.flips.len() > args.limit {
        render::note(&format!("{} more rows flip; --limit shows them", explored.flips.len() - args.limit));
    }
    Ok(ExitCode::Success)
}

fn passed(explored: &Explored) -> String {
    let Explored { rows, passed_before, passed_after, flips, .. } = explored;
    format!("{passed_after} of {rows} rows would pass, {passed_before} do; {} flip", flips.len())
}

fn bounds(bounds: Bounds) -> String {
    match (bounds.min, bounds.max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "any".to_owned(),
    }
}
