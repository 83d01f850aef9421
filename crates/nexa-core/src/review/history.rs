//! What the lines of one reviewer come to: how each row stands, and what an undo would take back.

use std::collections::HashMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::label::{Action, Line, Verdict};

/// A decision that stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// The new text of an edit.
    pub text: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// Whether it settles a disagreement of others.
    pub adjudicates: bool,
}

impl Decision {
    /// Whether another decision has the same effect.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.verdict == other.verdict && self.text == other.text
    }
}

/// What was typed and not decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Draft {
    /// The text.
    pub text: Option<String>,
    /// The reason.
    pub reason: Option<String>,
}

/// How a row stands with a reviewer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Standing {
    /// What counts, if something was decided.
    pub decision: Option<Decision>,
    /// What was typed since.
    pub draft: Option<Draft>,
}

/// How a row stands, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing was decided.
    Pending,
    /// Something was typed that is not decided.
    Draft,
    /// Decided.
    Decided(Verdict),
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Draft,
        Self::Decided(Verdict::Accept),
        Self::Decided(Verdict::Reject),
        Self::Decided(Verdict::Edit),
        Self::Decided(Verdict::Regenerate),
    ];

    /// The word for it in addresses and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Draft => "draft",
            Self::Decided(verdict) => verdict.as_str(),
        }
    }

    /// The status of a word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether something is left to do.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Draft)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Standing {
    /// The status; a draft counts more than what was decided before it.
    pub fn status(&self) -> Status {
        match (&self.draft, &self.decision) {
            (Some(_), _) => Status::Draft,
            (None, Some(decision)) => Status::Decided(decision.verdict),
            (None, None) => Status::Pending,
        }
    }

    /// The text that the reviewer last gave the row: that of the draft, else that of the edit.
    pub fn text(&self) -> Option<&str> {
        let draft = self.draft.as_ref().and_then(|draft| draft.text.as_deref());
        draft.or_else(|| self.decision.as_ref()?.text.as_deref())
    }

    /// The reason that the reviewer last gave.
    pub fn reason(&self) -> Option<&str> {
        let draft = self.draft.as_ref().and_then(|draft| draft.reason.as_deref());
        draft.or_else(|| self.decision.as_ref()?.reason.as_deref())
    }
}

/// A decision that an undo would take back.
#[derive(Debug, Clone)]
struct Made {
    row_id: String,
    batch: Option<String>,
}

/// A row, and how it stood before each decision that was not undone.
#[derive(Debug, Clone, Default)]
struct Track {
    now: Standing,
    before: Vec<Standing>,
}

/// What the lines of one reviewer come to.
#[derive(Debug, Clone, Default)]
pub struct History {
    rows: HashMap<String, Track>,
    made: Vec<Made>,
}

impl History {
    /// Takes one more line into account.
    pub fn apply(&mut self, line: &Line) {
        let track = self.rows.entry(line.row_id.clone()).or_default();
        match line.action {
            Action::Draft => {
                let draft = Draft { text: line.text.clone(), reason: line.reason.clone() };
                track.now.draft = Some(draft).filter(|draft| *draft != Draft::default());
            }
            // An undo without anything to take back changes nothing.
            Action::Undo => {
                if let Some(before) = track.before.pop() {
                    track.now = before;
                    let last = self.made.iter().rposition(|made| made.row_id == line.row_id);
                    last.map(|last| self.made.remove(last));
                }
            }
            Action::Accept | Action::Reject | Action::Edit | Action::Regenerate => {
                let decision = line.action.verdict().map(|verdict| Decision {
                    verdict,
                    text: line.text.clone(),
                    reason: line.reason.clone(),
                    at: line.at,
                    adjudicates: line.adjudicates,
                });
                let before = std::mem::replace(&mut track.now, Standing { decision, draft: None });
                track.before.push(before);
                self.made.push(Made { row_id: line.row_id.clone(), batch: line.batch.clone() });
            }
        }
    }

    /// How a row stands.
    pub fn standing(&self, row_id: &str) -> Standing {
        self.rows.get(row_id).map(|track| track.now.clone()).unwrap_or_default()
    }

