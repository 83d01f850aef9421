//! Weight files: one `model.safetensors`, or shards with an index that says which tensor stands in which.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use nexa_core::Error as CoreError;
use nexa_core::files::{sync_folder, write_json};
use rayon::prelude::*;
use safetensors::View;
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::number::{Format, to_bytes};
use super::{Parameter, Weights, layout};
use crate::{Buffer, DecoderConfig, Error};

/// The file of a model that is not split.
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";
/// The file that says which shard holds a tensor.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The index of a sharded model.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    #[serde(default)]
    metadata: IndexMetadata,
    weight_map: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct IndexMetadata {
    #[serde(default)]
    total_size: u64,
}

/// Reads the weights of a folder, and their hash as `blake3:<hex>`: that of the file, or that of the shards' hashes
/// in the order of their names.
///
/// # Errors
/// Names the file, and the first tensor that is missing, unexpected, or has another shape or format.
pub(crate) fn load(folder: &Path, config: &DecoderConfig) -> Result<(Weights, String), Error> {
    let index_path = folder.join(INDEX_FILE);
    // `transformers` prefers the single file, too.
    let index = if !folder.join(WEIGHTS_FILE).exists() && index_path.exists() {
        Some(read_index(&index_path)?)
    } else {
        None
    };
    let names: BTreeSet<&str> = match &index {
        None => [WEIGHTS_FILE].into(),
        Some(index) => index.weight_map.values().map(String::as_str).collect(),
    };
    let files =
        names.iter().map(|name| MappedFile::open(&folder.join(name))).collect::<Result<Vec<_>, _>>()?;
    let shards = files.iter().map(Shard::parse).collect::<Result<Vec<_>, _>>()?;
    let shard_of = |tensor: &str| match &index {
        None => shards.first(),
        Some(index) => {
            let file = index.weight_map.get(tensor)?;
            names.iter().position(|name| name == file).and_then(|place| shards.get(place))
        }
    };
    let absent = if index.is_some() { index_path } else { folder.join(WEIGHTS_FILE) };
    let layout = layout(config);
    // Some tools write the output layer although it is the embedding, and old ones the rotary frequencies.
    let redundant = |name: &str| {
        config.tie_word_embeddings && name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq")
    };
    refuse_unexpected(&layout, &shards, redundant)?;
    let values = read(&layout, shard_of, &absent)?;
    let weights = Weights::from_values(config, values);

    let hashes: Vec<blake3::Hash> = files.par_iter().map(MappedFile::hash).collect();
    let hash = match hashes.as_slice() {
        [one] => *one,
        many => {
            let mut hasher = blake3::Hasher::new();
            many.iter().for_each(|hash| {
                hasher.update(hash.as_bytes());
            });
            hasher.finalize()
        }
    };
    Ok((weights, format!("blake3:{}", hash.to_hex())))
}

/// Reads the parameters of a list from one file, which holds nothing else.
///
/// # Errors
/// Names the first tensor that is missing, unexpected, or has another shape or format.
pub(crate) fn read_file(path: &Path, layout: &[Parameter]) -> Result<Vec<Vec<f32>>, Error> {
    let file = MappedFile::open(path)?;
    let shard = Shard::parse(&file)?;
    refuse_unexpected(layout, std::slice::from_ref(&shard), |_| false)?;
    read(layout, |_| Some(&shard), path)
}

/// Writes the parameters of a list to one file, in f32.
///
/// # Errors
/// Fails when the file cannot be written.
pub(crate) fn write_file(path: &Path, layout: &[Parameter], values: &[Buffer]) -> Result<(), Error> {
    write_shard(path, &tensors(layout, values).collect::<Vec<_>>())
}

/// Reads which shards an index names.
///
/// # Errors
/// Fails where the index is malformed or names anything but files beside it.
pub(crate) fn shard_names(index: &Path) -> Result<BTreeSet<String>, Error> {
    Ok(read_index(index)?.weight_map.into_values().collect())
}

/// Reads an index, whose entries must be names of files beside it.
fn read_index(path: &Path) -> Result<Index, Error> {
    let text = fs_err::read_to_string(path)?;
    let index: Index =
        serde_json::from_str(&text).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    for file in index.weight_map.values() {
        if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
            return Err(CoreError::malformed(path, format!("`{file}` is no name of a file")).into());
        }
    }
    Ok(index)
}

/// A file in memory that the system reads as it is needed.
struct MappedFile {
    path: PathBuf,
    bytes: Mmap,
}

impl MappedFile {
    fn open(path: &Path) -> Result<Self, Error> {
        let file = fs_err::File::open(path)?;
        #[expect(
            unsafe_code,
            reason = "mapping a file is unsafe, as another process may change it meanwhile"
        )]
        // SAFETY: the map is read as bytes, of which every pattern is valid, and only until the weights are copied
        // out of it. Whoever changes a weight file while it is read gets the numbers that they wrote; whoever cuts it
        // off ends this process, not its memory safety.
        let bytes = unsafe { Mmap::map(file.file()) }?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(&self.bytes);
        hasher.finalize()
    }
}

