//! The stage `model.import`: a model from elsewhere becomes a checkpoint of the lab.
//!
//! A GGUF file is translated by [`crate::gguf`]. A folder of Hugging Face is taken as it is, except that weights in
//! several files become one. A repository of the hub becomes such a folder first, in the lab's cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexa_core::artifact::Kind;
use nexa_core::env::Environment;
use nexa_core::event::Event;
use nexa_core::lab::Lab;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::{Error as CoreError, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::gguf::safetensors::{INDEX_FILE, Planned, Sink, Source, WEIGHTS_FILE, weight_files};
use crate::{gguf, hub};

const NAME: &str = "model.import";
/// Where repositories of the hub are kept in the lab's folder of state.
const CACHE_FOLDER: &str = "cache/hub";
/// What a folder must have besides its weights.
const REQUIRED: &[&str] = &["config.json", "tokenizer.json", "tokenizer_config.json"];
/// What is taken along where it is there.
const OPTIONAL: &[&str] = &["generation_config.json", "chat_template.jinja", "special_tokens_map.json"];

/// What is imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportConfig {
    /// A `.gguf` file, a folder of Hugging Face, or a repository of the hub: `hf:organisation/name`, perhaps with
    /// `@revision`. A relative path starts at the lab's root.
    pub source: String,
}

/// Makes a checkpoint of a model from outside the lab.
#[derive(Debug, Clone)]
pub struct ImportModel {
    config: ImportConfig,
    source: PathBuf,
    files: Vec<PathBuf>,
}

impl ImportModel {
    /// Finds the files of the source. A repository of the hub is fetched here, where the cache does not hold it:
    /// whether it has been imported is told by its content.
    ///
    /// # Errors
    /// Names the path, the repository or the file of the folder that is missing.
    pub fn new(lab: &Lab, environment: &Environment, config: ImportConfig) -> Result<Self, StageError> {
        let is_repository = hub::is_repository(&config.source);
        let source = if is_repository {
            hub::resolve(&config.source, environment, &lab.state_folder().join(CACHE_FOLDER))?
        } else {
            lab.root().join(&config.source)
        };
        let files = if source.is_dir() { folder_files(&source)? } else { vec![source.clone()] };
        if let Some(missing) = files.iter().find(|file| !file.is_file()) {
            let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(CoreError::io("read", missing, cause).into());
        }
        // What lies in the lab is named from its root, and a repository by its name, so that the key is the same
        // wherever the lab and the cache stand.
        let config = if is_repository { config } else { ImportConfig { source: lab.display_path(&source) } };
        Ok(Self { config, source, files })
    }

    fn import_folder(&self, context: &Context<'_>) -> Result<(), StageError> {
        for file in &self.files {
            let name = file.file_name().unwrap_or_default();
            if REQUIRED.iter().chain(OPTIONAL).any(|known| *known == name) {
                let target = context.output.join(name);
                std::fs::copy(file, &target).map_err(|e| CoreError::io("copy", file, e))?;
            }
        }
        let parameters = copy_weights(&self.source, &context.output.join(WEIGHTS_FILE))?;
        context.state("format", "safetensors")?;
        context.state("parameters", parameters)?;
        Ok(())
    }

    fn import_gguf(&self, context: &Context<'_>) -> Result<(), StageError> {
        let imported = gguf::import(&self.source, context.output)?;
        let formats: Vec<String> =
            imported.formats.iter().map(|(format, count)| format!("{count} {}", format.name())).collect();
        context.emit(Event::info(format!("{} tensors: {}", imported.architecture, formats.join(", "))));
        if !imported.chat_template {
            context.emit(Event::warning(
                "the file has no chat template; the model cannot be spoken to as it is",
            ));
        }
        context.state("format", "gguf")?;
        context.state("parameters", imported.parameters)?;
        context.state("architecture", imported.architecture)?;
        let counts = imported.formats.iter().map(|(format, count)| (format.name(), count));
        context.state("formats", counts.collect::<BTreeMap<_, _>>())?;
        Ok(())
    }
}

impl Stage for ImportModel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::Checkpoint
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        serde_json::to_value(&self.config).expect("a text is JSON")
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        if self.source.is_dir() { self.import_folder(context) } else { self.import_gguf(context) }
    }
}

/// The files of a folder that make the checkpoint.
fn folder_files(folder: &Path) -> Result<Vec<PathBuf>, StageError> {
    let mut names: Vec<PathBuf> = REQUIRED.iter().map(|name| folder.join(name)).collect();
    names.extend(OPTIONAL.iter().map(|name| folder.join(name)).filter(|path| path.exists()));
    let weights = weight_files(folder)?;
    if weights != [folder.join(WEIGHTS_FILE)] {
        names.push(folder.join(INDEX_FILE));
    }
    names.extend(weights);
    Ok(names)
}

