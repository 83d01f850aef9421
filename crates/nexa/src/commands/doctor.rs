//! `nexa doctor`: facts about the machine and the lab.

use anyhow::Result;
use nexa_core::artifact::Store;
use nexa_core::env::VARIABLES;
use nexa_core::index::Index;
use nexa_core::machine::{self, Host};
use nexa_core::{Diagnose, ExitCode, run};
use serde_json::json;

use crate::app::App;
use crate::args::Global;
use crate::render::{self, table};

/// Prints the facts; outside a lab, those of the machine alone.
pub(crate) fn run(global: &Global, reindex: bool, verify: bool) -> Result<ExitCode> {
    let app = match App::open(global) {
        Ok(app) => Some(app),
        Err(error) if global.lab.is_none() && !reindex && !verify && is_no_lab(&error) => None,
        Err(error) => return Err(error),
    };
    let mut facts = machine_facts(app.as_ref());
    let mut code = ExitCode::Success;
    if let Some(app) = &app {
        code = lab_facts(app, reindex, verify, &mut facts)?;
    } else {
        facts.push(("lab", "none here; `nexa init` makes one".to_owned()));
    }
    if global.json {
        let map: serde_json::Map<_, _> =
            facts.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        render::json(&map)?;
    } else {
        for (name, value) in facts {
            render::out(&format!("{name:<10} {value}"));
        }
    }
    Ok(code)
}

fn is_no_lab(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(nexa_core::Error::NoLab { .. }))
}

fn machine_facts(app: Option<&App>) -> Vec<(&'static str, String)> {
    let host = Host::current();
    let here = app.map_or_else(|| std::path::PathBuf::from("."), |app| app.lab.root().to_owned());
    let disk = machine::free_bytes(&here)
        .map_or_else(|| "unknown".to_owned(), |bytes| format!("{} free", table::size(bytes)));
    let environment = app.map(|app| app.environment.clone()).unwrap_or_default();
    let present: Vec<&str> = VARIABLES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| name.ends_with("_KEY") || *name == "HF_TOKEN")
        .filter(|name| environment.get(name).is_some())
        .collect();
    vec![
        ("nexa", machine::nexa_version().to_owned()),
        ("host", format!("{} ({})", host.name, host.platform)),
        ("cpu", format!("{}, {} threads", host.cpu, host.threads)),
        ("memory", table::size(host.memory_bytes)),
        ("disk", disk),
        ("devices", crate::wire::devices()),
        ("keys", if present.is_empty() { "none".to_owned() } else { present.join(", ") }),
    ]
}

fn lab_facts(
    app: &App,
    reindex: bool,
    verify: bool,
    facts: &mut Vec<(&'static str, String)>,
) -> Result<ExitCode> {
    facts.push(("lab", app.lab.root().display().to_string()));
    facts.push(("projects", app.lab.projects()?.join(", ")));
    let index = if reindex { Index::rebuild(&app.lab)? } else { Index::open(&app.lab)? };
    let size = index.size()?;
    let artifacts = Store::new(&app.lab).all()?;
    let runs = run::all(&app.lab)?;
    let is_current = size.artifacts == artifacts.len() as u64 && size.runs == runs.len() as u64;
    let state = match (reindex, is_current) {
        (true, _) => "rebuilt",
        (false, true) => "current",
        (false, false) => "behind the files; `nexa doctor --reindex` rebuilds it",
    };
    facts.push(("index", format!("{} artifacts, {} runs, {state}", size.artifacts, size.runs)));
    if !verify {
        return Ok(ExitCode::Success);
    }
    let mut code = ExitCode::Success;
    let mut broken = 0;
    for artifact in &artifacts {
        if let Err(error) = artifact.verify() {
            broken += 1;
            code = error.exit_code();
            render::note(&format!("error: {}: {error}", artifact.id()));
        }
    }
    facts.push(("files", format!("{} artifacts verified, {broken} broken", artifacts.len())));
    Ok(code)
}
