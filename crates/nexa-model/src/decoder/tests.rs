//! The decoder against plain operations, finite differences and itself.

use super::*;
use crate::LoraConfig;
use crate::config::tests::{families, small};
use crate::kernels::distill::Kind;
use crate::ops::tests::without_kernels;
use crate::weights::tests::scattered;

fn sequence(length: usize) -> (Vec<u32>, Vec<bool>) {
    let tokens = (0..length).map(|i| ((i * i + 5 * length) % 50) as u32).collect();
    (tokens, (0..length).map(|i| i % 3 != 1).collect())
}

fn batch(sequences: &[(Vec<u32>, Vec<bool>)]) -> Batch {
    Batch::new(sequences.iter().map(|(tokens, trained)| (tokens.as_slice(), trained.as_slice())))
}

fn sum(losses: &[f32]) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum()
}

#[test]
fn a_packed_loss_is_the_sum_of_the_losses_alone() {
    let weights = Weights::random(&small(), 5).expect("valid config");
    let decoder = Decoder::new(&weights, &Device::flex());
    let sequences = [2, 9, 17, 5].map(sequence);
    let loss = |batch: &Batch| sum(&decoder.token_losses(batch));
    let together = loss(&batch(&sequences));
    let alone: f64 = sequences.iter().map(|one| loss(&batch(std::slice::from_ref(one)))).sum();
    assert!((together - alone).abs() < 1e-3 * alone, "{together} and {alone}");
}

/// Holds the gradient of every parameter against differences of the objective.
fn check_gradients(config: &DecoderConfig, objective: Objective<'_>, value: impl Fn(&Decoder) -> f64) {
    let weights = scattered(config);
    let batch = batch(&[7, 20].map(sequence));
    let decoder = Decoder::new(&weights, &Device::flex());
    let gradients = decoder.gradients(&batch, objective);
    assert!((gradients.loss - value(&decoder)).abs() < 1e-4 * gradients.loss.abs().max(1.0));
    assert_eq!(gradients.values.len(), weights.layout().len());
    let value_at = |parameter: usize, step: f32| {
        // Moving along the gradient's signs adds the differences up, far above the rounding of f32.
        let mut moved = weights.clone();
        let values = moved.values_mut()[parameter].iter_mut();
        for (value, gradient) in values.zip(gradients.values[parameter].iter()) {
            *value += step * gradient.signum();
        }
        value(&Decoder::new(&moved, &Device::flex()))
    };
    for (index, parameter) in weights.layout().iter().enumerate() {
        let expected: f64 = gradients.values[index].iter().map(|gradient| f64::from(gradient.abs())).sum();
        let step = 2e-4;
        let estimate = (value_at(index, step) - value_at(index, -step)) / (2.0 * f64::from(step));
        let error = (estimate - expected).abs() / expected;
        let place = (config.architecture, &parameter.parts);
        assert!(error < 0.02, "{place:?}: {estimate} and {expected}");
    }
}

#[test]
fn gradients_of_every_parameter_agree_with_finite_differences() {
    let batch = batch(&[7, 20].map(sequence));
    for config in families() {
        check_gradients(&config, Objective::CrossEntropy, |decoder| sum(&decoder.token_losses(&batch)));
    }
}

#[test]
fn a_function_of_the_losses_has_its_own_gradient() {
    let batch = batch(&[7, 20].map(sequence));
    let squares = |losses: &[f32]| {
        let value = losses.iter().map(|&loss| f64::from(loss) * f64::from(loss)).sum::<f64>() / 10.0;
        (value, losses.iter().map(|loss| loss / 5.0).collect())
    };
    check_gradients(&small(), Objective::Of(&squares), |decoder| squares(&decoder.token_losses(&batch)).0);
}

#[test]
fn distillation_has_the_gradient_of_its_divergence() {
    let batch = batch(&[7, 20].map(sequence));
    let teacher = Weights::random(&DecoderConfig { num_hidden_layers: 1, ..small() }, 9).expect("valid");
    let teacher = Decoder::new(&teacher, &Device::flex()).teach(&batch);
    let kind = Kind::JensenShannon { beta: 0.4 };
    let divergence = Divergence { kind, alpha: 0.8, ce_alpha: 0.3, temperature: 2.0 };
    let objective = Objective::Distill(&teacher, &divergence);
    let value = |decoder: &Decoder| sum(&decoder.gradients(&batch, objective).token_losses);
    check_gradients(&small(), objective, value);
}

