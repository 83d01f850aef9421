//! Adapters over the weights that serve: each sequence of a step may have another one, or none.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nexa_core::lm::{self, Adapter, AdapterLoader};

use crate::kernels::panel::PackedLinear;
use crate::lora::{Lora, PerProjection, trained_over};
use crate::{DecoderConfig, Error};

/// The number of the last adapter that was loaded; 0 stands for none.
static LAST_GENERATION: AtomicU64 = AtomicU64::new(0);

/// An adapter, ready to compute: for every block, the corrections of its projections.
#[derive(Debug)]
pub(super) struct HostAdapter {
    generation: u64,
    pub(super) blocks: Vec<PerProjection<Option<HostCorrection>>>,
}

/// What is added to the product with one weight.
#[derive(Debug)]
pub(super) struct HostCorrection {
    /// All `A` below each other, `[parts * rank, inputs]`.
    a: PackedLinear,
    /// The columns of each corrected projection, and its `B` times the scale.
    parts: Vec<(Range<usize>, PackedLinear)>,
    rank: usize,
    inputs: usize,
}

impl HostAdapter {
    /// Arranges an adapter.
    pub(super) fn new(lora: &Lora, layers: usize) -> Self {
        let generation = LAST_GENERATION.fetch_add(1, Ordering::Relaxed) + 1;
        Self {
            generation,
            blocks: lora.arrange(layers, |correction, a, b| HostCorrection::new(&correction, a, b)),
        }
    }

    /// The number of this loading.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

impl HostCorrection {
    /// Arranges a correction.
    ///
    /// # Shapes
    /// `a` is `[parts * rank, inputs]`, `b` is `[columns of all parts, rank]`.
    fn new(correction: &crate::kernels::lora::Correction, a: &[f32], b: &[f32]) -> Self {
        let rank = correction.rank;
        let inner = correction.inner();
        let inputs = a.len() / inner;
        let scaled: Vec<f32> = b.iter().map(|value| value * correction.scale).collect();
        let mut rows = scaled.as_slice();
        let parts = correction.parts.iter().map(|columns| {
            let (own, rest) = rows.split_at(columns.len() * rank);
            rows = rest;
            (columns.clone(), PackedLinear::new(own, columns.len(), rank))
        });
        let parts = parts.collect();
        Self { a: PackedLinear::new(a, inner, inputs), parts, rank, inputs }
    }

    /// Adds the correction to some rows of a product. A row depends on its own input row alone, bit for bit.
    ///
    /// # Shapes
    /// `rows` is `[n, inputs]`, `product` is `[n, width]`.
    pub(super) fn add(&self, rows: &[f32], product: &mut [f32]) {
        let count = rows.len() / self.inputs;
        let Some(width) = product.len().checked_div(count) else { return };
        let inner = self.a.forward(rows);
        let inner_width = self.parts.len() * self.rank;
        for (part, (columns, b)) in self.parts.iter().enumerate() {
            let own: Vec<f32> = inner
                .chunks_exact(inner_width)
                .flat_map(|row| &row[part * self.rank..(part + 1) * self.rank])
                .copied()
                .collect();
            let correction = b.forward(&own);
            for (row, correction) in
                product.chunks_exact_mut(width).zip(correction.chunks_exact(columns.len()))
            {
                for (value, correction) in row[columns.clone()].iter_mut().zip(correction) {
                    *value += correction;
                }
            }
        }
    }
}

/// Loads adapters for a model.
pub(super) struct Loader {
    config: DecoderConfig,
    weights_hash: String,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("weights_hash", &self.weights_hash).finish_non_exhaustive()
    }
}

impl Loader {
    /// For a model of a shape and with a hash.
    pub(super) fn new(config: &DecoderConfig, weights_hash: &str) -> Self {
        Self { config: config.clone(), weights_hash: weights_hash.to_owned() }
    }

    fn load(&self, folder: &Path) -> Result<HostAdapter, Error> {
        let lora = Lora::load(folder, &self.config)?;
        if let Some(base) = trained_over(folder)?
            && base.base_weights != self.weights_hash
        {
            // The same model in fewer bits has another hash, so this is no error.
            tracing::warn!(
                adapter = %folder.display(),
                base = base.base_model,
                "the adapter was trained over other weights than those that are served"
            );
        }
        Ok(HostAdapter::new(&lora, self.config.num_hidden_layers))
    }
}

impl AdapterLoader for Loader {
    fn load_adapter(&self, folder: &Path) -> Result<Adapter, lm::Error> {
        let adapter = self.load(folder).map_err(|error| lm::Error::Invalid(error.to_string()))?;
        Ok(Adapter { generation: adapter.generation(), weights: Arc::new(adapter) })
    }
}

