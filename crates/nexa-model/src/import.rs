//! The stage `model.import`: a model from elsewhere becomes a checkpoint of the lab.
//!
//! A GGUF file is translated by [`crate::gguf`]. A folder of Hugging Face is taken as it is, except that weights in
//! several files become one; it is refused where its config, tokenizer and weights do not fit together, before a
//! checkpoint is made of it. A repository of the hub becomes such a folder first, in the lab's cache.

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

use crate::checkpoint::Parts;
use crate::files::{OPTIONAL, REQUIRED, WEIGHTS, WEIGHTS_INDEX};
use crate::weights::{self, weight_files};
use crate::{gguf, hub};

const NAME: &str = "model.import";
/// Where repositories of the hub are kept in the lab's folder of state.
const CACHE_FOLDER: &str = "cache/hub";

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
        let parts = Parts::open(&self.source)?;
        for file in &self.files {
            let name = file.file_name().unwrap_or_default();
            if REQUIRED.iter().chain(&OPTIONAL).any(|known| *known == name) {
                let target = context.output.join(name);
                std::fs::copy(file, &target).map_err(|e| CoreError::io("copy", file, e))?;
            }
        }
        let parameters = weights::copy(&parts.source, context.output, u64::MAX)?;
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
        2
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
    if weights != [folder.join(WEIGHTS)] {
        names.push(folder.join(WEIGHTS_INDEX));
    }
    names.extend(weights);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use nexa_core::ExitCode;
    use nexa_core::artifact::Artifact;
    use nexa_core::env::Environment;
    use nexa_core::event::{Cancel, NoEvents};
    use nexa_core::stage::{Inputs, Outcome, Request, Services, execute};
    use nexa_core::table::JsonLines;

    use safetensors::tensor::Dtype;
    use serde_json::json;

    use super::*;
    use crate::config::tests::small;
    use crate::files::CONFIG;
    use crate::gguf::FileType;
    use crate::tokenizer::tests::sample;
    use crate::weights::{Planned, Sink, Source};
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
        std::fs::rename(model.join(WEIGHTS), model.join("model-1.safetensors")).unwrap();
        let index = serde_json::json!({ "weight_map": { "any": "model-1.safetensors" } });
        nexa_core::files::write_json(&model.join(WEIGHTS_INDEX), &index).unwrap();
        let artifact = made(import(&lab, "model").unwrap());
        Checkpoint::load(&artifact.path()).unwrap();
        assert!(!artifact.path().join(WEIGHTS_INDEX).exists(), "the index would lead nowhere");
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

    #[test]
    fn a_folder_that_does_not_fit_together_makes_no_checkpoint() {
        let (folder, lab) = lab_with_model();
        let model = folder.path().join("model");
        let check = |break_it: &dyn Fn(&Path), expected: &str| {
            let broken = folder.path().join("broken");
            nexa_core::files::remove(&broken).unwrap();
            nexa_core::files::copy_tree(&model, &broken).unwrap();
            break_it(&broken);
            let error = import(&lab, "broken").expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_code(), ExitCode::Input, "{error}");
        };
        let with_key = |key: &'static str, value: Value| {
            move |broken: &Path| {
                let path = broken.join(CONFIG);
                let mut config: Value = nexa_core::files::read_json(&path).unwrap();
                config[key] = value.clone();
                nexa_core::files::write_json(&path, &config).unwrap();
            }
        };
        let bert = with_key("architectures", json!(["BertModel"]));
        check(&bert, "broken/config.json: architecture `BertModel` is not supported");
        check(
            &with_key("hidden_act", json!("gelu")),
            "broken/config.json: model config: `hidden_act` is `gelu`",
        );
        let rope = json!({ "rope_type": "foo", "factor": 2.0 });
        check(&with_key("rope_scaling", rope), "broken/config.json: model config: `rope_scaling`");
        check(&with_key("num_hidden_layers", json!(3)), "model.safetensors: tensor `model.layers.2.");
        check(
            &with_key("num_hidden_layers", json!(1)),
            "model.safetensors: unexpected tensor `model.layers.1.",
        );
        let gate =
            "tensor `model.layers.0.mlp.gate_proj.weight` has shape [40, 24], the config asks for [24, 24]";
        check(&with_key("intermediate_size", json!(24)), gate);
        check(&with_key("vocab_size", json!(3)), "broken/tokenizer.json: the tokenizer has");
        let text = |name: &'static str, text: &'static str| {
            move |broken: &Path| std::fs::write(broken.join(name), text).unwrap()
        };
        check(&text("tokenizer.json", "{\"model\": 1}"), "broken/tokenizer.json: tokenizer: ");
        check(&text("tokenizer_config.json", "{"), "broken/tokenizer_config.json: ");
        check(
            &text("generation_config.json", r#"{"eos_token_id": 9999}"#),
            "broken/generation_config.json: ",
        );
        check(&text("model.safetensors", "not weights"), "broken/model.safetensors: ");
        let integers = |broken: &Path| {
            let planned = [Planned { name: "model.norm.weight".into(), dtype: Dtype::I32, shape: vec![24] }];
            let mut sink = Sink::create(&broken.join("more.safetensors"), &planned).unwrap();
            sink.write(&[0; 96]).unwrap();
            sink.finish().unwrap();
            let source = Source::open(broken).unwrap();
            let mut rest: Vec<Planned> = source
                .tensors()
                .filter(|(name, _)| *name != "model.norm.weight")
                .map(|(name, info)| Planned {
                    name: name.into(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                })
                .collect();
            Planned::order(&mut rest);
            let mut sink = Sink::create(&broken.join("most.safetensors"), &rest).unwrap();
            rest.iter().for_each(|tensor| sink.write(source.bytes(&tensor.name).unwrap()).unwrap());
            sink.finish().unwrap();
            drop(source);
            std::fs::remove_file(broken.join(WEIGHTS)).unwrap();
            let index = json!({ "weight_map": { "a": "more.safetensors", "b": "most.safetensors" } });
            nexa_core::files::write_json(&broken.join(WEIGHTS_INDEX), &index).unwrap();
        };
        check(&integers, "more.safetensors: tensor `model.norm.weight` is I32 (readable: F32, F16, BF16)");
        let shardless = |broken: &Path| {
            std::fs::remove_file(broken.join(WEIGHTS)).unwrap();
            let index = json!({ "weight_map": { "a": "absent.safetensors" } });
            nexa_core::files::write_json(&broken.join(WEIGHTS_INDEX), &index).unwrap();
        };
        check(&shardless, "absent.safetensors");
        let store = nexa_core::artifact::Store::new(&lab);
        assert!(store.of_project("tutor").unwrap().is_empty(), "nothing was made");
    }
}
