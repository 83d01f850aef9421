//! A chain of gates over one text: each sees what the one before has left.

use std::borrow::Cow;

use nexa_core::Result;
use serde::{Deserialize, Serialize};

use super::gates::{self, Gate, Language, Scratch, section};
use super::normalise::Normalise;

/// What is scored, and by which gates. It determines the scores, so it is the whole configuration of `data.score`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The column of the text. By default `text`, else the joined contents of `messages`.
    pub text: Option<String>,
    /// What is made alike before anything is judged.
    pub normalise: Normalise,
    /// The gates, in order.
    pub gates: Vec<String>,
    /// Whether the language of each text is found.
    pub detect_language: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            text: None,
            normalise: Normalise::default(),
            gates: gates::GATES.iter().map(|gate| gate.name().to_owned()).collect(),
            detect_language: true,
        }
    }
}

/// Gates in order, and the normalisation before them.
pub struct Chain {
    normalise: Normalise,
    gates: Vec<&'static dyn Gate>,
    detect_language: bool,
}

/// What a chain found in a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The language; none where it was not asked for or cannot be told.
    pub language: Option<Language>,
    /// The numbers of all gates, in the order of [`Chain::columns`].
    pub scores: Vec<f64>,
}

impl Chain {
    /// Looks up the gates of a configuration; `place` is where it was written.
    ///
    /// # Errors
    /// Fails with the nearest name on a gate that does not exist, and on one that is named twice.
    pub fn new(config: &Config, place: &str) -> Result<Self> {
        let mut found: Vec<&'static dyn Gate> = Vec::new();
        for name in &config.gates {
            let gate = gates::find(name, place)?;
            if found.iter().any(|other| section(other.name()) == section(gate.name())) {
                return Err(nexa_core::Error::config(place, format!("`gates`: {name} is named twice")));
            }
            found.push(gate);
        }
        Ok(Self { normalise: config.normalise, gates: found, detect_language: config.detect_language })
    }

    /// The gates, in order.
    pub fn gates(&self) -> &[&'static dyn Gate] {
        &self.gates
    }

    /// Whether languages are found.
    pub fn detects_language(&self) -> bool {
        self.detect_language
    }

    /// The columns of the scores: `gopher_words`, …
    pub fn columns(&self) -> Vec<String> {
        let of = |gate: &&dyn Gate| {
            let section = section(gate.name());
            gate.scores().iter().map(move |score| format!("{section}_{score}"))
        };
        self.gates.iter().flat_map(of).collect()
    }

    /// Measures a text: normalised first, then by each gate what the one before has left of it.
    pub fn measure(&self, text: &str, scratch: &mut Scratch) -> Measured {
        let mut text = self.normalise.apply(text);
        let language = if self.detect_language { gates::detect(&text) } else { None };
        let mut scores = Vec::new();
        for gate in &self.gates {
            if let Some(edited) = gate.measure(&text, scratch, &mut scores) {
                text = Cow::Owned(edited);
            }
        }
        Measured { language, scores }
    }

    /// The text as it is kept: normalised, and without what the gates take out.
    pub fn edit<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = self.normalise.apply(text);
        for gate in &self.gates {
            if let Some(edited) = gate.edit(&text) {
                text = Cow::Owned(edited);
            }
        }
        text
    }

    /// A text that the gates must leave whole, such as one message of several: normalised only.
    pub fn normalise<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.normalise.apply(text)
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.gates.iter().map(|gate| gate.name())).finish()
    }
}
