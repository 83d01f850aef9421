//! One evaluation: what it measured, and the samples of a task, filtered and paged.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use nexa_core::artifact::ArtifactId;
use serde::Serialize;

use super::interval::{interval, most, percent};
use super::parts::{
    Pager, artifact_link, artifact_url, evaluation_url, grade, pager, run_link, select, tail, time,
    verdicts_url,
};
use super::{Page, Section, contamination};
use crate::evaluation::{
    Counts, Evaluated, Judged, MetricRow, Sample, SampleFilter, find, of_evaluation, samples_at,
};
use crate::format::{self, Cost};
use crate::request::{Params, encode};
use crate::server::Ui;
use crate::{Error, Result};

const PAGE_SAMPLES: usize = 25;
/// Characters of a text in the table; the sample's own page has all.
const CELL_CHARACTERS: usize = 280;

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    evaluation: ArtifactId,
    checkpoint: Option<String>,
    run: String,
    created_at: DateTime<Utc>,
    cost: Cost,
    #[serde(flatten)]
    evaluated: Evaluated,
    verdicts: Vec<ArtifactId>,
    samples: Option<Samples>,
    #[serde(skip)]
    params: Params,
}

/// A page of samples of one task.
#[derive(Debug, Serialize)]
struct Samples {
    filter: SampleFilter,
    counts: Counts,
    matching: usize,
    page: usize,
    pages: usize,
    domains: Vec<String>,
    rows: Vec<Sample>,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, id: &ArtifactId, params: &Params) -> Result<Data> {
    let evaluated = Evaluated::open(&ui.lab, id)?;
    let verdicts = of_evaluation(&ui.lab, id)?.iter().map(|artifact| artifact.id().clone()).collect();
    let filter = filter(params);
    let samples = match (&filter.task, evaluated.metrics.is_empty()) {
        (None, false) => None,
        (Some(task), _) if !evaluated.metrics.is_empty() && !evaluated.tasks().contains(&task.as_str()) => {
            return Err(no_task(&evaluated, task));
        }
        _ => Some(Samples::read(ui, &evaluated, filter, params)?),
    };
    let manifest = &evaluated.artifact.manifest;
    Ok(Data {
        evaluation: id.clone(),
        checkpoint: evaluated.checkpoint().map(str::to_owned),
        run: manifest.producer.run.to_string(),
        created_at: manifest.created_at,
        cost: Cost::new(&manifest.spend),
        verdicts,
        samples,
        evaluated,
        params: params.clone(),
    })
}

/// The error of a task that an evaluation does not have.
pub(super) fn no_task(evaluated: &Evaluated, task: &str) -> Error {
    let hint = Some(format!("it has: {}", evaluated.tasks().join(", ")));
    let name = format!("{task} of {}", evaluated.id());
    Error::Core(nexa_core::Error::NotFound { what: "task", name, hint })
}

/// The filter that an address holds.
pub(super) fn filter(params: &Params) -> SampleFilter {
    let text = |name| params.get(name).map(str::to_owned);
    let number = |name| params.get(name).and_then(|text| text.trim().parse().ok());
    SampleFilter {
        task: text("task"),
        judged: params.get("judged").and_then(Judged::parse),
        domain: text("domain"),
        search: text("q"),
        metric: text("metric"),
        min: number("min"),
        max: number("max"),
    }
}

impl Samples {
    fn read(ui: &Ui, evaluated: &Evaluated, filter: SampleFilter, params: &Params) -> Result<Self> {
        let tables = ui.tables.reader();
        let found = find(&evaluated.artifact, tables, &filter)?;
        let matching = found.positions.len();
        let pages = matching.div_ceil(PAGE_SAMPLES).max(1);
        let page = params.number("page").unwrap_or(1).clamp(1, pages);
        let shown = found.positions.iter().skip((page - 1) * PAGE_SAMPLES).take(PAGE_SAMPLES);
        let rows = samples_at(&evaluated.artifact, tables, &shown.copied().collect::<Vec<_>>())?;
        let domains = found.domains.into_iter().collect();
        Ok(Self { filter, counts: found.counts, matching, page, pages, domains, rows })
    }
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let id = &data.evaluation;
    let task = data.samples.as_ref().and_then(|samples| samples.filter.task.as_deref());
    let body = html! {
        p.crumbs {
            a href=(format!("/leaderboard?project={}", encode(&id.project))) { "leaderboard" } " / "
            @if task.is_some() { a href=(evaluation_url(id)) { (id.stem()) } } @else { (id.stem()) }
        }
        h1 { @match task { Some(task) => (task), None => "Evaluation" } }
        section { (facts(data)) }
        (metrics(data, task))
        @if let Some(found) = &data.evaluated.contamination { (contamination::section(found, task)) }
        @if let Some(samples) = &data.samples { (samples_section(data, samples)) }
    };
    Page::new(format!("{} {}", task.unwrap_or("evaluation"), id), Section::Leaderboard, body)
}

