//! Whole models in weight files: read, checked, written whole or split, and copied.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use nexa_core::files::{remove, write_json};
use safetensors::tensor::Dtype;

use super::index::{Index, IndexMetadata};
use super::number::to_bytes;
use super::sink::{Planned, Sink};
use super::{Parameter, Source, Weights, layout};
use crate::files::{WEIGHTS, WEIGHTS_INDEX};
use crate::{Buffer, DecoderConfig, Error};

/// Bytes of a weight file above which a model is split: what `transformers` does.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// Hashes the weight files of a model's folder as `blake3:<hex>`: the one file, or the hashes of several in the order of
/// their names. It is the hash that a loaded [`crate::Checkpoint`] has.
///
/// # Errors
/// Names the file that is missing or malformed.
pub fn weights_hash(folder: &Path) -> Result<String, Error> {
    Ok(Source::open(folder)?.hash())
}

/// Opens the weights of a model's folder, and sees by their headers that they are those that the config asks for.
///
/// # Errors
/// Names the file, and the first tensor that is missing, unexpected, or has another shape or format.
pub(crate) fn open(folder: &Path, config: &DecoderConfig) -> Result<Source, Error> {
    let source = Source::open(folder)?;
    // Some tools write the output layer although it is the embedding, and old ones the rotary frequencies.
    source.check(&layout(config), |name| {
        config.tie_word_embeddings && name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq")
    })?;
    Ok(source)
}

/// Reads the weights of a model that was opened with [`open`].
///
/// # Errors
/// Names the first tensor that cannot be read.
pub(crate) fn load(source: &Source, config: &DecoderConfig) -> Result<Weights, Error> {
    Ok(Weights::from_values(config, source.read(&layout(config))?))
}

/// Reads the parameters of a list from one file, which holds nothing else.
///
/// # Errors
/// Names the first tensor that is missing, unexpected, or has another shape or format.
pub(crate) fn read_file(path: &Path, layout: &[Parameter]) -> Result<Vec<Vec<f32>>, Error> {
    let source = Source::open_file(path)?;
    source.check(layout, |_| false)?;
    source.read(layout)
}

/// Writes the parameters of a list to one file, in f32.
///
/// # Errors
/// Fails when the file cannot be written.
pub(crate) fn write_file(path: &Path, layout: &[Parameter], values: &[Buffer]) -> Result<(), Error> {
    let numbers: HashMap<&str, &[f32]> =
        parts(layout, values).map(|(name, _, numbers)| (name, numbers)).collect();
    write_shard(path, planned(layout, values), &|name| Ok(Cow::Owned(to_bytes(numbers[name]))))
}

/// Writes weights to a folder in f32, as [`write`] does.
///
/// # Errors
/// Fails when a file cannot be written.
pub(crate) fn save(folder: &Path, weights: &Weights, shard_bytes: u64) -> Result<(), Error> {
    let (layout, values) = (&weights.layout, &weights.values);
    let numbers: HashMap<&str, &[f32]> =
        parts(layout, values).map(|(name, _, numbers)| (name, numbers)).collect();
    write(folder, planned(layout, values), shard_bytes, &|name| Ok(Cow::Owned(to_bytes(numbers[name]))))
}

/// Writes the tensors of other files to a folder, each in its own format, as [`write`] does; returns how many numbers
/// there are.
///
/// # Errors
/// Fails when a file cannot be read or written.
pub(crate) fn copy(source: &Source, folder: &Path, shard_bytes: u64) -> Result<u64, Error> {
    let planned: Vec<Planned> = source
        .tensors()
        .map(|(name, info)| Planned { name: name.to_owned(), dtype: info.dtype, shape: info.shape.clone() })
        .collect();
    let count = planned.iter().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum();
    write(folder, planned, shard_bytes, &|name| Ok(Cow::Borrowed(source.bytes(name)?)))?;
    Ok(count)
}

