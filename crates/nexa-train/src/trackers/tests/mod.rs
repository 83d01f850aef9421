//! Trackers against logs that are cut, services that are away, and a server of our own.

mod driver;
mod follower;
mod mlflow;
mod server;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nexa_core::event::{Event, EventSink};

use super::RunFacts;

/// A run's facts, begun at a round time.
fn facts() -> RunFacts {
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    RunFacts {
        id: "20261124-153012-train-k3f9".to_owned(),
        name: "student".to_owned(),
        project: "arithmetic".to_owned(),
        started_at: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        params: pairs(&[("learning_rate", "0.002"), ("model.hidden_size", "128")]),
        tags: pairs(&[("nexa.stage", "train")]),
    }
}

/// Adds to the logs what a loop writes at some steps: a row, its time, and every second step a validation.
fn train(folder: &Path, steps: impl IntoIterator<Item = u64>, seconds_per_step: f64) {
    let open = |log: &str| std::fs::File::options().create(true).append(true).open(folder.join(log)).unwrap();
    let (mut metrics, mut timing) = (open("metrics.jsonl"), open("timing.jsonl"));
    for step in steps {
        let loss = 4.0 / step as f64;
        writeln!(metrics, r#"{{"step":{step},"loss":{loss},"learning_rate":0.002}}"#).unwrap();
        writeln!(timing, r#"{{"step":{step},"seconds":{}}}"#, step as f64 * seconds_per_step).unwrap();
        if step.is_multiple_of(2) {
            writeln!(metrics, r#"{{"step":{step},"val_loss":{}}}"#, loss + 1.0).unwrap();
        }
    }
}

/// Cuts the logs back to what they held after a step, as a resumed run does. A validation of that step is lost.
fn cut(folder: &Path, last: u64) {
    for log in ["metrics.jsonl", "timing.jsonl"] {
        let text = std::fs::read_to_string(folder.join(log)).unwrap();
        let step =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap();
        let kept =
            text.lines().filter(|line| step(line) < last || step(line) == last && !line.contains("val_loss"));
        let kept: String = kept.map(|line| format!("{line}\n")).collect();
        std::fs::write(folder.join(log), kept).unwrap();
    }
}

/// Events that were emitted, as text.
#[derive(Default, Clone)]
struct Told(Arc<Mutex<Vec<String>>>);

impl EventSink for Told {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(serde_json::to_string(&event).unwrap());
    }
}

impl Told {
    fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}