fn facts(data: &Data) -> Markup {
    let id = &data.evaluation;
    html! {
        dl.facts {
            dt { "checkpoint" } dd { @match &data.checkpoint { Some(checkpoint) => (artifact_link(checkpoint)), None => (format::UNKNOWN) } }
            dt { "evaluation" } dd { a href=(artifact_url(id)) { (id) } }
            dt { "lineage" } dd { a href=(format!("/lineage/{}/{}", encode(&id.project), encode(&id.stem()))) { "where it comes from" } }
            dt { "run" } dd { (run_link(&data.run)) }
            dt { "made" } dd { (time(data.created_at)) }
            dt { "spend" } dd { (data.cost.text) }
            @if !data.verdicts.is_empty() {
                dt { "judged" } dd { ul.bare { @for verdicts in &data.verdicts {
                    li { a href=(verdicts_url(verdicts)) { (verdicts.stem()) } }
                } } }
            }
        }
    }
}

/// The metrics of a task, or of all.
fn metrics(data: &Data, task: Option<&str>) -> Markup {
    let rows: Vec<&MetricRow> =
        data.evaluated.metrics.iter().filter(|metric| task.is_none_or(|task| metric.task == task)).collect();
    if rows.is_empty() {
        return html! {};
    }
    let url = evaluation_url(&data.evaluation);
    html! {
        section {
            h2 { "Metrics" }
            div.scroll { table.board {
                thead { tr {
                    @if task.is_none() { th { "task" } }
                    th { "metric" } th { "value, 95 % interval" } th.number { "documents" } th.number { "too long" }
                    th.number { "few-shot" } th.number { "version" }
                } }
                tbody { @for row in rows { tr.row {
                    @if task.is_none() { td {
                        @if row.subtasks.is_empty() { a href=(format!("{url}?task={}", encode(&row.task))) { (row.task) } }
                        @else { strong { (row.task) } " " span.muted { (format::things(row.subtasks.len(), "task")) } }
                    } }
                    td { (row.name()) }
                    td { (estimate(row)) }
                    td.number { (format::count(row.n)) }
                    td.number { (format::count(row.too_long)) }
                    td.number { @match row.num_fewshot { Some(shots) => (shots), None => (format::UNKNOWN) } }
                    td.number { @match &row.version { Some(version) => (format::text(version)), None => (format::UNKNOWN) } }
                } } }
            } }
            @if task.is_some() { (domains(data, task)) }
        }
    }
}

/// A metric's value on a scale of its own.
pub(crate) fn estimate(row: &MetricRow) -> Markup {
    if row.is_share() {
        interval(&row.estimate, 1.0, &percent)
    } else {
        interval(&row.estimate, most(std::iter::once(&row.estimate)), &format::number)
    }
}

/// The first metric of a task by domain, where there are several.
fn domains(data: &Data, task: Option<&str>) -> Markup {
    let first =
        task.and_then(|task| data.evaluated.of_task(task).next()).filter(|row| row.by_domain.len() > 1);
    let Some(row) = first else { return html! {} };
    let is_share = row.is_share();
    let scale = if is_share { 1.0 } else { most(row.by_domain.values()) };
    html! {
        details {
            summary { (row.name()) " by domain" }
            div.scroll { table.board { tbody { @for (domain, estimate) in &row.by_domain { tr {
                td { a href=(link(data, &data.params.with("domain", domain).with("page", ""))) { (domain) } }
                td { @if is_share { (interval(estimate, scale, &percent)) } @else { (interval(estimate, scale, &format::number)) } }
            } } } } }
        }
    }
}

