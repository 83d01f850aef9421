//! `nexa distill card`: the card of a data set, and below it what everything that it was made of has cost.

use anyhow::Result;
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::cost::Spend;
use nexa_core::{ExitCode, files};
use nexa_distill::package::{SPEND_LINES, SpendLine, usd_per_row};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::app::App;
use crate::args::Global;
use crate::render::{self, table};

/// Prints the card.
pub(crate) fn run(global: &Global, name: Option<&str>) -> Result<ExitCode> {
    let app = App::open(global)?;
    let project = app.project()?;
    let artifact = match name {
        Some(name) => app.store().resolve(project.name(), name)?,
        None => app.store().latest(project.name(), Kind::SftDataset)?,
    };
    artifact.expect_kind(Kind::SftDataset)?;
    let total: Spend = stated(&artifact, "upstream_spend").unwrap_or_default();
    let lines: Vec<SpendLine> = stated(&artifact, SPEND_LINES).unwrap_or_default();
    let rows = artifact.manifest.counts.rows.unwrap_or(0);
    if global.json {
        let mut card: Value = files::read_json(&artifact.file("card.json")?)?;
        card["spend"] = json!(total);
        card["spend_by_stage_and_model"] = json!(lines);
        card["usd_per_accepted_row"] = json!(usd_per_row(&total, rows));
        render::json(&card)?;
        return Ok(ExitCode::Success);
    }
    let card = files::read_text(&artifact.file("card.md")?)?;
    render::out(&format!("{card}\n## Spend\n"));
    let mut cells: Vec<Vec<String>> = lines
        .iter()
        .map(|line| row([&line.stage, line.model.as_deref().unwrap_or("machine")], &line.spend, rows))
        .collect();
    cells.push(row(["total", ""], &total, rows));
    let heads = ["stage", "model", "calls", "tokens", "spend", "per accepted row"];
    render::out(&table::table(&heads, &cells));
    Ok(ExitCode::Success)
}

/// What a stage stated of its artifact, if it did.
fn stated<T: DeserializeOwned>(artifact: &Artifact, name: &str) -> Option<T> {
    serde_json::from_value(artifact.manifest.summary.get(name)?.clone()).ok()
}

fn row(names: [&str; 2], spend: &Spend, rows: u64) -> Vec<String> {
    let [stage, model] = names.map(str::to_owned);
    let per_row = usd_per_row(spend, rows).map_or_else(|| "-".to_owned(), |usd| format!("${usd:.6}"));
    let tokens = table::count(spend.prompt_tokens + spend.completion_tokens);
    vec![stage, model, table::count(spend.requests), tokens, spend.to_string(), per_row]
}
