//! Which run a state belongs to.

use crate::Config;

/// Hashes what decides the result, the config and other facts, so that a state is never used for another run.
///
/// Keys that only say how long, how often and how carefully (`max_time_s`, `save_steps`, `loss_watchdog_threshold` …)
/// decide nothing, so a caller of [`crate::train`] may change them between attempts. The stage `train` is a run of its own
/// for each of its configurations, which are on record.
pub(super) fn of(config: &Config, parts: &[&str]) -> String {
    let any = Config::default();
    let reproducible = Config {
        max_time_s: any.max_time_s,
        save_steps: any.save_steps,
        saves_per_epoch: any.saves_per_epoch,
        save_total_limit: any.save_total_limit,
        loss_watchdog_threshold: any.loss_watchdog_threshold,
        loss_watchdog_patience: any.loss_watchdog_patience,
        dataset_prepared_path: any.dataset_prepared_path,
        gradient_checkpointing: any.gradient_checkpointing,
        report_to: any.report_to,
        mlflow: any.mlflow,
        tensorboard: any.tensorboard,
        wandb: any.wandb,
        ..config.clone()
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{reproducible:?}").as_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
