//! Every run, filtered by plain forms.

use std::collections::BTreeSet;

use chrono::Utc;
use maud::html;
use nexa_core::run::{self, State};
use serde::Serialize;

use super::parts::{Choice, FilterForm, filter_form, problems, run_table};
use super::{Page, Section};
use crate::Result;
use crate::request::Params;
use crate::scan::{self, Problem, RunRow};
use crate::server::Ui;

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    filter: Filter,
    projects: Vec<String>,
    stages: Vec<String>,
    total: usize,
    runs: Vec<RunRow>,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Filter {
    search: Option<String>,
    project: Option<String>,
    stage: Option<String>,
    status: Option<String>,
}

impl Filter {
    fn new(params: &Params) -> Self {
        let get = |name| params.get(name).map(str::to_owned);
        Self { search: get("q"), project: get("project"), stage: get("stage"), status: get("status") }
    }

    fn accepts(&self, run: &RunRow) -> bool {
        let equals =
            |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let contains =
            |search: &String| [&run.id, &run.stage, &run.name].iter().any(|text| text.contains(search));
        equals(&self.project, &run.project)
            && equals(&self.stage, &run.stage)
            && equals(&self.status, run.status.as_str())
            && self.search.as_ref().is_none_or(contains)
    }
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, params: &Params) -> Result<Data> {
    let scan = run::list(&ui.lab)?;
    let filter = Filter::new(params);
    let now = Utc::now();
    let all: Vec<RunRow> = scan.found.iter().map(|run| RunRow::new(run, now)).collect();
    let distinct = |of: fn(&RunRow) -> &String| all.iter().map(of).cloned().collect::<BTreeSet<_>>();
    Ok(Data {
        projects: distinct(|run| &run.project).into_iter().collect(),
        stages: distinct(|run| &run.stage).into_iter().collect(),
        total: all.len(),
        runs: all.into_iter().filter(|run| filter.accepts(run)).collect(),
        filter,
        problems: scan::problems(&ui.lab, &scan.problems),
    })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let filter = &data.filter;
    let statuses = State::ALL.map(|status| status.as_str().to_owned());
    let choices = [
        Choice::new("project", "every project", &data.projects, filter.project.as_deref()),
        Choice::new("stage", "every stage", &data.stages, filter.stage.as_deref()),
        Choice::new("status", "every status", &statuses, filter.status.as_deref()),
    ];
    let form = FilterForm {
        action: "/runs",
        searched: "id, stage or name",
        search: filter.search.as_deref(),
        choices: &choices,
        is_narrowed: data.runs.len() < data.total,
    };
    let body = html! {
        h1 { "Runs" }
        (problems(&data.problems))
        (filter_form(&form))
        @if data.runs.is_empty() {
            p.muted { @if data.total == 0 { "Nothing has run yet." } @else { "No run fits." } }
        } @else {
            form method="get" action="/compare" {
                (run_table(&data.runs, true))
                p.bar-below {
                    button { "compare the chosen" }
                    span.muted { (data.runs.len()) " of " (data.total) " runs" }
                }
            }
        }
    };
    Page::new("Runs", Section::Runs, body)
}
