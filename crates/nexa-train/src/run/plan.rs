//! How many steps a run has, and which of them are followed by something.

use crate::data::Order;
use crate::{Config, Scheduler};

/// Steps of the warm-up where the config says nothing, and the share of the run that they are at most.
const WARMUP_STEPS: u64 = 50;
const WARMUP_SHARE: f64 = 0.1;
/// Steps between two saves where the config says nothing.
const SAVE_STEPS: u64 = 200;

/// The course of a run, in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    /// Steps of an epoch, a fraction.
    pub(crate) steps_per_epoch: f64,
    /// Steps of the whole run.
    pub(crate) total: u64,
    /// Steps of the warm-up.
    pub(crate) warmup: u64,
    /// Steps of the decay, where the schedule has one at the end.
    pub(crate) decay: u64,
    /// Steps between two validations; 0 for none on the way.
    eval_every: u64,
    /// Steps between two saves.
    save_every: u64,
}

impl Plan {
    /// Works a config out for some data.
    pub(crate) fn new(config: &Config, order: &mut Order) -> Self {
        let per_epoch = order.steps_per_epoch();
        let most = config.max_steps.unwrap_or_else(|| match config.max_tokens {
            Some(_) => u64::MAX,
            None => ((config.num_epochs * per_epoch).ceil() as u64).max(1),
        });
        let total = config.max_tokens.map_or(most, |tokens| order.steps_for_tokens(tokens, most));
        let share = |share: f64| (share * total as f64).round() as u64;
        let every = |steps: Option<u64>, in_an_epoch: Option<u64>, default: u64| match in_an_epoch {
            Some(count) => ((per_epoch / count as f64).round() as u64).max(1),
            None => steps.unwrap_or(default),
        };
        let warmup = match (config.warmup_ratio, config.warmup_steps) {
            (Some(ratio), _) => share(ratio),
            (None, Some(steps)) => steps.min(total),
            (None, None) => WARMUP_STEPS.min(share(WARMUP_SHARE)),
        };
        let decay = match config.lr_scheduler {
            Scheduler::WarmupStableDecay => share(config.lr_decay_ratio).min(total - warmup),
            Scheduler::Constant => 0,
            Scheduler::Cosine | Scheduler::Linear => total - warmup,
        };
        Self {
            steps_per_epoch: per_epoch,
            total,
            warmup,
            decay,
            eval_every: every(config.eval_steps, config.evals_per_epoch, 0),
            save_every: every(config.save_steps, config.saves_per_epoch, SAVE_STEPS),
        }
    }

    /// Whether a validation follows a step, besides the one at the end.
    pub(crate) fn validates_after(&self, step: u64) -> bool {
        self.eval_every > 0 && step.is_multiple_of(self.eval_every) && step < self.total
    }

    /// Whether a save follows a step, besides the one at the end.
    pub(crate) fn saves_after(&self, step: u64) -> bool {
        step.is_multiple_of(self.save_every) && step < self.total
    }
}

#[cfg(test)]
impl Plan {
    /// A course without saves and validations.
    pub(super) fn of(total: u64, warmup: u64, decay: u64) -> Self {
        Self { steps_per_epoch: 1.0, total, warmup, decay, eval_every: 0, save_every: u64::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Mix;

    /// Ten samples of ten tokens each, five steps an epoch.
    fn plan(change: fn(&mut Config)) -> Plan {
        let mut config = Config { micro_batch_size: 2, ..Config::default() };
        change(&mut config);
        Plan::new(&config, &mut Order::new(&config, vec![10; 10], Mix::even(10)))
    }

    #[test]
    fn the_length_follows_from_epochs_steps_or_tokens() {
        let check = |change: fn(&mut Config), expected| assert_eq!(plan(change).total, expected);
        check(|config| config.num_epochs = 2.5, 13);
        check(|config| config.num_epochs = 0.01, 1);
        check(|config| config.max_steps = Some(70), 70);
        // A step has twenty tokens.
        check(|config| config.max_tokens = Some(141), 8);
        check(|config| config.max_tokens = Some(140), 7);
        check(|config| (config.max_tokens, config.max_steps) = (Some(141), Some(3)), 3);
    }

    #[test]
    fn shares_and_counts_in_an_epoch_become_steps() {
        let both = plan(|config| {
            (config.num_epochs, config.warmup_ratio) = (20.0, Some(0.03));
            (config.evals_per_epoch, config.saves_per_epoch) = (Some(2), Some(1));
            (config.lr_scheduler, config.lr_decay_ratio) = (Scheduler::WarmupStableDecay, 0.25);
        });
        assert_eq!(
            both,
            Plan { steps_per_epoch: 5.0, total: 100, warmup: 3, decay: 25, eval_every: 3, save_every: 5 }
        );
        assert_eq!(
            plan(|config| config.num_epochs = 20.0),
            Plan { steps_per_epoch: 5.0, total: 100, warmup: 10, decay: 90, eval_every: 0, save_every: 200 }
        );
        assert!(both.saves_after(5) && !both.saves_after(4) && !both.saves_after(100));
        assert!(both.validates_after(99) && !plan(|_| {}).validates_after(1));
    }
}
