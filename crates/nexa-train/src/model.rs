//! What is trained: all weights of a model, or adapters over frozen ones.

use std::path::Path;
use std::sync::OnceLock;

use nexa_core::files;
use nexa_model::{
    ADAPTER_FOLDER, Base, Buffer, ChatTokenizer, Checkpoint, Decoder, Lora, Parameter, Weights,
};

use crate::placement::Placement;
use crate::{Config, Error, Inputs};

/// A model in training.
#[derive(Debug)]
pub(crate) struct Model {
    weights: Weights,
    lora: Option<Lora>,
    /// The model that it goes on from.
    base: Option<Base>,
    placement: Placement,
    /// The decoder without adapters, where its weights are frozen: they go to the device once.
    frozen: OnceLock<Decoder>,
}

impl Model {
    /// Takes weights, and freezes them below adapters where the configuration asks for some.
    ///
    /// # Errors
    /// Names the key of the adapters that makes no sense.
    pub(crate) fn new(config: &Config, weights: Weights, placement: Placement) -> Result<Self, Error> {
        let lora = config.lora().map(|lora| Lora::new(lora, weights.config(), config.seed)).transpose()?;
        Ok(Self { weights, lora, base: None, placement, frozen: OnceLock::new() })
    }

    /// Says which model the weights are those of, where they are not drawn at random: it is named beside the adapters,
    /// and how its answers are sampled is kept.
    ///
    /// # Errors
    /// Names the file of the model that cannot be read.
    pub(crate) fn over(self, inputs: &Inputs) -> Result<Self, Error> {
        let base = inputs.base.as_deref().map(Base::of).transpose()?;
        let base = base.map(|base| match &inputs.base_name {
            Some(name) => base.named(name.clone()),
            None => base,
        });
        Ok(Self { base, ..self })
    }

    /// Where it is computed.
    pub(crate) fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The weights, without the adapters.
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Whether the weights themselves are trained.
    pub(crate) fn trains_weights(&self) -> bool {
        self.lora.is_none()
    }

    /// Lists what is trained, in the order of the values and gradients.
    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        self.lora.as_ref().map_or_else(|| self.weights.layout().to_vec(), Lora::layout)
    }

    /// The numbers of what is trained.
    pub(crate) fn values(&self) -> &[Buffer] {
        self.lora.as_ref().map_or_else(|| self.weights.values(), Lora::values)
    }

    /// The numbers of what is trained, to be changed.
    pub(crate) fn values_mut(&mut self) -> &mut [Buffer] {
        match &mut self.lora {
            Some(lora) => lora.values_mut(),
            None => self.weights.values_mut(),
        }
    }

    /// Counts the numbers that are trained.
    pub(crate) fn trained_count(&self) -> usize {
        self.values().iter().map(|values| values.len()).sum()
    }

    /// Makes a decoder. On the CPU it shares the numbers; while it is there, changing them copies them.
    pub(crate) fn decoder(&self, config: &Config) -> Decoder {
        let place = || self.placement.decoder(&self.weights);
        let decoder = match &self.lora {
            Some(lora) => self.frozen.get_or_init(place).clone().with_adapters(lora),
            None => place(),
        };
        decoder.recompute_blocks(config.gradient_checkpointing)
    }

    /// Writes the model to a folder: whole, with its adapters merged, and the adapters by themselves beside it.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub(crate) fn save(&self, folder: &Path, tokenizer: &ChatTokenizer) -> Result<(), Error> {
        let save = |weights: &Weights| match &self.base {
            Some(base) => Checkpoint::save_over(base, folder, weights, tokenizer),
            None => Checkpoint::save(folder, weights, tokenizer),
        };
        let Some(lora) = &self.lora else {
            return Ok(save(&self.weights)?);
        };
        let mut merged = self.weights.clone();
        lora.merge(&mut merged);
        save(&merged)?;
        let adapter = folder.join(ADAPTER_FOLDER);
        files::create_folder(&adapter)?;
        Ok(lora.save(&adapter, self.base.as_ref())?)
    }
}
