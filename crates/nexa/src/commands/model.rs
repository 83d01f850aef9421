//! `nexa model info`: what a checkpoint is.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::lm::LanguageModel;
use nexa_model::LocalModel;

use crate::app::App;
use crate::args::{Global, ModelCommand};
use crate::commands::inference::checkpoint;
use crate::render::{self, error::reported, table};

/// Prints architecture, size and hash.
pub(crate) fn run(global: &Global, command: ModelCommand) -> Result<ExitCode> {
    let ModelCommand::Info { checkpoint: named } = command;
    let app = App::open(global)?;
    let (folder, name) = checkpoint(&app, Some(&named))?;
    let model = LocalModel::load(&folder).map_err(reported)?;
    let info = model.info();
    if global.json {
        render::json(info)?;
        return Ok(ExitCode::Success);
    }
    for (fact, value) in [
        ("name", name),
        ("folder", app.show(&folder)),
        ("architecture", info.architecture.clone()),
        ("parameters", table::count(info.parameters as u64)),
        ("vocabulary", table::count(model.tokenizer().vocab_size() as u64)),
        ("context", table::count(info.context_length as u64)),
        ("weights", info.weights_hash.clone()),
    ] {
        render::out(&format!("{fact:<13} {value}"));
    }
    Ok(ExitCode::Success)
}
