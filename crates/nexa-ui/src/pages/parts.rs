//! Pieces of markup that several pages share.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use nexa_core::artifact::ArtifactId;
use nexa_core::run::State;

use crate::format::{self, Cost};
use crate::request::encode;
use crate::scan::{Problem, RunRow};

/// Where an artifact is shown.
pub(crate) fn artifact_url(id: &ArtifactId) -> String {
    format!("/data/{}/{}", encode(&id.project), encode(&id.stem()))
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
