//! `nexa data checkout`: the files of a version where a person wants them.

use std::path::Path;

use anyhow::Result;
use nexa_core::ExitCode;
use serde_json::json;

use crate::app::App;
use crate::args::Global;
use crate::commands::data;
use crate::render;

/// Copies the files, and prints where each lies.
pub(crate) fn run(global: &Global, name: &str, folder: &Path) -> Result<ExitCode> {
    let app = App::open(global)?;
    let artifact = data::resolve(&app, name)?;
    let paths = artifact.checkout(folder)?;
    let shown: Vec<String> = paths.iter().map(|path| app.show(path)).collect();
    if global.json {
        render::json(&json!({ "artifact": artifact.id(), "files": shown }))?;
        return Ok(ExitCode::Success);
    }
    render::note(&format!("checked out {}: {} files, verified", artifact.id(), shown.len()));
    render::out(&shown.join("\n"));
    Ok(ExitCode::Success)
}
