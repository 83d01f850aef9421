//! What becomes of an answer that came but cannot be used as it is.
//!
//! The verdict depends on the request, the answer and the configuration alone, never on when the answer came: a run
//! that was killed comes to the same verdicts from the log as one that was not.

use std::fmt;
use std::sync::Arc;

use nexa_core::lm::FinishReason;
use serde::{Deserialize, Serialize};

use crate::client::{Answer, Request};
use crate::schema::Schema;

/// How often an answer that does not fit its schema, or cannot be read, is asked for again.
const REPEATS: u32 = 2;

/// Says what is wrong with the text of an answer, where whoever asked cannot read it. It stands in the place of the check
/// of a schema; what it does not accept is asked for again, twice at most, and kept then.
pub(crate) type Reader = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What is done about each kind of unusable answer. Calls that were not answered have no policy: what fails in passing
/// is tried again, a refused key ends the run, and what the provider does not accept stands in `failed.jsonl`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnFailure {
    /// The answer was cut off. Default `raise_max_tokens`.
    pub truncated: Truncated,
    /// The provider withheld the answer. Default `drop`: there is nothing in it.
    pub filtered: Filtered,
    /// The provider says that the model refused. Default `keep`: the gate against refusals counts it.
    pub refused: Refused,
    /// The answer does not fit `response_schema`. Default `retry`, twice; what does not fit then is dropped.
    pub schema: Misfit,
}

/// What is done about an answer that was cut off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncated {
    /// Asks once more with `max_tokens_cap`, where that is given, and keeps what comes.
    #[default]
    RaiseMaxTokens,
    /// Keeps it.
    Keep,
    /// Drops the row.
    Drop,
}

/// What is done about an answer that was withheld.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filtered {
    /// Drops the row.
    #[default]
    Drop,
    /// Keeps it.
    Keep,
}

/// What is done about a refusal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// Keeps it.
    #[default]
    Keep,
    /// Drops the row.
    Drop,
}

/// What is done about an answer that does not fit its schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfit {
    /// Asks again, twice at most, and drops the row then.
    #[default]
    Retry,
    /// Keeps it.
    Keep,
    /// Drops the row.
    Drop,
}

/// What an answer is unusable for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    Truncated,
    Filtered,
    Refused,
    Schema(String),
    Unreadable(String),
}

impl Flaw {
    /// The word for it, as it stands in tables.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Filtered => "filtered",
            Self::Refused => "refused",
            Self::Schema(_) => "schema",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// What is wrong with an answer, if anything is.
    fn of(answer: &Answer, schema: Option<&Schema>, reader: Option<&Reader>) -> Option<Self> {
        match (answer.finish_reason, reader) {
            (FinishReason::ContentFilter, _) => Some(Self::Filtered),
            _ if answer.is_refusal => Some(Self::Refused),
            (FinishReason::Length, _) => Some(Self::Truncated),
            (FinishReason::Stop, Some(problem)) => problem(&answer.text).map(Self::Unreadable),
            (FinishReason::Stop, None) => schema?.problem(&answer.text).map(Self::Schema),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the answer was cut off"),
            Self::Filtered => f.write_str("the provider withheld the answer"),
            Self::Refused => f.write_str("the model refused"),
            Self::Schema(problem) => write!(f, "the answer does not fit the schema: {problem}"),
            Self::Unreadable(problem) => write!(f, "the answer cannot be read: {problem}"),
        }
    }
}

/// What becomes of an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It stands in the table.
    Keep,
    /// Its row does not.
    Drop(Flaw),
    /// This is asked instead.
    Ask(Box<Request>),
}

/// Judges answers.
pub(super) struct Policy {
    pub(super) on_failure: OnFailure,
    pub(super) max_tokens_cap: Option<u64>,
    pub(super) schema: Option<Schema>,
    pub(super) reader: Option<Reader>,
}

