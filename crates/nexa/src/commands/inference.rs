//! `nexa inference` (`nexa serve`): serves a checkpoint over HTTP.

use std::path::PathBuf;

use anyhow::{Result, bail};
use nexa_core::ExitCode;
use nexa_core::artifact::Kind;
use nexa_model::LocalModel;
use nexa_serve::{Engine, EngineConfig, ServerConfig};

use crate::app::App;
use crate::args::{Global, InferenceArgs};
use crate::render::{self, error::reported};

/// Serves the checkpoint that was named, else the project's newest.
pub(crate) fn run(global: &Global, args: &InferenceArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let named = args.checkpoint.as_deref().or(args.checkpoint_option.as_deref());
    let (folder, name) = checkpoint(&app, named)?;
    let model = LocalModel::load(&folder).map_err(reported)?.named(&name);
    let config =
        EngineConfig { max_batch: args.max_batch, max_queued: args.max_queued, ..EngineConfig::default() };
    let engine = Engine::start(Box::new(model), config).map_err(reported)?;
    let config = ServerConfig {
        host: args.host.clone(),
        port: args.port,
        api_keys: app.environment.get("NEXA_API_KEY").into_iter().collect(),
        checkpoint_path: Some(folder),
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
