//! One evaluation as one file of HTML: everything in it, nothing to load, so that it can be sent and kept.

mod chart;
mod choose;
mod page;

use nexa_core::artifact::{ArtifactId, Store};
use nexa_core::judging::Verdict;
use nexa_core::lab::Lab;
use nexa_core::lineage;
use nexa_core::table::Tables;

use crate::Result;
use crate::evaluation::{Evaluated, Sample, of_evaluation, on_document, samples_at};
use crate::leaderboard::{Calibration, JudgedScore};

/// What a report holds beyond what stands in the evaluation's files.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportConfig {
    /// The most samples that are shown: wrong ones first, every task in turn.
    pub samples: usize,
    /// Which of them are drawn.
    pub seed: u64,
    /// How sure the model was, for each task that tells.
    pub calibrations: Vec<Calibration>,
    /// What judges' verdicts come to.
    pub judged: Vec<JudgedScore>,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self { samples: 40, seed: 0, calibrations: Vec::new(), judged: Vec::new() }
    }
}

/// What the page is made from.
struct Gathered<'c> {
    evaluated: Evaluated,
    lineage: String,
    samples: Vec<Shown>,
    /// Documents of all tasks.
    documents: usize,
    verdicts: Vec<ArtifactId>,
    config: &'c ReportConfig,
}

/// A sample and what judges said of it.
struct Shown {
    sample: Sample,
    verdicts: Vec<Verdict>,
}

/// Renders the report on an evaluation.
///
/// # Errors
/// Fails when there is no such evaluation, or a file of it cannot be read.
pub fn report(lab: &Lab, tables: &dyn Tables, id: &ArtifactId, config: &ReportConfig) -> Result<String> {
    let evaluated = Evaluated::open(lab, id)?;
    let (positions, documents) = choose::positions(&evaluated.artifact, tables, config)?;
    let judged = of_evaluation(lab, id)?;
    let mut samples = Vec::new();
    for sample in samples_at(&evaluated.artifact, tables, &positions)? {
        let mut verdicts = Vec::new();
        for artifact in &judged {
            verdicts.extend(on_document(artifact, tables, &sample.task, &sample.id)?);
        }
        samples.push(Shown { sample, verdicts });
    }
    let lineage = lineage::ancestors(&Store::new(lab), id)?.render();
    let verdicts = judged.iter().map(|artifact| artifact.id().clone()).collect();
    let gathered = Gathered { evaluated, lineage, samples, documents, verdicts, config };
    Ok(page::page(&gathered).into_string())
}
