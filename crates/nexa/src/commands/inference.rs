//! `nexa inference` (`nexa serve`): serves a checkpoint over HTTP.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::guard::Guard;
use nexa_core::{Error, ExitCode, files, lineage};
use nexa_data::guard::Rules;
use nexa_eval::evaluation::of_checkpoint;
use nexa_model::{CacheConfig, CacheNumber, Checkpoint, LocalModel, Quantisation};
use nexa_serve::{About, Engine, EngineConfig, Evaluation, Life, Loaded, ServerConfig, VllmConfig};

use crate::app::App;
use crate::args::{AccessArgs, Global, InferenceArgs, ServedModelArgs};
use crate::models;
use crate::render::{self, error::reported};

/// The config of a checkpoint, in its folder.
const CONFIG: &str = "config.json";
/// The engine that is not ours.
const VLLM: &str = "vllm";
/// The memory for keys and values where nothing is said of it, in bytes.
const KV_CACHE: u64 = 2 << 30;

/// Serves the checkpoint that was named, else the project's newest.
pub(crate) fn run(global: &Global, args: InferenceArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let found = find(&app, &args.model)?;
    let name = found.name.clone();
    let about = about(&app, &found)?;
    if args.engine == VLLM {
        return serve_vllm(&app, &args, &found, about);
    }
    if !args.vllm_args.is_empty() {
        bail!("arguments after `--` are for `--engine vllm`");
    }
    let engine = EngineConfig {
        max_batch: args.max_batch,
        max_queued: args.max_queued,
        max_queued_tokens: args.max_queued_tokens,
        prefill_chunk: args.prefill_chunk,
        guesses: args.speculate,
        ..EngineConfig::default()
    };
    engine.validate().map_err(reported)?;
    let config = ServerConfig {
        host: args.host.clone(),
        port: args.port,
        lora_folder: args.lora_folder.clone(),
        guard: args.guard.as_deref().map(guard).transpose()?,
        ..server_config(&app, &args.access)?
    };
    let lora = args.lora.iter().map(|text| adapter(&app, text)).collect::<Result<Vec<_>>>()?;
    let load = move || {
        let model = found.load(&args.model)?;
        let engine = Engine::start(Box::new(model), engine).map_err(reported)?;
        let load = |(name, path): (String, PathBuf)| match engine.load_adapter(&path) {
            Ok(adapter) => Ok((name, adapter)),
            Err(error) => Err(anyhow::anyhow!("adapter `{name}`: {error}")),
        };
        let adapters = lora.into_iter().map(load).collect::<Result<_>>()?;
        Ok::<_, Failure>(Loaded { engine, about, adapters })
    };
    nexa_serve::serve(load, &config, tell(&name), &app.cancel).map_err(|Failure(error)| error)?;
    Ok(ExitCode::Success)
}

/// Tells the user where a server stands.
fn tell(name: &str) -> impl Fn(Life) {
    move |life| match life {
        Life::Listening(address) => render::note(&format!("loading {name}, listening on {address}")),
        Life::Ready(address) => render::note(&format!("serving {name} on http://{address}  (Ctrl-C stops)")),
    }
}

/// Starts vLLM on a checkpoint, and serves what it answers.
fn serve_vllm(app: &App, args: &InferenceArgs, found: &Found, about: About) -> Result<ExitCode> {
    let usual = EngineConfig::default();
    let own = [
        ("--quantize", args.model.quantize.is_some()),
        ("--kv-cache", args.model.kv_cache.is_some()),
        ("--kv-cache-type", args.model.kv_cache_type.is_some()),
        ("--no-prefix-cache", args.model.no_prefix_cache),
        ("--prefill-chunk", args.prefill_chunk != usual.prefill_chunk),
        ("--max-queued-tokens", args.max_queued_tokens != usual.max_queued_tokens),
        ("--lora", !args.lora.is_empty()),
        ("--lora-folder", args.lora_folder.is_some()),
        ("--speculate", args.speculate > 0),
        ("--guard", args.guard.is_some()),
    ];
    if let Some((option, _)) = own.iter().find(|(_, is_given)| *is_given) {
        bail!(
            "`{option}` is for our own engine; tell vLLM the like after `--`, as `vllm serve --help` names it"
        );
    }
    if !found.path.join(CONFIG).is_file() {
        bail!("{}: `--engine vllm` takes a checkpoint folder with a `{CONFIG}`", found.path.display());
    }
    found.verify()?;
    let vllm = VllmConfig {
        command: args.vllm.clone(),
        model: found.path.clone(),
        name: found.name.clone(),
        arguments: args.vllm_args.clone(),
        max_in_flight: args.max_batch.saturating_add(args.max_queued),
    };
    let config =
        ServerConfig { host: args.host.clone(), port: args.port, ..server_config(app, &args.access)? };
    nexa_serve::serve_vllm(vllm, about, &config, tell(&found.name), &app.cancel).map_err(reported)?;
    Ok(ExitCode::Success)
}

