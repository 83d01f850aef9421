//! Pieces of markup that several pages share.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use nexa_core::artifact::ArtifactId;
use nexa_core::run::State;

use crate::format::{self, Cost};
use crate::request::{Params, encode};
use crate::scan::{Problem, RunRow};

/// Where an artifact is shown.
pub(crate) fn artifact_url(id: &ArtifactId) -> String {
    format!("/data/{}/{}", encode(&id.project), encode(&id.stem()))
}

/// Where an evaluation is shown, with its samples.
pub(crate) fn evaluation_url(id: &ArtifactId) -> String {
    format!("/evaluation/{}/{}", encode(&id.project), encode(&id.stem()))
}

/// Where two evaluations stand side by side.
pub(crate) fn versus_url(a: &ArtifactId, b: &ArtifactId, task: &str) -> String {
    let params = Params::default().with("a", &a.to_string()).with("b", &b.to_string()).with("task", task);
    format!("/versus{}", params.to_query())
}

/// Where verdicts are listed.
pub(crate) fn verdicts_url(id: &ArtifactId) -> String {
    format!("/verdicts/{}/{}", encode(&id.project), encode(&id.stem()))
}

/// A link to an artifact, where a text is the id of one.
pub(crate) fn artifact_link(text: &str) -> Markup {
    match text.parse::<ArtifactId>() {
        Ok(id) => html! { a href=(artifact_url(&id)) { (text) } },
        Err(_) => html! { (text) },
    }
}

/// A link to an artifact of a project that is plain from its surroundings.
pub(crate) fn own_artifact_link(project: &str, text: &str) -> Markup {
    match text.parse::<ArtifactId>() {
        Ok(id) if id.project == project => html! { a href=(artifact_url(&id)) title=(id) { (id.stem()) } },
        _ => artifact_link(text),
    }
}

/// A link to a run.
pub(crate) fn run_link(id: &str) -> Markup {
    html! { a.mono.nowrap href=(format!("/runs/{}", encode(id))) { (id) } }
}

/// How a run stands, as a coloured word.
pub(crate) fn status(status: State) -> Markup {
    html! { span class=(format!("status {}", status.as_str())) { (status.as_str()) } }
}

/// A moment.
pub(crate) fn time(at: DateTime<Utc>) -> Markup {
    html! { time datetime=(at.to_rfc3339()) { (format::time(at)) } }
}

/// A cost in a table, unknown told from 0.
pub(crate) fn cost(cost: &Cost) -> Markup {
    html! { span title=(cost.text) { (cost.short) } }
}

/// Files that could not be read, above everything else.
pub(crate) fn problems(problems: &[Problem]) -> Markup {
    html! {
        @if !problems.is_empty() {
            section.problems role="alert" {
                h2 { (format::things(problems.len(), "file")) " could not be read" }
                ul { @for problem in problems { li { code { (problem.file) } " " (problem.message) } } }
            }
        }
    }
}

/// A table of runs; with boxes to choose runs to compare where `choose` is set.
pub(crate) fn run_table(rows: &[RunRow], choose: bool) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr {
                    @if choose { th { span.hidden { "compare" } } }
                    th { "run" } th { "stage" } th { "project" } th { "status" } th { "started" }
                    th.number { "duration" } th.number { "spend" } th { "output" }
                } }
                tbody { @for run in rows {
                    tr.row {
                        @if choose {
                            td { input type="checkbox" name="run" value=(run.id) aria-label=(format!("compare {}", run.id)); }
                        }
                        td { (run_link(&run.id)) }
                        td { (run.stage) }
                        td { (run.project) }
                        td { (status(run.status)) }
                        td.nowrap { (time(run.started_at)) }
                        td.number { (format::maybe_duration(run.seconds)) }
                        td.number { (cost(&run.cost)) }
                        td { @match &run.output {
                            Some(id) => (own_artifact_link(&run.project, &id.to_string())),
                            None => span.muted { (run.name) },
                        } }
                    }
                } }
            }
        }
    }
}

