//! Which run a state belongs to.

use crate::Config;
use crate::data::Sample;

/// Hashes what decides the result, so that a state is never used for another run.
///
/// Keys that only say how long, how often and how carefully (`max_time_s`, `save_steps`, `loss_watchdog_threshold` …)
/// may change between attempts.
pub(super) fn of(config: &Config, decoder: &str, sets: &[&Vec<Sample>]) -> String {
    let any = Config::default();
    let reproducible = Config {
        max_time_s: any.max_time_s,
        save_steps: any.save_steps,
        saves_per_epoch: any.saves_per_epoch,
        save_total_limit: any.save_total_limit,
        loss_watchdog_threshold: any.loss_watchdog_threshold,
        loss_watchdog_patience: any.loss_watchdog_patience,
        ..config.clone()
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{reproducible:?}").as_bytes());
    hasher.update(decoder.as_bytes());
    for samples in sets {
        hasher.update(&(samples.len() as u64).to_le_bytes());
        for sample in *samples {
            hasher.update(&(sample.token_ids.len() as u64).to_le_bytes());
            for (id, trained) in sample.token_ids.iter().zip(&sample.trained) {
                hasher.update(&(id << 1 | u32::from(*trained)).to_le_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}