/// The rules that prompts and answers are held against.
fn guard(path: &Path) -> Result<Arc<dyn Guard>> {
    let rules = Rules::read(path)?;
    render::note(&format!(
        "held against {}: {}",
        path.display(),
        rules.names().collect::<Vec<_>>().join(", ")
    ));
    Ok(Arc::new(rules))
}

/// The name and the folder of an adapter that is served from the beginning.
fn adapter(app: &App, text: &str) -> Result<(String, PathBuf)> {
    let (name, path) =
        text.split_once('=').filter(|(name, path)| !name.is_empty() && !path.is_empty()).ok_or_else(
            || Error::config("command line", format!("`--lora {text}` is not of the form NAME=PATH")),
        )?;
    Ok((name.to_owned(), models::adapter(app, path)?))
}

/// What ends a server, whoever says it.
struct Failure(anyhow::Error);

impl From<nexa_serve::Error> for Failure {
    fn from(error: nexa_serve::Error) -> Self {
        Self(reported(error))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

fn server_config(app: &App, args: &AccessArgs) -> Result<ServerConfig> {
    let mut api_keys: Vec<_> = app.environment.get("NEXA_API_KEY").into_iter().collect();
    if let Some(path) = &args.api_key_file {
        api_keys.extend(nexa_serve::read_keys(path)?);
        if nexa_serve::is_readable_by_others(path) {
            let path = path.display();
            render::note(&format!(
                "warning: other users of this machine can read the keys in {path}: chmod 600 {path}"
            ));
        }
    }
    Ok(ServerConfig {
        api_keys,
        cors_origins: args.cors_origin.clone(),
        aliases: args.served_name.clone(),
        max_body_bytes: usize::try_from(args.max_body).unwrap_or(usize::MAX),
        request_timeout: (args.request_timeout > 0).then(|| Duration::from_secs(args.request_timeout)),
        read_timeout: Duration::from_secs(args.read_timeout.max(1)),
        drain_timeout: Duration::from_secs(args.drain_timeout),
        ..ServerConfig::default()
    })
}

/// What the lab knows of a model. What is outside of it has no manifest.
fn about(app: &App, found: &Found) -> Result<About> {
    let config = found.path.join(CONFIG);
    let mut about = About {
        checkpoint_path: Some(found.path.clone()),
        config: if config.is_file() { Some(files::read_json(&config)?) } else { None },
        ..About::default()
    };
    if let Some(artifact) = &found.artifact {
        about.manifest = Some(artifact.id().clone());
        let ancestors = lineage::ancestors(&app.store(), artifact.id()).map_err(Into::into);
        about.lineage = told("lineage", ancestors);
        about.evaluations = told("evaluations", evaluations(app, artifact)).unwrap_or_default();
    }
    Ok(about)
}

/// What was read; what cannot be read keeps no model from being served.
fn told<T>(what: &str, read: Result<T>) -> Option<T> {
    read.inspect_err(|error| render::note(&format!("warning: the {what} cannot be told: {error}"))).ok()
}

/// What a checkpoint was measured at, newest first.
fn evaluations(app: &App, checkpoint: &Artifact) -> Result<Vec<Evaluation>> {
    let artifacts = of_checkpoint(&app.store(), &checkpoint.id().project, checkpoint).map_err(reported)?;
    let read = |artifact: &Artifact| {
        let evaluation = nexa_eval::Evaluation::read(artifact, &app.tables).map_err(reported)?;
        let metrics = evaluation.metrics.iter();
        Ok(Evaluation {
            id: evaluation.id().to_string(),
            dataset: match &evaluation.dataset {
                Some(dataset) => dataset.id.clone(),
                None => evaluation.facts.questions.keys().cloned().collect::<Vec<_>>().join(", "),
            },
            items: match &evaluation.facts.test_set {
                Some(test_set) => test_set.items,
                None => evaluation.facts.questions.values().map(|questions| questions.documents).sum(),
            },
            metrics: metrics.map(|metric| (metric.name().to_string(), metric.value)).collect(),
        })
    };
    artifacts.iter().map(read).collect()
}

/// A model that was found, and is yet to be loaded.
pub(crate) struct Found {
    path: PathBuf,
    name: String,
    artifact: Option<Artifact>,
}

/// Finds a model as the arguments name it.
pub(crate) fn find(app: &App, args: &ServedModelArgs) -> Result<Found> {
    let named = args.checkpoint.as_deref().or(args.checkpoint_option.as_deref());
    match named.map(Path::new).filter(|path| is_gguf(path)) {
        Some(path) => {
            if args.quantize.is_some() {
                bail!("{}: a .gguf file is served in its own format", path.display());
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Found { path: path.to_owned(), name, artifact: None })
        }
        None => find_checkpoint(app, named),
    }
}

impl Found {
    /// Holds the files of an artifact against its manifest.
    fn verify(&self) -> Result<()> {
        if let Some(artifact) = &self.artifact {
            artifact.verify()?;
        }
        Ok(())
    }

    /// Verifies the files of an artifact, and loads the model as the arguments ask for it.
    pub(crate) fn load(&self, args: &ServedModelArgs) -> Result<LocalModel> {
        self.verify()?;
        let path = self.path.as_path();
        let quantisation = args.quantize.as_deref().and_then(|name| {
            Quantisation::NAMES.into_iter().find_map(|(known, format)| (known == name).then_some(format))
        });
        let model = match quantisation {
            _ if is_gguf(path) => LocalModel::load_gguf(path),
            None => LocalModel::load(path),
            Some(format) => {
                let checkpoint = Checkpoint::load(path).map_err(reported)?;
                LocalModel::quantised(checkpoint, format)
            }
        };
        let cache = CacheConfig {
            bytes: usize::try_from(args.kv_cache.unwrap_or(KV_CACHE)).unwrap_or(usize::MAX),
            number: match args.kv_cache_type.as_deref() {
                Some("f16") => CacheNumber::F16,
                _ => CacheNumber::F32,
            },
            prefixes: !args.no_prefix_cache,
        };
        Ok(model.map_err(reported)?.named(&self.name).with_cache(cache))
    }
}

/// Whether a path is a GGUF file.
pub(crate) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) && path.is_file()
}

