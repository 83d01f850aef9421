//! Gates: what a teacher's answer must pass before a student learns from it.
//!
//! Each gate measures one thing about an answer, as a number, and its bounds decide. The numbers are kept beside the
//! rows, so a bound can be moved without measuring again. Gates have versions, raised whenever one would measure
//! otherwise than before; a chain is a named set of them with its bounds.

mod chain;
mod check;
mod duplicate;
mod echo;
mod empty;
mod fences;
mod hedging;
mod json;
mod judged;
mod language;
mod length;
mod looped;
mod refusal;
mod template_tokens;
mod tokens;
mod truncation;
mod wrong_answer;

use std::borrow::Cow;

use nexa_core::columns;
use nexa_core::lm::{ChatMessage, Role};
use nexa_core::table::Row;
use serde::{Deserialize, Serialize};

use crate::{Result, conversation};

pub(crate) use chain::version;
pub use chain::{AtMost, Chain, Config, Given};
pub use check::{Check, NumericAnswer};
pub use judged::{Judged, Scores};
pub use length::Length;
pub use looped::Loop;
pub use tokens::Tokens;
pub use truncation::Truncation;

/// What a gate sees of a row.
#[derive(Debug, Clone)]
pub struct Answer<'a> {
    /// What stood before the conversation.
    pub system_prompt: Cow<'a, str>,
    /// What was asked; where a row was asked again in other words, what was asked first; where it holds a conversation
    /// of several turns, all of them, with who speaks.
    pub prompt: Cow<'a, str>,
    /// What was answered.
    pub output: &'a str,
    /// Why the answer ended.
    pub finish_reason: Option<&'a str>,
    /// The right final answer, where one is known.
    pub reference: Option<&'a str>,
    /// The whole row.
    pub row: &'a Row,
    /// What was asked, where the row holds a conversation.
    turns: Option<Vec<ChatMessage>>,
}

impl<'a> Answer<'a> {
    /// Reads a row of teacher outputs. What is missing or null is empty.
    pub fn of(row: &'a Row) -> Self {
        let text = |column: &str| row.get(column).and_then(serde_json::Value::as_str);
        let first_prompt = text(columns::FIRST_PROMPT);
        let turns = conversation::turns(row).ok().flatten().filter(|_| first_prompt.is_none());
        let own_system = turns.iter().flatten().next().filter(|turn| turn.role == Role::System);
        let system_prompt = match own_system {
            Some(turn) => Cow::Owned(turn.content.clone()),
            None => Cow::Borrowed(text(columns::SYSTEM_PROMPT).unwrap_or_default()),
        };
        let prompt = match &turns {
            Some(turns) => Cow::Owned(conversation::text(conversation::without_system(turns))),
            None => Cow::Borrowed(first_prompt.or(text(columns::USER_PROMPT)).unwrap_or_default()),
        };
        Self {
            system_prompt,
            prompt,
            output: text(columns::TEACHER_OUTPUT).unwrap_or_default(),
            finish_reason: text(columns::FINISH_REASON),
            reference: text(columns::REFERENCE),
            row,
            turns,
        }
    }

    /// What was asked, turn by turn.
    pub fn asked(&self) -> Vec<ChatMessage> {
        let prompt = || vec![ChatMessage::new(Role::User, self.prompt.as_ref())];
        let turns = self.turns.clone().unwrap_or_else(prompt);
        conversation::after(Some(self.system_prompt.as_ref()).filter(|text| !text.is_empty()), turns)
    }
}

/// What a gate found in one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// The number that the bounds are held against.
    pub score: f64,
    /// What it stands for, in words that go after "rejected:".
    pub found: String,
}

impl Measure {
    /// Nothing to complain about.
    fn clean() -> Self {
        Self { score: 0.0, found: String::new() }
    }

    /// A number and what it stands for.
    fn new(score: f64, found: impl Into<String>) -> Self {
        Self { score, found: found.into() }
    }

    /// A fault that is there or not.
    fn fault(found: Option<String>) -> Self {
        found.map_or_else(Self::clean, |found| Self::new(1.0, found))
    }
}

/// Where the scores of good answers lie; both ends are allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The lowest good score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The highest good score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

impl Bounds {
    /// No score above this.
    pub fn at_most(max: f64) -> Self {
        Self { min: None, max: Some(max) }
    }

    /// No score below this.
    pub fn at_least(min: f64) -> Self {
        Self { min: Some(min), max: None }
    }

    /// Whether a score is good.
    pub fn hold(&self, score: f64) -> bool {
        self.broken_by(score).is_none()
    }

    /// The bound that a score breaks.
    fn broken_by(&self, score: f64) -> Option<f64> {
        self.min.filter(|min| score < *min).or(self.max.filter(|max| score > *max))
    }
}

