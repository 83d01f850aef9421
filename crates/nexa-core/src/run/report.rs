//! The report of a run: `report.md` beside its record, written whenever an attempt ends, for people who look into the
//! folder. It says nothing that record, ledger and manifest do not say.

use std::fmt::Write;
use std::path::Path;

use super::RunRecord;
use crate::artifact::Manifest;
use crate::cost::{Entry, Ledger, Spend};
use crate::{Error, Result, files, format};

/// The file of a run's folder.
pub const FILE: &str = "report.md";

/// The longest value of a summary that is told whole.
const LONGEST_VALUE: usize = 400;

/// Writes the report of a run into its folder; the manifest is that of what it made, if it did.
///
/// # Errors
/// Fails when the ledger cannot be read or the file cannot be written.
pub fn write(folder: &Path, record: &RunRecord, made: Option<&Manifest>) -> Result<()> {
    let entries: Vec<Entry> = Ledger::charges(folder)?.into_iter().map(|charge| charge.entry).collect();
    let config = serde_norway::to_string(&record.config)
        .map_err(|e| Error::malformed(folder, format!("config cannot be written as YAML: {e}")))?;
    let mut text = head(record);
    if let Some(made) = made {
        text.push_str(&result(made));
    }
    text.push_str(&cost(&record.spend, &entries));
    text.push_str(&inputs(record));
    let _ =
        write!(text, "\n## Configuration\n\nSeed {}.\n\n```yaml\n{}\n```\n", record.seed, config.trim_end());
    text.push_str(&place(record));
    files::write_atomic(&folder.join(FILE), text.as_bytes())
}

fn head(record: &RunRecord) -> String {
    let seconds = record.attempts.iter().filter_map(|attempt| {
        let ended = attempt.ended_at?;
        Some((ended - attempt.started_at).num_milliseconds() as f64 / 1e3)
    });
    let mut text = format!("# {} of project `{}`\n\n", record.stage, record.project);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "- {name}: {value}");
    };
    line("run", record.id.as_str());
    line("status", record.status.as_str());
    if let Some(reason) = record.exit_reason.as_ref().filter(|reason| *reason != record.status.as_str()) {
        line("reason", &reason.replace('\n', " "));
    }
    line("began", &record.started_at.to_rfc3339());
    if let Some(ended) = record.ended_at {
        line("ended", &ended.to_rfc3339());
    }
    line("attempts", &record.attempts.len().to_string());
    line("time at work", &format::duration(seconds.sum()));
    line("spend", &record.spend.to_string());
    text
}

fn result(made: &Manifest) -> String {
    let mut text = format!("\n## Result\n\n`{}`, {}\n\n", made.id, made.content_hash.as_str());
    for (name, count) in [("rows", made.counts.rows), ("tokens", made.counts.tokens)] {
        if let Some(count) = count {
            let _ = writeln!(text, "- {name}: {}", format::count(count));
        }
    }
    let _ = writeln!(text, "- size: {}", format::size(made.counts.bytes));
    for (name, value) in &made.summary {
        let value = value.to_string();
        match value.char_indices().nth(LONGEST_VALUE) {
            None => {
                let _ = writeln!(text, "- {name}: `{value}`");
            }
            Some((end, _)) => {
                let _ = writeln!(text, "- {name}: `{}` … (whole in the manifest)", &value[..end]);
            }
        }
    }
    text
}

/// The spend, and what it is made of: each model and the machine.
fn cost(total: &Spend, entries: &[Entry]) -> String {
    let mut parts: Vec<(&str, Spend)> = Vec::new();
    for entry in entries {
        let what = match entry {
            Entry::Tokens { model, .. } => model.as_str(),
            Entry::Machine { .. } => "this machine",
        };
        match parts.iter_mut().find(|(known, _)| *known == what) {
            Some((_, spend)) => spend.add(entry),
            None => {
                let mut spend = Spend::default();
                spend.add(entry);
                parts.push((what, spend));
            }
        }
    }
    parts.push(("total", total.clone()));
    let mut text =
        "\n## Cost\n\n| | time | calls | tokens in | tokens out | spend |\n|---|---:|---:|---:|---:|---:|\n"
            .to_owned();
    for (what, spend) in parts {
        let _ = writeln!(
            text,
            "| {what} | {} | {} | {} | {} | {spend} |",
            format::duration(spend.machine_seconds),
            format::count(spend.requests),
            format::count(spend.prompt_tokens),
            format::count(spend.completion_tokens),
        );
    }
    text
}

fn inputs(record: &RunRecord) -> String {
    if record.inputs.is_empty() {
        return String::new();
    }
    let mut text = "\n## Inputs\n\n| role | what | content |\n|---|---|---|\n".to_owned();
    for parent in &record.inputs {
        let _ = writeln!(text, "| {} | `{}` | {} |", parent.role, parent.id, parent.content_hash.as_str());
    }
    text
}

fn place(record: &RunRecord) -> String {
    let host = &record.host;
    let git = record.git.as_ref().map_or_else(
        || "no repository".to_owned(),
        |git| format!("commit {}{}", git.commit, if git.dirty { ", with changes" } else { "" }),
    );
    format!(
        "\n## Where\n\nnexa {} on {} ({}, {}, {} threads, {}), device {}; {git}.\n",
        record.nexa_version,
        host.name,
        host.platform,
        host.cpu,
        host.threads,
        format::size(host.memory_bytes),
        record.device,
    )
}
