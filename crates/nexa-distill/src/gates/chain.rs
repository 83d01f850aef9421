//! Chains: which gates are asked, in which order and with which bounds.

use std::sync::Arc;

use nexa_core::columns;
use nexa_core::event::Cancel;
use nexa_core::lm::Tokenizer;
use serde::{Deserialize, Serialize};

use super::{
    Bounds, Check, Gate, Judged, Length, Loop, Scores, Tokens, Truncation, check, duplicate, echo, empty,
    fences, hedging, json, judged, language, length, looped, refusal, template_tokens, tokens, truncation,
    wrong_answer,
};
use crate::{Result, error};

/// A named set of gates. A chain never changes once it has a name: other gates or bounds make another version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chain {
    /// For answers that a student imitates. Its gates and bounds are the defaults of [`Config`].
    #[default]
    #[serde(rename = "sft@1")]
    Sft1,
}

/// A gate with nothing to set but the highest score that passes, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "Set")]
pub struct AtMost<const THOUSANDTHS: u32> {
    /// Whether the gate is asked. Default true.
    pub enabled: bool,
    /// The highest score that passes.
    pub max: f64,
}

impl<const THOUSANDTHS: u32> Default for AtMost<THOUSANDTHS> {
    fn default() -> Self {
        Self { enabled: true, max: f64::from(THOUSANDTHS) / 1e3 }
    }
}

/// What a configuration says of such a gate.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    enabled: Option<bool>,
    max: Option<f64>,
}

impl<const THOUSANDTHS: u32> From<Set> for AtMost<THOUSANDTHS> {
    fn from(set: Set) -> Self {
        let default = Self::default();
        Self { enabled: set.enabled.unwrap_or(default.enabled), max: set.max.unwrap_or(default.max) }
    }
}

/// The gates, in the order in which they decide: the cheap and certain ones first, so that a row is rejected for the
/// plainest reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The chain. Default `sft@1`.
    pub chain: Chain,
    /// Nothing was said. Score: 1 where that is so.
    pub empty: AtMost<0>,
    /// Too short or too long. Score: characters.
    pub length: Length,
    /// Too short or too long for the student. Score: tokens of the rendered conversation; asked where a tokenizer is
    /// given.
    pub tokens: Tokens,
    /// Refuses to answer. Score: 1 where that is so.
    pub refusal: AtMost<0>,
    /// Was cut off. Score: from 0, an end, to 1, the provider says so.
    pub truncation: Truncation,
    /// Holds marks of a chat template. Score: how many.
    pub template_tokens: AtMost<0>,
    /// Opens a block of code and does not close it. Score: 1 where that is so.
    pub code_fences: AtMost<0>,
    /// Is no JSON although JSON was asked for. Score: 0.5 where text stands around it, 1 where there is none.
    pub json: AtMost<0>,
    /// Says the same over and over. Score: the share of words that repeat.
    pub r#loop: Loop,
    /// Says the question again. Score: the share of words that copy it. Default 0.8: a question may be restated.
    pub echo: AtMost<800>,
    /// Does not commit itself. Score: the share of sentences that hedge. Default 0.5: one of two may.
    pub hedging: AtMost<500>,
    /// Answers in another language. Score: how sure that is. Default 0.5.
    pub language: AtMost<500>,
    /// Stands in the table already. Score: how often.
    pub duplicate: AtMost<0>,
    /// Comes to another result than the reference. Score: 1 where that is so.
    pub wrong_answer: AtMost<0>,
    /// Checks of one's own. Default: none.
    pub checks: Vec<Check>,
    /// What judges say, where their verdicts are given. Score: theirs, from 1 to 5.
    pub judge: Judged,
}

/// Names that no check can have: the table of scores has a column for each.
const TAKEN: [&str; 3] = [columns::ID, "tokens", "judge"];

/// What gates need besides the answers.
#[derive(Clone, Default)]
pub struct Given {
    /// The student's tokenizer.
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    /// The judges' scores.
    pub verdicts: Option<Scores>,
    /// Where relative paths of checks begin, and where commands run.
    pub folder: std::path::PathBuf,
    /// Asks commands that check answers to stop.
    pub cancel: Cancel,
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key, and on a check that cannot be asked.
    pub fn check(&self, stage: &'static str, folder: &std::path::Path) -> Result<()> {
        self.length.check(stage)?;
        self.tokens.check(stage)?;
        self.r#loop.check(stage)?;
        let judge = self.judge.min_score;
        error::check(stage, "judge.min_score", judge)
            .that((1.0..=5.0).contains(&judge), "scores lie between 1 and 5")?;
        let given = Given { folder: folder.to_owned(), ..Given::default() };
        let gates = self.gates(&given)?;
        for (position, gate) in gates.iter().enumerate() {
            let is_first = gates[..position].iter().all(|earlier| earlier.name() != gate.name());
            let is_free = is_first && !TAKEN.contains(&gate.name());
            error::check(stage, "checks.name", gate.name()).that(is_free, "another gate has that name")?;
        }
        Ok(())
    }

