//! Where an artifact comes from, and what was made of it.

use maud::{Markup, html};
use nexa_core::artifact::{ArtifactId, Store};
use nexa_core::lineage::{self, Node};
use serde::Serialize;

use super::parts::{artifact_link, artifact_url, run_link};
use super::{Page, Section};
use crate::Result;
use crate::server::Ui;

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    artifact: ArtifactId,
    ancestors: Node,
    descendants: Node,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, id: &ArtifactId) -> Result<Data> {
    let store = Store::new(&ui.lab);
    Ok(Data {
        artifact: id.clone(),
        ancestors: lineage::ancestors(&store, id)?,
        descendants: lineage::descendants(&store, id)?,
    })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let body = html! {
        p.crumbs { (data.artifact.project) " / " a href=(artifact_url(&data.artifact)) { (data.artifact.stem()) } }
        h1 { "Lineage of " span.mono { (data.artifact.stem()) } }
        section {
            h2 { "Made from" }
            ul.tree { (node(&data.ancestors)) }
        }
        section {
            h2 { "Made of it" }
            @if data.descendants.next.is_empty() { p.muted { "Nothing yet." } }
            @else { ul.tree { (node(&data.descendants)) } }
        }
    };
    Page::new(format!("Lineage of {}", data.artifact), Section::Data, body)
}

fn node(shown: &Node) -> Markup {
    html! {
        li {
            span.node {
                @if !shown.role.is_empty() && shown.role != shown.kind { span.muted { (shown.role) ": " } }
                @if shown.removed.is_some() { span.mono { (shown.id) } " " } @else { (artifact_link(&shown.id)) " " }
                span.kind { (shown.kind) } " "
                code title=(shown.content_hash.as_str()) { (shown.content_hash.short()) }
                @if shown.changed {
                    " " strong.changed title="what is there now is not what was used" { "CHANGED" }
                }
                @if shown.removed.is_some() {
                    " " strong.changed title="nexa data gc removed it; its manifest is kept" { "REMOVED" }
                }
                @if let Some(run) = &shown.run { " " span.muted { "by " (run_link(run)) } }
            }
            @if !shown.next.is_empty() { ul { @for next in &shown.next { (node(next)) } } }
        }
    }
}
