//! Receipts of rows: where a row comes from and what became of it, and the reverse, what a source reached.
//!
//! A row keeps its `id` from stage to stage, or gains an ending that its own columns explain (`identity`). So a receipt
//! follows ids along the lineage of artifacts, never across: rows of the same name in other data are other rows. Tables
//! are read row by row, and only those that may belong to the receipt are held.

mod find;
mod graph;
mod identity;
mod origin;
mod reached;
mod sections;
mod seen;

use chrono::{DateTime, Utc};
use nexa_core::artifact::ArtifactId;
use nexa_core::table::Row;
use serde::Serialize;
use serde_json::Value;

use nexa_core::artifact::{Artifact, Store};

use crate::Result;
use graph::Graph;
pub use reached::{Reached, ReachedArtifact, Source, reached};

/// A row, as a person asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The project in whose artifacts it is looked for.
    pub project: &'a str,
    /// Its id.
    pub row: &'a str,
    /// The artifact that holds it, where it was named.
    pub within: Option<&'a Artifact>,
}

/// All that is known of a row, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Receipt {
    /// The row.
    pub row: String,
    /// The artifact in which it was found first.
    pub found_in: ArtifactId,
    /// Older artifacts of the same name that hold a row of this id too.
    pub also_in: Vec<ArtifactId>,
    /// Where it was read from.
    pub origins: Vec<Origin>,
    /// What teachers were asked.
    pub prompts: Vec<Prompt>,
    /// What they answered.
    pub attempts: Vec<Attempt>,
    /// What judges said.
    pub verdicts: Vec<Judged>,
    /// What gates, and the stages that sift, decided.
    pub gates: Vec<Gated>,
    /// What people decided.
    pub reviews: Vec<Reviewed>,
    /// The training data that it was put into, or kept out of.
    pub packages: Vec<Packaged>,
    /// The models that saw it.
    pub runs: Vec<Seen>,
    /// The evaluations of these models, and those in which the row was asked.
    pub evaluations: Vec<Evaluated>,
}

/// A row as it was ingested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The data set.
    pub artifact: ArtifactId,
    /// The row in it.
    pub id: String,
    /// The file that it says it comes from.
    pub source_file: Option<String>,
    /// Where that file lies, where it is known.
    pub path: Option<String>,
    /// The line, where the file is still what it was.
    pub line: Option<u64>,
    /// Whether the file has changed since.
    pub changed: bool,
    /// Whether the file is no longer there.
    pub is_gone: bool,
}

/// What a teacher was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prompt {
    /// The teacher inputs.
    pub artifact: ArtifactId,
    /// The row in them.
    pub id: String,
    /// The template that made it.
    pub template: Option<String>,
    /// What stood before it.
    pub system_prompt: Option<String>,
    /// The text.
    pub user_prompt: Option<String>,
    /// Which try it is, where it was asked again.
    pub attempt: Option<u64>,
    /// Why it was asked again, or was not asked in the end.
    pub because: Option<String>,
}

/// An answer of a teacher, or that there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attempt {
    /// The teacher outputs.
    pub artifact: ArtifactId,
    /// The run that asked.
    pub run: String,
    /// The row in them.
    pub id: String,
    /// The teacher, as it was named.
    pub teacher: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// Why the answer ended; where there is none, the kind of failure.
    pub outcome: String,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u64>,
    /// The answer.
    pub output: Option<String>,
    /// What it cost, where the log of answers tells.
    pub paid: Option<Paid>,
}

/// What an answer cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paid {
    /// The run that paid for it: another one where the answer was there already.
    pub run: String,
    /// US dollars, where they are known.
    pub usd: Option<f64>,
    /// US dollars that it cost at most, where no more is known.
    pub at_most_usd: Option<f64>,
}

/// What a judge said of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// The verdicts.
    pub artifact: ArtifactId,
    /// The row in them.
    pub id: String,
    /// The judge; none where it is the mean of all.
    pub judge: Option<String>,
    /// From 1 to 5.
    pub score: Option<f64>,
    /// Why.
    pub explanation: Option<String>,
    /// What is wrong with the verdict, where it could not be read.
    pub problem: Option<String>,
}

