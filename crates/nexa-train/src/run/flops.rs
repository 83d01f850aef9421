//! What a step costs in floating-point operations, and what the machine could do.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use burn::tensor::{FloatDType, Tensor};
use nexa_model::Kind;

use super::batches::StepData;
use crate::model::Model;
use crate::placement::Placement;

/// The operations of a model, forward and backward.
///
/// # Source
/// Chowdhery et al., "PaLM", 2022, appendix B, with what is really computed: the output layer on trained tokens only,
/// attention on the causal half only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Flops {
    per_token: f64,
    per_trained_token: f64,
    per_squared_length: f64,
}

impl Flops {
    /// Counts the operations of a decoder.
    pub(crate) fn of(model: &Model) -> Self {
        let weights = model.weights();
        let numbers = |wanted: fn(Kind) -> bool| {
            let layout = weights.layout().iter().filter(|parameter| wanted(parameter.kind));
            layout.map(|parameter| parameter.shape[0] * parameter.shape[1]).collect::<Vec<_>>()
        };
        let matrices: usize =
            numbers(|kind| matches!(kind, Kind::Projection | Kind::ResidualProjection)).iter().sum();
        // The last embedding is the output layer, tied or not; looking up the first costs nothing.
        let output = numbers(|kind| kind == Kind::Embedding).last().copied().unwrap_or(0);
        let config = weights.config();
        let width = config.num_attention_heads * config.head_dim;
        // A multiplication and an addition, once forward and twice backward, make 6 for each weight, and once backward
        // for a frozen one; adapters are small beside them. Scores and mixing make two products, of which the causal
        // half counts.
        let for_each_weight = if model.trains_weights() { 6.0 } else { 4.0 };
        Self {
            per_token: for_each_weight * matrices as f64,
            per_trained_token: for_each_weight * output as f64,
            per_squared_length: 6.0 * (config.num_hidden_layers * width) as f64,
        }
    }

    /// Counts the operations of a step.
    pub(super) fn step(&self, data: &StepData) -> f64 {
        self.count(data.tokens(), data.trained_tokens(), data.squared_lengths())
    }

    /// Counts the operations for so many tokens, so many that carry loss, and so large a sum of squared lengths.
    pub(crate) fn count(&self, tokens: u64, trained_tokens: u64, squared_lengths: u64) -> f64 {
        self.per_token * tokens as f64
            + self.per_trained_token * trained_tokens as f64
            + self.per_squared_length * squared_lengths as f64
    }
}

/// Measures, once in a process, how many operations a second a device does in products of matrices: what the use of
/// the device is a share of.
pub(crate) fn peak(placement: &Placement) -> f64 {
    static PEAKS: Mutex<Vec<(Placement, f64)>> = Mutex::new(Vec::new());
    let mut peaks = PEAKS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, peak)) = peaks.iter().find(|(known, _)| known == placement) {
        return *peak;
    }
    let peak = measure(placement);
    peaks.push((placement.clone(), peak));
    peak
}

fn measure(placement: &Placement) -> f64 {
    /// Rows and columns of a product that fits the caches of a CPU.
    const SMALLEST: usize = 512;
    /// Those of one that occupies any accelerator.
    const LARGEST: usize = 4096;
    /// A product that takes so long is large enough.
    const LONG_SECONDS: f64 = 5e-3;
    /// The best of so many is taken, the first of which wakes the threads.
    const TRIES: usize = 4;
    let mut size = SMALLEST;
    loop {
        let options = (placement.device(), placement.dtype());
        let matrix = Tensor::<2>::ones([size, size], options);
        let seconds = (0..TRIES).map(|_| {
            let started = Instant::now();
            // A number that is looked at waits for its product; data that nobody reads would not.
            let product = matrix.clone().matmul(matrix.clone()).slice([0..1, 0..1]);
            std::hint::black_box(product.cast(FloatDType::F32).into_scalar::<f32>());
            started.elapsed().as_secs_f64()
        });
        let seconds = seconds.fold(f64::INFINITY, f64::min).max(1e-9);
        if placement.is_cpu() || seconds > LONG_SECONDS || size == LARGEST {
            return 2.0 * (size as f64).powi(3) / seconds;
        }
        size *= 2;
    }
}
