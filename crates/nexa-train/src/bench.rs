//! How fast and in how much memory a model trains on this machine, and where the time goes.
//!
//! A measured step is that of the training loop without data and files: the gradients of one micro-batch, their norm
//! and the update. Every token carries loss.

use std::path::Path;
use std::time::Instant;

use nexa_core::event::Cancel;
use nexa_core::files;
use nexa_core::table::Tables;
use nexa_model::{Batch, DecoderConfig, Llama, Weights, profile};
use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::objective::Objective;
use crate::optimizer::{self, Optimizer, Step, global_norm};
use crate::placement::Placement;
use crate::run::{Flops, METRICS_FILE, MicroBatch, TIMING_FILE, peak_flops};
use crate::{Config, Error, Inputs, Session, train};

/// What is measured.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The shape of the model; its weights are random.
    pub decoder: DecoderConfig,
    /// How it is trained: optimizer, adapters, recomputation.
    pub config: Config,
    /// Tokens of a step.
    pub tokens: usize,
    /// Sequences that the tokens are cut into.
    pub samples: usize,
    /// Measured steps, after one that is not.
    pub steps: usize,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Tokens of a step.
    pub tokens: usize,
    /// Weights of the model.
    pub parameters: usize,
    /// Numbers that are trained.
    pub trained_parameters: usize,
    /// Seconds of every measured step.
    pub step_seconds: Vec<f64>,
    /// Tokens a second of the median step.
    pub tokens_per_s: f64,
    /// Floating-point operations of a step, forward and backward, for all weights.
    pub step_flops: f64,
    /// Operations a second of the best of some products of matrices on this machine.
    pub peak_flops: f64,
    /// Operations of a step over those that the machine could do in the median step.
    pub mfu: f64,
    /// Seconds of a step by kind of operation, and what is left.
    pub seconds: Vec<(&'static str, f64)>,
    /// The most main memory that the process has held, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// The device, and the numbers that products were computed in.
    pub device: String,
    /// See [`device`](Self::device).
    pub precision: &'static str,
    /// The loss of every step, that which is not measured first, in nats a token.
    pub losses: Vec<f64>,
}

/// The shape of SmolLM2-135M, a small model that people fine-tune, with the context of a fine-tuning.
pub fn smollm2_135m() -> DecoderConfig {
    let sizes = Llama {
        hidden_size: 576,
        intermediate_size: 1536,
        layers: 30,
        heads: 9,
        key_value_heads: 3,
        vocab_size: 49_152,
    };
    DecoderConfig { max_position_embeddings: 8192, rope_theta: 1e5, ..DecoderConfig::llama(sizes) }
}