/// A weight file whose header was read.
struct Shard<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl<'a> Shard<'a> {
    fn parse(file: &'a MappedFile) -> Result<Self, Error> {
        let tensors = SafeTensors::deserialize(&file.bytes)
            .map_err(|source| Error::Safetensors { path: file.path.clone(), source })?;
        Ok(Self { path: &file.path, tensors })
    }

    /// Finds a tensor and checks its shape and format.
    fn tensor(&self, name: &str, expected: Vec<usize>) -> Result<(Format, &'a [u8]), Error> {
        let (path, name) = (self.path.to_owned(), name.to_owned());
        let Ok(tensor) = self.tensors.tensor(&name) else {
            return Err(Error::MissingTensor { path, name });
        };
        if tensor.shape() != expected {
            return Err(Error::TensorShape { path, name, found: tensor.shape().to_vec(), expected });
        }
        let Some(format) = Format::of(tensor.dtype()) else {
            return Err(Error::TensorFormat { path, name, found: format!("{:?}", tensor.dtype()) });
        };
        Ok((format, tensor.data()))
    }
}

/// Copies the numbers out of the shards; `absent` is the file to blame for a tensor that no shard has.
fn read<'s, 'a: 's>(
    layout: &[Parameter],
    shard_of: impl Fn(&str) -> Option<&'s Shard<'a>>,
    absent: &Path,
) -> Result<Vec<Vec<f32>>, Error> {
    let mut sources = Vec::with_capacity(layout.len());
    for parameter in layout {
        let mut parts = Vec::with_capacity(parameter.parts.len());
        for (name, rows) in &parameter.parts {
            let shard = shard_of(name)
                .ok_or_else(|| Error::MissingTensor { path: absent.to_owned(), name: name.clone() })?;
            parts.push(shard.tensor(name, parameter.file_shape(*rows))?);
        }
        sources.push((parameter.shape[0] * parameter.shape[1], parts));
    }
    let values = sources.into_par_iter().map(|(count, parts)| {
        let mut values = Vec::with_capacity(count);
        for (format, bytes) in parts {
            format.append(bytes, &mut values);
        }
        values
    });
    Ok(values.collect())
}

fn refuse_unexpected(
    layout: &[Parameter],
    shards: &[Shard<'_>],
    redundant: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let parts = layout.iter().flat_map(|parameter| &parameter.parts);
    let known: BTreeSet<&str> = parts.map(|(name, _)| name.as_str()).collect();
    for shard in shards {
        let mut names = shard.tensors.names();
        names.sort_unstable();
        if let Some(name) = names.into_iter().find(|name| !known.contains(name) && !redundant(name)) {
            return Err(Error::UnexpectedTensor { path: shard.path.to_owned(), name: name.to_owned() });
        }
    }
    Ok(())
}

/// A tensor of a file that is to be written.
struct Tensor<'a> {
    name: &'a str,
    shape: Vec<usize>,
    values: &'a [f32],
}

/// Writes weights to a folder in f32: as one file where they fit into `shard_bytes`, else as shards of at most so many
/// bytes of numbers (a larger tensor has a shard of its own) and an index. What the folder held in the other form is
/// removed at the end, so that a reader never finds both.
///
/// # Errors
/// Fails when a file cannot be written.
pub(crate) fn save(folder: &Path, weights: &Weights, shard_bytes: u64) -> Result<(), Error> {
    let mut shards: Vec<Vec<Tensor<'_>>> = Vec::new();
    let mut room = 0;
    for tensor in tensors(&weights.layout, &weights.values) {
        let size = size_of_val(tensor.values) as u64;
        match shards.last_mut() {
            Some(shard) if size <= room => shard.push(tensor),
            _ => {
                room = shard_bytes;
                shards.push(vec![tensor]);
            }
        }
        room = room.saturating_sub(size);
    }
    let (single, index_path) = (folder.join(WEIGHTS_FILE), folder.join(INDEX_FILE));
    if let [all] = shards.as_slice() {
        write_shard(&single, all)?;
        return remove(&index_path);
    }
    let total_size = size_of::<f32>() as u64 * weights.count() as u64;
    let mut index = Index { metadata: IndexMetadata { total_size }, weight_map: BTreeMap::new() };
    for (number, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        write_shard(&folder.join(&name), shard)?;
        index.weight_map.extend(shard.iter().map(|tensor| (tensor.name.to_owned(), name.clone())));
    }
    write_json(&index_path, &index)?;
    remove(&single)
}

/// Lists the tensors of files in the order of the layout.
fn tensors<'a>(layout: &'a [Parameter], values: &'a [Buffer]) -> impl Iterator<Item = Tensor<'a>> {
    layout.iter().zip(values).flat_map(|(parameter, values)| {
        let mut rest: &[f32] = values;
        parameter.parts.iter().map(move |(name, rows)| {
            let (values, tail) = rest.split_at(rows * parameter.shape[1]);
            rest = tail;
            Tensor { name, shape: parameter.file_shape(*rows), values }
        })
    })
}

