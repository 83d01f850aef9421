//! A process that follows a run for `scripts/check_trackers.py`, which kills it, and asks real programs what came of it.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use nexa_core::env::Environment;
use nexa_core::run::Status;
use serde::Deserialize;

use super::{Told, facts};
use crate::trackers::{Trackers, Tracking, deliver};

/// What the script asks for.
#[derive(Deserialize)]
struct Task {
    run_folder: PathBuf,
    tracking: Tracking,
    timeout_s: f64,
    /// Whether the run is at work, and ends when stdin does; otherwise the rest is delivered.
    follow: bool,
}

#[test]
#[ignore = "driven by scripts/check_trackers.py"]
fn follow_or_deliver() {
    let task = std::env::var("NEXA_CHECK_TRACKERS").expect("the script sets it");
    let Task { run_folder, tracking, timeout_s, follow } = serde_json::from_str(&task).unwrap();
    let (told, environment, timeout) =
        (Told::default(), Environment::default(), Duration::from_secs_f64(timeout_s));
    let deliveries = if follow {
        let trackers = Trackers::start(&run_folder, &tracking, &facts(), &told, &environment);
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        trackers.finish(Status::Finished, timeout)
    } else {
        deliver(&run_folder, &tracking, &facts(), &environment, Status::Finished, timeout)
    };
    let report = serde_json::json!({"deliveries": deliveries, "told": told.text()});
    std::fs::write(run_folder.join("report.json"), report.to_string()).unwrap();
}
