//! Whether a loss is sound.

use crate::Config;
use crate::config::Objective;
use crate::state::Progress;

/// Losses above this many times that of an even guess are explosions, where the config gives no threshold.
const TIMES_A_GUESS: f64 = 3.0;

/// Watches the loss for numbers that no run which learns would give.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watchdog {
    threshold: f64,
    patience: u64,
}

impl Watchdog {
    /// Sets the threshold from the config, or from the number of tokens that a guess chooses from.
    pub(super) fn new(config: &Config, vocabulary: usize) -> Self {
        // Only a likelihood can be compared with a guess.
        let default = match config.objective {
            Objective::Pretrain | Objective::Sft => TIMES_A_GUESS * (vocabulary as f64).ln(),
            Objective::Dpo | Objective::Distill => f64::INFINITY,
        };
        Self {
            threshold: config.loss_watchdog_threshold.unwrap_or(default),
            patience: config.loss_watchdog_patience,
        }
    }

    /// Takes the loss and the gradient norm of a step into the progress, and says what is wrong with them.
    pub(super) fn observe(&self, progress: &mut Progress, loss: f64, grad_norm: f64) -> Option<String> {
        for (quantity, value) in [("loss", loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                return Some(format!("the {quantity} is {value}"));
            }
        }
        progress.above_threshold = if loss > self.threshold { progress.above_threshold + 1 } else { 0 };
        (progress.above_threshold >= self.patience).then(|| {
            let Self { threshold, patience } = self;
            format!("the loss is {loss:.4}, for {patience} steps in a row above {threshold:.4}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_as_many_high_losses_in_a_row_as_the_patience_are_an_explosion() {
        let check = |threshold, losses: &[f64], expected: Option<&str>| {
            let config = Config { loss_watchdog_threshold: threshold, ..Config::default() };
            let watchdog = Watchdog::new(&config, 1000);
            let mut progress = Progress::default();
            let problem = losses.iter().find_map(|&loss| watchdog.observe(&mut progress, loss, 1.0));
            assert_eq!(problem.as_deref(), expected, "{losses:?}");
        };
        check(Some(5.0), &[6.0, 6.0, 4.0, 6.0, 6.0, 5.0, 6.0], None);
        let message = "the loss is 8.0000, for 3 steps in a row above 5.0000";
        check(Some(5.0), &[4.0, 6.0, 7.0, 8.0], Some(message));
        check(None, &[20.0, 20.0, 20.0, 20.0], None);
        check(None, &[21.0, 21.0, 21.0], Some("the loss is 21.0000, for 3 steps in a row above 20.7233"));
        check(Some(5.0), &[f64::NAN], Some("the loss is NaN"));
        check(Some(5.0), &[f64::INFINITY], Some("the loss is inf"));
    }
}
