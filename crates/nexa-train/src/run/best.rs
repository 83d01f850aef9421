//! Which validation was the best, and whether there is any gain left.

use crate::Config;
use crate::state::{Progress, Validation};

/// Takes a validation into the progress; returns whether it is the best so far.
pub(super) fn record(config: &Config, progress: &mut Progress, validation: Validation) -> bool {
    progress.validation = Some(validation);
    let Validation { loss, .. } = validation;
    if progress.last_gain.is_none_or(|last| loss < last - config.early_stopping_threshold) {
        (progress.last_gain, progress.without_gain) = (Some(loss), 0);
    } else {
        progress.without_gain += 1;
    }
    let is_best = progress.best.is_none_or(|best| loss < best.loss);
    if is_best {
        progress.best = Some(validation);
    }
    is_best
}

/// Whether the config's patience with validations that bring no gain is over.
pub(super) fn is_patience_over(config: &Config, progress: &Progress) -> bool {
    config.early_stopping_patience.is_some_and(|patience| progress.without_gain >= patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_counts_validations_since_the_last_gain() {
        let check = |threshold, losses: &[f64], best_step, is_over| {
            let config = Config {
                early_stopping_patience: Some(2),
                early_stopping_threshold: threshold,
                ..Config::default()
            };
            let mut progress = Progress::default();
            for (step, &loss) in losses.iter().enumerate() {
                let is_best = record(&config, &mut progress, Validation { step: step as u64, loss });
                assert_eq!(is_best, progress.best.is_some_and(|best| best.step == step as u64));
            }
            let found = (progress.best.map(|best| best.step), is_patience_over(&config, &progress));
            assert_eq!(found, (best_step, is_over), "{losses:?}");
        };
        check(0.0, &[], None, false);
        check(0.0, &[3.0, 3.0], Some(0), false);
        check(0.0, &[3.0, 3.0, 3.1], Some(0), true);
        check(0.0, &[3.0, 3.1, 2.9, 3.0], Some(2), false);
        // Small gains make the best model, and are not waited for.
        check(0.2, &[3.0, 2.9, 2.85], Some(2), true);
        check(0.2, &[3.0, 2.9, 2.7], Some(2), false);
        // A loss that is no number is never the best.
        check(0.0, &[3.0, f64::NAN, f64::NAN], Some(0), true);
    }
}