#[cfg(test)]
mod tests {
    use nexa_core::lm::{Feed, LanguageModel};

    use super::*;
    use crate::config::tests::small;
    use crate::tokenizer::tests::sample;
    use crate::weights::tests::scattered;
    use crate::{Checkpoint, LocalModel, LoraConfig, Weights};

    fn model(weights: Weights) -> LocalModel {
        let (weights_hash, folder) = ("blake3:0".to_owned(), "test".into());
        LocalModel::new(Checkpoint { weights, tokenizer: sample(), weights_hash, folder }).expect("arranges")
    }

    fn lora(targets: &[&str], seed: usize) -> Lora {
        let target_modules = targets.iter().map(|name| (*name).to_owned()).collect();
        let config = LoraConfig { r: 4, alpha: 8.0, use_rslora: false, target_modules, dropout: 0.0 };
        let mut lora = Lora::new(config, &small(), 3).expect("valid");
        for (index, values) in lora.values_mut().iter_mut().enumerate() {
            for (i, value) in values.iter_mut().enumerate() {
                *value += ((i * 31 + index * 7 + seed) % 17) as f32 / 170.0 - 0.05;
            }
        }
        lora
    }

    /// An adapter as its loader gives it, through its files.
    fn loaded(local: &LocalModel, lora: &Lora) -> Adapter {
        let folder = tempfile::tempdir().expect("a folder");
        lora.save(folder.path(), None).expect("saves");
        local.adapter_loader().expect("takes adapters").load_adapter(folder.path()).expect("fits")
    }

    fn logits(local: &mut LocalModel, prompt: &[u32], adapter: Option<&Adapter>) -> Vec<f32> {
        let opened = local.open_with(prompt, adapter);
        let feed = Feed::new(opened.sequence, &prompt[opened.cached_tokens..]);
        let row = local.step(&[feed]).expect("valid").remove(0);
        local.close(opened.sequence);
        row
    }

    #[test]
    fn an_adapter_gives_what_the_merged_weights_give_and_leaves_others_alone() {
        let weights = scattered(&small());
        let prompt: Vec<u32> = (0..37).map(|i| (i * i + 3) % 50).collect();
        let mut local = model(weights.clone());
        let plain = logits(&mut local, &prompt, None);
        for lora in [lora(&["all-linear"], 0), lora(&["q_proj", "v_proj", "down_proj"], 5)] {
            let adapter = loaded(&local, &lora);
            let mut merged = weights.clone();
            lora.merge(&mut merged);
            let expected = logits(&mut model(merged), &prompt, None);
            // The second time, the beginning is remembered.
            for _ in 0..2 {
                let adapted = logits(&mut local, &prompt, Some(&adapter));
                for (adapted, expected) in adapted.iter().zip(&expected) {
                    assert!((adapted - expected).abs() < 1e-4, "{adapted} {expected}");
                }
                assert!(
                    adapted.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 1e-3),
                    "it changes something"
                );
                assert_eq!(logits(&mut local, &prompt, None), plain);
            }
        }
    }

    #[test]
    fn sequences_of_several_adapters_in_a_step_do_not_meet() {
        let mut local = model(scattered(&small()));
        let adapters =
            [lora(&["all-linear"], 0), lora(&["o_proj", "up_proj"], 5)].map(|lora| loaded(&local, &lora));
        let adapter = |n: usize| adapters.get(n % 3);
        let prompts: Vec<Vec<u32>> =
            (0..7).map(|n| (0..5 + 6 * n).map(|i| ((i * i + n) % 50) as u32).collect()).collect();
        let alone: Vec<_> =
            prompts.iter().enumerate().map(|(n, prompt)| logits(&mut local, prompt, adapter(n))).collect();
        let mut fresh = model(scattered(&small()));
        let opened: Vec<_> = (0..prompts.len()).map(|n| fresh.open_with(&[], adapter(n)).sequence).collect();
        let feeds: Vec<_> = opened.iter().zip(&prompts).map(|(&id, prompt)| Feed::new(id, prompt)).collect();
        assert_eq!(fresh.step(&feeds).expect("valid"), alone);
    }

    #[test]
    fn what_is_no_adapter_of_the_model_is_refused_by_name() {
        let local = model(scattered(&small()));
        let loader = local.adapter_loader().expect("takes adapters");
        let folder = tempfile::tempdir().expect("a folder");
        assert!(loader.load_adapter(folder.path()).is_err());
        lora(&["q_proj"], 0).save(folder.path(), None).expect("saves");
        let weights = folder.path().join(crate::files::ADAPTER_WEIGHTS);
        fs_err::write(&weights, b"broken").expect("writes");
        let error = loader.load_adapter(folder.path()).expect_err("broken").to_string();
        assert!(error.contains("adapter_model.safetensors"), "{error}");
    }
}
