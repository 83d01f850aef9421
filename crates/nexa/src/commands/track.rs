//! `nexa runs track`: sends to trackers what a run has not delivered.

use std::time::Duration;

use anyhow::Result;
use nexa_core::run::{self, Run};
use nexa_core::{Error, ExitCode, config};
use nexa_train::trackers::{self, Delivery, RunFacts, Tracking};
use nexa_train::tracking_of;

use crate::app::App;
use crate::args::Global;
use crate::render::{self, error::reported, table};

/// How long is tried: long enough for the rows of a long run.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Delivers to the trackers of a run, or to those that are typed.
pub(crate) fn run(global: &Global, app: &App, id: &str, overrides: &[String]) -> Result<ExitCode> {
    let Run { record, .. } = Run::find(&app.lab, &id.parse()?)?;
    if record.is_alive(&app.lab) {
        let hint = "it delivers by itself as long as it is at work";
        return Err(Error::BadName { what: "run", name: id.to_owned(), message: hint.to_owned() }.into());
    }
    let folder = run::folder(&app.lab, &record.id);
    let mut value = serde_json::to_value(tracking_of(&folder).map_err(reported)?)?;
    config::apply_overrides(&mut value, overrides)?;
    let tracking: Tracking = config::from_value(value, "command line")?;
    tracking.check().map_err(reported)?;
    if tracking.report_to.is_empty() {
        let message =
            format!("run {id} had no tracker; name one: `nexa runs track {id} report_to=tensorboard`");
        return Err(Error::config("command line", message).into());
    }
    let facts = RunFacts::of(&record);
    let deliveries = trackers::deliver(&folder, &tracking, &facts, &app.environment, record.status, TIMEOUT);
    if global.json {
        render::json(&deliveries)?;
    } else {
        for Delivery { tracker, delivered, waiting, problem } in &deliveries {
            let problem = problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
            let counts = [*delivered, *waiting].map(table::count);
            render::out(&format!("{tracker}: {} rows delivered, {} waiting{problem}", counts[0], counts[1]));
        }
    }
    let is_complete = deliveries.iter().all(|delivery| delivery.problem.is_none());
    Ok(if is_complete { ExitCode::Success } else { ExitCode::Unavailable })
}
