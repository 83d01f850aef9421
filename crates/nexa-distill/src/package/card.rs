//! The card of a data set: what it was made of, how, and what is known to be wrong with it.
//!
//! A card states what determines the data and nothing else, so that equal data have equal cards. What it cost is not of
//! that kind; it stands in the manifests, and `nexa distill card` adds it.

mod markdown;

use std::collections::{BTreeMap, BTreeSet};

use nexa_core::artifact::{ArtifactId, Manifest, Store};
use nexa_core::cost::Spend;
use nexa_core::files;
use nexa_core::stage::Context;
use nexa_core::table::Row;
use nexa_core::{Error as CoreError, columns};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Packaged, Split, spend};
use crate::filter::Funnel;
use crate::{Result, table};

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

/// The card.
#[derive(Debug, Serialize)]
struct Card {
    /// Each collection that it was made of.
    teachers: Vec<Teacher>,
    /// Each jury that judged it.
    judges: Vec<Value>,
    /// Each way through gates.
    funnels: Vec<Funnel>,
    /// Each review by people.
    reviews: Vec<Value>,
    /// What happened while it was packaged.
    packaging: Packaging,
    splits: BTreeMap<&'static str, SplitCard>,
    limits: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Teacher {
    teacher: String,
    /// The models that answered, as the provider named them, revision and all.
    models: BTreeSet<String>,
    sampling: BTreeMap<&'static str, Value>,
    /// Where its provider says what its answers may be used for.
    terms: &'static str,
    /// Answers, and calls that failed for good.
    answers: Option<u64>,
    failed: Value,
    finish_reasons: Value,
}

#[derive(Debug, Serialize)]
struct Packaging {
    rows_in: usize,
    /// Rows that the student's template did not render or that did not fit, by reason.
    not_fitting: usize,
    /// Rows whose problem is in a split that is held out.
    leaked: usize,
    rows_out: usize,
    without_reference: usize,
}

#[derive(Debug, Serialize)]
struct SplitCard {
    rows: usize,
    groups: usize,
    /// Lengths in the student's tokens, where its tokenizer was given, else in characters.
    unit: &'static str,
    length: Option<Lengths>,
}

#[derive(Debug, Serialize)]
struct Lengths {
    total: usize,
    min: usize,
    median: usize,
    p95: usize,
    max: usize,
}

/// What a package tells its card.
pub(super) struct Facts<'a> {
    pub(super) packaged: &'a Packaged<'a>,
    /// The rows that it was made of.
    pub(super) rows: &'a [Row],
    /// Rows that did not fit.
    pub(super) rejected: usize,
}

/// Writes `card.json` and `card.md`, and states what everything upstream has cost.
pub(super) fn write(context: &Context<'_>, facts: &Facts<'_>) -> Result<()> {
    let upstream = ancestors(context)?;
    let card = Card::of(facts, &upstream);
    files::write_json(&context.output.join("card.json"), &card)?;
    files::write_atomic(&context.output.join("card.md"), card.markdown().as_bytes())?;
    let mut total = Spend::default();
    upstream.iter().for_each(|manifest| total.merge(&manifest.spend));
    context.state("upstream_spend", total)?;
    context.state(spend::SPEND_LINES, spend::lines(context.services.lab, &upstream)?)?;
    Ok(())
}