/// Measures a model.
///
/// # Errors
/// Fails on a configuration or shape that makes no sense.
pub fn run(bench: &Bench) -> Result<Measured, Error> {
    let Bench { decoder, config, tokens, samples, steps } = bench;
    let config = &config.resolve().0;
    config.check()?;
    let length = tokens / (*samples).max(1);
    if length < 2 || *steps == 0 {
        let problem =
            format!("leaves {length} tokens for each of {samples} samples; two are needed, and a step");
        return Err(Error::Config { key: "tokens", problem });
    }
    let placement = Placement::new(config)?;
    let mut model = Model::new(config, Weights::random(decoder, config.seed)?, placement)?;
    let mut rule = Optimizer::new(config, &model.parameters())?;
    let micro_batch = micro_batch(decoder.vocab_size as u32, length, *samples);
    let objective = Objective::Likelihood;

    let mut step_seconds = Vec::with_capacity(*steps);
    let mut losses = Vec::with_capacity(*steps + 1);
    let (mut before, mut updating) = (profile::seconds(), 0.0);
    for number in 0..=*steps as u64 {
        if number == 1 {
            // The first step wakes threads and memory.
            (before, updating) = (profile::seconds(), 0.0);
            step_seconds.clear();
        }
        let started = Instant::now();
        let shared = model.decoder(config);
        let gradients = objective.gradients(&shared, &micro_batch);
        drop(shared);
        let update_started = Instant::now();
        let terms = objective.terms(&micro_batch) as f64;
        let loss = gradients.loss / terms;
        let norm = global_norm(gradients.values.iter().map(|gradient| &**gradient)) / terms;
        let clip = optimizer::clip(config.max_grad_norm, norm);
        let step = Step { number: number + 1, learning_rate: config.learning_rate(), scale: clip / terms };
        rule.update_all(model.values_mut(), gradients.values, &step);
        updating += update_started.elapsed().as_secs_f64();
        step_seconds.push(started.elapsed().as_secs_f64());
        losses.push(loss);
    }

    let total: f64 = step_seconds.iter().sum();
    let count = *steps as f64;
    let mut seconds: Vec<(&'static str, f64)> = profile::Part::ALL
        .iter()
        .zip(profile::seconds().iter().zip(before))
        .map(|(part, (after, before))| (part.as_str(), (after - before) / count))
        .collect();
    seconds.push(("optimizer", updating / count));
    let known: f64 = seconds.iter().map(|(_, seconds)| seconds).sum();
    seconds.push(("other", total / count - known));

    let median = median(&step_seconds);
    let step_flops = Flops::of(&model).count(
        micro_batch.batch.tokens() as u64,
        micro_batch.batch.trained_tokens() as u64,
        micro_batch.squared_lengths,
    );
    let peak_flops = peak_flops(model.placement());
    Ok(Measured {
        tokens: micro_batch.batch.tokens(),
        parameters: model.weights().count(),
        trained_parameters: model.trained_count(),
        tokens_per_s: micro_batch.batch.tokens() as f64 / median,
        step_flops,
        peak_flops,
        mfu: step_flops / median / peak_flops,
        seconds,
        peak_memory_bytes: crate::run::peak_memory_bytes(),
        step_seconds,
        device: config.device.to_string(),
        precision: model.placement().precision(),
        losses,
    })
}

/// What some steps on real data came to.
#[derive(Debug, Clone, Serialize)]
pub struct Fitted {
    /// Seconds of every measured step.
    pub step_seconds: Vec<f64>,
    /// Tokens of those steps that carry loss.
    pub trained_tokens: u64,
    /// All tokens of those steps.
    pub computed_tokens: u64,
    /// The most main memory that the process has held, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// A training on data that is measured.
#[derive(Clone, Copy)]
pub struct Fit<'a> {
    /// How the model is trained.
    pub config: &'a Config,
    /// On what.
    pub inputs: &'a Inputs,
    /// Reads data files that are not lines of JSON.
    pub tables: &'a dyn Tables,
    /// A folder for what training writes.
    pub folder: &'a Path,
    /// Steps that are measured.
    pub steps: u64,
}

/// Trains on data as [`crate::train`] does, for one step more than are measured.
///
/// # Errors
/// As [`crate::train`].
pub fn fit(fit: &Fit<'_>) -> Result<Fitted, Error> {
    let Fit { config, inputs, tables, folder, steps } = *fit;
    let config =
        Config { max_steps: Some(steps + 1), logging_steps: 1, save_total_limit: 0, ..config.clone() };
    let (workspace, output) = (folder.join("workspace"), folder.join("output"));
    files::create_folder(&output)?;
    train(&config, inputs, &Session::silent(&workspace, &output, &Cancel::default(), tables))?;
    let rows: Vec<Row> = files::read_lines(&workspace.join(METRICS_FILE))?;
    let times: Vec<Row> = files::read_lines(&workspace.join(TIMING_FILE))?;
    let between = |of: fn(&Row) -> Option<u64>| {
        let mut values = rows.iter().filter_map(of);
        let first = values.next().unwrap_or(0);
        values.next_back().unwrap_or(first) - first
    };
    Ok(Fitted {
        step_seconds: times.windows(2).filter_map(|pair| Some(pair[1].seconds? - pair[0].seconds?)).collect(),
        trained_tokens: between(|row| row.trained_tokens),
        computed_tokens: between(|row| row.tokens),
        peak_memory_bytes: crate::run::peak_memory_bytes(),
    })
}

/// What is read of a row of the logs.
#[derive(Debug, Deserialize)]
struct Row {
    seconds: Option<f64>,
    tokens: Option<u64>,
    trained_tokens: Option<u64>,
}

/// Sequences of tokens without a pattern.
fn micro_batch(vocabulary: u32, length: usize, samples: usize) -> MicroBatch {
    let token_ids: Vec<u32> =
        (0..(length * samples) as u32).map(|index| index.wrapping_mul(2_654_435_761) % vocabulary).collect();
    let trained = vec![true; length];
    MicroBatch {
        batch: Batch::new(token_ids.chunks_exact(length).map(|sequence| (sequence, trained.as_slice()))),
        sequences: (0..samples).map(|sample| sample * (length - 1)..(sample + 1) * (length - 1)).collect(),
        samples: (0..samples).collect(),
        squared_lengths: (samples * length * length) as u64,
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder() -> DecoderConfig {
        DecoderConfig {
            hidden_size: 32,
            intermediate_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 8,
            vocab_size: 100,
            initializer_range: 0.1,
            ..smollm2_135m()
        }
    }

    #[test]
    fn the_shape_is_that_of_the_published_model() {
        assert_eq!(Weights::random(&smollm2_135m(), 0).expect("valid").count(), 134_515_008);
    }

    #[test]
    fn steps_are_counted_and_the_parts_make_up_the_whole() {
        let config = Config { learning_rate: Some(0.01), ..Config::default() };
        let bench = Bench { decoder: decoder(), config, tokens: 64, samples: 4, steps: 3 };
        let measured = run(&bench).expect("runs");
        assert_eq!((measured.step_seconds.len(), measured.tokens), (3, 64));
        let mean = measured.step_seconds.iter().sum::<f64>() / 3.0;
        let parts: f64 = measured.seconds.iter().map(|(_, seconds)| seconds).sum();
        assert!((parts - mean).abs() < 1e-9, "{parts} and {mean}");
        let losses = &measured.losses;
        assert!(losses.len() == 4 && losses[3] < losses[0], "it learns: {losses:?}");
        let error = run(&Bench { tokens: 4, ..bench }).expect_err("too few").to_string();
        assert!(error.contains("`tokens` leaves 1 tokens"), "{error}");
    }
}
