//! What stands around every page: navigation, help, theme.

use maud::{DOCTYPE, Markup, html};

use crate::assets::{self, Asset};
use crate::request::Ask;

/// Parts of the site, as the navigation shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Runs,
    Leaderboard,
    Data,
    Review,
    Cost,
}

impl Section {
    const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Overview, "/", "Overview"),
        (Self::Runs, "/runs", "Runs"),
        (Self::Leaderboard, "/leaderboard", "Leaderboard"),
        (Self::Data, "/data", "Data"),
        (Self::Review, "/review", "Review"),
        (Self::Cost, "/cost", "Cost"),
    ];
}

/// Keys that the script listens to, as the help shows them.
const KEYS: [(&str, &str); 6] = [
    ("?", "this help"),
    ("/", "search or first filter"),
    ("j  k", "next and previous row or page"),
    ("g then o r l d v c", "go to overview, runs, leaderboard, data, review, cost"),
    ("t", "light, dark, or as the system"),
    ("Esc", "close, leave a field"),
];

/// Keys of the pages of a review.
const REVIEW_KEYS: [(&str, &str); 8] = [
    ("a  Enter", "accept, with the text as it was edited"),
    ("r  Backspace", "reject"),
    ("e", "edit the completion"),
    ("x", "ask for it again"),
    ("n", "say why"),
    ("u", "undo, as often as you like"),
    ("→  ←", "next and previous row"),
    ("Ctrl+Enter  Ctrl+S", "in the text: decide on the edit, keep it as a draft"),
];

/// A page before its surroundings.
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) section: Option<Section>,
    pub(crate) body: Markup,
    /// What is loaded beside the script of all pages.
    pub(crate) extra_script: Option<&'static Asset>,
}

impl Page {
    /// A page that needs no script of its own.
    pub(crate) fn new(title: impl Into<String>, section: Section, body: Markup) -> Self {
        Self { title: title.into(), section: Some(section), body, extra_script: None }
    }

    /// The whole document.
    pub(crate) fn render(&self, ask: &Ask) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) " · nexa" }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href=(assets::style().path());
                    // Not deferred: it sets the theme before anything is drawn.
                    script src=(assets::script().path()) {}
                    @if let Some(script) = self.extra_script { script src=(script.path()) defer {} }
                }
                body {
                    a.skip href="#main" { "skip to the content" }
                    header.top {
                        a.brand href="/" { "nexa" }
                        nav aria-label="sections" {
                            @for (section, path, name) in Section::ALL {
                                a href=(path) aria-current=[(self.section == Some(section)).then_some("page")] { (name) }
                            }
                        }
                        button #theme type="button" title="light, dark, or as the system (t)" { "theme" }
                        button #help-open type="button" title="keys (?)" { "?" }
                    }
                    main #main { (self.body) }
                    footer {
                        a href=(ask.twin_url()) { "this page as JSON" }
                        span.muted { "times are UTC" }
                    }
                    dialog #help aria-label="keys" {
                        h2 { "Keys" }
                        @if self.section == Some(Section::Review) {
                            dl.keys { @for (key, what) in REVIEW_KEYS { dt { kbd { (key) } } dd { (what) } } }
                        }
                        dl.keys { @for (key, what) in KEYS { dt { kbd { (key) } } dd { (what) } } }
                        form method="dialog" { button { "close" } }
                    }
                }
            }
        }
    }
}
