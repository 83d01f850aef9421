//! Gates: named, versioned rules that turn a text into numbers, and bounds that turn the numbers into a verdict.
//!
//! The same name elsewhere does not mean the same rule, so each gate says whose definition it follows and carries a
//! version; a gate's numbers never change under the same version. The definitions are datatrove's.

mod c4;
mod fineweb;
mod gopher;
mod language;

use nexa_core::config;

pub use language::{Language, detect};
pub(crate) use language::{codes, is_known};

use super::text::{Grams, Seen, WordIndex, Words};

/// Buffers that a thread uses again for each text.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) words: Words,
    pub(super) index: WordIndex,
    pub(super) seen: Seen,
    pub(super) grams: Grams,
}

/// Rules over one text. What it measures depends on the text alone.
pub trait Gate: Send + Sync {
    /// Name and version: `gopher@1`.
    fn name(&self) -> &'static str;

    /// What each number means, in the order in which [`measure`](Self::measure) gives them.
    fn scores(&self) -> &'static [&'static str];

    /// The bounds on the numbers, in the order in which a verdict looks at them.
    fn rules(&self) -> &'static [Rule];

    /// Appends the numbers of a text, all finite. What a gate takes out of a text is missing in the one that it returns.
    fn measure(&self, text: &str, scratch: &mut Scratch, scores: &mut Vec<f64>) -> Option<String>;

    /// What the gate leaves of a text, where it takes something out.
    fn edit(&self, _text: &str) -> Option<String> {
        None
    }
}

/// A bound on one number of a gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The key that sets it; two rules may share one.
    pub key: &'static str,
    /// The number, by its place among the scores of the gate.
    pub score: usize,
    /// On which side the number must be.
    pub bound: Bound,
    /// The published value.
    pub default: f64,
}

/// On which side of a threshold a number passes; on it, it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Not below.
    AtLeast,
    /// Not above.
    AtMost,
}

impl Bound {
    /// Whether a number passes.
    pub fn admits(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::AtLeast => value >= threshold,
            Self::AtMost => value <= threshold,
        }
    }
}

const fn at_least(key: &'static str, score: usize, default: f64) -> Rule {
    Rule { key, score, bound: Bound::AtLeast, default }
}

const fn at_most(key: &'static str, score: usize, default: f64) -> Rule {
    Rule { key, score, bound: Bound::AtMost, default }
}

/// Every gate.
pub static GATES: [&dyn Gate; 3] = [&gopher::Gopher, &c4::C4, &fineweb::FineWeb];

/// The gate of a name and version.
///
/// # Errors
/// Fails with the nearest name when there is none.
pub fn find(name: &str, place: &str) -> nexa_core::Result<&'static dyn Gate> {
    GATES.into_iter().find(|gate| gate.name() == name).ok_or_else(|| nexa_core::Error::UnknownKey {
        place: place.to_owned(),
        key: format!("gates: {name}"),
        nearest: config::nearest(name, GATES.iter().map(|gate| gate.name()))
            .map(|name| format!("gates: {name}")),
    })
}

/// The word under which the thresholds of a gate stand in a configuration: its name without the version.
pub fn section(gate: &str) -> &str {
    gate.split_once('@').map_or(gate, |(section, _)| section)
}

/// A share; nothing of nothing is nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests;
