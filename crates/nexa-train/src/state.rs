//! Everything that a run needs to go on after a kill, in one file that is replaced atomically.

use std::collections::HashMap;
use std::path::Path;

use nexa_core::files::write_atomic;
use nexa_model::{DecoderConfig, Weights};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::optimizer::Moments;

/// The key of the file's metadata under which [`Progress`] stands.
const PROGRESS_KEY: &str = "progress";

/// A run between two steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    /// The weights.
    pub(crate) weights: Weights,
    /// The optimizer's moments.
    pub(crate) moments: Moments,
    /// Counters and sums.
    pub(crate) progress: Progress,
}

/// The part of a state that is no tensor. Floats are written so that they are read back to the same bits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Says to which config and data the state belongs.
    pub(crate) fingerprint: String,
    /// Steps done.
    pub(crate) step: u64,
    /// Tokens seen.
    pub(crate) tokens: u64,
    /// Tokens seen that carry loss.
    pub(crate) trained_tokens: u64,
    /// Mean loss of the first step.
    pub(crate) first_loss: Option<f64>,
    /// Mean loss of the last step.
    pub(crate) last_loss: Option<f64>,
    /// Loss of the last validation and the step it was made after.
    pub(crate) validation: Option<(u64, f64)>,
    /// Summed loss since the last row of metrics.
    pub(crate) logged_loss: f64,
    /// Trained tokens since the last row of metrics.
    pub(crate) logged_tokens: u64,
    /// Length of `metrics.jsonl`.
    pub(crate) metrics_bytes: u64,
    /// Length of `timing.jsonl`.
    pub(crate) timing_bytes: u64,
    /// Seconds of training.
    pub(crate) seconds: f64,
}

impl State {
    /// Writes the state under a temporary name, makes it durable and puts it in place of the old one.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        let failed = |problem: String| Error::State { path: path.to_owned(), problem };
        let groups = [
            ("weight", self.weights.values()),
            ("first", &self.moments.first),
            ("second", &self.moments.second),
        ];
        let bytes: Vec<(String, Vec<u8>)> = groups
            .iter()
            .flat_map(|(group, values)| {
                values.iter().enumerate().map(move |(index, v)| (name(group, index), to_bytes(v)))
            })
            .collect();
        let views = bytes
            .iter()
            .map(|(name, bytes)| Ok((name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|error| failed(error.to_string()))?;
        let progress = serde_json::to_string(&self.progress).map_err(|error| failed(error.to_string()))?;
        let metadata = HashMap::from([(PROGRESS_KEY.to_owned(), progress)]);
        let file_bytes =
            safetensors::serialize(views, Some(metadata)).map_err(|error| failed(error.to_string()))?;

        write_atomic(path, &file_bytes)?;
        Ok(())
    }

    /// Reads a state; `None` where there is none yet.
    pub(crate) fn load(
        path: &Path,
        config: &DecoderConfig,
        fingerprint: &str,
    ) -> Result<Option<Self>, Error> {
        if !path.exists() {
            return Ok(None);
        }
        let failed = |problem: String| Error::State { path: path.to_owned(), problem };
        let bytes = fs_err::read(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| failed(error.to_string()))?;
        let progress = header.metadata().as_ref().and_then(|metadata| metadata.get(PROGRESS_KEY));
        let progress = progress.ok_or_else(|| failed(format!("has no `{PROGRESS_KEY}`")))?;
        let progress: Progress = serde_json::from_str(progress).map_err(|error| failed(error.to_string()))?;
        if progress.fingerprint != fingerprint {
            return Err(Error::OtherRun { path: path.to_owned() });
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|error| failed(error.to_string()))?;
        let layout = nexa_model::layout(config);
        let read = |group: &str| {
            let tensors = layout.iter().enumerate().map(|(index, parameter)| {
                let name = name(group, index);
                let tensor = file.tensor(&name).map_err(|error| failed(format!("`{name}`: {error}")))?;
                let values: Vec<f32> =
                    tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
                let expected = parameter.shape[0] * parameter.shape[1];
                if values.len() == expected {
                    Ok(values)
                } else {
                    Err(failed(format!("`{name}` has {} numbers, not {expected}", values.len())))
                }
            });
            tensors.collect::<Result<Vec<_>, Error>>()
        };
        let weights = Weights::from_values(config, read("weight")?);
        let moments = Moments { first: read("first")?, second: read("second")? };
        Ok(Some(Self { weights, moments, progress }))
    }
}

fn name(group: &str, index: usize) -> String {
    format!("{group}.{index:04}")
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