/// Writes a file under a temporary name and gives it its own once it is durable. One tensor at a time exists as bytes.
fn write_shard(path: &Path, tensors: &[Tensor<'_>]) -> Result<(), Error> {
    // `transformers` refuses a file that does not say which framework's conventions it follows.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let views = tensors.iter().map(|tensor| (tensor.name, tensor.shape.clone(), tensor.values));
    write_tensors(path, views, metadata)
}

/// Writes a safetensors file in f32, one tensor after the other, under a temporary name; makes it durable and gives it
/// its name.
///
/// # Errors
/// Fails when the file cannot be written.
pub fn write_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, Vec<usize>, &'a [f32])>,
    metadata: HashMap<String, String>,
) -> Result<(), Error> {
    let views = tensors.into_iter().map(|(name, shape, values)| (name, Numbers { shape, values }));
    let temporary = path.with_extension("tmp");
    safetensors::serialize_to_file(views, Some(metadata), &temporary)
        .map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
    fs_err::File::open(&temporary)?.sync_all()?;
    fs_err::rename(&temporary, path)?;
    Ok(sync_folder(path.parent().unwrap_or(Path::new(".")))?)
}

/// Numbers that are turned into bytes when they are written.
struct Numbers<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
}

impl View for Numbers<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(to_bytes(self.values))
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{families, small};
    use crate::weights::tests::scattered;

    /// More than any test model has.
    const UNSPLIT: u64 = 1 << 30;

    #[test]
    fn files_hold_the_same_numbers_whole_or_split() {
        let folder = tempfile::tempdir().expect("a folder");
        for config in families() {
            let weights = scattered(&config);
            for (shard_bytes, files) in [(UNSPLIT, 1), (8000, 4), (1, usize::MAX), (UNSPLIT, 1)] {
                save(folder.path(), &weights, shard_bytes).expect("writes");
                let (read, hash) = load(folder.path(), &config).expect("reads");
                assert_eq!((read == weights, hash.len()), (true, "blake3:".len() + 64));
                assert_eq!(folder.path().join(WEIGHTS_FILE).exists(), files == 1);
                assert_eq!(folder.path().join(INDEX_FILE).exists(), files != 1);
            }
        }
    }

    #[test]
    fn a_tensor_has_the_name_and_shape_of_hugging_face() {
        let folder = tempfile::tempdir().expect("a folder");
        let qwen2 = &families()[3];
        save(folder.path(), &scattered(qwen2), 1).expect("writes");
        let text = std::fs::read_to_string(folder.path().join(INDEX_FILE)).expect("an index");
        let index: Index = serde_json::from_str(&text).expect("valid");
        assert_eq!(index.weight_map.len(), 2 + 2 * (9 + 3));
        let shard = &index.weight_map["model.layers.1.self_attn.k_proj.bias"];
        let bytes = std::fs::read(folder.path().join(shard)).expect("a shard");
        let tensors = SafeTensors::deserialize(&bytes).expect("valid");
        assert_eq!(tensors.tensor("model.layers.1.self_attn.k_proj.bias").expect("is there").shape(), [12]);
    }

    #[test]
    fn a_wrong_file_is_an_error_that_names_the_tensor() {
        let check = |shard_bytes: u64, written: DecoderConfig, read: DecoderConfig, expected: &str| {
            let folder = tempfile::tempdir().expect("a folder");
            save(folder.path(), &scattered(&written), shard_bytes).expect("writes");
            let error = load(folder.path(), &read).expect_err(expected).to_string();
            assert_eq!(error, format!("{}/{expected}", folder.path().display()));
        };
        let untied = DecoderConfig { tie_word_embeddings: false, ..small() };
        check(UNSPLIT, small(), untied.clone(), "model.safetensors: tensor `lm_head.weight` is missing");
        let index = "model.safetensors.index.json: tensor `lm_head.weight` is missing";
        check(8000, small(), untied, index);
        let deeper = DecoderConfig { num_hidden_layers: 3, ..small() };
        let name = "model.layers.2.input_layernorm.weight";
        let unexpected = format!("model.safetensors: unexpected tensor `{name}`");
        check(UNSPLIT, deeper.clone(), small(), &unexpected);
        let unexpected = format!("model-00003-of-00004.safetensors: unexpected tensor `{name}`");
        check(16_000, deeper.clone(), small(), &unexpected);
        check(UNSPLIT, small(), deeper, &format!("model.safetensors: tensor `{name}` is missing"));
        let wider = DecoderConfig { intermediate_size: 48, ..small() };
        let shape =
            "tensor `model.layers.0.mlp.gate_proj.weight` has shape [40, 24], the config asks for [48, 24]";
        check(UNSPLIT, small(), wider, &format!("model.safetensors: {shape}"));
    }

    #[test]
    fn a_shard_is_a_file_beside_its_index() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |file: &str, expected: &str| {
            let index = serde_json::json!({ "weight_map": { "model.norm.weight": file } });
            std::fs::write(folder.path().join(INDEX_FILE), index.to_string()).expect("writes");
            let error = load(folder.path(), &small()).expect_err(file).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("../model.safetensors", "`../model.safetensors` is no name of a file");
        check("absent.safetensors", "absent.safetensors");
    }
}
