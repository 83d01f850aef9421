//! Two models side by side on the same documents, with what differs in their answers.

use maud::{Markup, html};
use nexa_core::artifact::{ArtifactId, Kind, Store};
use serde::Serialize;

use super::evaluation::no_task;
use super::interval::{ends, percent};
use super::parts::{Pager, evaluation_url, grade, own_artifact_link, pager, select, tail};
use super::{Page, Section};
use crate::evaluation::{Evaluated, MetricRow, Pair, Pairs, Show};
use crate::marks::{Part, differences};
use crate::request::{Params, encode};
use crate::server::Ui;
use crate::{Error, Result, format};

const PAGE_PAIRS: usize = 20;
/// Characters of a prompt that are shown: its end.
const PROMPT_CHARACTERS: usize = 600;

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    project: String,
    /// What can be chosen.
    evaluations: Vec<String>,
    sides: Option<Sides>,
    #[serde(skip)]
    params: Params,
}

/// Both evaluations and a page of their documents.
#[derive(Debug, Serialize)]
struct Sides {
    a: Side,
    b: Side,
    /// The tasks that both have.
    tasks: Vec<String>,
    task: String,
    /// Whether both were asked the same, where that is known.
    same_questions: Option<bool>,
    show: Show,
    counts: Vec<(Show, usize)>,
    page: usize,
    pages: usize,
    matching: usize,
    pairs: Vec<Pair>,
}

/// One of two evaluations.
#[derive(Debug, Serialize)]
struct Side {
    evaluation: ArtifactId,
    checkpoint: Option<String>,
    metrics: Vec<MetricRow>,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, params: &Params) -> Result<Data> {
    let ids = params.get("a").zip(params.get("b"));
    let ids =
        ids.map(|(a, b)| Ok::<_, Error>((a.parse::<ArtifactId>()?, b.parse::<ArtifactId>()?))).transpose()?;
    let project = match (&ids, params.get("project")) {
        (Some((a, _)), _) => a.project.clone(),
        (None, Some(project)) => project.to_owned(),
        (None, None) => ui.lab.projects()?.into_iter().next().unwrap_or_default(),
    };
    let mut evaluations = Store::new(&ui.lab).of_kind(&project, Kind::Evaluation)?;
    evaluations.sort_by_key(|artifact| std::cmp::Reverse(artifact.manifest.created_at));
    let sides = ids.map(|(a, b)| Sides::read(ui, &a, &b, params)).transpose()?;
    Ok(Data {
        project,
        evaluations: evaluations.iter().map(|artifact| artifact.id().to_string()).collect(),
        sides,
        params: params.clone(),
    })
}

impl Sides {
    fn read(ui: &Ui, a: &ArtifactId, b: &ArtifactId, params: &Params) -> Result<Self> {
        let (a, b) = (Evaluated::open(&ui.lab, a)?, Evaluated::open(&ui.lab, b)?);
        let theirs = b.tasks();
        let tasks: Vec<String> =
            a.tasks().into_iter().filter(|task| theirs.contains(task)).map(str::to_owned).collect();
        let task = match params.get("task") {
            Some(task) if !tasks.is_empty() && !tasks.iter().any(|known| known == task) => {
                return Err(no_task(if theirs.contains(&task) { &a } else { &b }, task));
            }
            Some(task) => task.to_owned(),
            None => tasks.first().cloned().unwrap_or_default(),
        };
        let tables = ui.tables.reader();
        let pairs = Pairs::of(&a, &b, tables, &task)?;
        let show = params.get("show").and_then(Show::parse).unwrap_or_default();
        let matching = pairs.count(show);
        let pages = matching.div_ceil(PAGE_PAIRS).max(1);
        let page = params.number("page").unwrap_or(1).clamp(1, pages);
        let read = pairs.read((&a, &b), tables, show, ((page - 1) * PAGE_PAIRS, PAGE_PAIRS))?;
        Ok(Self {
            same_questions: a.asked_the_same(&b, &task),
            counts: Show::ALL.iter().map(|(show, _, _)| (*show, pairs.count(*show))).collect(),
            a: Side::new(&a, &task),
            b: Side::new(&b, &task),
            tasks,
            task,
            show,
            page,
            pages,
            matching,
            pairs: read,
        })
    }
}

impl Side {
    fn new(evaluated: &Evaluated, task: &str) -> Self {
        Self {
            evaluation: evaluated.id().clone(),
            checkpoint: evaluated.checkpoint().map(str::to_owned),
            metrics: evaluated.of_task(task).cloned().collect(),
        }
    }