#[test]
fn recomputed_blocks_give_the_same_gradients() {
    let weights = Weights::random(&small(), 5).expect("valid config");
    let batch = batch(&[7, 12, 3].map(sequence));
    let gradients = |recompute| {
        let decoder = Decoder::new(&weights, &Device::flex()).recompute_blocks(recompute);
        decoder.gradients(&batch, Objective::CrossEntropy)
    };
    let (kept, recomputed) = (gradients(false), gradients(true));
    assert_eq!(kept.loss, recomputed.loss);
    assert!(kept.values == recomputed.values, "equal to the last bit");
}

/// The losses of some steps of plain descent.
fn descend(mut weights: Weights, batches: &[Batch], compute: fn(&Weights, &Batch) -> Gradients) -> Vec<f64> {
    let step = |batch: &Batch| {
        let gradients = compute(&weights, batch);
        for (values, gradient) in weights.values_mut().iter_mut().zip(&gradients.values) {
            for (value, gradient) in values.iter_mut().zip(gradient.iter()) {
                *value -= 3e-3 * gradient;
            }
        }
        gradients.loss / batch.trained_tokens() as f64
    };
    batches.iter().map(step).collect()
}

/// Batches of several sequences for some steps; the last is the first once more.
fn batches() -> Vec<Batch> {
    [7, 20, 13, 9, 7].map(|length| batch(&[length, 5, 11].map(sequence))).into()
}

fn cross_entropy(weights: &Weights, batch: &Batch) -> Gradients {
    Decoder::new(weights, &Device::flex()).gradients(batch, Objective::CrossEntropy)
}

#[test]
fn training_without_kernels_is_training_with_them() {
    for config in families() {
        let name = config.architecture;
        let weights = Weights::random(&config, 5).expect("valid config");
        let fused = descend(weights.clone(), &batches(), cross_entropy);
        let plain = without_kernels(|| descend(weights, &batches(), cross_entropy));
        for (fused, plain) in fused.iter().zip(&plain) {
            assert!((fused - plain).abs() < 1e-4, "{name:?}: {fused} and {plain}");
        }
        assert!(fused[4] < fused[0], "{name:?} learns: {fused:?}");
    }
}

#[test]
fn training_in_16_bits_follows_that_in_32() {
    let in_bf16 = |weights: &Weights, batch: &Batch| {
        let gradients = Decoder::in_bf16(weights, &Device::flex()).gradients(batch, Objective::CrossEntropy);
        assert!(gradients.values.iter().all(|gradient| gradient.iter().all(|value| value.is_finite())));
        gradients
    };
    let weights = Weights::random(&small(), 5).expect("valid config");
    let wide = descend(weights.clone(), &batches(), cross_entropy);
    let narrow = descend(weights, &batches(), in_bf16);
    for (wide, narrow) in wide.iter().zip(&narrow) {
        // Eight bits of mantissa, and a few layers of them.
        assert!((wide - narrow).abs() < 0.02 * wide && wide != narrow, "{wide} and {narrow}");
    }
}

#[test]
fn adapters_train_without_kernels_as_with_them() {
    let weights = Weights::random(&small(), 5).expect("valid config");
    let target_modules = vec!["all-linear".to_owned()];
    let config = LoraConfig { r: 3, alpha: 6.0, dropout: 0.0, use_rslora: false, target_modules };
    let mut lora = Lora::new(config, &small(), 1).expect("valid");
    // Matrices `B` that are not zero, so that both factors have gradients.
    for values in lora.values_mut() {
        values.iter_mut().enumerate().for_each(|(index, value)| *value += (index % 7) as f32 / 50.0);
    }
    let gradients = || {
        let decoder = Decoder::new(&weights, &Device::flex()).with_adapters(&lora);
        decoder.gradients(&batches()[0], Objective::CrossEntropy).values
    };
    let (fused, plain) = (gradients(), without_kernels(gradients));
    assert_eq!(fused.len(), plain.len());
    for (fused, plain) in fused.iter().zip(&plain) {
        assert!(fused.iter().zip(plain.iter()).all(|(fused, plain)| (fused - plain).abs() < 1e-4));
    }
}

#[test]
fn a_decoder_shares_the_weights_of_its_maker() {
    let mut weights = Weights::random(&small(), 5).expect("valid config");
    let place = weights.values()[3].as_ptr();
    let gradients =
        Decoder::new(&weights, &Device::flex()).gradients(&batch(&[sequence(9)]), Objective::CrossEntropy);
    assert_eq!(gradients.values[3].len(), weights.values()[3].len());
    weights.values_mut()[3][0] += 1.0;
    assert_eq!(weights.values()[3].as_ptr(), place, "once the decoder is gone, nothing is copied");
}
