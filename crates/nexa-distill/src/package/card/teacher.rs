//! Who gave the answers, and how they were asked.

use std::collections::{BTreeMap, BTreeSet};

use nexa_core::artifact::Manifest;
use nexa_core::columns;
use nexa_core::table::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::table;

/// Settings of a teacher that a reader wants to know.
const SAMPLING: [&str; 6] = ["temperature", "top_p", "max_tokens", "samples_per_prompt", "seed", "limit"];

/// Where providers say what their models' answers may be used for.
const TERMS: [(&str, &str); 8] = [
    ("openai:", "https://openai.com/policies/"),
    ("openrouter:", "https://openrouter.ai/terms, and the terms of the model's own provider"),
    ("anthropic:", "https://www.anthropic.com/legal"),
    ("gemini:", "https://ai.google.dev/gemini-api/terms"),
    ("together:", "https://www.together.ai/terms-of-service"),
    ("groq:", "https://groq.com/terms-of-use"),
    (
        "deepseek:",
        "https://platform.deepseek.com/downloads/DeepSeek%20Open%20Platform%20Terms%20of%20Service.html",
    ),
    ("mistral:", "https://mistral.ai/terms"),
];

/// A teacher that was asked in one way. Collections that differ in nothing else, as those that ask again do, are one.
#[derive(Debug, Serialize)]
pub(super) struct Teacher {
    pub(super) teacher: String,
    pub(super) collections: usize,
    /// The models that answered, as the provider named them, revision and all.
    pub(super) models: BTreeSet<String>,
    pub(super) sampling: BTreeMap<&'static str, Value>,
    /// Where its provider says what its answers may be used for.
    pub(super) terms: &'static str,
    /// Answers, and calls that failed for good.
    pub(super) answers: u64,
    pub(super) failed: u64,
    pub(super) finish_reasons: BTreeMap<String, u64>,
}

impl Teacher {
    /// The teachers of some collections, the nearest first; `rows` are what is left of their answers.
    pub(super) fn joined<'a>(collections: impl Iterator<Item = &'a Manifest>, rows: &[Row]) -> Vec<Self> {
        let mut teachers: Vec<Self> = Vec::new();
        for manifest in collections {
            let teacher = Self::of(manifest, rows);
            let is_same =
                |known: &&mut Self| known.teacher == teacher.teacher && known.sampling == teacher.sampling;
            match teachers.iter_mut().find(is_same) {
                Some(known) => known.join(teacher),
                None => teachers.push(teacher),
            }
        }
        teachers
    }

    fn of(manifest: &Manifest, rows: &[Row]) -> Self {
        let config = &manifest.producer.config;
        let teacher = config.get("teacher").and_then(Value::as_str).unwrap_or("unknown").to_owned();
        let terms = TERMS.iter().find(|(prefix, _)| teacher.starts_with(prefix)).map(|(_, terms)| *terms);
        let own = if teacher == "embedded" {
            "none: the teacher is part of this program"
        } else {
            "those of whoever runs the endpoint, and of the model's licence"
        };
        // Collections of earlier versions do not say who answered; their rows do, with those of all others.
        let of_rows = || rows.iter().filter_map(|row| table::cell(row, columns::MODEL_ID)).collect();
        Self {
            collections: 1,
            terms: terms.unwrap_or(own),
            models: said(manifest, "models").unwrap_or_else(of_rows),
            sampling: SAMPLING
                .into_iter()
                .filter_map(|name| Some((name, config.get(name)?.clone())))
                .filter(|(_, value)| !value.is_null())
                .collect(),
            answers: manifest.counts.rows.unwrap_or(0),
            failed: said(manifest, "failed").unwrap_or(0),
            finish_reasons: said(manifest, "finish_reasons").unwrap_or_default(),
            teacher,
        }
    }

    fn join(&mut self, other: Self) {
        self.collections += other.collections;
        self.models.extend(other.models);
        self.answers += other.answers;
        self.failed += other.failed;
        for (reason, count) in other.finish_reasons {
            *self.finish_reasons.entry(reason).or_default() += count;
        }
    }
}

/// What a stage stated, if it did.
fn said<T: DeserializeOwned>(manifest: &Manifest, name: &str) -> Option<T> {
    serde_json::from_value(manifest.summary.get(name)?.clone()).ok()
}
