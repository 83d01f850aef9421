//! How far the reviewers of an artifact agree, and the rows on which they do not.

use maud::{Markup, html};
use nexa_core::artifact::ArtifactId;
use nexa_core::review::{Agreement, Estimate};
use serde::Serialize;

use super::reviewer_form;
use crate::desk::{self, Desk};
use crate::format;
use crate::pages::{Page, Section};
use crate::request::Params;
use crate::server::Ui;
use crate::{Result, assets};

/// Characters of a prompt in the list.
const PROMPT_CHARACTERS: usize = 120;
/// Who looks without a name.
const NOBODY: &str = "nobody";

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    artifact: ArtifactId,
    reviewer: Option<String>,
    agreement: Agreement,
    disputed: Vec<Disputed>,
}

/// A row on which reviewers disagree.
#[derive(Debug, Serialize)]
struct Disputed {
    row_id: String,
    prompt: String,
    /// Whether the one who looks may settle it.
    is_yours: bool,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, id: &ArtifactId, params: &Params) -> Result<Data> {
    let desk = Desk::open(ui, id)?;
    let reviewer = params.get("reviewer");
    let session = desk.session(reviewer.unwrap_or(NOBODY))?;
    let disputed = |row_id: &str| Disputed {
        row_id: row_id.to_owned(),
        prompt: desk
            .deck
            .find(row_id)
            .map(|record| format::shorten(record.prompt(), PROMPT_CHARACTERS))
            .unwrap_or_default(),
        is_yours: reviewer.is_some() && !session.dispute(row_id).is_empty(),
    };
    Ok(Data {
        artifact: id.clone(),
        reviewer: reviewer.map(str::to_owned),
        agreement: Agreement::of(session.journals()),
        disputed: session.disputed().into_iter().map(disputed).collect(),
    })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let url = desk::url(&data.artifact);
    let own = Params::default().with("reviewer", data.reviewer.as_deref().unwrap_or_default());
    let settle = |row: &str| format!("{url}{}", own.with("row", row).with("adjudicate", "1").to_query());
    let agreement = &data.agreement;
    let body = html! {
        p.crumbs {
            a href=(format!("/review{}", own.to_query())) { "review" } " / "
            a href=(format!("{url}{}", own.to_query())) { (data.artifact) }
        }
        h1 { "Agreement" }
        (reviewer_form(&format!("{url}/agreement"), data.reviewer.as_deref()))
        @if agreement.rows == 0 { p.muted { "No row was decided by two reviewers yet." } }
        @else {
            div.tiles {
                div.tile { strong { (format::count(agreement.rows as u64)) } "rows decided by several: " (agreement.reviewers.join(", ")) }
                (tile("the same decision", agreement.raw.as_ref(), true))
                @if agreement.reviewers.len() == 2 { (tile("Cohen's kappa", agreement.kappa.as_ref(), false)) }
                (tile("Krippendorff's alpha", agreement.alpha.as_ref(), false))
            }
            p.muted { "Intervals are 95 %. Kappa and alpha are 1 where all agree, and 0 where chance alone would do as well." }
        }
        section {
            h2 { (format::things(data.disputed.len(), "row")) " to settle" }
            @if data.disputed.is_empty() { p.muted { "Nobody disagrees, or it is settled." } }
            @else {
                div.scroll { table {
                    thead { tr { th { "row" } th { "prompt" } th { "" } } }
                    tbody { @for row in &data.disputed { tr.row {
                        td.mono { (row.row_id) }
                        td { (row.prompt) }
                        td.nowrap {
                            @if row.is_yours { a href=(settle(&row.row_id)) { "settle it" } }
                            @else { span.muted { @if data.reviewer.is_some() { "someone else must settle it" } @else { "say who you are" } } }
                        }
                    } } }
                } }
            }
        }
    };
    let page = Page::new(format!("{} agreement", data.artifact), Section::Review, body);
    Page { extra_script: Some(assets::review()), ..page }
}

fn tile(name: &str, estimate: Option<&Estimate>, is_share: bool) -> Markup {
    let show = |value: f64| if is_share { format!("{:.1} %", 100.0 * value) } else { format!("{value:.3}") };
    html! {
        div.tile {
            strong { @match estimate { Some(found) => (show(found.value)), None => (format::UNKNOWN) } }
            (name)
            @match estimate.and_then(|found| found.ci) {
                Some((low, high)) => { " " (show(low)) " to " (show(high)) }
                None => " (too few rows, or too much alike, for an interval)",
            }
        }
    }
}