    /// The status of a row.
    pub fn status(&self, row_id: &str) -> Status {
        self.rows.get(row_id).map_or(Status::Pending, |track| track.now.status())
    }

    /// What was decided on a row, if something was.
    pub fn decision(&self, row_id: &str) -> Option<&Decision> {
        self.rows.get(row_id)?.now.decision.as_ref()
    }

    /// The rows on which something is decided, in no order.
    pub fn decided(&self) -> impl Iterator<Item = (&str, &Decision)> {
        self.rows.iter().filter_map(|(row_id, track)| Some((row_id.as_str(), track.now.decision.as_ref()?)))
    }

    /// The rows whose last decision an undo takes back, newest first: one, or all that were decided at once.
    pub fn to_undo(&self) -> Vec<&str> {
        let Some(last) = self.made.last() else { return Vec::new() };
        let most = if last.batch.is_some() { self.made.len() } else { 1 };
        let together = self.made.iter().rev().take(most).take_while(|made| made.batch == last.batch);
        together.map(|made| made.row_id.as_str()).collect()
    }
}

impl<'a> FromIterator<&'a Line> for History {
    fn from_iter<I: IntoIterator<Item = &'a Line>>(lines: I) -> Self {
        let mut history = Self::default();
        lines.into_iter().for_each(|line| history.apply(line));
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(row_id: &str, action: Action, text: &str) -> Line {
        let text = Some(text.to_owned()).filter(|text| !text.is_empty());
        Line { text, ..Line::new(row_id, action, "ana") }
    }

    /// What a series of lines leaves of row `a`: its status and its text.
    fn check(lines: &[(&str, Action, &str)], status: &str, text: Option<&str>) {
        let lines: Vec<Line> = lines.iter().map(|(row, action, text)| line(row, *action, text)).collect();
        let standing = lines.iter().collect::<History>().standing("a");
        assert_eq!((standing.status().as_str(), standing.text()), (status, text), "{lines:?}");
    }

    #[test]
    fn the_last_line_counts_and_undo_goes_back_without_end() {
        use Action::{Accept, Draft, Edit, Reject, Undo};
        check(&[], "pending", None);
        check(&[("a", Accept, ""), ("a", Reject, "")], "reject", None);
        check(&[("a", Accept, ""), ("b", Reject, "")], "accept", None);
        check(&[("a", Draft, "half")], "draft", Some("half"));
        check(&[("a", Draft, "half"), ("a", Draft, "")], "pending", None);
        check(&[("a", Draft, "half"), ("a", Edit, "whole")], "edit", Some("whole"));
        check(&[("a", Edit, "one"), ("a", Draft, "two")], "draft", Some("two"));
        // What was typed before a decision is there again once the decision is undone.
        check(&[("a", Draft, "half"), ("a", Edit, "whole"), ("a", Undo, "")], "draft", Some("half"));
        let three = [("a", Accept, ""), ("a", Reject, ""), ("a", Edit, "x")];
        let undone = |count: usize| {
            let undos = std::iter::repeat_n(("a", Undo, ""), count);
            three.iter().copied().chain(undos).collect::<Vec<_>>()
        };
        check(&undone(1), "reject", None);
        check(&undone(2), "accept", None);
        check(&undone(3), "pending", None);
        check(&undone(9), "pending", None);
    }

    #[test]
    fn what_was_decided_at_once_is_undone_at_once() {
        let mut history = History::default();
        let mut apply = |row: &str, action: Action, batch: Option<&str>| {
            let batch = batch.map(str::to_owned);
            history.apply(&Line { batch, ..Line::new(row, action, "ana") });
            history.to_undo().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(apply("a", Action::Accept, None), ["a"]);
        apply("b", Action::Reject, Some("1"));
        assert_eq!(apply("c", Action::Reject, Some("1")), ["c", "b"]);
        assert_eq!(apply("d", Action::Accept, None), ["d"]);
        assert_eq!(apply("d", Action::Undo, None), ["c", "b"]);
        apply("c", Action::Undo, None);
        assert_eq!(apply("b", Action::Undo, None), ["a"]);
        assert_eq!(apply("a", Action::Undo, None), Vec::<String>::new());
    }
}
