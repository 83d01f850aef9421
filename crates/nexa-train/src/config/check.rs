//! Which values of a configuration make sense.

use std::ops::RangeInclusive;

use super::{Bf16, Config};
use crate::Error;

impl Config {
    /// Checks that the values make sense, each alone and together.
    ///
    /// # Errors
    /// Names the first key that does not.
    pub fn check(&self) -> Result<(), Error> {
        self.check_counts()?;
        self.check_ranges()?;
        self.check_combinations()
    }

    fn check_counts(&self) -> Result<(), Error> {
        for (key, value) in [
            ("sequence_len", self.sequence_len() as u64),
            ("micro_batch_size", self.micro_batch_size as u64),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps as u64),
            ("logging_steps", self.logging_steps),
            ("max_steps", self.max_steps.unwrap_or(1)),
            ("max_tokens", self.max_tokens.unwrap_or(1)),
            ("save_steps", self.save_steps.unwrap_or(1)),
            ("saves_per_epoch", self.saves_per_epoch.unwrap_or(1)),
            ("evals_per_epoch", self.evals_per_epoch.unwrap_or(1)),
            ("early_stopping_patience", self.early_stopping_patience.unwrap_or(1)),
            ("loss_watchdog_patience", self.loss_watchdog_patience),
            ("kd_top_k", self.kd_top_k.unwrap_or(1) as u64),
        ] {
            if value == 0 {
                return fail(key, "must be at least 1");
            }
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), Error> {
        const POSITIVE: f64 = f64::MIN_POSITIVE;
        const SHARE: RangeInclusive<f64> = 0.0..=1.0;
        let mut values = vec![
            ("num_epochs", self.num_epochs, POSITIVE..=1e9),
            ("max_time_s", self.max_time_s.unwrap_or(1.0), POSITIVE..=1e9),
            ("learning_rate", self.learning_rate(), POSITIVE..=1e3),
            ("embedding_lr", self.embedding_lr.unwrap_or(1.0), 0.0..=1e3),
            ("warmup_ratio", self.warmup_ratio.unwrap_or(0.0), SHARE),
            ("cosine_min_lr_ratio", self.cosine_min_lr_ratio, SHARE),
            ("lr_decay_ratio", self.lr_decay_ratio, SHARE),
            ("adam_beta1", self.adam_beta1, 0.0..=0.999_999),
            ("adam_beta2", self.adam_beta2, 0.0..=0.999_999),
            ("adam_epsilon", self.adam_epsilon, POSITIVE..=1.0),
            ("muon_momentum", self.muon_momentum, 0.0..=0.999_999),
            ("weight_decay", self.weight_decay, 0.0..=1e3),
            ("max_grad_norm", self.max_grad_norm, 0.0..=f64::MAX),
            ("val_set_size", self.val_set_size, 0.0..=1e9),
            ("rl_beta", self.rl_beta, POSITIVE..=1e3),
            ("kd_beta", self.kd_beta, 1e-3..=0.999),
            ("kd_alpha", self.kd_alpha, 0.0..=1e3),
            ("kd_ce_alpha", self.kd_ce_alpha, 0.0..=1e3),
            ("kd_temperature", self.kd_temperature, 1e-2..=1e2),
            ("early_stopping_threshold", self.early_stopping_threshold, 0.0..=f64::MAX),
            ("loss_watchdog_threshold", self.loss_watchdog_threshold.unwrap_or(1.0), POSITIVE..=f64::MAX),
        ];
        for group in &self.lr_groups {
            values.push(("lr_groups.lr", group.lr.unwrap_or(1.0), 0.0..=1e3));
            values.push(("lr_groups.weight_decay", group.weight_decay.unwrap_or(0.0), 0.0..=1e3));
        }
        for dataset in &self.datasets {
            values.push(("datasets.weight", dataset.weight.unwrap_or(1.0), POSITIVE..=1e9));
        }
        for (key, value, range) in values {
            if !range.contains(&value) {
                let problem = match *range.start() {
                    POSITIVE => format!("is {value}; it must be above 0 and at most {:e}", range.end()),
                    start => format!("is {value}, outside {start} to {:e}", range.end()),
                };
                return fail(key, &problem);
            }
        }
        Ok(())
    }

    fn check_combinations(&self) -> Result<(), Error> {
        self.tracking().check()?;
        if self.bf16 == Bf16::On && self.device.is_cpu() {
            return fail("bf16", "is true, but `device` is the CPU, which computes in f32");
        }
        if let Some(lora) = self.lora() {
            lora.check()?;
        }
        for (key, given, other, other_given) in [
            ("warmup_ratio", self.warmup_ratio.is_some(), "warmup_steps", self.warmup_steps.is_some()),
            ("saves_per_epoch", self.saves_per_epoch.is_some(), "save_steps", self.save_steps.is_some()),
            ("evals_per_epoch", self.evals_per_epoch.is_some(), "eval_steps", self.eval_steps.is_some()),
        ] {
            if given && other_given {
                return fail(key, &format!("and `{other}` say the same thing twice; give one"));
            }
        }
        for (key, given) in [
            ("early_stopping_patience", self.early_stopping_patience.is_some()),
            ("load_best_model_at_end", self.load_best_model_at_end),
        ] {
            if given && !self.validates_on_the_way() {
                return fail(key, "needs validations on the way: give `eval_steps` or `evals_per_epoch`");
            }
        }
        Ok(())
    }
}

