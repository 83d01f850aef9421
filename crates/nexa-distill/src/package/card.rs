//! The card of a data set: what it was made of, how, and what is known to be wrong with it.
//!
//! A card states what determines the data and nothing else, so that equal data have equal cards. What it cost is not of
//! that kind; it stands in the manifests, and `nexa distill card` adds it.

mod lengths;
mod markdown;
mod teacher;

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
use crate::Result;
use crate::filter::Funnel;
use lengths::SplitCard;
use teacher::Teacher;

/// The card.
#[derive(Debug, Serialize)]
struct Card {
    /// Each teacher with its settings, whatever the number of collections.
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
struct Packaging {
    rows_in: usize,
    /// Rows that the student's template did not render or that did not fit, by reason.
    not_fitting: usize,
    /// Rows whose problem is in a split that is held out.
    leaked: usize,
    rows_out: usize,
    without_reference: usize,
    /// Rows whose answer ended because it was as long as it might be.
    cut_off: usize,
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
        let teachers = Teacher::joined(of_stage("distill.collect"), facts.rows);
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
        let is_cut_off = |row: &&Row| row.get(columns::FINISH_REASON).is_some_and(|why| why == "length");
        let ids = facts.rows.iter().filter(is_cut_off).filter_map(|row| row.get(columns::ID)?.as_str());
        let cut_off: BTreeSet<&str> = ids.collect();
        let packaging = Packaging {
            rows_in: facts.rows.len(),
            not_fitting: facts.rejected,
            leaked: packaged.leaked,
            rows_out: kept().count(),
            without_reference: kept().filter(|(item, _)| item.reference.is_none()).count(),
            cut_off: kept().filter(|(item, _)| cut_off.contains(item.id.as_str())).count(),
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
        let Packaging { without_reference, rows_out, cut_off, .. } = self.packaging;
        if cut_off > 0 {
            limits.push(format!("{cut_off} of {rows_out} answers were cut off at their longest length."));
        }
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
