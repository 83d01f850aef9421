//! How a report looks.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use nexa_core::artifact::Manifest;

use super::{Gathered, Shown, chart};
use crate::evaluation::MetricRow;
use crate::format::{self, Cost};
use crate::leaderboard::Estimate;
use crate::pages::interval::{ends, percent};
use crate::pages::{contamination, parts, sample, value, verdicts};

const STYLE: &str = concat!(include_str!("../assets/app.css"), include_str!("../assets/report.css"));

/// Nothing is loaded from anywhere, whatever stands in an answer.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Characters of a text: a file of many long prompts would be too large to send.
const TEXT_CHARACTERS: usize = 4000;
/// More bars than this say nothing in one chart.
const MAX_BARS: usize = 60;

/// The whole document.
pub(super) fn page(data: &Gathered<'_>) -> Markup {
    let manifest = &data.evaluated.artifact.manifest;
    let checkpoint = data.evaluated.checkpoint().unwrap_or("a model");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (checkpoint) " · evaluation · nexa" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main.report {
                    h1 { "Evaluation of " (checkpoint) }
                    (facts(data, manifest))
                    (charts(data))
                    (metrics(data))
                    (domains(data))
                    (calibration(data))
                    (judged(data))
                    @if let Some(found) = &data.evaluated.contamination { (contamination::section(found, None)) }
                    (samples(data))
                    section { h2 { "Lineage" } pre.code { (data.lineage) } }
                }
                footer { span.muted { "made by nexa " (manifest.producer.nexa_version) " from " (manifest.id)
                    ", content " (manifest.content_hash) "; times are UTC" } }
            }
        }
    }
}

fn facts(data: &Gathered<'_>, manifest: &Manifest) -> Markup {
    let made_from = manifest.parents.iter();
    let tasks = data.evaluated.tasks();
    html! {
        section.columns {
            dl.facts {
                dt { "evaluation" } dd { (manifest.id) }
                dt { "tasks" } dd { (tasks.join(", ")) }
                dt { "documents" } dd { (format::count(data.documents as u64)) }
                @for parent in made_from { dt { (parent.role) } dd { (parent.id) " " code { (parent.content_hash.short()) } } }
                dt { "made" } dd { (format::time(manifest.created_at)) " by run " (manifest.producer.run) }
                dt { "on" } dd { (manifest.producer.device) " of " (manifest.producer.host.name) }
                dt { "spend" } dd { (Cost::new(&manifest.spend).text) }
            }
            details {
                summary { "settings" }
                (value::show_unlinked(&manifest.producer.config))
                p.muted { "seed " (manifest.producer.seed) }
            }
        }
    }
}

/// The metrics that are shares, as bars: of groups and tasks the first one each.
fn charts(data: &Gathered<'_>) -> Markup {
    let mut rows: Vec<(String, Estimate)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for row in data.evaluated.metrics.iter().filter(|row| row.is_share()) {
        if !seen.contains(&row.task.as_str()) {
            seen.push(&row.task);
            rows.push((format!("{} · {}", row.task, row.name()), row.estimate));
        }
    }
    let left_out = rows.len().saturating_sub(MAX_BARS);
    rows.truncate(MAX_BARS);
    html! {
        @if !rows.is_empty() {
            section {
                h2 { "At a glance" }
                (chart::bars(&rows))
                @if left_out > 0 { p.muted { (left_out) " more stand in the table." } }
            }
        }
    }
}

fn metrics(data: &Gathered<'_>) -> Markup {
    html! {
        section {
            h2 { "Metrics" }
            div.scroll { table {
                thead { tr {
                    th { "task" } th { "metric" } th.number { "value" } th { "95 % interval" } th { "better" }
                    th.number { "documents" } th.number { "too long" } th.number { "few-shot" } th.number { "version" }
                } }
                tbody { @for row in &data.evaluated.metrics { tr {
                    td { @if row.subtasks.is_empty() { (row.task) } @else { strong { (row.task) } } }
                    td { (row.name()) }
                    td.number { strong { (shown(row, row.estimate.value)) } }
                    td.nowrap { (ends(&row.estimate, &|value| shown(row, value))) }
                    td { @match row.higher_is_better { Some(true) => "higher", Some(false) => "lower", None => (format::UNKNOWN) } }
                    td.number { (format::count(row.n)) }
                    td.number { (format::count(row.too_long)) }
                    td.number { @match row.num_fewshot { Some(shots) => (shots), None => (format::UNKNOWN) } }
                    td.number { @match &row.version { Some(version) => (format::text(version)), None => (format::UNKNOWN) } }
                } } }
            } }
        }
    }
}

