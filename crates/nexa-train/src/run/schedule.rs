//! The learning rate as a function of the step.

use std::f64::consts::PI;

use super::plan::Plan;
use crate::{Config, Scheduler};

/// Computes the learning rate of a step, counted from 0.
///
/// It rises in a straight line over the warm-up, stays, and falls over the steps of the decay as the scheduler says,
/// ending at `cosine_min_lr_ratio` of the peak with the last step.
///
/// # Source
/// Loshchilov and Hutter, "SGDR", 2017, for the cosine, without restarts. Hu et al., "MiniCPM", 2024, for
/// warmup-stable-decay, whose fall is one minus a square root as in Hägele et al., "Scaling Laws and Compute-Optimal
/// Training Beyond Fixed Training Durations", 2024.
pub(super) fn learning_rate(config: &Config, plan: &Plan, step: u64) -> f64 {
    if step < plan.warmup {
        return config.learning_rate() * (step + 1) as f64 / plan.warmup as f64;
    }
    let Some(decayed) = step.checked_sub(plan.total - plan.decay).filter(|_| plan.decay > 0) else {
        return config.learning_rate();
    };
    // 0 with the first step of the decay, 1 with the last.
    let progress = (decayed as f64 / plan.decay.saturating_sub(1).max(1) as f64).min(1.0);
    let share = match config.lr_scheduler {
        Scheduler::Cosine => (1.0 + (PI * progress).cos()) / 2.0,
        Scheduler::Linear => 1.0 - progress,
        Scheduler::WarmupStableDecay => 1.0 - progress.sqrt(),
        Scheduler::Constant => 1.0,
    };
    config.learning_rate() * (config.cosine_min_lr_ratio + (1.0 - config.cosine_min_lr_ratio) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall_as_the_scheduler_says() {
        let check = |lr_scheduler, decay, expected: [f64; 6]| {
            let config = Config {
                learning_rate: Some(1.0),
                cosine_min_lr_ratio: 0.1,
                lr_scheduler,
                ..Config::default()
            };
            let plan = Plan::of(9, 2, decay);
            let rates: Vec<f64> =
                [0, 1, 2, 5, 8, 20].map(|step| learning_rate(&config, &plan, step)).to_vec();
            for (rate, expected) in rates.iter().zip(expected) {
                assert!((rate - expected).abs() < 1e-12, "{lr_scheduler:?}: {rates:?}");
            }
        };
        check(Scheduler::Cosine, 7, [0.5, 1.0, 1.0, 0.55, 0.1, 0.1]);
        check(Scheduler::Linear, 7, [0.5, 1.0, 1.0, 0.55, 0.1, 0.1]);
        check(Scheduler::Constant, 0, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
        // Five steps of decay: 4, 5, 6, 7 and 8.
        check(Scheduler::WarmupStableDecay, 5, [0.5, 1.0, 1.0, 0.55, 0.1, 0.1]);
    }

    #[test]
    fn a_run_that_is_all_warm_up_reaches_the_peak_with_its_last_step() {
        let config = Config { learning_rate: Some(1.0), ..Config::default() };
        let plan = Plan::of(4, 4, 0);
        assert_eq!([0, 3].map(|step| learning_rate(&config, &plan, step)), [0.25, 1.0]);
    }
}
