//! `nexa data show --facts`: what a version is, by its manifest.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::artifact::{Artifact, Tags};
use serde_json::json;

use crate::app::App;
use crate::args::Global;
use crate::commands::data;
use crate::render::{self, table};

/// Prints the facts.
pub(crate) fn run(global: &Global, name: &str) -> Result<ExitCode> {
    let app = App::open(global)?;
    let artifact = data::resolve(&app, name)?;
    let tags = Tags::new(&app.lab, &artifact.id().project)?.of(artifact.id())?;
    if global.json {
        let mut facts = json!(artifact.manifest);
        facts["tags"] = json!(tags);
        render::json(&facts)?;
        return Ok(ExitCode::Success);
    }
    render::out(&text(&app, &artifact, &tags));
    Ok(ExitCode::Success)
}

fn text(app: &App, artifact: &Artifact, tags: &[String]) -> String {
    let manifest = &artifact.manifest;
    let count = |number: Option<u64>| number.map(table::count).unwrap_or_default();
    let columns: Vec<String> =
        manifest.schema.iter().map(|column| format!("{} ({})", column.name, column.holds)).collect();
    let facts = [
        ("artifact", manifest.id.to_string()),
        ("kind", manifest.kind.to_string()),
        ("tags", tags.join(", ")),
        ("rows", count(manifest.counts.rows)),
        ("tokens", count(manifest.counts.tokens)),
        ("size", table::size(manifest.counts.bytes)),
        ("columns", columns.join(", ")),
        ("content", manifest.content_hash.to_string()),
        ("made", manifest.created_at.format("%Y-%m-%d %H:%M").to_string()),
        ("stage", manifest.producer.stage.clone()),
        ("run", manifest.producer.run.to_string()),
        ("spend", manifest.spend.to_string()),
        ("manifest", app.show(&artifact.manifest_path())),
    ];
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let parents = manifest.parents.iter().map(|parent| {
        ("parent", format!("{}: {} [{}]", parent.role, parent.id, parent.content_hash.short()))
    });
    let files = manifest
        .files
        .iter()
        .map(|file| ("file", format!("{}  {}  {}", file.name, table::size(file.bytes), file.hash)));
    let lines: Vec<String> =
        facts.chain(parents).chain(files).map(|(name, value)| format!("{name:<12} {value}")).collect();
    lines.join("\n")
}