    fn name(&self) -> String {
        self.checkpoint.clone().unwrap_or_else(|| self.evaluation.to_string())
    }
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let body = html! {
        p.crumbs { a href=(format!("/leaderboard?project={}", encode(&data.project))) { "leaderboard" } }
        h1 { "Side by side" }
        (choice(data))
        @match &data.sides {
            Some(sides) => (both(data, sides)),
            None => p.muted { "Choose two evaluations." },
        }
    };
    Page::new("Side by side", Section::Leaderboard, body)
}

fn choice(data: &Data) -> Markup {
    let tasks = data.sides.as_ref().map(|sides| sides.tasks.as_slice()).unwrap_or_default();
    html! {
        form.filter method="get" action="/versus" {
            (select("a", "A: an evaluation", &data.evaluations, data.params.get("a")))
            (select("b", "B: an evaluation", &data.evaluations, data.params.get("b")))
            @if tasks.len() > 1 { (select("task", "the first task", tasks, data.sides.as_ref().map(|sides| sides.task.as_str()))) }
            input type="hidden" name="show" value=[data.params.get("show")];
            button { "compare" }
        }
    }
}

fn both(data: &Data, sides: &Sides) -> Markup {
    let link = |word: &str| format!("/versus{}", data.params.with("show", word).with("page", "").to_query());
    html! {
        @if sides.same_questions == Some(false) {
            section.problems role="alert" { p { "The two were asked in different ways: numbers do not compare, and only documents \
                of the same id stand side by side." } }
        }
        (numbers(data, sides))
        ul.chips { @for ((show, word, name), (_, count)) in Show::ALL.iter().zip(&sides.counts) {
            li { a.chip href=(link(word)) aria-current=[(sides.show == *show).then_some("true")] {
                (name) " " span.muted { (format::count(*count as u64)) }
            } }
        } }
        @if sides.pairs.is_empty() { p.muted { "No document fits." } }
        @for pair in &sides.pairs { (pair_section(sides, pair)) }
        (pager(&Pager {
            url: "/versus", params: &data.params, anchor: "", page: sides.page, pages: sides.pages,
            matching: sides.matching, what: "document",
        }))
    }
}

fn numbers(data: &Data, sides: &Sides) -> Markup {
    let of =
        |side: &Side, row: &MetricRow| side.metrics.iter().find(|other| other.name() == row.name()).cloned();
    let cell = |row: Option<MetricRow>| match row {
        Some(row) if row.is_share() => {
            html! { strong { (percent(row.estimate.value)) } " " span.muted { (ends(&row.estimate, &percent)) } }
        }
        Some(row) => {
            html! { strong { (format::number(row.estimate.value)) } " " span.muted { (ends(&row.estimate, &format::number)) } }
        }
        None => html! { (format::UNKNOWN) },
    };
    html! {
        div.scroll { table {
            thead { tr { th { (sides.task) }
                @for (letter, side) in [("A", &sides.a), ("B", &sides.b)] {
                    th { (letter) ": " (own_artifact_link(&data.project, &side.name())) }
                }
            } }
            tbody { @for row in &sides.a.metrics { tr { td { (row.name()) } td { (cell(Some(row.clone()))) } td { (cell(of(&sides.b, row))) } } } }
        } }
        p.muted { "Whether a difference is more than chance: " code { "nexa evaluate --compare " (sides.a.evaluation) " " (sides.b.evaluation) } }
    }
}

fn pair_section(sides: &Sides, pair: &Pair) -> Markup {
    let (a, b) = differences(pair.a.said(), pair.b.said());
    let sample = |side: &Side, number: usize| {
        format!(
            "{}/{number}{}",
            evaluation_url(&side.evaluation),
            Params::default().with("task", &sides.task).to_query()
        )
    };
    html! {
        section.pair {
            h3 { span.mono { (pair.a.id) } @if let Some(domain) = &pair.a.domain { span.muted { " · " (domain) } } }
            pre.text.block { (tail(&pair.a.prompt, PROMPT_CHARACTERS)) }
            @if let Some(reference) = &pair.a.reference { p.muted { "target: " (tail(reference, PROMPT_CHARACTERS)) } }
            div.sides {
                @for (letter, side, sample_of, parts) in [("A", &sides.a, &pair.a, &a), ("B", &sides.b, &pair.b, &b)] {
                    div {
                        p { strong { (letter) } " " (grade(sample_of.correct)) " "
                            a.small href=(sample(side, sample_of.number)) { "in full" }
                            @if let Some(found) = sample_of.prediction.as_deref().filter(|_| sample_of.output.is_some()) {
                                span.muted { " · found " (format::shorten(found, 80)) }
                            }
                        }
                        pre.text.block.answer { (marked(parts)) }
                    }
                }
            }
        }
    }
}

fn marked(parts: &[Part]) -> Markup {
    html! { @for part in parts { @if part.is_own { mark { (part.text) } } @else { (part.text) } } }
}
