//! The thresholds of a chain, and the verdict on a row's scores. Scores are stored, so this is all that runs again when
//! a threshold changes.

use std::collections::BTreeMap;

use nexa_core::{Error, Result, config};
use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::gates::{self, Bound, Gate, section};

/// Thresholds of one gate by key; null lifts a rule.
pub type Section = BTreeMap<String, Option<f64>>;

/// What differs from the published values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Those of `gopher@1`.
    pub gopher: Section,
    /// Those of `c4@1`.
    pub c4: Section,
    /// Those of `fineweb@1`.
    pub fineweb: Section,
    /// The languages that are kept; none of them means all.
    pub language: Vec<String>,
    /// How sure a language must be, from 0 to 1.
    pub min_language_confidence: f64,
}

/// The gate that rejects by language.
const LANGUAGE: &str = "language@1";

/// Why a row was rejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// The gate.
    pub gate: &'static str,
    /// The key of the threshold.
    pub rule: &'static str,
    /// The whole reason: number, value and threshold.
    pub reason: String,
    /// The number that decided.
    pub value: f64,
}

impl Thresholds {
    fn section(&self, name: &str) -> Option<&Section> {
        match name {
            "gopher" => Some(&self.gopher),
            "c4" => Some(&self.c4),
            "fineweb" => Some(&self.fineweb),
            _ => None,
        }
    }

    fn section_mut(&mut self, name: &str) -> Option<&mut Section> {
        match name {
            "gopher" => Some(&mut self.gopher),
            "c4" => Some(&mut self.c4),
            "fineweb" => Some(&mut self.fineweb),
            _ => None,
        }
    }

    /// A key of a gate whose threshold is not the published one.
    fn changed(&self, gate: &dyn Gate) -> Option<&'static str> {
        let own = self.section(section(gate.name()))?;
        let differs = |default: f64, key: &str| own.get(key).is_some_and(|value| *value != Some(default));
        gate.rules().iter().find(|rule| differs(rule.default, rule.key)).map(|rule| rule.key)
    }

    /// The same thresholds with every published value filled in, so that saying one makes no other key of the work.
    ///
    /// # Errors
    /// Fails with the nearest key on one that no rule has, on a number that is none, and on a language that is not
    /// known.
    pub fn resolve(mut self, place: &str) -> Result<Self> {
        for gate in gates::GATES {
            let name = section(gate.name());
            let Some(own) = self.section_mut(name) else { continue };
            for (key, value) in own.iter() {
                check_key(gate, key, place)?;
                if value.is_some_and(|value| !value.is_finite()) {
                    return Err(Error::config(place, format!("`{name}.{key}`: not a finite number")));
                }
            }
            for rule in gate.rules() {
                own.entry(rule.key.to_owned()).or_insert(Some(rule.default));
            }
        }
        for code in &self.language {
            if !gates::is_known(code) {
                return Err(Error::UnknownKey {
                    place: place.to_owned(),
                    key: format!("language: {code}"),
                    nearest: config::nearest(code, gates::codes()).map(|code| format!("language: {code}")),
                });
            }
        }
        if !(0.0..=1.0).contains(&self.min_language_confidence) {
            let message =
                format!("`min_language_confidence`: {} is not between 0 and 1", self.min_language_confidence);
            return Err(Error::config(place, message));
        }
        self.language.sort();
        self.language.dedup();
        Ok(self)
    }
}

fn check_key(gate: &dyn Gate, key: &str, place: &str) -> Result<()> {
    if gate.rules().iter().any(|rule| rule.key == key) {
        return Ok(());
    }
    let name = section(gate.name());
    Err(Error::UnknownKey {
        place: place.to_owned(),
        key: format!("{name}.{key}"),
        nearest: config::nearest(key, gate.rules().iter().map(|rule| rule.key))
            .map(|key| format!("{name}.{key}")),
    })
}

