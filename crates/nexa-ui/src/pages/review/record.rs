//! One row under review: what was asked and answered, what the gates said, and the decision.

use maud::{Markup, html};
use nexa_core::artifact::ArtifactId;
use nexa_core::review::{Decision, PASSED, Progress, Record, Session, Standing, Status, Verdict};
use serde::Serialize;
use serde_json::Value;

use super::{opinion, reviewer_form, status};
use crate::desk::{self, Desk};
use crate::format;
use crate::pages::parts::{artifact_link, select};
use crate::pages::{Page, Section, value};
use crate::request::Params;
use crate::server::Ui;
use crate::{Result, assets};

/// The decisions, their keys and what they say.
const DECISIONS: [(Verdict, &str, &str); 4] = [
    (Verdict::Accept, "a", "accept"),
    (Verdict::Reject, "r", "reject"),
    (Verdict::Edit, "e", "edit"),
    (Verdict::Regenerate, "x", "regenerate"),
];

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    artifact: ArtifactId,
    reviewer: Option<String>,
    progress: Option<Progress>,
    gates: Vec<String>,
    scores: Vec<String>,
    matching: usize,
    /// Rows that fit the filter, whatever their status, and are open.
    open: usize,
    record: Option<Shown>,
    cut_lines: Vec<String>,
    #[serde(skip)]
    params: Params,
    #[serde(skip)]
    token: String,
}

/// The row that is shown.
#[derive(Debug, Serialize)]
struct Shown {
    row_id: String,
    /// Which of those that fit it is, from 1, if it fits.
    position: Option<usize>,
    previous: Option<String>,
    next: Option<String>,
    gate: Option<String>,
    gate_reason: Option<String>,
    system: Option<String>,
    prompt: String,
    completion: String,
    reference: Option<String>,
    scores: Vec<(String, f64)>,
    rest: Vec<(String, Value)>,
    standing: Standing,
    /// What others decided, where the reviewer may know it.
    others: Vec<(String, Decision)>,
    /// Whether a disagreement is settled here.
    adjudicates: bool,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, id: &ArtifactId, params: &Params) -> Result<Data> {
    let desk = Desk::open(ui, id)?;
    let mut data = Data {
        artifact: id.clone(),
        reviewer: None,
        progress: None,
        gates: desk.deck.gates(),
        scores: desk.deck.scores(),
        matching: 0,
        open: 0,
        record: None,
        cut_lines: Vec::new(),
        params: params.clone(),
        token: ui.token().to_owned(),
    };
    let Some(reviewer) = params.get("reviewer") else { return Ok(data) };
    let session = desk.session(reviewer)?;
    let filter = desk::filter(params);
    let matching = session.matching(&filter);
    let is_open = |index: &&usize| {
        desk.deck.get(**index).is_some_and(|record| session.history().status(record.row_id).is_open())
    };
    let any_status = session.matching(&nexa_core::review::Filter { status: None, ..filter.clone() });
    let chosen = params.get("row").and_then(|row| desk.deck.find(row));
    let first_open = || session.next_open(&filter, None).filter(|index| matching.contains(index));
    let index = chosen.map(|record| record.index).or_else(first_open).or(matching.first().copied());
    data.reviewer = Some(session.reviewer().to_owned());
    data.progress = Some(session.progress());
    data.matching = matching.len();
    data.open = any_status.iter().filter(is_open).count();
    data.cut_lines = session.cut_lines();
    data.record = index.and_then(|index| desk.deck.get(index)).map(|record| {
        let name = |index: &usize| desk.deck.get(*index).map(|record| record.row_id.to_owned());
        Shown {
            position: matching.binary_search(&record.index).ok().map(|position| position + 1),
            previous: matching.iter().rfind(|index| **index < record.index).and_then(name),
            next: matching.iter().find(|index| **index > record.index).and_then(name),
            ..shown(&record, &session, params)
        }
    });
    Ok(data)
}

