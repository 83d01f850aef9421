//! The receipt of a row, for people: where it comes from and what became of it.

use std::fmt::Write as _;

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::cost::Prices;
use nexa_data::receipt::{
    self, Asked, Attempt, Evaluated, Gated, Judged, Origin, Packaged, Paid, Prompt, Receipt, Reviewed, Seen,
};
use nexa_distill::collect::{self, Given};
use serde_json::Value;

use crate::app::App;
use crate::args::Global;
use crate::render::{self, error::reported};

/// The longest text of a line; JSON shows everything.
const TEXT_CHARACTERS: usize = 160;

/// Prints the receipt.
pub(super) fn run(global: &Global, app: &App, asked: &Asked<'_>) -> Result<ExitCode> {
    let mut receipt = receipt::receipt(&app.store(), asked).map_err(reported)?;
    pay(app, &mut receipt)?;
    if global.json {
        render::json(&receipt)?;
        return Ok(ExitCode::Success);
    }
    if !receipt.also_in.is_empty() {
        let others: Vec<String> = receipt.also_in.iter().map(ToString::to_string).collect();
        render::note(&format!(
            "the row of {}; `--in ARTIFACT` for that of {}",
            receipt.found_in,
            others.join(", ")
        ));
    }
    render::out(&text(app, &receipt));
    Ok(ExitCode::Success)
}

/// Looks up what the attempts cost.
fn pay(app: &App, receipt: &mut Receipt) -> Result<()> {
    let given: Vec<Given<'_>> = receipt
        .attempts
        .iter()
        .map(|attempt| Given {
            run: &attempt.run,
            model: attempt.model.as_deref().unwrap_or_default(),
            text: attempt.output.as_deref().unwrap_or_default(),
            prompt_tokens: attempt.prompt_tokens,
            completion_tokens: attempt.completion_tokens,
        })
        .collect();
    let payments = collect::payments(&app.lab, &given).map_err(reported)?;
    for (attempt, payment) in receipt.attempts.iter_mut().zip(payments) {
        attempt.paid =
            payment.map(|paid| Paid { run: paid.run, usd: paid.usd, at_most_usd: paid.at_most_usd });
    }
    Ok(())
}

fn text(app: &App, receipt: &Receipt) -> String {
    let mut out = format!("row {} of {}\n", receipt.row, receipt.found_in);
    let mut section = |head: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            // Writing to a text never fails.
            let _ = write!(out, "\n{head}\n{}\n", lines.join("\n"));
        }
    };
    let prices = &app.lab.settings().prices;
    section("from", receipt.origins.iter().map(|one| origin(app, one)).collect());
    section("asked", receipt.prompts.iter().map(prompt).collect());
    section("answered", receipt.attempts.iter().map(|one| attempt(one, prices)).collect());
    section("judged", receipt.verdicts.iter().map(judged).collect());
    section("sifted", receipt.gates.iter().map(gated).collect());
    section("reviewed", receipt.reviews.iter().map(reviewed).collect());
    section("packaged", receipt.packages.iter().map(packaged).collect());
    section("seen by", receipt.runs.iter().map(seen).collect());
    section("evaluated", receipt.evaluations.iter().map(evaluated).collect());
    out
}

fn origin(app: &App, one: &Origin) -> String {
    let file = match (&one.path, &one.source_file) {
        (Some(path), _) => app.show(path.as_ref()),
        (None, Some(file)) => file.clone(),
        (None, None) => "a source that is not known".to_owned(),
    };
    let line = one.line.map(|line| format!(", line {line}")).unwrap_or_default();
    let changed = match (one.changed, one.is_gone) {
        (true, _) => ", which has CHANGED SINCE",
        (_, true) => ", which is no longer there",
        _ => "",
    };
    format!("  {} {}  {file}{line}{changed}", one.artifact, one.id)
}

fn prompt(one: &Prompt) -> String {
    let template = one.template.as_ref().map(|name| format!("  template {name}")).unwrap_or_default();
    let attempt = one.attempt.map(|attempt| format!(", attempt {attempt} again")).unwrap_or_default();
    let because = one.because.as_ref().map(|reason| format!(": {}", short(reason))).unwrap_or_default();
    let system = one.system_prompt.as_ref().map(|text| format!("\n    system: {}", short(text)));
    let user = one.user_prompt.as_ref().map(|text| format!("\n    {}", short(text)));
    let texts = [system, user].map(Option::unwrap_or_default).concat();
    format!("  {} {}{template}{attempt}{because}{texts}", one.artifact, one.id)
}

fn attempt(one: &Attempt, prices: &Prices) -> String {
    let who = match (&one.teacher, &one.model) {
        (Some(teacher), Some(model)) if !teacher.ends_with(model.as_str()) => format!("{teacher} ({model})"),
        (Some(name), _) | (None, Some(name)) => name.clone(),
        (None, None) => "unknown".to_owned(),
    };
    let tokens = match (one.prompt_tokens, one.completion_tokens) {
        (None, None) => String::new(),
        (prompt, completion) => {
            let count =
                |tokens: Option<u64>| tokens.map_or_else(|| "?".to_owned(), |tokens| tokens.to_string());
            format!(", {} + {} tokens", count(prompt), count(completion))
        }
    };
    let text = one.output.as_ref().map(|text| format!("\n    {}", short(text))).unwrap_or_default();
    let price = price(one, prices);
    format!("  {} {}  {who}: {}{tokens}, {price}{text}", one.artifact, one.id, one.outcome)
}