/// The rules of a chain with their thresholds: one look over a row's scores gives its verdict.
#[derive(Debug)]
pub struct Judge {
    checks: Vec<Check>,
    language: Vec<String>,
    min_language_confidence: f64,
}

#[derive(Debug)]
struct Check {
    gate: &'static str,
    rule: &'static str,
    score: &'static str,
    /// Its place among the scores of the chain.
    at: usize,
    bound: Bound,
    threshold: f64,
}

impl Judge {
    /// Puts thresholds to the scores of a chain.
    ///
    /// # Errors
    /// Fails when languages are to be kept that the chain does not find, or a threshold is set of a gate that it lacks.
    pub fn new(chain: &Chain, thresholds: &Thresholds, place: &str) -> Result<Self> {
        if !chain.detects_language()
            && (!thresholds.language.is_empty() || thresholds.min_language_confidence > 0.0)
        {
            let message = "`language`: the scores were made without it; score with `detect_language: true`";
            return Err(Error::config(place, message));
        }
        for gate in gates::GATES {
            if !chain.gates().iter().any(|own| own.name() == gate.name())
                && let Some(key) = thresholds.changed(gate)
            {
                let (section, name) = (section(gate.name()), gate.name());
                let message = format!("`{section}.{key}`: the scores were made without {name}");
                return Err(Error::config(place, message));
            }
        }
        let mut checks = Vec::new();
        let mut before = 0;
        for gate in chain.gates() {
            let section = thresholds.section(section(gate.name()));
            for rule in gate.rules() {
                let set = section.and_then(|section| section.get(rule.key)).copied();
                let Some(threshold) = set.unwrap_or(Some(rule.default)) else { continue };
                checks.push(Check {
                    gate: gate.name(),
                    rule: rule.key,
                    score: gate.scores()[rule.score],
                    at: before + rule.score,
                    bound: rule.bound,
                    threshold,
                });
            }
            before += gate.scores().len();
        }
        Ok(Self {
            checks,
            language: thresholds.language.clone(),
            min_language_confidence: thresholds.min_language_confidence,
        })
    }

    /// The gates that may reject, in order.
    pub fn gates(&self) -> Vec<&'static str> {
        let mut gates = vec![LANGUAGE];
        gates.extend(self.checks.iter().map(|check| check.gate));
        gates.dedup();
        gates
    }

    /// The first rule that a row breaks, if it breaks any: of its language, then of the gates in order.
    pub fn verdict(&self, language: Option<(&str, f64)>, scores: &[f64]) -> Option<Rejection> {
        self.language_verdict(language).or_else(|| {
            self.checks.iter().find(|check| !check.bound.admits(scores[check.at], check.threshold)).map(
                |check| {
                    let Check { gate, rule, score, threshold, .. } = *check;
                    let value = scores[check.at];
                    let side = match check.bound {
                        Bound::AtLeast => "below",
                        Bound::AtMost => "above",
                    };
                    let reason = format!("{score} {value:.4} is {side} {rule} {threshold}");
                    Rejection { gate, rule, reason, value }
                },
            )
        })
    }

    fn language_verdict(&self, language: Option<(&str, f64)>) -> Option<Rejection> {
        if self.language.is_empty() && self.min_language_confidence == 0.0 {
            return None;
        }
        let Some((code, confidence)) = language else {
            let reason = "the language cannot be told".to_owned();
            return Some(Rejection { gate: LANGUAGE, rule: "language", reason, value: 0.0 });
        };
        if !self.language.is_empty() && !self.language.iter().any(|kept| kept == code) {
            let reason = format!("the language is {code}, not {}", self.language.join(" or "));
            return Some(Rejection { gate: LANGUAGE, rule: "language", reason, value: confidence });
        }
        if confidence < self.min_language_confidence {
            let least = self.min_language_confidence;
            let reason =
                format!("language_confidence {confidence:.4} is below min_language_confidence {least}");
            return Some(Rejection {
                gate: LANGUAGE,
                rule: "min_language_confidence",
                reason,
                value: confidence,
            });
        }
        None
    }
}
