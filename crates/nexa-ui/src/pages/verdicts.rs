//! What judges said: verdicts by judge, criterion and score, each with its explanation.

use std::collections::BTreeMap;

use maud::{Markup, html};
use nexa_core::artifact::{ArtifactId, Store};
use nexa_core::judging::{FIRST_BETTER, Order, RULES, SECOND_BETTER, TIE, Verdict};
use serde::Serialize;

use super::parts::{Pager, artifact_link, artifact_url, evaluation_url, pager, select};
use super::{Page, Section};
use crate::evaluation::{VerdictFilter, Verdicts, criteria_of, verdicts_at};
use crate::request::Params;
use crate::server::Ui;
use crate::{Result, format};

const PAGE_VERDICTS: usize = 25;

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    artifact: ArtifactId,
    /// The evaluation that was judged; answers of a teacher are none.
    evaluation: Option<ArtifactId>,
    judged: Vec<String>,
    filter: VerdictFilter,
    #[serde(flatten)]
    found: Verdicts,
    matching: usize,
    page: usize,
    pages: usize,
    verdicts: Vec<Verdict>,
    #[serde(skip)]
    params: Params,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, id: &ArtifactId, params: &Params) -> Result<Data> {
    let artifact = Store::new(&ui.lab).get(id)?;
    let tables = ui.tables.reader();
    let filter = filter(params);
    let found = Verdicts::find(&artifact, tables, &filter)?;
    let matching = found.positions.len();
    let pages = matching.div_ceil(PAGE_VERDICTS).max(1);
    let page = params.number("page").unwrap_or(1).clamp(1, pages);
    let shown = found.positions.iter().skip((page - 1) * PAGE_VERDICTS).take(PAGE_VERDICTS);
    let verdicts = verdicts_at(&artifact, tables, &shown.copied().collect::<Vec<_>>())?;
    let parents = &artifact.manifest.parents;
    let evaluation = parents.iter().find(|parent| parent.role == "evaluation");
    Ok(Data {
        artifact: id.clone(),
        evaluation: evaluation.and_then(|parent| parent.id.parse().ok()),
        judged: parents.iter().filter(|parent| !parent.is_file()).map(|parent| parent.id.clone()).collect(),
        filter,
        found,
        matching,
        page,
        pages,
        verdicts,
        params: params.clone(),
    })
}

fn filter(params: &Params) -> VerdictFilter {
    let text = |name| params.get(name).map(str::to_owned);
    let number = |name| params.get(name).and_then(|text| text.trim().parse().ok());
    VerdictFilter {
        judge: text("judge"),
        criterion: text("criterion"),
        min: number("min"),
        max: number("max"),
        unreadable: params.get("unreadable").is_some(),
        search: text("q"),
    }
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let id = &data.artifact;
    let url = super::parts::verdicts_url(id);
    let body = html! {
        p.crumbs { a href=(artifact_url(id)) { (id.stem()) } " / verdicts on "
            @for (at, judged) in data.judged.iter().enumerate() { @if at > 0 { ", " } (artifact_link(judged)) }
        }
        h1 { "Verdicts" }
        (filter_form(data, &url))
        @if data.verdicts.is_empty() { p.muted { "No verdict fits." } }
        @for verdict in &data.verdicts {
            @if let Some(evaluation) = &data.evaluation { p.verdict-place { (sample_link(evaluation, verdict)) } }
            @else { p.verdict-place { span.mono { (verdict.id) } } }
            (card(verdict))
        }
        (pager(&Pager {
            url: &url, params: &data.params, anchor: "", page: data.page, pages: data.pages,
            matching: data.matching, what: "verdict",
        }))
    };
    Page::new(format!("{id} verdicts"), Section::Leaderboard, body)
}

fn filter_form(data: &Data, url: &str) -> Markup {
    let filter = &data.filter;
    let judges: Vec<String> = data.found.judges.keys().cloned().collect();
    let criteria: Vec<String> = data.found.criteria.iter().cloned().collect();
    html! {
        form.filter method="get" action=(url) {
            input type="search" name="q" placeholder="text in explanations" value=[filter.search.as_deref()] aria-label="search";
            @if judges.len() > 1 { (select("judge", "every judge", &judges, filter.judge.as_deref())) }
            @if !criteria.is_empty() { (select("criterion", "the whole score", &criteria, filter.criterion.as_deref())) }
            input.bound type="number" step="any" name="min" placeholder="from" value=[data.params.get("min")] aria-label="smallest score";
            input.bound type="number" step="any" name="max" placeholder="to" value=[data.params.get("max")] aria-label="largest score";
            @if data.found.unreadable > 0 {
                label { input type="checkbox" name="unreadable" value="1" checked[filter.unreadable];
                    " unreadable (" (format::count(data.found.unreadable as u64)) ")" }
            }
            button { "filter" }
            @if *filter != VerdictFilter::default() { a href=(url) { "show all" } }
        }
    }
}

fn sample_link(evaluation: &ArtifactId, verdict: &Verdict) -> Markup {
    let mut params = Params::default().with("id", &verdict.id);
    if let Some(task) = &verdict.task {
        params = params.with("task", task);
    }
    html! {
        a href=(format!("{}/find{}", evaluation_url(evaluation), params.to_query())) { (verdict.id) }
        @if let Some(task) = &verdict.task { span.muted { " of " (task) } }
        @if let Some(domain) = &verdict.domain { span.muted { " · " (domain) } }
    }
}

/// Shows a verdict in full.
pub(crate) fn card(verdict: &Verdict) -> Markup {
    let judge = if verdict.judge == RULES { "rules, no model" } else { verdict.judge.as_str() };
    let criteria: BTreeMap<String, f64> = verdict.decisions.as_deref().map(criteria_of).unwrap_or_default();
    html! {
        div.opinion {
            p {
                strong { (judge) } " " (score(verdict))
                @if let Some(expected) = verdict.expected_score { span.muted { " · " (format::number(expected)) " by probabilities" } }
                @if let Some(turn) = verdict.turn { span.muted { " · turn " (turn) } }
                @if verdict.sample_index > 0 { span.muted { " · sample " (verdict.sample_index + 1) } }
                @if verdict.repeats > 0 { span.muted { " · asked " (verdict.repeats + 1) " times" } }
            }
            @if let Some(model) = &verdict.model {
                p.muted.small { "of " (model) @if let Some(other) = &verdict.other_model { " against " (other) } }
            }
            @if !criteria.is_empty() {
                p { @for (name, value) in &criteria { span.chip { (name) " " strong { (format::number(*value)) } } " " } }
            }
            @if let Some(explanation) = &verdict.explanation { pre.text { (explanation) } }
            @if let Some(problem) = &verdict.problem { p.wrong { "could not be read: " (problem) } }
            @if let Some(text) = &verdict.text { pre.text.block { (text) } }
        }
    }
}

/// A score; of two answers, which one is better.
fn score(verdict: &Verdict) -> Markup {
    let Some(score) = verdict.score else { return html! { span.wrong { "no verdict" } } };
    let Some(order) = verdict.order else { return html! { strong { (format::number(score)) } } };
    let is = |known: f64| score == known;
    let first_won = if order == Order::Forward { is(FIRST_BETTER) } else { is(SECOND_BETTER) };
    let shown = if order == Order::Forward { "shown first" } else { "shown second" };
    let (class, word) = match (is(TIE), first_won) {
        (true, _) => ("muted", "neither is better"),
        (false, true) => ("right", "this answer is better"),
        (false, false) => ("wrong", "the other answer is better"),
    };
    html! { strong class=(class) { (word) } span.muted { " · this one was " (shown) } }
}
