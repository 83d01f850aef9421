//! One line of a file of labels.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, config};

/// What a reviewer decides on a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is good as it is, whatever a gate said.
    Accept,
    /// It is left out.
    Reject,
    /// It is good with another text.
    Edit,
    /// It is left out, and should be asked for again.
    Regenerate,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 4] = [Self::Accept, Self::Reject, Self::Edit, Self::Regenerate];

    /// The word for it in files and addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Edit => "edit",
            Self::Regenerate => "regenerate",
        }
    }

    /// Whether the row stays in the data.
    pub fn keeps(self) -> bool {
        matches!(self, Self::Accept | Self::Edit)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verdict {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::as_str);
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == text).ok_or_else(|| Error::NotFound {
            what: "decision",
            name: text.to_owned(),
            hint: Some(match config::nearest(text, names) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("there are: {}", names.join(", ")),
            }),
        })
    }
}

/// What a line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Decides [`Verdict::Accept`].
    Accept,
    /// Decides [`Verdict::Reject`].
    Reject,
    /// Decides [`Verdict::Edit`].
    Edit,
    /// Decides [`Verdict::Regenerate`].
    Regenerate,
    /// Takes back the last decision on the row that was not taken back.
    Undo,
    /// Keeps what was typed, and decides nothing; without text and reason it drops what was kept.
    Draft,
}

impl Action {
    /// What it decides, if it decides something.
    pub fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Accept => Some(Verdict::Accept),
            Self::Reject => Some(Verdict::Reject),
            Self::Edit => Some(Verdict::Edit),
            Self::Regenerate => Some(Verdict::Regenerate),
            Self::Undo | Self::Draft => None,
        }
    }
}

impl From<Verdict> for Action {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Accept => Self::Accept,
            Verdict::Reject => Self::Reject,
            Verdict::Edit => Self::Edit,
            Verdict::Regenerate => Self::Regenerate,
        }
    }
}

/// A line of a file of labels. Lines may gain fields, all optional.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The row, as [`row_id`](super::row_id) names it.
    pub row_id: String,
    /// What the line does.
    pub action: Action,
    /// The new text of an edit or a draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who.
    pub reviewer: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Whether it settles a disagreement of others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adjudicates: bool,
    /// Joins the decisions that were made at once, so that they are undone at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
}

impl Line {
    /// A line without text and reason, of now.
    pub fn new(row_id: &str, action: Action, reviewer: &str) -> Self {
        Self {
            row_id: row_id.to_owned(),
            action,
            text: None,
            reason: None,
            reviewer: reviewer.to_owned(),
            at: Utc::now(),
            adjudicates: false,
            batch: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_what_it_needs_and_reads_what_it_does_not_know() {
        let text = r#"{"row_id":"p1","action":"reject","reason":"wrong","reviewer":"ana","at":"2026-11-24T12:00:00Z"}"#;
        let line: Line = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
        let newer = text.replace("\"at\"", "\"of_the_future\":1,\"at\"");
        assert_eq!(serde_json::from_str::<Line>(&newer).unwrap(), line);
    }

    #[test]
    fn a_verdict_is_its_word() {
        for verdict in Verdict::ALL {
            assert_eq!(verdict.as_str().parse::<Verdict>().unwrap(), verdict);
            assert_eq!(Action::from(verdict).verdict(), Some(verdict));
        }
        let error = "acept".parse::<Verdict>().unwrap_err();
        assert_eq!(crate::Diagnose::hint(&error).as_deref(), Some("did you mean `accept`?"));
    }
}
