//! The page of an error.

use axum::http::StatusCode;
use maud::html;
use nexa_core::Diagnose;

use super::Page;
use crate::Error;

/// Shows an error, its hint and the way back.
pub(crate) fn page(error: &Error) -> Page {
    let title = if error.status() == StatusCode::NOT_FOUND { "Not found" } else { "Something is wrong" };
    let body = html! {
        section.problems role="alert" {
            h1 { (title) }
            p { "error: " (error) }
            @if let Some(hint) = error.hint() { p { "hint: " (hint) } }
        }
        p { a href="/" { "to the overview" } }
    };
    Page { title: title.to_owned(), section: None, body, extra_script: None }
}