/// The bytes of a tensor, by its name.
type Bytes<'a> = dyn Fn(&str) -> Result<Cow<'a, [u8]>, Error> + 'a;

/// Writes tensors to a folder: as one file where they fit into `shard_bytes`, else as shards of at most so many bytes of
/// numbers (a larger tensor has a shard of its own) and an index. What the folder held in the other form is removed at
/// the end, so that a reader never finds both.
fn write(folder: &Path, tensors: Vec<Planned>, shard_bytes: u64, bytes: &Bytes<'_>) -> Result<(), Error> {
    let total_size = tensors.iter().map(|tensor| tensor.size_bytes() as u64).sum();
    let mut shards: Vec<Vec<Planned>> = Vec::new();
    let mut room = 0;
    for tensor in tensors {
        let size = tensor.size_bytes() as u64;
        match shards.last_mut() {
            Some(shard) if size <= room => shard.push(tensor),
            _ => {
                room = shard_bytes;
                shards.push(vec![tensor]);
            }
        }
        room = room.saturating_sub(size);
    }
    let (single, index_path) = (folder.join(WEIGHTS), folder.join(WEIGHTS_INDEX));
    if shards.len() < 2 {
        write_shard(&single, shards.pop().unwrap_or_default(), bytes)?;
        return Ok(remove(&index_path)?);
    }
    let mut index = Index { metadata: IndexMetadata { total_size }, ..Index::default() };
    let count = shards.len();
    for (position, shard) in shards.into_iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", position + 1);
        index.weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), name.clone())));
        write_shard(&folder.join(&name), shard, bytes)?;
    }
    write_json(&index_path, &index)?;
    Ok(remove(&single)?)
}

/// Writes one file. One tensor at a time exists as bytes.
fn write_shard(path: &Path, mut tensors: Vec<Planned>, bytes: &Bytes<'_>) -> Result<(), Error> {
    Planned::order(&mut tensors);
    let mut sink = Sink::create(path, &tensors)?;
    for tensor in &tensors {
        sink.write(&bytes(&tensor.name)?)?;
    }
    sink.finish()
}

/// Lists the tensors of files in the order of the layout: names, shapes and numbers.
fn parts<'a>(
    layout: &'a [Parameter],
    values: &'a [Buffer],
) -> impl Iterator<Item = (&'a str, Vec<usize>, &'a [f32])> {
    layout.iter().zip(values).flat_map(|(parameter, values)| {
        let mut rest: &[f32] = values;
        parameter.parts.iter().map(move |(name, rows)| {
            let (values, tail) = rest.split_at(rows * parameter.shape[1]);
            rest = tail;
            (name.as_str(), parameter.file_shape(*rows), values)
        })
    })
}

