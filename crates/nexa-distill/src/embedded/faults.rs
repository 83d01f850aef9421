//! How often, and in which ways, the embedded teacher fails on purpose.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::{check, check_share};

/// Shares of the questions that the embedded teacher answers badly, or at first not at all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Has a wrong number in a step and so a wrong answer. Default 0.06: enough for the gate against wrong answers to
    /// matter to the student.
    pub wrong: f64,
    /// Refuses. Default 0.03, about what careful chat models do with harmless questions.
    pub refusing: f64,
    /// Stops in the middle. Default 0.03, as if `max_tokens` were too small for some.
    pub truncated: f64,
    /// Says a line over and over. Default 0.02; loops are rare but ruin a student.
    pub repetitive: f64,
    /// Asks at the first attempt to come back later (429). Default 0.03, so that every run meets it; the answer does
    /// not depend on it.
    pub rate_limited: f64,
    /// Fails at the first attempt (500). Default 0.02, for the same reason.
    pub failing: f64,
    /// Never answers the first attempt. Default 0.
    pub hanging: f64,
    /// Breaks off in the middle of its JSON at the first attempt, and charges for it. Default 0.
    pub malformed: f64,
    /// Hangs up in the middle of the first attempt, and charges for it. Default 0.
    pub disconnecting: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            wrong: 0.06,
            refusing: 0.03,
            truncated: 0.03,
            repetitive: 0.02,
            rate_limited: 0.03,
            failing: 0.02,
            hanging: 0.0,
            malformed: 0.0,
            disconnecting: 0.0,
        }
    }
}

/// How a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Right,
    Wrong,
    Refusing,
    Truncated,
    Repetitive,
}

/// How a call is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reception {
    Served,
    RateLimited,
    Failing,
    Hanging,
    Malformed,
    Disconnecting,
}

impl Faults {
    /// No faults at all.
    pub const NONE: Self = Self {
        wrong: 0.0,
        refusing: 0.0,
        truncated: 0.0,
        repetitive: 0.0,
        rate_limited: 0.0,
        failing: 0.0,
        hanging: 0.0,
        malformed: 0.0,
        disconnecting: 0.0,
    };

    /// Checks that the rates are shares and leave room for each other.
    ///
    /// # Errors
    /// Fails with the key of the rate that cannot be.
    pub fn check(&self, stage: &'static str) -> Result<()> {
        let shares = [
            ("embedded.wrong", self.wrong),
            ("embedded.refusing", self.refusing),
            ("embedded.truncated", self.truncated),
            ("embedded.repetitive", self.repetitive),
            ("embedded.rate_limited", self.rate_limited),
            ("embedded.failing", self.failing),
            ("embedded.hanging", self.hanging),
            ("embedded.malformed", self.malformed),
            ("embedded.disconnecting", self.disconnecting),
        ];
        for (key, share) in shares {
            check_share(stage, key, share)?;
        }
        let answers = self.wrong + self.refusing + self.truncated + self.repetitive;
        check(stage, "embedded", answers)
            .that(answers <= 1.0, "bad answers cannot be more than all answers")?;
        let calls = self.rate_limited + self.failing + self.hanging + self.malformed + self.disconnecting;
        check(stage, "embedded", calls).that(calls <= 1.0, "failing calls cannot be more than all calls")
    }

    pub(super) fn manner(&self, draw: f64) -> Manner {
        pick(
            draw,
            &[
                (self.wrong, Manner::Wrong),
                (self.refusing, Manner::Refusing),
                (self.truncated, Manner::Truncated),
                (self.repetitive, Manner::Repetitive),
            ],
        )
        .unwrap_or(Manner::Right)
    }

    pub(super) fn reception(&self, draw: f64) -> Reception {
        pick(
            draw,
            &[
                (self.rate_limited, Reception::RateLimited),
                (self.failing, Reception::Failing),
                (self.hanging, Reception::Hanging),
                (self.malformed, Reception::Malformed),
                (self.disconnecting, Reception::Disconnecting),
            ],
        )
        .unwrap_or(Reception::Served)
    }
}

fn pick<T: Copy>(mut draw: f64, shares: &[(f64, T)]) -> Option<T> {
    for &(share, choice) in shares {
        if draw < share {
            return Some(choice);
        }
        draw -= share;
    }
    None
}
