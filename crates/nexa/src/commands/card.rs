//! `nexa distill card`: the card of a data set, and below it what everything that it was made of has cost.

use anyhow::Result;
use nexa_core::artifact::Kind;
use nexa_core::cost::Spend;
use nexa_core::{ExitCode, files};
use serde_json::Value;

use crate::app::App;
use crate::args::Global;
use crate::render;

/// Prints the card.
pub(crate) fn run(global: &Global, name: Option<&str>) -> Result<ExitCode> {
    let app = App::open(global)?;
    let project = app.project()?;
    let artifact = match name {
        Some(name) => app.store().resolve(project.name(), name)?,
        None => app.store().latest(project.name(), Kind::SftDataset)?,
    };
    artifact.expect_kind(Kind::SftDataset)?;
    let spend = artifact.manifest.summary.get("upstream_spend").cloned().unwrap_or(Value::Null);
    if global.json {
        let mut card: Value = files::read_json(&artifact.file("card.json")?)?;
        card["spend"] = spend;
        render::json(&card)?;
        return Ok(ExitCode::Success);
    }
    let spend: Spend = serde_json::from_value(spend).unwrap_or_default();
    let card = files::read_text(&artifact.file("card.md")?)?;
    render::out(&format!(
        "{card}\n## Spend\n\n{spend} before packaging: {} calls, {} tokens of prompts, {} tokens of answers.\n",
        spend.requests, spend.prompt_tokens, spend.completion_tokens
    ));
    Ok(ExitCode::Success)
}
