//! One sample in full: what was asked, what was answered, how that was read and graded, and what judges said of it.

use maud::{Markup, html};
use nexa_core::artifact::ArtifactId;
use nexa_core::judging::Verdict;
use serde::Serialize;
use serde_json::Value;

use super::evaluation::filter;
use super::parts::{evaluation_url, grade, verdicts_url};
use super::row::conversation;
use super::{Page, Section, value};
use crate::evaluation::{
    Evaluated, Sample, SampleFilter, find, find_document, of_evaluation, on_document, sample_at,
};
use crate::request::{Params, encode};
use crate::server::Ui;
use crate::{Result, format};

/// The word that stands for a number where a document is looked for by its id.
const FIND: &str = "find";

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    evaluation: ArtifactId,
    checkpoint: Option<String>,
    sample: Sample,
    /// Choices with the probability of each, if one of them is the answer.
    probabilities: Vec<f64>,
    verdicts: Vec<Said>,
    place: Place,
    #[serde(skip)]
    params: Params,
}

/// Where the sample stands among those of the list that it was opened from.
#[derive(Debug, Default, Serialize)]
struct Place {
    /// From 1; 0 where it is none of them.
    at: usize,
    of: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// What the judges of an artifact said.
#[derive(Debug, Serialize)]
struct Said {
    artifact: ArtifactId,
    verdicts: Vec<Verdict>,
}

/// Gathers it: the sample of a number, or with `find` in its place the one of `?task=` and `?id=`.
pub(crate) fn gather(ui: &Ui, id: &ArtifactId, number: &str, params: &Params) -> Result<Data> {
    let evaluated = Evaluated::open(&ui.lab, id)?;
    let tables = ui.tables.reader();
    let wanted = params.get("id").filter(|_| number == FIND);
    let found = match wanted {
        Some(document) => find_document(&evaluated.artifact, tables, params.get("task"), document)?,
        None => None,
    };
    let number = match (found, wanted) {
        (Some(position), _) => (position + 1).to_string(),
        (None, Some(document)) => format!("`{document}`"),
        (None, None) => number.to_owned(),
    };
    let sample = sample_at(&evaluated.artifact, tables, &number)?;
    let mut verdicts = Vec::new();
    for artifact in of_evaluation(&ui.lab, id)? {
        let said = on_document(&artifact, tables, &sample.task, &sample.id)?;
        if !said.is_empty() {
            verdicts.push(Said { artifact: artifact.id().clone(), verdicts: said });
        }
    }
    let list = SampleFilter { task: Some(sample.task.clone()), ..filter(params) };
    let positions = find(&evaluated.artifact, tables, &list)?.positions;
    Ok(Data {
        place: Place::among(&positions, sample.number),
        evaluation: id.clone(),
        checkpoint: evaluated.checkpoint().map(str::to_owned),
        probabilities: sample.probabilities(),
        sample,
        verdicts,
        params: params.clone(),
    })
}

impl Place {
    /// The place of a sample's number among positions, which count from 0 and are sorted.
    fn among(positions: &[usize], number: usize) -> Self {
        let position = number.saturating_sub(1);
        let before = positions.partition_point(|&other| other < position);
        let is_there = positions.get(before) == Some(&position);
        let number_at = |at: usize| positions.get(at).map(|position| position + 1);
        Self {
            at: if is_there { before + 1 } else { 0 },
            of: positions.len(),
            previous: before.checked_sub(1).and_then(number_at),
            next: number_at(before + usize::from(is_there)),
        }
    }
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let sample = &data.sample;
    let url = evaluation_url(&data.evaluation);
    // The list is that which the sample was opened from; a link from elsewhere names no more than the task.
    let list = data.params.with("id", "").with("task", &sample.task).to_query();
    let link = |number: usize| format!("{url}/{number}{list}");
    let body = html! {
        p.crumbs {
            a href=(format!("/leaderboard?project={}", encode(&data.evaluation.project))) { "leaderboard" } " / "
            a href=(url) { (data.evaluation.stem()) } " / "
            a href=(format!("{url}{list}#samples")) { @if sample.task.is_empty() { "samples" } @else { (sample.task) } }
        }
        h1 { "Sample " (format::count(sample.number as u64)) " " (grade(sample.correct)) }
        p.bar-below {
            @if let Some(previous) = data.place.previous { a rel="prev" href=(link(previous)) { "‹ previous" } }
            @if data.place.at > 0 { span.muted { (format::count(data.place.at as u64)) " of " (format::count(data.place.of as u64)) } }
            @if let Some(next) = data.place.next { a rel="next" href=(link(next)) { "next ›" } }
            span.muted { "document " span.mono { (sample.id) }
                @if let Some(domain) = &sample.domain { " · " (domain) }
                @if let Some(checkpoint) = &data.checkpoint { " · answered by " (checkpoint) }
            }
        }
        div.sample {
            (asked(sample))
            (answered(sample))
        }
        (choices(sample, &data.probabilities))
        (grades(sample))
        (judged(data))
    };
    Page::new(format!("{} sample {}", data.evaluation, sample.number), Section::Leaderboard, body)
}

fn asked(sample: &Sample) -> Markup {
    html! {
        section {
            h2 { "Asked" }
            @if sample.messages.is_empty() { pre.text.block { (sample.prompt) } } @else { (conversation(&sample.messages)) }
            h3.push-down { "Target" }
            @match &sample.reference { Some(reference) => pre.text.block { (reference) }, None => p.muted { "none" } }
        }
    }
}

fn answered(sample: &Sample) -> Markup {
    html! {
        section {
            h2 { "Answered" }
            @match &sample.output {
                Some(output) => pre.text.block.answer { (output) },
                None => p.muted { "The model wrote nothing: it was asked for probabilities, or the prompt was too long." },
            }
            dl.facts {
                @if let Some(found) = &sample.prediction { dt { "found" } dd { pre.text { (found) } } }
                @if let Some(reason) = &sample.finish_reason { dt { "ended by" } dd { (reason) } }
                @if let Some(nats) = sample.logprob_nats {
                    dt { "log-probability of the target" }
                    dd { (format::number(nats)) " nats" @if let Some(tokens) = sample.tokens { " over " (format::count(tokens)) " tokens" } }
                }
            }
        }
    }
}

/// Shows the choices of a sample with what the model says of each; nothing where there are none.
pub(crate) fn choices(sample: &Sample, probabilities: &[f64]) -> Markup {
    if sample.choices.is_empty() {
        return html! {};
    }
    let mark = |text: &str| {
        let is = |other: &Option<String>| other.as_deref() == Some(text);
        match (is(&sample.reference), is(&sample.prediction)) {
            (true, true) => "target, chosen",
            (true, false) => "target",
            (false, true) => "chosen",
            (false, false) => "",
        }
    };
    html! {
        section {
            h2 { "Choices" }
            div.scroll { table.board {
                thead { tr { th { "choice" } th { "" } th { "probability among them" } th.number { "nats" } th.number { "nats per character" } } }
                tbody { @for (choice, probability) in sample.choices.iter().zip(probabilities) { tr.row {
                    td { div.cell { (choice.text) } }
                    td.nowrap { (mark(&choice.text)) }
                    td { (share(*probability)) }
                    td.number { (format::number(choice.logprob_nats)) }
                    td.number { (format::number(choice.logprob_nats / choice.text.chars().count().max(1) as f64)) }
                } } }
            } }
        }
    }
}

fn share(share: f64) -> Markup {
    html! {
        span.bar {
            svg width="120" height="10" aria-hidden="true" {
                rect.track width="120" height="10" rx="2" {}
                rect.fill width=(format!("{:.1}", 120.0 * share)) height="10" rx="2" {}
            }
            (super::interval::percent(share))
        }
    }
}

/// What each filter found in the answer, and what each metric says of that.
pub(crate) fn grades(sample: &Sample) -> Markup {
    let of_filter = |filter: &str| {
        let ending = format!(",{filter}");
        let own = sample.metrics.iter().filter_map(move |(name, value)| {
            name.strip_suffix(ending.as_str()).map(|name| (name.to_owned(), *value))
        });
        own.collect::<Vec<_>>()
    };
    let mut filters: Vec<&str> = sample.answers.keys().map(String::as_str).collect();
    for (_, filter) in sample.metrics.keys().filter_map(|name| name.split_once(',')) {
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    html! {
        @if !filters.is_empty() {
            section {
                h2 { "Read and graded" }
                div.scroll { table {
                    thead { tr { th { "filter" } th { "found" } th { "metrics" } } }
                    tbody { @for filter in filters { tr.row {
                        td { (filter) }
                        td { @if let Some(found) = sample.answers.get(filter) { (found_text(found)) } }
                        td { @for (name, value) in of_filter(filter) { div { span.muted { (name) } " " strong { (format::number(value)) } } } }
                    } } }
                } }
            }
        }
    }
}

/// A list of one text is that text.
fn found_text(found: &Value) -> Markup {
    match found {
        Value::Array(items) if items.len() == 1 && items[0].is_string() => {
            html! { pre.text { (format::text(&items[0])) } }
        }
        Value::String(text) => html! { pre.text { (text) } },
        other => value::show_unlinked(other),
    }
}

fn judged(data: &Data) -> Markup {
    html! {
        @for said in &data.verdicts {
            section {
                h2 { "Judged " span.muted { "in " a href=(verdicts_url(&said.artifact)) { (said.artifact.stem()) } } }
                @for verdict in &said.verdicts { (super::verdicts::card(verdict)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_those_of_the_list() {
        let check = |number, expected: (usize, Option<usize>, Option<usize>)| {
            let place = Place::among(&[2, 5, 9], number);
            assert_eq!((place.at, place.previous, place.next), expected, "{number}");
        };
        check(3, (1, None, Some(6)));
        check(6, (2, Some(3), Some(10)));
        check(10, (3, Some(6), None));
        check(7, (0, Some(6), Some(10)));
        check(1, (0, None, Some(3)));
    }
}
