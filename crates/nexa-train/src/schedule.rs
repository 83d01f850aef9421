//! The learning rate as a function of the step.

use crate::{Config, Scheduler};

/// Computes the learning rate of a step, counted from 0, in a run of `total` steps.
///
/// It rises in a straight line over `warmup_steps` and then falls as the scheduler says, ending at
/// `cosine_min_lr_ratio` of the peak with the last step.
///
/// # Source
/// Loshchilov and Hutter, "SGDR", 2017, for the cosine, without restarts.
pub(crate) fn learning_rate(config: &Config, step: u64, total: u64) -> f64 {
    let warmup = config.warmup_steps.min(total);
    if step < warmup {
        return config.learning_rate * (step + 1) as f64 / warmup as f64;
    }
    // 0 with the first step after the warm-up, 1 with the last.
    let progress = (step - warmup) as f64 / (total - warmup).saturating_sub(1).max(1) as f64;
    let share = match config.lr_scheduler {
        Scheduler::Cosine => (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()) / 2.0,
        Scheduler::Linear => 1.0 - progress.min(1.0),
        Scheduler::Constant => return config.learning_rate,
    };
    config.learning_rate * (config.cosine_min_lr_ratio + (1.0 - config.cosine_min_lr_ratio) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall_as_the_scheduler_says() {
        let check = |lr_scheduler, expected: [f64; 6]| {
            let config = Config {
                learning_rate: 1.0,
                warmup_steps: 2,
                cosine_min_lr_ratio: 0.1,
                lr_scheduler,
                ..Config::default()
            };
            let rates: Vec<f64> = [0, 1, 2, 5, 8, 20].map(|step| learning_rate(&config, step, 9)).to_vec();
            for (rate, expected) in rates.iter().zip(expected) {
                assert!((rate - expected).abs() < 1e-12, "{lr_scheduler:?}: {rates:?}");
            }
        };
        check(Scheduler::Cosine, [0.5, 1.0, 1.0, 0.55, 0.1, 0.1]);
        check(Scheduler::Linear, [0.5, 1.0, 1.0, 0.55, 0.1, 0.1]);
        check(Scheduler::Constant, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