    /// The gates that are switched on and can be asked, in order.
    ///
    /// # Errors
    /// Fails on a check that cannot be made, with its place in the list.
    pub fn gates(&self, given: &Given) -> Result<Vec<Gate>> {
        let mut gates: Vec<Gate> = self.own(given).into_iter().flatten().collect();
        for (position, check) in self.checks.iter().enumerate() {
            gates.push(check::gate(check, position, given)?);
        }
        if let Some(scores) = given.verdicts.clone().filter(|_| self.judge.enabled) {
            gates.push(judged::gate(self.judge, scores));
        }
        Ok(gates)
    }

    /// The gates of the chain.
    fn own(&self, given: &Given) -> [Option<Gate>; 14] {
        type OfEach = fn(&super::Answer<'_>) -> Option<super::Measure>;
        fn plain<const D: u32>(name: &str, version: u32, set: AtMost<D>, measure: OfEach) -> Option<Gate> {
            set.enabled.then(|| Gate::of_each(name, version, Bounds::at_most(set.max), measure))
        }
        [
            plain("empty", empty::VERSION, self.empty, empty::measure),
            length::gate(self.length),
            given.tokenizer.clone().and_then(|tokenizer| tokens::gate(self.tokens, tokenizer)),
            plain("refusal", refusal::VERSION, self.refusal, refusal::measure),
            truncation::gate(&self.truncation),
            plain(
                "template_tokens",
                template_tokens::VERSION,
                self.template_tokens,
                template_tokens::measure,
            ),
            plain("code_fences", fences::VERSION, self.code_fences, fences::measure),
            plain("json", json::VERSION, self.json, json::measure),
            looped::gate(self.r#loop),
            plain("echo", echo::VERSION, self.echo, echo::measure),
            plain("hedging", hedging::VERSION, self.hedging, hedging::measure),
            plain("language", language::VERSION, self.language, language::measure),
            duplicate::gate(self.duplicate),
            plain("wrong_answer", wrong_answer::VERSION, self.wrong_answer, wrong_answer::measure),
        ]
    }
}

/// The sum of all versions, which rises whenever one of them does.
pub(crate) fn version() -> u32 {
    [
        empty::VERSION,
        length::VERSION,
        tokens::VERSION,
        refusal::VERSION,
        truncation::VERSION,
        template_tokens::VERSION,
        fences::VERSION,
        json::VERSION,
        looped::VERSION,
        echo::VERSION,
        hedging::VERSION,
        language::VERSION,
        duplicate::VERSION,
        wrong_answer::VERSION,
        check::VERSION,
        judged::VERSION,
    ]
    .iter()
    .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_a_chain_do_not_change() {
        let gates = Config::default().gates(&Given::default()).unwrap();
        let found: Vec<String> = gates
            .iter()
            .map(|gate| {
                let Bounds { min, max } = gate.bounds();
                let text = |bound: Option<f64>| bound.map_or_else(String::new, |bound| bound.to_string());
                format!("{}@{} {}..{}", gate.name(), gate.version(), text(min), text(max))
            })
            .collect();
        assert_eq!(
            found,
            [
                "empty@1 ..0",
                "length@2 1..20000",
                "refusal@2 ..0",
                "truncation@2 ..0.5",
                "template_tokens@1 ..0",
                "code_fences@1 ..0",
                "json@1 ..0",
                "loop@1 ..0.3",
                "echo@1 ..0.8",
                "hedging@1 ..0.5",
                "language@1 ..0.5",
                "duplicate@2 ..0",
                "wrong_answer@2 ..0",
            ]
        );
    }

    #[test]
    fn a_chain_is_named_with_its_version() {
        let read = |yaml: &str| {
            let value = nexa_core::config::parse_yaml(yaml, "test").unwrap();
            nexa_core::config::from_value::<Config>(value, "test")
        };
        assert_eq!(read("{chain: sft@1, echo: {max: 0.5}}").unwrap().echo.max, 0.5);
        let error = read("chain: sft@2").unwrap_err().to_string();
        assert!(error.contains("sft@2"), "{error}");
    }
}