fn fail(key: &'static str, problem: &str) -> Result<(), Error> {
    Err(Error::Config { key, problem: problem.to_owned() })
}

#[cfg(test)]
mod tests {
    use nexa_model::device::DeviceName;

    use super::super::{Optimizer, Scheduler};
    use super::*;

    #[test]
    fn other_spellings_are_understood_and_unknown_keys_are_not() {
        let read = |json: &str| serde_json::from_str::<Config>(json).map_err(|error| error.to_string());
        let config = read(
            r#"{"per_device_train_batch_size": 3, "cutoff_len": 99, "optim": "adamw", "lr_scheduler_type": "wsd"}"#,
        )
        .expect("aliases");
        assert_eq!(
            (config.micro_batch_size, config.sequence_len(), config.optimizer, config.lr_scheduler),
            (3, 99, Optimizer::AdamW, Scheduler::WarmupStableDecay)
        );
        let check = |json: &str, expected: &str| {
            let error = read(json).expect_err("unknown");
            assert!(error.contains(expected), "{error}");
        };
        check(r#"{"learning_rat": 1}"#, "unknown field `learning_rat`");
        check(r#"{"optimizer": "adamw_8bit"}"#, "unknown variant `adamw_8bit`");
        check(r#"{"lr_groups": [{"modules": [], "rate": 1}]}"#, "unknown field `rate`");
        check(r#"{"metric_for_best_model": "accuracy"}"#, "unknown variant `accuracy`");
        check(r#"{"device": "gpu"}"#, "`gpu` is no device (there are: auto, cpu, cuda:N");
        check(r#"{"bf16": "yes"}"#, "`yes` is none of auto, true, false");
    }

    #[test]
    fn a_resolved_configuration_reads_back_as_itself() {
        let config = Config {
            warmup_ratio: Some(0.1),
            save_steps: Some(3),
            device: "cuda:1".parse().expect("a device"),
            bf16: Bf16::On,
            ..Config::default()
        };
        let json = serde_json::to_value(&config).expect("numbers, texts and lists");
        assert_eq!(serde_json::from_value::<Config>(json).expect("reads"), config);
    }

    #[test]
    fn where_metrics_go_is_no_part_of_the_resolved_configuration() {
        let json =
            r#"{"report_to": "tensorboard", "wandb": {"dir": "w"}, "mlflow": {"experiment_name": "e"}}"#;
        let config = serde_json::from_str::<Config>(json).expect("keys of trackers");
        assert_eq!(config.tracking().report_to, [crate::trackers::TrackerKind::TensorBoard]);
        let resolved = |config: &Config| serde_json::to_value(config).expect("numbers, texts and lists");
        assert_eq!(resolved(&config), resolved(&Config::default()));
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let check = |change: fn(&mut Config), key: &str| {
            let mut config = Config::default();
            change(&mut config);
            let error = config.check().expect_err(key).to_string();
            assert!(error.starts_with(&format!("config: `{key}`")), "{error}");
        };
        check(|config| config.micro_batch_size = 0, "micro_batch_size");
        check(|config| config.learning_rate = Some(f64::NAN), "learning_rate");
        check(|config| config.adam_beta2 = 1.0, "adam_beta2");
        check(|config| config.num_epochs = 0.0, "num_epochs");
        check(|config| config.loss_watchdog_threshold = Some(f64::NAN), "loss_watchdog_threshold");
        check(|config| (config.warmup_steps, config.warmup_ratio) = (Some(5), Some(0.1)), "warmup_ratio");
        check(|config| (config.save_steps, config.saves_per_epoch) = (Some(5), Some(1)), "saves_per_epoch");
        check(|config| config.early_stopping_patience = Some(2), "early_stopping_patience");
        check(|config| (config.device, config.bf16) = (DeviceName::Cpu, Bf16::On), "bf16");
        check(|config| config.kd_top_k = Some(0), "kd_top_k");
        let without = || vec![crate::DatasetConfig { weight: Some(0.0), ..Default::default() }];
        assert!(Config { datasets: without(), ..Config::default() }.check().is_err());
        check(|config| config.mlflow.tracking_uri = Some("sqlite:///a.db".to_owned()), "mlflow.tracking_uri");
        check(
            |config| (config.load_best_model_at_end, config.eval_steps) = (true, Some(0)),
            "load_best_model_at_end",
        );
        assert!(Config::default().check().is_ok());
    }
}