/// A form that narrows a listing down.
pub(crate) struct FilterForm<'a> {
    /// The page of the listing.
    pub(crate) action: &'a str,
    /// What the text is looked for in.
    pub(crate) searched: &'a str,
    /// The text.
    pub(crate) search: Option<&'a str>,
    /// What may be chosen.
    pub(crate) choices: &'a [Choice<'a>],
    /// Whether something is left out, so that there is a way back to all.
    pub(crate) is_narrowed: bool,
}

/// A property by which a listing is narrowed down.
pub(crate) struct Choice<'a> {
    /// The parameter.
    pub(crate) name: &'a str,
    /// What choosing nothing is called.
    pub(crate) every: &'a str,
    /// The values.
    pub(crate) values: &'a [String],
    /// The value that was chosen.
    pub(crate) chosen: Option<&'a str>,
}

impl<'a> Choice<'a> {
    /// A choice among values, and the one that was made.
    pub(crate) fn new(name: &'a str, every: &'a str, values: &'a [String], chosen: Option<&'a str>) -> Self {
        Self { name, every, values, chosen }
    }
}

/// Shows a filter form.
pub(crate) fn filter_form(form: &FilterForm<'_>) -> Markup {
    html! {
        form.filter method="get" action=(form.action) {
            input type="search" name="q" placeholder=(form.searched) value=[form.search] aria-label="search";
            @for choice in form.choices { (select(choice.name, choice.every, choice.values, choice.chosen)) }
            button { "filter" }
            @if form.is_narrowed { a href=(form.action) { "show all" } }
        }
    }
}

/// A choice in a filter form; the first entry chooses nothing.
pub(crate) fn select(name: &str, every: &str, choices: &[String], chosen: Option<&str>) -> Markup {
    html! {
        select name=(name) aria-label=(name) {
            option value="" { (every) }
            @for choice in choices {
                option value=(choice) selected[chosen == Some(choice.as_str())] { (choice) }
            }
        }
    }
}

/// Whether an answer is right, as a coloured word.
pub(crate) fn grade(correct: Option<bool>) -> Markup {
    match correct {
        Some(true) => html! { span.right { "right" } },
        Some(false) => html! { span.wrong { "wrong" } },
        None => html! { span.muted { "ungraded" } },
    }
}

/// The last characters of a text, marked where some are missing: of a prompt the end tells what it asks.
pub(crate) fn tail(text: &str, characters: usize) -> String {
    let skipped = text.chars().count().saturating_sub(characters);
    if skipped == 0 {
        text.to_owned()
    } else {
        format!("…{}", text.chars().skip(skipped).collect::<String>())
    }
}

/// Where a listing is, and how to go on.
pub(crate) struct Pager<'a> {
    /// The page of the listing.
    pub(crate) url: &'a str,
    /// What narrows it down.
    pub(crate) params: &'a Params,
    /// The part of the page to come back to, with its `#`.
    pub(crate) anchor: &'a str,
    pub(crate) page: usize,
    pub(crate) pages: usize,
    pub(crate) matching: usize,
    /// What is listed, in the singular.
    pub(crate) what: &'a str,
}

/// Shows the way through a listing.
pub(crate) fn pager(pager: &Pager<'_>) -> Markup {
    let link = |page: usize| {
        format!("{}{}{}", pager.url, pager.params.with("page", &page.to_string()).to_query(), pager.anchor)
    };
    html! {
        p.bar-below {
            @if pager.page > 1 { a rel="prev" href=(link(pager.page - 1)) { "‹ previous" } }
            span.muted { (format::things(pager.matching, pager.what)) ", page " (pager.page) " of " (pager.pages) }
            @if pager.page < pager.pages { a rel="next" href=(link(pager.page + 1)) { "next ›" } }
        }
    }
}