fn link(data: &Data, params: &Params) -> String {
    format!("{}{}#samples", evaluation_url(&data.evaluation), params.to_query())
}

fn samples_section(data: &Data, samples: &Samples) -> Markup {
    let filter = &samples.filter;
    let url = evaluation_url(&data.evaluation);
    html! {
        section #samples {
            h2 { "Samples" }
            (filter_form(data, samples))
            ul.chips {
                @for (judged, word) in Judged::ALL {
                    @let active = filter.judged == Some(judged);
                    @if samples.counts.of(judged) > 0 || active {
                        li { a.chip href=(link(data, &data.params.with("page", "").with("judged", if active { "" } else { word })))
                            aria-current=[active.then_some("true")] {
                            (word) " " span.muted { (format::count(samples.counts.of(judged) as u64)) }
                        } }
                    }
                }
            }
            @if samples.rows.is_empty() { p.muted { "No sample fits." } } @else { (table(&url, data, samples)) }
            (pager(&Pager {
                url: &url, params: &data.params, anchor: "#samples", page: samples.page, pages: samples.pages,
                matching: samples.matching, what: "sample",
            }))
        }
    }
}

fn filter_form(data: &Data, samples: &Samples) -> Markup {
    let filter = &samples.filter;
    let url = evaluation_url(&data.evaluation);
    let task = filter.task.as_deref();
    // Rows of held-out splits are graded right or wrong and nothing else.
    let has_values = filter.metric.is_some() || samples.rows.iter().any(|sample| !sample.metrics.is_empty());
    let of_task = data.evaluated.metrics.iter().filter(|row| has_values && task == Some(row.task.as_str()));
    let names: Vec<String> = of_task.map(MetricRow::name).collect();
    let is_narrowed = SampleFilter { task: filter.task.clone(), ..SampleFilter::default() } != *filter;
    html! {
        form.filter method="get" action=(url) {
            input type="hidden" name="task" value=[task];
            input type="hidden" name="judged" value=[data.params.get("judged")];
            input type="search" name="q" placeholder="text in prompt, answer, target" value=[filter.search.as_deref()] aria-label="search";
            @if samples.domains.len() > 1 { (select("domain", "any domain", &samples.domains, filter.domain.as_deref())) }
            @if !names.is_empty() {
                (select("metric", "any metric", &names, filter.metric.as_deref()))
                input.bound type="number" step="any" name="min" placeholder="from" value=[data.params.get("min")] aria-label="smallest value of the metric";
                input.bound type="number" step="any" name="max" placeholder="to" value=[data.params.get("max")] aria-label="largest value of the metric";
            }
            button { "filter" }
            @if is_narrowed { a href=(format!("{url}{}#samples", Params::default().with("task", task.unwrap_or_default()).to_query())) { "show all" } }
        }
    }
}

fn table(url: &str, data: &Data, samples: &Samples) -> Markup {
    let has_domains = samples.rows.iter().any(|sample| sample.domain.is_some());
    html! {
        div.scroll { table.rows {
            thead { tr {
                th.number { "#" } th { "grade" } th { "prompt, its end" } th { "answer" } th { "found" } th { "target" }
                @if has_domains { th { "domain" } }
                th { "metrics" }
            } }
            tbody { @for sample in &samples.rows { tr.row {
                td.number { a href=(format!("{url}/{}{}", sample.number, data.params.with("page", "").to_query())) { (sample.number) } }
                td { (grade(sample.correct)) }
                td { div.cell { (tail(&sample.prompt, CELL_CHARACTERS)) } }
                td { div.cell { (format::shorten(sample.said(), CELL_CHARACTERS)) } }
                td { div.cell { (format::shorten(sample.prediction.as_deref().unwrap_or_default(), CELL_CHARACTERS)) } }
                td { div.cell { (tail(sample.reference.as_deref().unwrap_or_default(), CELL_CHARACTERS)) } }
                @if has_domains { td { (sample.domain.as_deref().unwrap_or(format::UNKNOWN)) } }
                td.small.nowrap { @for (name, value) in &sample.metrics {
                    div { span.muted { (name.strip_suffix(",none").unwrap_or(name)) } " " (format::number(*value)) }
                } }
            } } }
        } }
    }
}
