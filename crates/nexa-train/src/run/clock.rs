//! How long training takes. What it knows goes to `timing.jsonl` and never to `metrics.jsonl`.

use std::time::Instant;

use super::metrics::Timing;
use crate::state::{Progress, State};

/// Measures the time of a run over all its attempts.
#[derive(Debug)]
pub(super) struct Clock {
    /// Seconds of earlier attempts.
    earlier: f64,
    started: Instant,
    /// The run at the last row.
    row: Mark,
    /// Floating-point operations since the last row.
    flops: f64,
}

/// A moment of a run.
#[derive(Debug, Clone, Copy)]
struct Mark {
    seconds: f64,
    step: u64,
    tokens: u64,
    trained_tokens: u64,
}

impl Mark {
    fn new(seconds: f64, progress: &Progress) -> Self {
        let Progress { step, tokens, trained_tokens, .. } = *progress;
        Self { seconds, step, tokens, trained_tokens }
    }
}

impl Clock {
    /// Starts where a state ends.
    pub(super) fn new(state: &State) -> Self {
        let earlier = state.measured.seconds;
        Self { earlier, started: Instant::now(), row: Mark::new(earlier, &state.progress), flops: 0.0 }
    }

    /// Seconds of training so far.
    pub(super) fn seconds(&self) -> f64 {
        self.earlier + self.started.elapsed().as_secs_f64()
    }

    /// Counts the operations of a step.
    pub(super) fn count(&mut self, flops: f64) {
        self.flops += flops;
    }

    /// Tokens per second since the last row.
    pub(super) fn tokens_per_s(&self, progress: &Progress) -> f64 {
        (progress.tokens - self.row.tokens) as f64 / (self.seconds() - self.row.seconds).max(1e-9)
    }

    /// Makes the row for the steps since the last one. `peak_flops` is what the machine can do in a second.
    pub(super) fn row(&mut self, progress: &Progress, total: u64, peak_flops: f64) -> Timing {
        let now = Mark::new(self.seconds(), progress);
        let seconds = (now.seconds - self.row.seconds).max(1e-9);
        let steps_per_s = (now.step - self.row.step) as f64 / seconds;
        let row = Timing {
            step: now.step,
            seconds: now.seconds,
            tokens_per_s: (now.tokens - self.row.tokens) as f64 / seconds,
            trained_tokens_per_s: (now.trained_tokens - self.row.trained_tokens) as f64 / seconds,
            mfu: self.flops / seconds / peak_flops,
            memory_bytes: resident_bytes(),
            seconds_left: (total - now.step) as f64 / steps_per_s,
        };
        (self.row, self.flops) = (now, 0.0);
        row
    }
}

/// Main memory that the process holds, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    memory("VmRSS:")
}

/// The most main memory that the process has held, where the system tells.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    memory("VmHWM:")
}

fn memory(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