/// Whether a folder is no artifact of the lab. A manifest that cannot be read is an error, not a way past it.
fn is_outside(resolved: &nexa_core::Result<nexa_core::artifact::Artifact>) -> Result<bool> {
    match resolved {
        Ok(_) => Ok(false),
        Err(nexa_core::Error::NotFound { .. }) => Ok(true),
        Err(error) => bail!("open checkpoint: {error}"),
    }
}

/// The folder of a checkpoint and the name under which it is served: an artifact, verified, or any folder.
pub(crate) fn checkpoint(app: &App, named: Option<&str>) -> Result<(PathBuf, String)> {
    let found = find_checkpoint(app, named)?;
    found.verify()?;
    Ok((found.path, found.name))
}

fn find_checkpoint(app: &App, named: Option<&str>) -> Result<Found> {
    if let Some(folder) = named.map(PathBuf::from).filter(|folder| folder.is_dir())
        && let Some(name) = folder.file_name()
        && is_outside(&app.store().resolve(app.project()?.name(), &folder.display().to_string()))?
    {
        let name = name.to_string_lossy().into_owned();
        return Ok(Found { path: folder, name, artifact: None });
    }
    let project = app.project()?;
    let artifact = match named {
        Some(named) => app.store().resolve(project.name(), named)?,
        None => {
            let newest = app.store().latest(project.name(), Kind::Checkpoint)?;
            render::note(&format!("using {}", newest.id()));
            newest
        }
    };
    artifact.expect_kind(Kind::Checkpoint)?;
    if !artifact.path().is_dir() {
        bail!("checkpoint {} has no folder", artifact.id());
    }
    Ok(Found { path: artifact.path(), name: artifact.id().to_string(), artifact: Some(artifact) })
}
