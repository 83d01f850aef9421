//! `nexa inference` (`nexa serve`): serves a checkpoint over HTTP.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use nexa_core::ExitCode;
use nexa_core::artifact::Kind;
use nexa_core::lm::LanguageModel;
use nexa_model::{CacheConfig, CacheNumber, Checkpoint, LocalModel, Quantisation};
use nexa_serve::{Engine, EngineConfig, ServerConfig};

use crate::app::App;
use crate::args::{Global, InferenceArgs, ServedModelArgs};
use crate::render::{self, error::reported};

/// Serves the checkpoint that was named, else the project's newest.
pub(crate) fn run(global: &Global, args: &InferenceArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let (model, path) = load(&app, &args.model)?;
    let name = model.info().name.clone();
    let config = EngineConfig {
        max_batch: args.max_batch,
        max_queued: args.max_queued,
        prefill_chunk: args.prefill_chunk,
        guesses: args.speculate,
        ..EngineConfig::default()
    };
    let engine = Engine::start(Box::new(model), config).map_err(reported)?;
    let config = ServerConfig {
        host: args.host.clone(),
        port: args.port,
        api_keys: app.environment.get("NEXA_API_KEY").into_iter().collect(),
        checkpoint_path: Some(path),
        ..ServerConfig::default()
    };
    nexa_serve::serve(
        engine,
        &config,
        |address| render::note(&format!("serving {name} on http://{address}  (Ctrl-C stops)")),
        &app.cancel,
    )
    .map_err(reported)?;
    Ok(ExitCode::Success)
}

/// Loads a model as the arguments ask for it, and tells where it lies.
pub(crate) fn load(app: &App, args: &ServedModelArgs) -> Result<(LocalModel, PathBuf)> {
    let named = args.checkpoint.as_deref().or(args.checkpoint_option.as_deref());
    let (path, name) = match named.map(Path::new).filter(|path| is_gguf(path)) {
        Some(path) => (path.to_owned(), path.file_stem().unwrap_or_default().to_string_lossy().into_owned()),
        None => checkpoint(app, named)?,
    };
    let path = path.as_path();
    let quantisation = args.quantize.as_deref().and_then(|name| {
        Quantisation::NAMES.into_iter().find_map(|(known, format)| (known == name).then_some(format))
    });
    let model = match quantisation {
        Some(_) if is_gguf(path) => bail!("{}: a .gguf file is served in its own format", path.display()),
        None if is_gguf(path) => LocalModel::load_gguf(path),
        None => LocalModel::load(path),
        Some(format) => {
            let checkpoint = Checkpoint::load(path).map_err(reported)?;
            LocalModel::quantised(checkpoint, format)
        }
    };
    let cache = CacheConfig {
        bytes: usize::try_from(args.kv_cache).unwrap_or(usize::MAX),
        number: if args.kv_cache_type == "f16" { CacheNumber::F16 } else { CacheNumber::F32 },
        prefixes: !args.no_prefix_cache,
    };
    Ok((model.map_err(reported)?.named(&name).with_cache(cache), path.to_owned()))
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
    if let Some(folder) = named.map(PathBuf::from).filter(|folder| folder.is_dir())
        && let Some(name) = folder.file_name()
        && is_outside(&app.store().resolve(app.project()?.name(), &folder.display().to_string()))?
    {
        let name = name.to_string_lossy().into_owned();
        return Ok((folder, name));
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
    artifact.verify()?;
    if !artifact.path().is_dir() {
        bail!("checkpoint {} has no folder", artifact.id());
    }
    Ok((artifact.path(), artifact.id().to_string()))
}
