//! `nexa evaluate reconcile`: why the numbers of another tool differ from ours.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::artifact::Kind;
use nexa_eval::reconcile::{Cause, CauseFound, Effect, Example, MetricDifference};
use nexa_eval::{Evaluation, Reconciliation, reconcile};

use super::evaluation;
use crate::app::App;
use crate::args::{Global, ReconcileArgs};
use crate::render::{self, error::reported, table};

/// Explains a file of samples by our evaluation of the same task.
pub(super) fn run(global: &Global, args: &ReconcileArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let artifact = match &args.evaluation {
        Some(name) => evaluation(&app, name)?,
        None => {
            let newest = app.store().latest(app.project()?.name(), Kind::Evaluation)?;
            render::note(&format!("using {}", newest.id()));
            newest
        }
    };
    let ours = Evaluation::read(&artifact, &app.tables).map_err(reported)?;
    let found = reconcile(&args.samples, &ours, args.task.as_deref()).map_err(reported)?;
    if global.json {
        render::json(&found)?
    } else {
        show(&found)
    }
    Ok(ExitCode::Success)
}

fn show(found: &Reconciliation) {
    render::out(&format!(
        "{}: {} documents of theirs, {} of {}; {} are in both, and {} of them are equal to the last number",
        found.task,
        table::count(found.their_documents as u64),
        table::count(found.our_documents as u64),
        found.evaluation,
        table::count(found.matched as u64),
        table::count(found.equal as u64),
    ));
    let metrics: Vec<Vec<String>> = found.metrics.iter().map(metric).collect();
    render::out(&table::table(&["metric", "theirs", "ours", "difference"], &metrics));
    if found.causes.is_empty() {
        render::out("nothing differs");
        return;
    }
    let causes: Vec<Vec<String>> = found.causes.iter().map(|cause| row(cause, &found.metrics)).collect();
    let names: Vec<String> = found.metrics.iter().map(|one| format!("adds to {}", name(one))).collect();
    let mut head = vec!["cause", "items"];
    head.extend(names.iter().map(String::as_str));
    render::out(&format!("\n{}", table::table(&head, &causes)));
    if !found.settings.is_empty() {
        let settings: Vec<String> = found.settings.iter().map(ToString::to_string).collect();
        render::out(&format!("\nsettings differ: {}", settings.join("; ")));
    }
    for cause in &found.causes {
        render::out(&format!("\n{}:", cause.cause.as_str()));
        if !cause.likely.is_empty() {
            render::out(&format!("  likely because settings differ: {}", cause.likely.join("; ")));
        }
        cause.examples.iter().for_each(|example| render::out(&in_words(cause.cause, example)));
    }
}

fn metric(one: &MetricDifference) -> Vec<String> {
    let number = |value: f64| format!("{value:.4}");
    vec![name(one), number(one.theirs), number(one.ours), format!("{:+.4}", one.difference)]
}

fn name(one: &MetricDifference) -> String {
    format!("{},{}", one.metric, one.filter)
}

fn row(cause: &CauseFound, metrics: &[MetricDifference]) -> Vec<String> {
    let adds = |metric: &MetricDifference| {
        let is_of = |effect: &&Effect| effect.metric == metric.metric && effect.filter == metric.filter;
        cause.effects.iter().find(is_of).map_or_else(String::new, |effect| format!("{:+.4}", effect.adds))
    };
    let mut cells = vec![cause.cause.as_str().to_owned(), table::count(cause.items as u64)];
    cells.extend(metrics.iter().map(adds));
    cells
}

/// An example: both texts around the character at which they part, with what cannot be seen written out.
fn in_words(cause: Cause, example: &Example) -> String {
    let quoted = |text: &str| format!("{text:?}");
    let side = |text: &str| if text.is_empty() { "nothing".to_owned() } else { quoted(text) };
    if cause == Cause::Documents {
        let (whose, text) =
            if example.ours.is_empty() { ("theirs", &example.theirs) } else { ("ours", &example.ours) };
        return format!("  document {}, only {whose}: {text}", example.doc_id);
    }
    format!(
        "  document {}, from character {} on\n    theirs {}\n    ours   {}",
        example.doc_id,
        example.at,
        side(&example.theirs),
        side(&example.ours)
    )
}
