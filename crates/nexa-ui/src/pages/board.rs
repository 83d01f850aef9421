//! One task's board: checkpoints that were asked the same, ranked by one metric.

use maud::{Markup, html};
use nexa_core::artifact::ArtifactId;

use super::interval::{interval, most, percent};
use super::leaderboard::p_value;
use super::parts::{self, artifact_link, evaluation_url, own_artifact_link, versus_url};
use crate::format::{self, Cost};
use crate::leaderboard::{Board, Place};
use crate::request::Params;

/// Shows a board.
pub(crate) fn table(project: &str, board: &Board) -> Markup {
    let scale = if board.are_shares() { 1.0 } else { most(board.places.iter().map(|place| &place.value)) };
    let first = board.places.first();
    html! {
        section {
            h3 { span.muted { (project) " · " } (board.task) span.muted { " · " (facts(board)) } }
            @if let Some(dataset) = &board.dataset { p.muted.small { "held out of " (own_artifact_link(project, dataset)) } }
            div.scroll { table.board {
                thead { tr {
                    th.number { "#" } th.number title="the ranks that paired tests of all pairs leave open" { "ranks" }
                    th { "checkpoint" } th { (board.metric) } th { "against the first" } th { "samples" } th { "spend" } th { "made from" }
                } }
                tbody { @for place in &board.places { tr.row {
                    td.number { (place.rank) }
                    td.number.nowrap { (ranks(place)) }
                    td {
                        (own_artifact_link(project, &place.model))
                        @if let Some(at) = place.created_at { div.small.muted { (parts::time(at)) } }
                    }
                    td { @if board.are_shares() { (interval(&place.value, scale, &percent)) }
                         @else { (interval(&place.value, scale, &format::number)) } }
                    td { @match (&place.verdict, place.p_value) {
                        (Some(verdict), Some(p)) => { (verdict) " " span.muted.nowrap { (p_value(p)) } },
                        _ => (format::UNKNOWN),
                    } }
                    td.nowrap { (samples(board, place, first)) }
                    td.small.nowrap {
                        div { span.muted { "evaluation " } (parts::cost(&Cost::new(&place.spend))) }
                        div { span.muted { "checkpoint " }
                            @match &place.model_spend { Some(spend) => (parts::cost(&Cost::new(spend))), None => (format::UNKNOWN) } }
                    }
                    td.small.nowrap { (made_from(project, place)) }
                } } }
            } }
        }
    }
}

/// What was asked, in words.
fn facts(board: &Board) -> String {
    let mut facts = vec![format::things(usize::try_from(board.documents).unwrap_or(usize::MAX), "document")];
    if board.subtasks > 0 {
        facts.push(format::things(board.subtasks, "task"));
    }
    if let Some(shots) = board.num_fewshot {
        facts.push(format!("{shots}-shot"));
    }
    facts.push(if board.higher_is_better { "higher is better" } else { "lower is better" }.to_owned());
    facts.join(" · ")
}

fn ranks(place: &Place) -> String {
    match place.ranks {
        Some((best, worst)) if best == worst => best.to_string(),
        Some((best, worst)) => format!("{best}–{worst}"),
        None => format::UNKNOWN.to_owned(),
    }
}

fn samples(board: &Board, place: &Place, first: Option<&Place>) -> Markup {
    let Ok(id) = place.evaluation.parse::<ArtifactId>() else { return html! { (place.evaluation) } };
    let of_task = if board.subtasks == 0 { board.task.as_str() } else { "" };
    let params = Params::default().with("task", of_task);
    let all = format!("{}{}", evaluation_url(&id), params.to_query());
    let wrong = format!("{}{}", evaluation_url(&id), params.with("judged", "wrong").to_query());
    let best = first.filter(|first| first.evaluation != place.evaluation);
    let best = best.and_then(|first| first.evaluation.parse::<ArtifactId>().ok());
    html! {
        a href=(all) { "all" }
        @if board.subtasks == 0 {
            @if board.are_shares() { " · " a href=(wrong) { "wrong" } }
            @if let Some(best) = best { br; a href=(versus_url(&best, &id, of_task)) { "beside the first" } }
        }
    }
}

fn made_from(project: &str, place: &Place) -> Markup {
    html! {
        @if place.made_from.is_empty() { span.muted { (format::UNKNOWN) } }
        ul.bare { @for (role, id) in &place.made_from {
            li { span.muted { (role) ": " }
                @if id.parse::<ArtifactId>().is_ok() { (own_artifact_link(project, id)) } @else { (artifact_link(id)) } }
        } }
    }
}