/// What an attempt cost: as it was paid, else by the prices of today, else unknown.
fn price(one: &Attempt, prices: &Prices) -> String {
    let by_price = || {
        let model = one.teacher.as_deref()?.split_once(':')?.1;
        let price = prices.models.get(model)?;
        Some(price.usd(one.prompt_tokens?, one.completion_tokens?))
    };
    match &one.paid {
        Some(Paid { run, usd: Some(usd), .. }) if *run == one.run => format!("${usd:.6}"),
        Some(Paid { run, usd: Some(usd), .. }) => format!("${usd:.6} (paid by run {run})"),
        Some(Paid { at_most_usd: Some(usd), .. }) => format!("at most ${usd:.6}"),
        _ => by_price().map_or_else(|| "cost unknown".to_owned(), |usd| format!("about ${usd:.6}")),
    }
}

fn judged(one: &Judged) -> String {
    let who = one.judge.as_deref().unwrap_or("all judges");
    let score = one.score.map_or_else(|| "no score".to_owned(), |score| score.to_string());
    let why = one.explanation.as_ref().or(one.problem.as_ref());
    let why = why.map(|text| format!("\n    {}", short(text))).unwrap_or_default();
    format!("  {} {}  {who}: {score}{why}", one.artifact, one.id)
}

fn gated(one: &Gated) -> String {
    let mut verdict = match (one.passed, &one.gate) {
        (true, _) => "passed".to_owned(),
        (false, Some(gate)) => format!("rejected by {gate}"),
        (false, None) => "rejected".to_owned(),
    };
    for (what, value) in [("", &one.reason), ("edited by ", &one.edited_by), ("given to ", &one.split)] {
        if let Some(value) = value {
            let _ = write!(verdict, ", {what}{}", short(value));
        }
    }
    if let Some(value) = one.value {
        let _ = write!(verdict, " ({value})");
    }
    let named = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name} {}", short(text)),
        other => format!("{name} {other}"),
    };
    let scores: Vec<String> = one.scores.iter().map(named).collect();
    let scores = if scores.is_empty() { String::new() } else { format!("\n    {}", scores.join(", ")) };
    let details = one.details.iter().map(|detail| {
        let cells: Vec<String> = detail.row.iter().filter(|(_, value)| !value.is_null()).map(named).collect();
        format!("\n    {}: {}", detail.file, cells.join(", "))
    });
    let details: String = details.collect();
    format!("  {} {}  {}: {verdict}{scores}{details}", one.artifact, one.id, one.stage)
}

fn reviewed(one: &Reviewed) -> String {
    let reason = one.reason.as_ref().map(|reason| format!(", {}", short(reason))).unwrap_or_default();
    let text = one.text.as_ref().map(|text| format!("\n    {}", short(text))).unwrap_or_default();
    let at = one.at.format("%Y-%m-%d %H:%M");
    format!("  {} {}  {} by {} at {at}{reason}{text}", one.artifact, one.id, one.verdict, one.reviewer)
}

fn packaged(one: &Packaged) -> String {
    let place = match (&one.split, &one.reason) {
        (Some(split), _) => split.clone(),
        (None, Some(reason)) => format!("left out, {}", short(reason)),
        (None, None) => "left out".to_owned(),
    };
    let formats =
        if one.formats.is_empty() { String::new() } else { format!(" ({})", one.formats.join(", ")) };
    format!("  {} {}  {place}{formats}", one.artifact, one.id)
}

fn seen(one: &Seen) -> String {
    format!("  {}  {}, through {} (run {})", one.artifact, one.as_what.as_str(), one.through, one.run)
}

fn evaluated(one: &Evaluated) -> String {
    let of = one.checkpoint.as_ref().map(|checkpoint| format!(" of {checkpoint}")).unwrap_or_default();
    let item = match &one.item {
        None => ", the row was not asked".to_owned(),
        Some(item) => {
            let verdict = match item.correct {
                Some(true) => "was answered correctly",
                Some(false) => "was answered wrongly",
                None => "was an item",
            };
            let prediction =
                item.prediction.as_ref().map(|text| format!(": {}", short(text))).unwrap_or_default();
            format!(", the row {verdict}{prediction}")
        }
    };
    format!("  {}{of}{item}", one.artifact)
}

/// A text on one line, cut to a readable width.
fn short(text: &str) -> String {
    let text = text.replace('\n', "⏎");
    if text.chars().count() <= TEXT_CHARACTERS {
        return text;
    }
    text.chars().take(TEXT_CHARACTERS - 1).chain(['…']).collect()
}
