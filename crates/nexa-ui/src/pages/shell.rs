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
    Chat,
    Cost,
}

impl Section {
    const ALL: [(Self, &'static str, &'static str); 7] = [
        (Self::Overview, "/", "Overview"),
        (Self::Runs, "/runs", "Runs"),
        (Self::Leaderboard, "/leaderboard", "Leaderboard"),
        (Self::Data, "/data", "Data"),
        (Self::Review, "/review", "Review"),
        (Self::Chat, "/chat", "Chat"),
        (Self::Cost, "/cost", "Cost"),
    ];

    /// Keys of its own.
    fn keys(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Review => &REVIEW_KEYS,
            Self::Chat => &CHAT_KEYS,
            _ => &[],
        }
    }
}

/// Keys that the script listens to, as the help shows them.
const KEYS: [(&str, &str); 6] = [
    ("?", "this help"),
    ("/", "search, first filter, or message"),
    ("j  k", "next and previous row or page"),
    ("g then o r l d v h c", "go to overview, runs, leaderboard, data, review, chat, cost"),
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

/// Keys of the chat.
const CHAT_KEYS: [(&str, &str); 4] = [
    ("Enter", "send"),
    ("Shift+Enter", "a new line"),
    ("Esc", "stop the answer; leave an edit"),
    ("↑", "in an empty field: edit the last message"),
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
                        (keys(self.section.map_or(&[], Section::keys)))
                        (keys(&KEYS))
                        form method="dialog" { button { "close" } }
                    }
                }
            }
        }
    }
}

fn keys(keys: &[(&str, &str)]) -> Markup {
    html! { @if !keys.is_empty() { dl.keys { @for (key, what) in keys { dt { kbd { (key) } } dd { (what) } } } } }
}