fn shown(row: &MetricRow, value: f64) -> String {
    if row.is_share() { percent(value) } else { format::number(value) }
}

/// The first metric of each task by domain, where there are several.
fn domains(data: &Gathered<'_>) -> Markup {
    let tasks = data.evaluated.tasks();
    let firsts = tasks.iter().filter_map(|task| data.evaluated.of_task(task).next());
    let sliced: Vec<&MetricRow> = firsts.filter(|row| row.by_domain.len() > 1).collect();
    html! {
        @if !sliced.is_empty() {
            section {
                h2 { "By domain" }
                @for row in sliced {
                    h3 { (row.task) span.muted { " · " (row.name()) } }
                    @let rows: Vec<(String, Estimate)> = row.by_domain.iter().take(MAX_BARS).map(|(name, estimate)| (name.clone(), *estimate)).collect();
                    @if row.is_share() { (chart::bars(&rows)) }
                    @else { div.scroll { table.plain { tbody { @for (name, estimate) in &rows { tr {
                        th scope="row" { (name) } td { (format::number(estimate.value)) " " span.muted { (ends(estimate, &format::number)) } }
                    } } } } } }
                    @if row.by_domain.len() > MAX_BARS { p.muted { (row.by_domain.len() - MAX_BARS) " more are left out." } }
                }
            }
        }
    }
}

fn calibration(data: &Gathered<'_>) -> Markup {
    html! {
        @if !data.config.calibrations.is_empty() {
            section {
                h2 { "How sure, how often right" }
                p.muted { "Each dot stands for documents of whose choice the model was about equally sure; on the diagonal it is as often right as it is sure. Lines are 95 % intervals." }
                div.grid { @for found in &data.config.calibrations {
                    figure.reliability {
                        figcaption { (found.task) span.muted { " · mean distance " (percent(found.expected_error)) " over " (format::count(found.n)) " documents" } }
                        (chart::reliability(&found.bins))
                    }
                } }
            }
        }
    }
}

fn judged(data: &Gathered<'_>) -> Markup {
    html! {
        @if !data.verdicts.is_empty() {
            section {
                h2 { "Judged" }
                p.muted { "Verdicts: " @for (at, id) in data.verdicts.iter().enumerate() { @if at > 0 { ", " } (id) } }
                @if !data.config.judged.is_empty() {
                    div.scroll { table {
                        thead { tr { th { "what" } th.number { "value" } th { "95 % interval" } th.number { "items" } } }
                        tbody { @for score in &data.config.judged { tr {
                            td { (score.label) }
                            td.number { strong { (format::number(score.value.value)) } }
                            td { (ends(&score.value, &format::number)) }
                            td.number { (format::count(score.n)) }
                        } } }
                    } }
                }
            }
        }
    }
}

fn samples(data: &Gathered<'_>) -> Markup {
    html! {
        @if !data.samples.is_empty() {
            section {
                h2 { "Samples" }
                p.muted {
                    (format::count(data.samples.len() as u64)) " of " (format::count(data.documents as u64))
                    ": wrong answers before others, each task in turn, drawn with seed " (data.config.seed) "."
                }
                @for shown in &data.samples { (one(shown)) }
            }
        }
    }
}

fn one(shown: &Shown) -> Markup {
    let sample = &shown.sample;
    let cut = |text: &str| format::shorten(text, TEXT_CHARACTERS);
    html! {
        details.sample-row {
            summary {
                (parts::grade(sample.correct)) " " strong { (sample.task) } " " span.mono { (sample.id) } " "
                span.muted { (parts::tail(sample.prompt.trim_end(), 110)) }
            }
            div.sample {
                div { h3 { "Asked" } pre.text.block { (parts::tail(&sample.prompt, TEXT_CHARACTERS)) }
                    h3.push-down { "Target" } pre.text.block { (cut(sample.reference.as_deref().unwrap_or("none"))) } }
                div { h3 { "Answered" } pre.text.block.answer { (cut(sample.said())) }
                    @if let Some(found) = &sample.prediction { p.muted { "found: " (cut(found)) } } }
            }
            (sample::choices(sample, &sample.probabilities()))
            (sample::grades(sample))
            @for verdict in &shown.verdicts { (verdicts::card(verdict)) }
        }
    }
}
