//! The trackers of a run of the lab: which follow it, and what a later delivery must know.

use std::path::Path;

use nexa_core::files;
use nexa_core::run::{RunRecord, Status};

use super::{Outcome, Session};
use crate::trackers::{FINISH_TIMEOUT, RunFacts, Trackers, Tracking};
use crate::{Config, Error};

/// Where the words that say where metrics go are kept: beside what trackers have delivered, and not in the run's
/// record, as they decide no result.
const SETTINGS_FILE: &str = "trackers/settings.json";

/// Starts the trackers of a configuration, where the workspace is that of a recorded run.
pub(super) fn start<'a>(config: &Config, session: &Session<'a>) -> Result<Option<Trackers<'a>>, Error> {
    let (tracking, folder) = (config.tracking(), session.workspace);
    let Some(environment) = session.environment else { return Ok(None) };
    if tracking.report_to.is_empty() || !folder.join("run.json").is_file() {
        return Ok(None);
    }
    let facts = RunFacts::of(&RunRecord::read(folder)?);
    let settings = folder.join(SETTINGS_FILE);
    files::create_folder(settings.parent().unwrap_or(folder))?;
    files::write_json(&settings, &tracking)?;
    Ok(Some(Trackers::start(folder, &tracking, &facts, session.events, environment)))
}

/// Tells the trackers how a run ended, and delivers what is left.
pub(super) fn finish(trackers: Option<Trackers<'_>>, result: &Result<Outcome, Error>) {
    let status = match result {
        Ok(_) => Status::Finished,
        Err(Error::Interrupted { .. }) => Status::Interrupted,
        Err(_) => Status::Failed,
    };
    if let Some(trackers) = trackers {
        trackers.finish(status, FINISH_TIMEOUT);
    }
}

/// Reads where the metrics of a run went, for a later delivery; nowhere, where no tracker followed it.
///
/// # Errors
/// Fails when what the run left cannot be read.
pub fn tracking_of(run_folder: &Path) -> Result<Tracking, Error> {
    let settings = run_folder.join(SETTINGS_FILE);
    Ok(if settings.is_file() { files::read_json(&settings)? } else { Tracking::default() })
}