/// The tensors of a list as they are written.
fn planned(layout: &[Parameter], values: &[Buffer]) -> Vec<Planned> {
    let planned =
        |(name, shape, _): (&str, _, _)| Planned { name: name.to_owned(), dtype: Dtype::F32, shape };
    parts(layout, values).map(planned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{families, small};
    use crate::weights::tests::scattered;

    /// More than any test model has.
    const UNSPLIT: u64 = 1 << 30;

    fn read(folder: &Path, config: &DecoderConfig) -> Result<Weights, Error> {
        load(&open(folder, config)?, config)
    }

    #[test]
    fn files_hold_the_same_numbers_whole_or_split() {
        let folder = tempfile::tempdir().expect("a folder");
        for config in families() {
            let weights = scattered(&config);
            for (shard_bytes, files) in [(UNSPLIT, 1), (8000, 4), (1, usize::MAX), (UNSPLIT, 1)] {
                save(folder.path(), &weights, shard_bytes).expect("writes");
                assert!(read(folder.path(), &config).expect("reads") == weights);
                let hash = weights_hash(folder.path()).expect("reads");
                assert_eq!(hash.len(), "blake3:".len() + 64);
                assert_eq!(folder.path().join(WEIGHTS).exists(), files == 1);
                assert_eq!(folder.path().join(WEIGHTS_INDEX).exists(), files != 1);
            }
        }
    }

    #[test]
    fn a_tensor_has_the_name_and_shape_of_hugging_face() {
        let folder = tempfile::tempdir().expect("a folder");
        let qwen2 = &families()[3];
        save(folder.path(), &scattered(qwen2), 1).expect("writes");
        let text = std::fs::read_to_string(folder.path().join(WEIGHTS_INDEX)).expect("an index");
        let index: Index = serde_json::from_str(&text).expect("valid");
        assert_eq!(index.weight_map.len(), 2 + 2 * (9 + 3));
        let shard = &index.weight_map["model.layers.1.self_attn.k_proj.bias"];
        let bytes = std::fs::read(folder.path().join(shard)).expect("a shard");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        assert_eq!(tensors.tensor("model.layers.1.self_attn.k_proj.bias").expect("is there").shape(), [12]);
    }

    #[test]
    fn a_wrong_file_is_an_error_that_names_the_tensor() {
        let refused = |shard_bytes: u64, written: DecoderConfig, wanted: DecoderConfig, expected: &str| {
            let folder = tempfile::tempdir().expect("a folder");
            save(folder.path(), &scattered(&written), shard_bytes).expect("writes");
            let error = read(folder.path(), &wanted).expect_err(expected).to_string();
            assert_eq!(error, format!("{}/{expected}", folder.path().display()));
        };
        let untied = DecoderConfig { tie_word_embeddings: false, ..small() };
        refused(UNSPLIT, small(), untied.clone(), "model.safetensors: tensor `lm_head.weight` is missing");
        let index = "model.safetensors.index.json: tensor `lm_head.weight` is missing";
        refused(8000, small(), untied, index);
        let deeper = DecoderConfig { num_hidden_layers: 3, ..small() };
        let name = "model.layers.2.input_layernorm.weight";
        let unexpected = format!("model.safetensors: unexpected tensor `{name}`");
        refused(UNSPLIT, deeper.clone(), small(), &unexpected);
        let unexpected = format!("model-00003-of-00004.safetensors: unexpected tensor `{name}`");
        refused(16_000, deeper.clone(), small(), &unexpected);
        refused(UNSPLIT, small(), deeper, &format!("model.safetensors: tensor `{name}` is missing"));
        let wider = DecoderConfig { intermediate_size: 48, ..small() };
        let shape =
            "tensor `model.layers.0.mlp.gate_proj.weight` has shape [40, 24], the config asks for [48, 24]";
        refused(UNSPLIT, small(), wider, &format!("model.safetensors: {shape}"));
    }

    #[test]
    fn copied_tensors_are_the_same_whole_or_split() {
        let folder = tempfile::tempdir().expect("a folder");
        let [first, split, whole] = ["first", "split", "whole"].map(|name| folder.path().join(name));
        let weights = scattered(&small());
        save(&first, &weights, UNSPLIT).expect("writes");
        let count = copy(&Source::open(&first).expect("opens"), &split, 8000).expect("copies");
        assert_eq!(count, weights.count() as u64);
        assert!(split.join(WEIGHTS_INDEX).exists() && !split.join(WEIGHTS).exists());
        copy(&Source::open(&split).expect("opens"), &whole, UNSPLIT).expect("copies");
        let hash = |folder: &Path| weights_hash(folder).expect("reads");
        assert_eq!(hash(&first), hash(&whole));
        assert_ne!(hash(&first), hash(&split));
    }

    #[test]
    fn a_shard_is_a_file_beside_its_index() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |file: &str, expected: &str| {
            let index = serde_json::json!({ "weight_map": { "model.norm.weight": file } });
            std::fs::write(folder.path().join(WEIGHTS_INDEX), index.to_string()).expect("writes");
            let error = read(folder.path(), &small()).expect_err(file).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("../model.safetensors", "`../model.safetensors` is no name of a file");
        check("absent.safetensors", "absent.safetensors");
    }
}
