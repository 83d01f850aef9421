//! `nexa lineage`: where an artifact comes from, or what was made of it.

use anyhow::Result;
use nexa_core::{ExitCode, lineage};

use crate::app::App;
use crate::args::Global;
use crate::render;

/// Prints the tree of an artifact.
pub(crate) fn run(global: &Global, artifact: &str, children: bool) -> Result<ExitCode> {
    let app = App::open(global)?;
    let project = app.project()?;
    let store = app.store();
    let id = store.resolve(project.name(), artifact)?.id().clone();
    let tree = if children { lineage::descendants(&store, &id)? } else { lineage::ancestors(&store, &id)? };
    if global.json {
        render::json(&tree)?;
    } else {
        render::out(&tree.render());
    }
    Ok(ExitCode::Success)
}
