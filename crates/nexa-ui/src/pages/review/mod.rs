//! Review by people: what there is to review, one row at a time, and how far reviewers agree.

pub(crate) mod agreement;
pub(crate) mod list;
pub(crate) mod record;

use maud::{Markup, html};
use nexa_core::review::{Decision, Status};

use crate::format;

/// A status, as a coloured word.
fn status(status: Status) -> Markup {
    html! { span class=(format!("verdict {status}")) { (status) } }
}

/// What somebody decided; the script shows an edit as what it changes.
fn opinion(name: &str, decision: &Decision) -> Markup {
    html! {
        div.opinion {
            p {
                strong { (name) } " " (status(Status::Decided(decision.verdict)))
                @if let Some(reason) = &decision.reason { " " (reason) }
                " " span.muted { (format::time(decision.at)) }
            }
            @if let Some(text) = &decision.text { pre.text data-edit="" { (text) } }
        }
    }
}

/// Asks for the name of who reviews; the browser remembers it.
fn reviewer_form(action: &str, reviewer: Option<&str>) -> Markup {
    html! {
        form.filter method="get" action=(action) {
            label for="reviewer" { "You review as" }
            input #reviewer name="reviewer" required pattern="[a-z0-9][a-z0-9_]*" autocomplete="username"
                title="lowercase letters, digits and underscores" value=[reviewer];
            button { @if reviewer.is_some() { "change" } @else { "begin" } }
        }
    }
}
