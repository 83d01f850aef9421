//! `nexa init`: makes a lab.

use std::path::Path;

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::lab::Lab;

use crate::args::Global;
use crate::render;

/// Makes a lab in a folder, with the project that `--project` names; an existing lab is left as it is.
pub(crate) fn run(global: &Global, folder: Option<&Path>) -> Result<ExitCode> {
    let folder = folder.or(global.lab.as_deref()).unwrap_or(Path::new("."));
    let lab = Lab::init(folder, global.project.as_deref())?;
    render::note(&format!("lab: {}", lab.root().display()));
    match &global.project {
        Some(project) => {
            render::note(&format!("project: projects/{project}/ and data/raw/{project}/ are there"))
        }
        None => render::note("no project yet: `nexa init --project NAME` makes one"),
    }
    Ok(ExitCode::Success)
}