/// Writes the weights of a folder as one file, tensor by tensor, and counts them.
fn copy_weights(folder: &Path, path: &Path) -> Result<u64, StageError> {
    let source = Source::open(folder)?;
    let mut planned: Vec<Planned> = source
        .names()
        .filter_map(|name| {
            let info = source.info(name)?;
            Some(Planned { name: name.to_owned(), dtype: info.dtype, shape: info.shape.clone() })
        })
        .collect();
    Sink::order(&mut planned);
    let mut sink = Sink::create(path, &planned)?;
    for tensor in &planned {
        sink.write(&source.bytes(&tensor.name)?)?;
    }
    sink.finish()?;
    Ok(planned.iter().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum())
}

#[cfg(test)]
mod tests {
    use nexa_core::artifact::Artifact;
    use nexa_core::env::Environment;
    use nexa_core::event::{Cancel, NoEvents};
    use nexa_core::stage::{Inputs, Outcome, Request, Services, execute};
    use nexa_core::table::JsonLines;

    use super::*;
    use crate::config::tests::small;
    use crate::gguf::FileType;
    use crate::tokenizer::tests::sample;
    use crate::{Checkpoint, DecoderConfig, Weights};

    fn lab_with_model() -> (tempfile::TempDir, Lab) {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
        let config =
            DecoderConfig { vocab_size: 290, eos_token_ids: vec![2], pad_token_id: Some(0), ..small() };
        let model = folder.path().join("model");
        std::fs::create_dir_all(&model).unwrap();
        Checkpoint::save(&model, &Weights::random(&config, 5).unwrap(), &sample()).unwrap();
        gguf::export(&model, "small", &folder.path().join("model.gguf"), FileType::F16).unwrap();
        (folder, lab)
    }

    fn import(lab: &Lab, source: &str) -> Result<Outcome, StageError> {
        let offline = [("HF_HUB_OFFLINE", "1")];
        let stage = ImportModel::new(lab, &Environment::of(offline), ImportConfig { source: source.into() })?;
        let services = Services {
            lab,
            environment: &Environment::default(),
            tables: &JsonLines,
            events: &NoEvents,
            cancel: &Cancel::default(),
        };
        let project = lab.project("tutor")?;
        let request = Request { project: &project, name: "small", inputs: &Inputs::none(), force: false };
        execute(&stage, &services, &request)
    }

    fn made(outcome: Outcome) -> Artifact {
        match outcome {
            Outcome::Made(artifact) => artifact,
            Outcome::UpToDate(artifact) => panic!("{} was there already", artifact.id()),
        }
    }

    #[test]
    fn files_and_folders_become_checkpoints_once() {
        let (_folder, lab) = lab_with_model();
        for source in ["model.gguf", "model"] {
            let artifact = made(import(&lab, source).unwrap());
            artifact.verify().unwrap();
            let loaded = Checkpoint::load(&artifact.path()).unwrap();
            assert_eq!(artifact.manifest.summary["parameters"], loaded.weights.count(), "{source}");
            let again = import(&lab, source).unwrap();
            assert!(matches!(again, Outcome::UpToDate(_)), "{source}");
        }
    }

    #[test]
    fn other_content_under_the_same_path_is_imported_anew() {
        let (folder, lab) = lab_with_model();
        let first = made(import(&lab, "model.gguf").unwrap());
        let path = folder.path().join("model.gguf");
        gguf::export(&folder.path().join("model"), "renamed", &path, FileType::Q8_0).unwrap();
        let second = made(import(&lab, "model.gguf").unwrap());
        assert_ne!(first.id(), second.id());
    }

    #[test]
    fn weights_in_several_files_become_one() {
        let (folder, lab) = lab_with_model();
        let model = folder.path().join("model");
        std::fs::rename(model.join(WEIGHTS_FILE), model.join("model-1.safetensors")).unwrap();
        let index = serde_json::json!({ "weight_map": { "any": "model-1.safetensors" } });
        nexa_core::files::write_json(&model.join(INDEX_FILE), &index).unwrap();
        let artifact = made(import(&lab, "model").unwrap());
        Checkpoint::load(&artifact.path()).unwrap();
        assert!(!artifact.path().join(INDEX_FILE).exists(), "the index would lead nowhere");
    }

    #[test]
    fn what_is_missing_is_named() {
        let (folder, lab) = lab_with_model();
        let check = |source: &str, expected: &str| {
            let error = import(&lab, source).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("nowhere.gguf", "nowhere.gguf");
        std::fs::remove_file(folder.path().join("model/tokenizer.json")).unwrap();
        check("model", "tokenizer.json");
        check("hf:tiny/model", "hub: `tiny/model` is not in the cache");
    }
}
