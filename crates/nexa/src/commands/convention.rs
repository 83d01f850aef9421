//! What the first commands of a project read where nothing is named and nothing was made yet: the files that lie in
//! `data/raw/PROJECT`, which `nexa init` makes for them.

use anyhow::Result;
use nexa_core::artifact::Kind;
use nexa_core::{ExitCode, files};

use crate::app::App;
use crate::args::{Global, StageArgs};
use crate::commands::stage;
use crate::render;

/// How the names of texts end that prompts are made of.
const ENHANCED: &str = "_enhanced.json";
/// Where prompt templates lie.
const PROMPTS: &str = "prompts";

/// Runs `data.ingest`.
pub(crate) fn ingest(global: &Global, args: &StageArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let extra = match raw_folder(&app, args, (Kind::Raw, "paths"))? {
        Some(folder) if has(&app, &folder, "")? => vec![format!("paths=[{folder}]")],
        _ => Vec::new(),
    };
    run(&app, global, "data.ingest", (args, extra))
}

/// Runs `distill.inputs`.
pub(crate) fn inputs(global: &Global, args: &StageArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let mut extra = Vec::new();
    if let Some(folder) = raw_folder(&app, args, (Kind::Dataset, "sources"))?
        && has(&app, &folder, ENHANCED)?
    {
        extra.push(format!("sources=[{folder}]"));
        let is_set = |setting: &String| setting.starts_with("prompts=") || setting.starts_with("templates=");
        if !args.overrides.iter().any(is_set) && has(&app, PROMPTS, ".txt")? {
            extra.push(format!("prompts={PROMPTS}"));
        }
    }
    run(&app, global, "distill.inputs", (args, extra))
}

fn run(app: &App, global: &Global, uses: &str, (args, extra): (&StageArgs, Vec<String>)) -> Result<ExitCode> {
    if !extra.is_empty() {
        render::note(&format!("using {}", extra.join(" ")));
    }
    stage::run_in(app, global, uses, (args, &extra))
}

/// The project's folder of raw files, relative to the lab, where nothing says what is read instead: no input, no
/// configuration and no setting of that name, and no artifact of the kind that is read by default.
fn raw_folder(app: &App, args: &StageArgs, (kind, setting): (Kind, &str)) -> Result<Option<String>> {
    let is_set = |given: &String| given.split('=').next() == Some(setting);
    if !args.inputs.is_empty() || args.config.is_some() || args.overrides.iter().any(is_set) {
        return Ok(None);
    }
    let project = app.project()?;
    let has_artifacts = !app.store().of_kind(project.name(), kind)?.is_empty();
    Ok((!has_artifacts).then(|| format!("data/raw/{}", project.name())))
}

/// Whether a folder of the lab holds a file whose name ends so.
fn has(app: &App, folder: &str, ending: &str) -> Result<bool> {
    let folder = app.lab.root().join(folder);
    if !folder.is_dir() {
        return Ok(false);
    }
    let name = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending))
    };
    Ok(files::walk(&folder)?.iter().any(name))
}