fn shown(record: &Record<'_>, session: &Session<'_>, params: &Params) -> Shown {
    let dispute = params.get("adjudicate").map(|_| session.dispute(record.row_id)).unwrap_or_default();
    let adjudicates = !dispute.is_empty();
    let others = if adjudicates { dispute } else { session.others(record.row_id) };
    Shown {
        row_id: record.row_id.to_owned(),
        position: None,
        previous: None,
        next: None,
        gate: record.gate().map(str::to_owned),
        gate_reason: record.gate_reason().map(str::to_owned),
        system: record.system().map(str::to_owned),
        prompt: record.prompt().to_owned(),
        completion: record.completion().to_owned(),
        reference: record.reference().map(str::to_owned),
        scores: record.scores(),
        rest: record.rest().map(|(column, value)| (column.to_owned(), value.clone())).collect(),
        standing: session.standing(record.row_id),
        others: others.into_iter().map(|(name, decision)| (name.to_owned(), decision.clone())).collect(),
        adjudicates,
    }
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let url = desk::url(&data.artifact);
    let own = Params::default().with("reviewer", data.reviewer.as_deref().unwrap_or_default());
    let body = html! {
        p.crumbs { a href=(format!("/review{}", own.to_query())) { "review" } " / " (artifact_link(&data.artifact.to_string())) }
        @if !data.cut_lines.is_empty() {
            section.problems role="alert" { ul { @for line in &data.cut_lines { li { (line) } } } }
        }
        section.problems #failed role="alert" hidden {}
        @match &data.progress {
            None => { h1 { "Review " (data.artifact) } (reviewer_form(&url, None)) },
            Some(progress) => {
                (progress_bar(data, progress, &format!("{url}/agreement{}", own.to_query())))
                (filter_form(data, &url))
                @match &data.record {
                    None => p.muted { "No row fits." },
                    Some(record) => (record_section(data, record, &url)),
                }
                (bulk_form(data, &url))
            },
        }
    };
    let page = Page::new(format!("Review {}", data.artifact), Section::Review, body);
    Page { extra_script: Some(assets::review()), ..page }
}

fn progress_bar(data: &Data, progress: &Progress, agreement: &str) -> Markup {
    let decided = progress.decided();
    html! {
        div.review-bar {
            progress max=(progress.rows) value=(decided) aria-label="decided" {}
            span { strong { (format::count(decided as u64)) } " of " (format::count(progress.rows as u64)) " decided" }
            span.muted {
                (progress.accept) " accepted, " (progress.reject) " rejected, " (progress.edit) " edited, "
                (progress.regenerate) " to regenerate"
                @if progress.draft > 0 { ", " (format::things(progress.draft, "draft")) }
            }
            span.push {
                "as " strong { (data.reviewer.as_deref().unwrap_or_default()) } " "
                a href=(desk::url(&data.artifact)) #change-reviewer { "change" } " · "
                a href=(agreement) { "agreement" }
            }
        }
        @if data.open == 0 && data.matching > 0 { p.done { "Everything here is decided." } }
    }
}

fn filter_form(data: &Data, url: &str) -> Markup {
    let params = &data.params;
    let statuses = Status::ALL.map(|status| status.as_str().to_owned());
    let narrowed = ["gate", "status", "q", "score"].iter().any(|name| params.get(name).is_some());
    html! {
        form.filter method="get" action=(url) {
            input type="hidden" name="reviewer" value=[data.reviewer.as_deref()];
            input type="search" name="q" placeholder="text in prompt or completion" value=[params.get("q")] aria-label="search";
            (select("gate", "any gate", &data.gates, params.get("gate")))
            (select("status", "any status", &statuses, params.get("status")))
            @if !data.scores.is_empty() {
                (select("score", "any number", &data.scores, params.get("score")))
                input.bound type="number" step="any" name="min" placeholder="from" value=[params.get("min")] aria-label="at least";
                input.bound type="number" step="any" name="max" placeholder="to" value=[params.get("max")] aria-label="at most";
            }
            button { "filter" }
            @if narrowed {
                a href=(format!("{url}{}", Params::default().with("reviewer", data.reviewer.as_deref().unwrap_or_default()).to_query())) { "show all" }
            }
        }
    }
}

