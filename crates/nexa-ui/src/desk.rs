//! The desk of a reviewer: the rows and labels of an artifact, what a form sends, and what is done with it.
//!
//! This is the one place in these dashboards that writes, and all it can write are lines of labels.

use nexa_core::artifact::{Artifact, ArtifactId, Store};
use nexa_core::review::{Choice, Deck, Draft, Filter, Labels, ScoreRange, Session, Status, Verdict};
use serde::Deserialize;

use crate::Result;
use crate::request::{Params, encode};
use crate::server::Ui;

/// An artifact and its rows.
pub(crate) struct Desk {
    pub(crate) artifact: Artifact,
    pub(crate) deck: Deck,
    labels: Labels,
}

/// What a form sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Sent {
    /// Proves that the form is one of this process.
    token: String,
    reviewer: String,
    action: String,
    /// The row that was shown.
    #[serde(default)]
    row: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    adjudicate: Option<String>,
    /// What to decide on all rows that fit, and how many the reviewer says there are.
    #[serde(default)]
    verdict: Option<String>,
    #[serde(default)]
    count: Option<String>,
}

/// What is shown after a form was acted upon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Another page.
    Go(String),
    /// The same as before.
    Stay,
}

/// Where an artifact is reviewed.
pub(crate) fn url(id: &ArtifactId) -> String {
    format!("/review/{}/{}", encode(&id.project), encode(&id.stem()))
}

/// The filter that an address holds.
pub(crate) fn filter(params: &Params) -> Filter {
    let number = |name| params.get(name).and_then(|text| text.parse().ok());
    let range = |name: &str| ScoreRange { name: name.to_owned(), min: number("min"), max: number("max") };
    Filter {
        gate: params.get("gate").map(str::to_owned),
        status: params.get("status").and_then(Status::parse),
        search: params.get("q").map(str::to_owned),
        score: params.get("score").map(range),
    }
}

impl Desk {
    /// Reads the rows of an artifact: those that passed, and those that its gates rejected.
    pub(crate) fn open(ui: &Ui, id: &ArtifactId) -> Result<Self> {
        let artifact = Store::new(&ui.lab).get(id)?;
        let read = |name: &str| ui.tables.read(&artifact, name);
        let deck = Deck::read_with(&artifact, ui.tables.reader(), read)?;
        let labels = Labels::new(&ui.lab, id);
        Ok(Self { artifact, deck, labels })
    }

    /// Begins, or goes on with, the work of a reviewer.
    pub(crate) fn session(&self, reviewer: &str) -> Result<Session<'_>> {
        Ok(Session::open(self.labels.clone(), &self.deck, reviewer)?)
    }

    /// Does what a form asks for.
    pub(crate) fn act(&self, ui: &Ui, params: &Params, sent: &Sent) -> Result<Then> {
        ui.expect_token(&sent.token, "take the decision")?;
        let mut session = self.session(&sent.reviewer)?;
        let (text, reason) = (self.text(sent), sent.reason.as_deref());
        match sent.action.as_str() {
            "draft" => {
                let reason = reason.map(str::to_owned);
                session.draft(&sent.row, Draft { text, reason })?;
                Ok(Then::Stay)
            }
            "undo" => {
                let undone = session.undo()?;
                let row = undone.first().map_or(sent.row.as_str(), String::as_str);
                Ok(self.show(&params.with("adjudicate", ""), row))
            }
            "bulk" => {
                let verdict: Verdict = sent.verdict.as_deref().unwrap_or_default().parse()?;
                let count = sent.count.as_deref().unwrap_or_default().trim().parse().unwrap_or(0);
                session.decide_all(&filter(params), verdict, count)?;
                Ok(self.show(params, ""))
            }
            action => {
                let adjudicates = sent.adjudicate.is_some();
                let verdict = action.parse()?;
                let text = text.as_deref();
                session.decide(&Choice { row_id: &sent.row, verdict, text, reason, adjudicates })?;
                Ok(self.after(&session, params, sent))
            }
        }
    }

    /// Where to go on after a decision: the next row that is open, or the next to settle.
    fn after(&self, session: &Session<'_>, params: &Params, sent: &Sent) -> Then {
        if sent.adjudicate.is_some() {
            let next = session.disputed().into_iter().find(|row| !session.dispute(row).is_empty());
            return match next {
                Some(row) => self.show(params, row),
                None => {
                    let reviewer = Params::default().with("reviewer", &sent.reviewer);
                    Then::Go(format!("{}/agreement{}", url(self.artifact.id()), reviewer.to_query()))
                }
            };
        }
        let here = self.deck.find(&sent.row).map(|record| record.index);
        let next = session.next_open(&filter(params), here).and_then(|index| self.deck.get(index));
        self.show(params, next.map_or(sent.row.as_str(), |record| record.row_id))
    }

    fn show(&self, params: &Params, row: &str) -> Then {
        Then::Go(format!("{}{}", url(self.artifact.id()), params.with("row", row).to_query()))
    }

    /// The text of a form, with the line ends that browsers put into it taken out where the row has none such.
    fn text(&self, sent: &Sent) -> Option<String> {
        let text = sent.text.as_ref()?;
        let keeps = self.deck.find(&sent.row).is_some_and(|record| record.completion().contains("\r\n"));
        Some(if keeps { text.clone() } else { text.replace("\r\n", "\n") })
    }
}