/// What a stage that sifts rows decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gated {
    /// What it made.
    pub artifact: ArtifactId,
    /// The stage.
    pub stage: String,
    /// The row in it.
    pub id: String,
    /// Whether the row went on.
    pub passed: bool,
    /// The gate that stopped it.
    pub gate: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The number that decided against it.
    pub value: Option<f64>,
    /// The side that it was given to.
    pub split: Option<String>,
    /// Who wrote the text that stands in the place of the teacher's.
    pub edited_by: Option<String>,
    /// What was measured, by gate.
    pub scores: Row,
    /// Rows of further tables of the artifact on this row: its cluster, the evaluation items that it holds.
    pub details: Vec<Detail>,
}

/// A row of a further table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detail {
    /// The table.
    pub file: String,
    /// The row.
    pub row: Row,
}

/// What a reviewer decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reviewed {
    /// What was reviewed.
    pub artifact: ArtifactId,
    /// The row in it.
    pub id: String,
    /// Who.
    pub reviewer: String,
    /// What.
    pub verdict: String,
    /// Why.
    pub reason: Option<String>,
    /// The new text of an edit.
    pub text: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Training data that the row is in, or was kept out of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Packaged {
    /// The training data.
    pub artifact: ArtifactId,
    /// The row in it.
    pub id: String,
    /// Its side; none where it was kept out.
    pub split: Option<String>,
    /// Why it was kept out.
    pub reason: Option<String>,
    /// The forms in which it was written.
    pub formats: Vec<String>,
}

/// A model, or a tokenizer, that was made of data with the row in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The checkpoint or tokenizer.
    pub artifact: ArtifactId,
    /// Its run.
    pub run: String,
    /// The data that the row is in, or the model that goes back to them.
    pub through: ArtifactId,
    /// What the row was to it.
    pub as_what: Use,
}

/// What a row was to a run; where it was several things, the first of these counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// It stands in what was trained on.
    Trained,
    /// It stands in what was validated with.
    Validated,
    /// It stands in data that the run divided itself.
    Read,
    /// A model was gone on from, merged or learnt from that saw it.
    Inherited,
    /// It was held out.
    HeldOut,
}

impl Use {
    /// The words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trained => "trained on it",
            Self::Validated => "validated with it",
            Self::HeldOut => "it was held out",
            Self::Read => "read it",
            Self::Inherited => "goes back to a model that saw it",
        }
    }
}

/// An evaluation of a model that saw the row, or in which the row was an item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluated {
    /// The evaluation.
    pub artifact: ArtifactId,
    /// Its run.
    pub run: String,
    /// The checkpoint.
    pub checkpoint: Option<String>,
    /// Whether the row was asked, and if so, what came of it.
    pub item: Option<Item>,
}

/// A row as an item of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// Whether the answer was right, where that was measured.
    pub correct: Option<bool>,
    /// The final answer.
    pub prediction: Option<String>,
}

/// Makes the receipt of a row.
///
/// # Errors
/// Fails when no table holds the row, saying where it was looked for, when several do that have nothing to do with each
/// other, and when a manifest or table cannot be read.
pub fn receipt(store: &Store<'_>, asked: &Asked<'_>) -> Result<Receipt> {
    let graph = Graph::of(store)?;
    let found = find::find(&graph, asked)?;
    let mut receipt = Receipt {
        row: asked.row.to_owned(),
        found_in: found.root,
        also_in: found.also_in,
        origins: Vec::new(),
        prompts: Vec::new(),
        attempts: Vec::new(),
        verdicts: Vec::new(),
        gates: Vec::new(),
        reviews: Vec::new(),
        packages: Vec::new(),
        runs: Vec::new(),
        evaluations: Vec::new(),
    };
    sections::fill(&mut receipt, &graph, &found.places, store)?;
    seen::fill(&mut receipt, &graph, &found.places);
    Ok(receipt)
}

/// A cell as text, if it holds something.
fn text(row: &Row, column: &str) -> Option<String> {
    match row.get(column)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