/// What a gate found in each of some answers.
type Measures = Vec<Option<Measure>>;
/// How a gate measures.
type Measuring = dyn FnMut(&[Answer<'_>]) -> Result<Measures>;

/// A gate, ready to measure.
pub struct Gate {
    name: String,
    version: u32,
    bounds: Bounds,
    measure: Box<Measuring>,
}

impl Gate {
    /// A gate that looks at all answers at once; it says nothing of an answer to which it does not apply.
    fn of_all(
        name: impl Into<String>,
        version: u32,
        bounds: Bounds,
        measure: impl FnMut(&[Answer<'_>]) -> Result<Measures> + 'static,
    ) -> Self {
        Self { name: name.into(), version, bounds, measure: Box::new(measure) }
    }

    /// A gate that looks at one answer after the other.
    fn of_each(
        name: impl Into<String>,
        version: u32,
        bounds: Bounds,
        mut measure: impl FnMut(&Answer<'_>) -> Option<Measure> + 'static,
    ) -> Self {
        Self::of_all(name, version, bounds, move |answers| Ok(answers.iter().map(&mut measure).collect()))
    }

    /// Its name, as it stands in tables and configurations.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Raised whenever the gate would measure otherwise than before.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Which scores pass.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Measures every answer. An answer without a measure passes: the gate does not apply to it.
    ///
    /// # Errors
    /// Fails where the gate cannot be asked, such as a command that does not start.
    pub fn measure(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Option<Measure>>> {
        (self.measure)(answers)
    }

    /// Why a measure does not pass, if it does not.
    pub fn reject(&self, measure: &Measure) -> Option<String> {
        let bound = self.bounds.broken_by(measure.score)?;
        // Where anything at all is too much, the bound says nothing that the finding does not.
        Some(if bound == 0.0 {
            measure.found.clone()
        } else {
            format!("{}, the bound is {bound}", measure.found)
        })
    }
}

/// A share as it is kept: four digits tell all that a bound can tell.
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { rounded(part as f64 / whole as f64) }
}

fn rounded(score: f64) -> f64 {
    (score * 1e4).round() / 1e4
}

/// A share in words.
fn percent(share: f64) -> String {
    format!("{} %", (share * 100.0).round())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_conversation_is_read_as_it_was_asked() {
        let check = |row: Value, system_prompt: &str, prompt: &str, asked: &str| {
            let row = row.as_object().unwrap();
            let answer = Answer::of(row);
            assert_eq!((&*answer.system_prompt, &*answer.prompt), (system_prompt, prompt));
            let turns: Vec<_> = answer
                .asked()
                .iter()
                .map(|turn| format!("{}={}", turn.role.as_str(), turn.content))
                .collect();
            assert_eq!(turns.join(" "), asked);
        };
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        check(json!({"user_prompt": "a", "system_prompt": "s"}), "s", "a", "system=s user=a");
        check(json!({"user_prompt": "a", "messages": null}), "", "a", "user=a");
        let talk = json!([turn("user", "a"), turn("assistant", "b"), turn("user", "c")]);
        let all = "user: a\n\nassistant: b\n\nuser: c";
        let asked = "system=s user=a assistant=b user=c";
        check(json!({"user_prompt": "c", "system_prompt": "s", "messages": talk}), "s", all, asked);
        check(json!({"system_prompt": "s", "messages": talk.to_string()}), "s", all, asked);
        let own = json!([turn("system", "t"), turn("user", "a"), turn("assistant", "b")]);
        check(json!({"system_prompt": "s", "messages": own}), "t", "a", "system=t user=a");
        check(json!({"first_prompt": "f", "user_prompt": "a", "messages": talk}), "", "f", "user=f");
    }
}

#[cfg(test)]
mod test {
    //! What the tests of gates share: a row of a prompt and an answer.

    use nexa_core::table::Row;
    use serde_json::json;

    use super::{Answer, Measure};

    pub(super) fn row(prompt: &str, output: &str) -> Row {
        json!({"user_prompt": prompt, "teacher_output": output, "finish_reason": "stop"})
            .as_object()
            .expect("the literal is an object")
            .clone()
    }

    /// Measures an answer to a prompt.
    pub(super) fn measured(
        gate: impl FnOnce(&Answer<'_>) -> Option<Measure>,
        prompt: &str,
        output: &str,
    ) -> Option<Measure> {
        gate(&Answer::of(&row(prompt, output)))
    }

    /// The score of an answer to a prompt; NaN where the gate does not apply.
    pub(super) fn score(
        gate: impl FnOnce(&Answer<'_>) -> Option<Measure>,
        prompt: &str,
        output: &str,
    ) -> f64 {
        measured(gate, prompt, output).map_or(f64::NAN, |measure| measure.score)
    }
}