fn record_section(data: &Data, record: &Shown, url: &str) -> Markup {
    let link = |row: &str| format!("{url}{}", data.params.with("row", row).with("adjudicate", "").to_query());
    html! {
        section #record data-row=(record.row_id) {
            div.record-head {
                h1.mono { (record.row_id) }
                (status(record.standing.status()))
                (gate(record))
                span.push.muted {
                    @if let Some(position) = record.position { (format::count(position as u64)) " of " }
                    @else { "not one of " }
                    (format::things(data.matching, "row"))
                    " " @if let Some(row) = &record.previous { a rel="prev" href=(link(row)) { "‹ previous" } }
                    " " @if let Some(row) = &record.next { a rel="next" href=(link(row)) { "next ›" } }
                }
            }
            @if record.adjudicates { p.notice { "These reviewers disagree; your decision settles it." } }
            @if !record.others.is_empty() {
                div.opinions { @for (name, decision) in &record.others { (opinion(name, decision)) } }
            }
            div.record {
                div {
                    @if let Some(system) = &record.system { h3 { "System" } pre.text.block { (system) } }
                    h3 { "Prompt" } pre.text.block { (record.prompt) }
                    h3 { "Completion" } pre.text.block.answer #completion { (record.completion) }
                    (decision_form(data, record, url))
                }
                aside {
                    h3 { "Reference" }
                    @match &record.reference { Some(text) => pre.text.block { (text) }, None => p.muted { "none is known" } }
                    @if !record.scores.is_empty() {
                        h3 { "Numbers" }
                        table.plain { tbody { @for (name, score) in &record.scores {
                            tr { th scope="row" { (name) } td.number { (format::number(*score)) } }
                        } } }
                    }
                    @if !record.rest.is_empty() {
                        details {
                            summary { (format::things(record.rest.len(), "other column")) }
                            dl.facts { @for (column, found) in &record.rest { dt { (column) } dd { (value::show(found)) } } }
                        }
                    }
                }
            }
        }
    }
}

fn gate(record: &Shown) -> Markup {
    html! {
        @match &record.gate {
            Some(gate) => span.gate-verdict {
                "rejected by " strong { (gate) }
                @if let Some(reason) = &record.gate_reason { ": " (reason) }
            },
            None => span.gate-verdict.ok { (PASSED) " the gates" },
        }
    }
}

/// The decision. Without the script it is a plain form, whose text is always open.
fn decision_form(data: &Data, record: &Shown, url: &str) -> Markup {
    let standing = &record.standing;
    html! {
        form #decide method="post" action=(format!("{url}{}", data.params.to_query())) {
            input type="hidden" name="token" value=(data.token);
            input type="hidden" name="reviewer" value=[data.reviewer.as_deref()];
            input type="hidden" name="row" value=(record.row_id);
            @if record.adjudicates { input type="hidden" name="adjudicate" value="1"; }
            div #editor {
                h3 { "Edited" }
                button #reset type="button" hidden { "take the original again" }
                // A newline right after the tag is not part of the text.
                textarea #text name="text" rows="8" spellcheck="true" aria-label="edited text" {
                    "\n" (standing.text().unwrap_or(&record.completion))
                }
                div #changes hidden { h3 { "Changes" } pre.text.block #diff {} }
            }
            label.reason for="reason" { "Reason " kbd { "n" } }
            input #reason name="reason" value=[standing.reason()] placeholder="why, if it needs saying" autocomplete="off";
            div.decisions {
                @for (verdict, key, word) in DECISIONS {
                    button class=(format!("decision {verdict}")) name="action" value=(verdict) data-key=(key) { kbd { (key) } " " (word) }
                }
                button.decision name="action" value="undo" data-key="u" { kbd { "u" } " undo" }
                output #saved role="status" {}
            }
        }
    }
}

fn bulk_form(data: &Data, url: &str) -> Markup {
    html! {
        @if data.matching > 0 {
            details.bulk {
                summary { "Decide on all " (format::things(data.matching, "row")) " that fit" }
                form.filter method="post" action=(format!("{url}{}", data.params.with("row", "").to_query())) {
                    input type="hidden" name="token" value=(data.token);
                    input type="hidden" name="reviewer" value=[data.reviewer.as_deref()];
                    input type="hidden" name="action" value="bulk";
                    select name="verdict" aria-label="decision" {
                        @for verdict in Verdict::ALL.into_iter().filter(|verdict| *verdict != Verdict::Edit) {
                            option value=(verdict) { (verdict) }
                        }
                    }
                    label for="count" { "To confirm, type how many: " strong { (data.matching) } }
                    input.bound #count name="count" inputmode="numeric" required autocomplete="off";
                    button { "decide on all" }
                }
            }
        }
    }
}