/// The manifests of everything that the inputs were made of, the inputs included; each once, the nearest first.
fn ancestors(context: &Context<'_>) -> Result<Vec<Manifest>> {
    let store = Store::new(context.services.lab);
    let mut found: Vec<Manifest> =
        context.inputs.iter().map(|(_, artifact)| artifact.manifest.clone()).collect();
    let mut next = 0;
    while let Some(manifest) = found.get(next) {
        let parents: Vec<ArtifactId> =
            manifest.parents.iter().filter_map(|parent| parent.id.parse().ok()).collect();
        for parent in parents {
            if found.iter().all(|known| known.id != parent) {
                match store.get(&parent) {
                    Ok(artifact) => found.push(artifact.manifest),
                    // A card says what is known; what was removed since is not.
                    Err(CoreError::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        next += 1;
    }
    Ok(found)
}

impl Card {
    fn of(facts: &Facts<'_>, upstream: &[Manifest]) -> Self {
        let of_stage =
            |stage: &'static str| upstream.iter().filter(move |manifest| manifest.producer.stage == stage);
        let models: BTreeSet<String> =
            facts.rows.iter().filter_map(|row| table::cell(row, columns::MODEL_ID)).collect();
        let teachers: Vec<Teacher> =
            of_stage("distill.collect").map(|manifest| Teacher::of(manifest, &models)).collect();
        let judges = of_stage("distill.judge").map(|manifest| {
            let said = |name: &str| manifest.summary.get(name).cloned().unwrap_or(Value::Null);
            json!({
                "judges": said("judges"), "rubric": said("rubric"), "verdicts": said("verdicts"),
                "unreadable": said("unreadable"), "mean_score": said("mean_score"),
            })
        });
        let funnels = of_stage("distill.filter")
            .filter_map(|manifest| serde_json::from_value(manifest.summary.get("funnel")?.clone()).ok());
        let reviews = of_stage("distill.review").map(|manifest| {
            let said = |name: &str| manifest.summary.get(name).cloned().unwrap_or(Value::Null);
            json!({"rows": said("review"), "reviewers": said("reviewers"), "agreement": said("agreement")})
        });
        let packaged = facts.packaged;
        let kept = || packaged.items.iter().zip(packaged.kept).filter(|(_, split)| split.is_some());
        let packaging = Packaging {
            rows_in: facts.rows.len(),
            not_fitting: facts.rejected,
            leaked: packaged.leaked,
            rows_out: kept().count(),
            without_reference: kept().filter(|(item, _)| item.reference.is_none()).count(),
        };
        let splits: BTreeMap<_, _> =
            Split::ALL.map(|split| (split.as_str(), SplitCard::of(split, packaged))).into();
        let mut card = Self {
            teachers,
            judges: judges.collect(),
            funnels: funnels.collect(),
            reviews: reviews.collect(),
            packaging,
            splits,
            limits: Vec::new(),
        };
        card.limits = card.known_limits();
        card
    }

    /// What a reader should not take for granted.
    fn known_limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        let Packaging { without_reference, rows_out, .. } = self.packaging;
        if without_reference > 0 {
            limits.push(format!(
                "{without_reference} of {rows_out} answers were held against no reference: nothing says that they are right."
            ));
        }
        if self.judges.is_empty() {
            limits.push("No model judged the answers.".to_owned());
        } else {
            limits.push("Judges are models, and have the faults of models.".to_owned());
        }
        if self.reviews.is_empty() {
            limits.push("No person reviewed the answers.".to_owned());
        }
        for review in &self.reviews {
            let unreviewed = review["rows"]["unreviewed"].as_u64().unwrap_or(0);
            if unreviewed > 0 {
                limits.push(format!("{unreviewed} of the answers passed without a decision of reviewers."));
            }
        }
        for (split, card) in &self.splits {
            if card.rows == 0 {
                limits.push(format!("The {split} split is empty."));
            }
        }
        if self.splits.values().any(|split| split.unit == "characters") {
            limits.push("Lengths are in characters: no student's tokenizer was given.".to_owned());
        }
        if !self.teachers.is_empty() {
            limits.push("The answers carry what their teachers believe, prefer and get wrong.".to_owned());
        }
        limits
    }
}

impl Teacher {
    fn of(manifest: &Manifest, models: &BTreeSet<String>) -> Self {
        let config = &manifest.producer.config;
        let said = |name: &str| manifest.summary.get(name).cloned().unwrap_or(Value::Null);
        let teacher = config.get("teacher").and_then(Value::as_str).unwrap_or("unknown").to_owned();
        let terms = TERMS.iter().find(|(prefix, _)| teacher.starts_with(prefix)).map(|(_, terms)| *terms);
        let own = if teacher == "embedded" {
            "none: the teacher is part of this program"
        } else {
            "those of whoever runs the endpoint, and of the model's licence"
        };
        Self {
            terms: terms.unwrap_or(own),
            models: models.clone(),
            sampling: SAMPLING
                .into_iter()
                .filter_map(|name| Some((name, config.get(name)?.clone())))
                .filter(|(_, value)| !value.is_null())
                .collect(),
            answers: manifest.counts.rows,
            failed: said("failed"),
            finish_reasons: said("finish_reasons"),
            teacher,
        }
    }
}

impl SplitCard {
    fn of(split: Split, packaged: &Packaged<'_>) -> Self {
        let kept = || {
            let rows = packaged.items.iter().zip(packaged.groups).zip(packaged.kept);
            rows.filter(move |(_, side)| **side == Some(split)).map(|(pair, _)| pair)
        };
        let unit =
            if packaged.items.iter().all(|item| item.tokens.is_some()) { "tokens" } else { "characters" };
        let characters =
            |item: &super::Item| item.messages.iter().map(|message| message.content.chars().count()).sum();
        let lengths = kept().map(|(item, _)| item.tokens.unwrap_or_else(|| characters(item))).collect();
        let groups: BTreeSet<_> = kept().map(|(_, group)| group).collect();
        Self { rows: kept().count(), groups: groups.len(), unit, length: Lengths::of(lengths) }
    }
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Option<Self> {
        lengths.sort_unstable();
        // The smallest length that so many percent of the rows do not exceed.
        let percentile = |percent: usize| lengths[(lengths.len() * percent).div_ceil(100).max(1) - 1];
        Some(Self {
            min: *lengths.first()?,
            max: *lengths.last()?,
            total: lengths.iter().sum(),
            median: percentile(50),
            p95: percentile(95),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_lengths_that_occur() {
        let lengths = Lengths::of((1..=20).rev().collect()).unwrap();
        assert_eq!(
            (lengths.min, lengths.median, lengths.p95, lengths.max, lengths.total),
            (1, 10, 19, 20, 210)
        );
        let lengths = Lengths::of(vec![7]).unwrap();
        assert_eq!((lengths.median, lengths.p95), (7, 7));
        assert!(Lengths::of(Vec::new()).is_none());
    }
}
