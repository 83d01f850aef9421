//! What a step costs in floating-point operations, and what the machine could do.

use std::sync::OnceLock;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use nexa_model::{Kind, Weights};

use super::batches::StepData;

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
    pub(crate) fn of(weights: &Weights) -> Self {
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
        // A multiplication and an addition, once forward and twice backward, make 6 for each weight; scores and mixing
        // make two products, of which the causal half counts.
        Self {
            per_token: 6.0 * matrices as f64,
            per_trained_token: 6.0 * output as f64,
            per_squared_length: 6.0 * (config.num_hidden_layers * width) as f64,
        }
    }

    /// Counts the operations of a step.
    pub(super) fn step(&self, data: &StepData) -> f64 {
        self.count(data.tokens(), data.trained_tokens(), data.squared_lengths())
    }

    /// Counts the operations for tokens, of which some carry loss, in sequences whose squared lengths have a sum.
    pub(crate) fn count(&self, tokens: u64, trained_tokens: u64, squared_lengths: u64) -> f64 {
        self.per_token * tokens as f64
            + self.per_trained_token * trained_tokens as f64
            + self.per_squared_length * squared_lengths as f64
    }
}

/// Measures, once in a process, how many operations a second the machine does in a product of matrices that fits its
/// caches: what the use of the machine is a share of.
pub(super) fn peak() -> f64 {
    /// Rows and columns of the product.
    const SIZE: usize = 512;
    /// The best of so many is taken, the first of which wakes the threads.
    const TRIES: usize = 4;
    static PEAK: OnceLock<f64> = OnceLock::new();
    *PEAK.get_or_init(|| {
        let matrix = Tensor::<2>::ones([SIZE, SIZE], &Device::flex());
        let seconds = (0..TRIES).map(|_| {
            let started = Instant::now();
            std::hint::black_box(matrix.clone().matmul(matrix.clone()).into_data());
            started.elapsed().as_secs_f64()
        });
        2.0 * (SIZE as f64).powi(3) / seconds.fold(f64::INFINITY, f64::min).max(1e-9)
    })
}