impl Policy {
    /// Judges the answer to a request, and names what is wrong with it, if anything is.
    pub(super) fn judge(&self, request: &Request, answer: &Answer) -> (Verdict, Option<&'static str>) {
        let Some(flaw) = Flaw::of(answer, self.schema.as_ref(), self.reader.as_ref()) else {
            return (Verdict::Keep, None);
        };
        let kind = flaw.kind();
        let OnFailure { truncated, filtered, refused, schema } = self.on_failure;
        let is_kept = match flaw {
            Flaw::Truncated => match (truncated, self.max_tokens_cap) {
                (Truncated::RaiseMaxTokens, Some(cap)) if cap > request.max_tokens => {
                    let raised = Request { max_tokens: cap, ..request.clone() };
                    return (Verdict::Ask(Box::new(raised)), Some(kind));
                }
                (Truncated::RaiseMaxTokens | Truncated::Keep, _) => true,
                (Truncated::Drop, _) => false,
            },
            Flaw::Filtered => filtered == Filtered::Keep,
            Flaw::Refused => refused == Refused::Keep,
            Flaw::Schema(_) if schema == Misfit::Retry && request.repeats < REPEATS => {
                return (again(request), Some(kind));
            }
            Flaw::Schema(_) => schema == Misfit::Keep,
            Flaw::Unreadable(_) if request.repeats < REPEATS => return (again(request), Some(kind)),
            Flaw::Unreadable(_) => true,
        };
        (if is_kept { Verdict::Keep } else { Verdict::Drop(flaw) }, Some(kind))
    }
}

/// The same, asked once more.
fn again(request: &Request) -> Verdict {
    Verdict::Ask(Box::new(Request { repeats: request.repeats + 1, ..request.clone() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::Usage;

    fn answer(text: &str, finish_reason: FinishReason, is_refusal: bool) -> Answer {
        Answer {
            text: text.to_owned(),
            finish_reason,
            model_id: "m".to_owned(),
            usage: Usage::default(),
            reasoning: None,
            logprobs: None,
            is_refusal,
        }
    }

    fn request(max_tokens: u64, repeats: u32) -> Request {
        Request {
            messages: Vec::new(),
            sampling: Arc::default(),
            max_tokens,
            seed: 0,
            sample_index: 0,
            repeats,
        }
    }

    #[test]
    fn every_flaw_has_its_policy() {
        let check = |on_failure: &str, request: &Request, answer: Answer, expected: &str| {
            let value = nexa_core::config::parse_yaml(on_failure, "test").unwrap();
            let policy = Policy {
                on_failure: nexa_core::config::from_value(value, "test").unwrap(),
                max_tokens_cap: Some(100),
                schema: Some(Schema::new(&json!({"type": "integer"})).unwrap()),
                reader: None,
            };
            let found = match policy.judge(request, &answer) {
                (Verdict::Keep, _) => "keep".to_owned(),
                (Verdict::Drop(flaw), _) => format!("drop {}", flaw.kind()),
                (Verdict::Ask(next), _) => format!("ask {} {}", next.max_tokens, next.repeats),
            };
            assert_eq!(found, expected, "{on_failure} {answer:?}");
        };
        let (length, stop, filter) = (FinishReason::Length, FinishReason::Stop, FinishReason::ContentFilter);
        check("{}", &request(10, 0), answer("4", stop, false), "keep");
        check("{}", &request(10, 0), answer("4", length, false), "ask 100 0");
        check("{}", &request(100, 0), answer("4", length, false), "keep");
        check("truncated: keep", &request(10, 0), answer("4", length, false), "keep");
        check("truncated: drop", &request(10, 0), answer("4", length, false), "drop truncated");
        check("{}", &request(10, 0), answer("", filter, false), "drop filtered");
        check("filtered: keep", &request(10, 0), answer("", filter, false), "keep");
        check("{}", &request(10, 0), answer("no", stop, true), "keep");
        check("refused: drop", &request(10, 0), answer("no", stop, true), "drop refused");
        check("{}", &request(10, 0), answer("four", stop, false), "ask 10 1");
        check("{}", &request(10, 2), answer("four", stop, false), "drop schema");
        check("schema: keep", &request(10, 0), answer("four", stop, false), "keep");
        check("schema: drop", &request(10, 0), answer("four", stop, false), "drop schema");
    }

    #[test]
    fn what_a_reader_does_not_accept_is_asked_again_and_kept_then() {
        let policy = Policy {
            on_failure: OnFailure::default(),
            max_tokens_cap: None,
            schema: Some(Schema::new(&json!({"type": "integer"})).unwrap()),
            reader: Some(Arc::new(|text| (!text.contains("four")).then(|| "no four".to_owned()))),
        };
        let judge =
            |repeats, text| policy.judge(&request(10, repeats), &answer(text, FinishReason::Stop, false));
        assert_eq!(judge(0, "it is four"), (Verdict::Keep, None), "whatever the schema says");
        let (verdict, kind) = judge(1, "5");
        assert!(matches!(verdict, Verdict::Ask(next) if next.repeats == 2) && kind == Some("unreadable"));
        assert_eq!(judge(2, "5"), (Verdict::Keep, Some("unreadable")));
    }
}
