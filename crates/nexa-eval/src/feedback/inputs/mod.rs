//! The stage `feedback.inputs`: what an evaluation failed at, and a pool of prompts, in; new prompts for a teacher out.
//!
//! Out of the pool come the prompts that nobody has asked yet and that are nearest to the failures. What the model is
//! judged by, and near copies of that, never comes along: it is refused, counted, and kept beside with the reason.

mod aim;
mod held_out;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::columns;
use nexa_core::decontamination::{EvaluationSet, QUESTION_COLUMNS};
use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::lab::Lab;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{Row, Tables, main_table, text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cluster::{self, Cluster, Vocabulary, nearest};
use super::graded;
use crate::{Error, Evaluation, Result};

use aim::Candidate;
use held_out::{HeldOut, Question, Reason, Refusal};
use report::Report;

/// The name of the stage, and the place that its configuration errors name.
const NAME: &str = "feedback.inputs";

/// The column with the name of the cluster of failures that a prompt is aimed at.
pub const GAP: &str = "gap";
/// The column with how near to it a prompt is: 1 where it has the same words in the same shares.
pub const GAP_SIMILARITY: &str = "gap_similarity";

/// The role of answers.
const OUTPUTS_ROLE: &str = "teacher_outputs";

/// The files of SFT data that models are judged by.
const HELD_OUT_FILES: [&str; 2] = ["test.jsonl", "validation.jsonl"];

/// How prompts are aimed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Prompts at most. Default 500.
    pub max_inputs: usize,
    /// How near to a cluster a prompt must be: the cosine of their terms. Default 0.1.
    pub min_similarity: f64,
    /// Words of a run that a prompt and an evaluation item can have in common. Default 5.
    pub ngram_words: usize,
    /// The share of an item, its runs counted by how rare they are, from which on a prompt is a near copy of it.
    /// Default 0.5.
    pub min_overlap: f64,
    /// Whether prompts of the group of a held-out row are refused. Default true; false where a pool has names of its own
    /// that happen to be the same.
    pub match_groups: bool,
    /// Files of evaluation items, besides those of the inputs. Default: those of `nexa.yaml`.
    pub evaluation_sets: Option<Vec<EvaluationSet>>,
    /// Decides between equally near prompts. Default 0.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_inputs: 500,
            min_similarity: 0.1,
            ngram_words: 5,
            min_overlap: 0.5,
            match_groups: true,
            evaluation_sets: None,
            seed: 0,
        }
    }
}

/// The stage: roles `feedback`, `evaluation` and `pool` in, and where there are any `sft_dataset`, whose training rows
/// have been asked and whose other rows are held out, and `teacher_outputs`, which have been asked.
#[derive(Debug, Clone)]
pub struct AimedInputs {
    config: Config,
    files: Vec<PathBuf>,
}

/// What became of the rows of the pool.
#[derive(Debug, Default)]
struct Sifted {
    candidates: Vec<Candidate>,
    refused: Vec<Row>,
    reasons: BTreeMap<Reason, usize>,
    /// Rows that were asked before, in the pool or elsewhere.
    asked: usize,
    /// Rows that are near to no cluster.
    far: usize,
}

/// What prompts are held against.
struct Aim<'a> {
    vocabulary: &'a Vocabulary,
    centres: &'a [Vec<f64>],
    held_out: &'a HeldOut,
}

impl AimedInputs {
    /// Makes the stage, with the lab's evaluation sets where the configuration names none.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key.
    pub fn new(lab: &Lab, mut config: Config) -> Result<Self> {
        let wrong = |message: String| Err(nexa_core::Error::config(NAME, message).into());
        for (key, share) in [("min_similarity", config.min_similarity), ("min_overlap", config.min_overlap)] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(format!("`{key}`: {share} is not between 0 and 1"));
            }
        }
        for (key, count) in [("max_inputs", config.max_inputs), ("ngram_words", config.ngram_words)] {
            if count == 0 {
                return wrong(format!("`{key}`: there must be at least one"));
            }
        }
        // The sets become part of the key, so that another `nexa.yaml` is other work.
        let sets = config.evaluation_sets.get_or_insert_with(|| lab.settings().evaluation_sets.clone());
        let files = sets.iter().map(|set| lab.root().join(&set.path)).collect();
        Ok(Self { config, files })
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let tables = context.services.tables;
        let mut evaluation = Evaluation::read(context.inputs.require("evaluation")?, tables)?;
        let held_out = self.held_out(context, &evaluation)?;
        graded::keep(&mut evaluation, &graded::of_feedback(context.inputs.require("feedback")?)?)?;
        let clusters = self.clusters(context, &evaluation)?;
        let vocabulary = cluster::vocabulary(&evaluation.predictions);
        let centres: Vec<Vec<f64>> = clusters
            .iter()
            .map(|cluster| cluster::middle(cluster, &evaluation.predictions, &vocabulary))
            .collect();

        let pool = context.inputs.require("pool")?;
        let (rows, place) = read_main(pool, tables)?;
        let aim = Aim { vocabulary: &vocabulary, centres: &centres, held_out: &held_out };
        let sifted = self.sift(&rows, &place, &aim, asked(context)?)?;
        let failures: Vec<usize> = clusters.iter().map(|cluster| cluster.failures).collect();
        let near = sifted.candidates.len();
        let id = |row: usize| rows[row].get(columns::ID).map(Value::to_string).unwrap_or_default();
        let bounds = (self.config.max_inputs, self.config.seed);
        let chosen = aim::choose(sifted.candidates, &id, &failures, bounds);
        if chosen.is_empty() {
            return Err(Error::NothingToAsk {
                pool: pool.id().to_string(),
                rows: rows.len(),
                asked: sifted.asked,
                refused: sifted.refused.len(),
                far: sifted.far,
            });
        }
        let made: Vec<Row> = chosen.iter().map(|one| aimed(&rows[one.row], one, &clusters)).collect();
        tables.write(&context.output.join("parquet"), &made)?;
        if !sifted.refused.is_empty() {
            tables.write(&context.output.join("rejected.parquet"), &sifted.refused)?;
        }
        let report = Report {
            clusters: &clusters,
            chosen: &chosen,
            pool: rows.len(),
            asked: sifted.asked,
            far: sifted.far,
            near,
            held_out: held_out.len(),
            refused: &sifted.refused,
            reasons: &sifted.reasons,
        };
        files::write_atomic(&context.output.join("report.md"), report.to_string().as_bytes())?;
        context.set_rows(made.len() as u64);
        context.state("pool_rows", rows.len())?;
        context.state("asked_before", sifted.asked)?;
        context.state("refused", reasons(&sifted.reasons))?;
        context.state("near_to_no_gap", sifted.far)?;
        context.state("held_out_items", held_out.len())?;
        context.state("inputs", report.of_gaps())?;
        context.emit(Event::info(format!(
            "{} of {} prompts are aimed at {} gaps; {} were asked before, {} refused as evaluation items or near copies",
            made.len(),
            rows.len(),
            clusters.len(),
            sifted.asked,
            sifted.refused.len(),
        )));
        Ok(())
    }

    /// The clusters that prompts are aimed at: the gaps, or all where none is shown to be one.
    fn clusters(&self, context: &Context<'_>, evaluation: &Evaluation) -> Result<Vec<Cluster>> {
        let feedback = context.inputs.require("feedback")?;
        let of = feedback.manifest.parents.iter().find(|parent| parent.role == "evaluation");
        if of.is_none_or(|parent| parent.content_hash != evaluation.artifact.manifest.content_hash) {
            return Err(Error::OtherEvaluation {
                feedback: feedback.id().to_string(),
                evaluation: evaluation.id().to_string(),
                of: of.map(|parent| parent.id.clone()),
            });
        }
        let path = feedback.file(super::CLUSTERS_FILE)?;
        let read = |row| {
            serde_json::from_value::<Cluster>(Value::Object(row))
                .map_err(|e| nexa_core::Error::malformed(&path, e.to_string()))
        };
        let rows = context.services.tables.read(&path)?;
        let clusters = rows.into_iter().map(read).collect::<nexa_core::Result<Vec<_>>>()?;
        if clusters.is_empty() {
            return Err(Error::NothingFailed { evaluation: evaluation.id().to_string() });
        }
        let has_gaps = clusters.iter().any(|cluster| cluster.is_gap);
        Ok(clusters.into_iter().filter(|cluster| cluster.is_gap || !has_gaps).collect())
    }

    /// Everything that the model is judged by: the items of the evaluation, the other held-out rows of the data set, and
    /// the evaluation sets of the lab.
    fn held_out(&self, context: &Context<'_>, evaluation: &Evaluation) -> Result<HeldOut> {
        let tables = context.services.tables;
        let mut held_out = HeldOut::new(self.config.ngram_words);
        if let Some(dataset) = context.inputs.get("sft_dataset") {
            let has = |name: &str| dataset.manifest.files.iter().any(|file| file.name == name);
            for name in HELD_OUT_FILES.into_iter().filter(|name| has(name)) {
                for row in tables.read(&dataset.file(name)?)? {
                    let group = row.get(columns::GROUP).and_then(Value::as_str);
                    let group = group.filter(|_| self.config.match_groups);
                    let text = first_question(&row).unwrap_or_default();
                    held_out.add(&Question { set: name, id: &id_of(&row), text, group });
                }
            }
        }
        for one in &evaluation.predictions {
            let (id, text) = (one.id.as_str(), one.question());
            held_out.add(&Question { set: "evaluation", id, text, group: None });
        }
        let sets = self.config.evaluation_sets.as_deref().unwrap_or_default();
        for (set, path) in sets.iter().zip(&self.files) {
            for (number, row) in (1..).zip(tables.read(path)?) {
                let text = question(&row, &set.question).ok_or_else(|| {
                    let there = row.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    let message = format!(
                        "row {number}: no text in the columns of the question; name some in `question`: {there}"
                    );
                    nexa_core::Error::malformed(path, message)
                })?;
                held_out.add(&Question { set: &set.path, id: &id_of(&row), text: &text, group: None });
            }
        }
        Ok(held_out)
    }

    /// Holds every row of the pool against what was asked, what is held out, and the gaps.
    fn sift(&self, rows: &[Row], place: &Path, aim: &Aim<'_>, mut asked: BTreeSet<String>) -> Result<Sifted> {
        let mut sifted = Sifted::default();
        for (number, row) in rows.iter().enumerate() {
            let prompt = text(row, columns::USER_PROMPT, place)?;
            if !asked.insert(prompt.trim().to_owned()) {
                sifted.asked += 1;
                continue;
            }
            let group = row.get(columns::GROUP).and_then(Value::as_str);
            let group = group.filter(|_| self.config.match_groups);
            if let Some(refusal) = aim.held_out.refuses(prompt, group, self.config.min_overlap) {
                *sifted.reasons.entry(refusal.reason).or_default() += 1;
                sifted.refused.push(refused(row, &refusal));
                continue;
            }
            let (gap, similarity) = nearest(&aim.vocabulary.vector(prompt), aim.centres);
            if similarity > 0.0 && similarity >= self.config.min_similarity {
                sifted.candidates.push(Candidate { row: number, gap, similarity });
            } else {
                sifted.far += 1;
            }
        }
        Ok(sifted)
    }
}

impl Stage for AimedInputs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::TeacherInputs
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

/// The prompts that were asked before: those of training rows, and those that a teacher has answered.
fn asked(context: &Context<'_>) -> Result<BTreeSet<String>> {
    let tables = context.services.tables;
    let mut asked = BTreeSet::new();
    if let Some(dataset) = context.inputs.get("sft_dataset") {
        for row in tables.read(&dataset.file(super::TRAIN_FILE)?)? {
            asked.extend(first_question(&row).map(|text| text.trim().to_owned()));
        }
    }
    // There may be several, numbered from the second on.
    for (_, outputs) in context.inputs.iter().filter(|(role, _)| role.starts_with(OUTPUTS_ROLE)) {
        let (rows, place) = read_main(outputs, tables)?;
        for row in &rows {
            asked.insert(text(row, columns::USER_PROMPT, &place)?.trim().to_owned());
        }
    }
    Ok(asked)
}

/// The rows of the table that an artifact is about.
fn read_main(artifact: &Artifact, tables: &dyn Tables) -> Result<(Vec<Row>, PathBuf)> {
    let name = main_table(artifact, tables)
        .ok_or_else(|| nexa_core::Error::malformed(artifact.manifest_path(), "there is no table"))?;
    let path = artifact.file(name)?;
    Ok((tables.read(&path)?, path))
}

/// What the user says first in the conversation of a row.
pub(super) fn first_question(row: &Row) -> Option<&str> {
    let turns = row.get(columns::MESSAGES)?.as_array()?;
    turns.iter().find(|turn| turn["role"] == "user")?["content"].as_str()
}

/// The question of an evaluation item: the columns that are named, one below the other, else that of a conversation, else
/// the first column that is known to hold one.
fn question(row: &Row, named: &[String]) -> Option<String> {
    if !named.is_empty() {
        let texts = named.iter().map(|column| row.get(column).and_then(Value::as_str));
        return Some(texts.collect::<Option<Vec<_>>>()?.join("\n"));
    }
    let known = || QUESTION_COLUMNS.iter().find_map(|column| row.get(*column).and_then(Value::as_str));
    first_question(row).or_else(known).map(str::to_owned)
}

fn id_of(row: &Row) -> String {
    match row.get(columns::ID) {
        Some(Value::String(id)) => id.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// A row of the pool with what it is aimed at.
fn aimed(row: &Row, candidate: &Candidate, clusters: &[Cluster]) -> Row {
    let mut row = row.clone();
    row.insert(GAP.to_owned(), json!(clusters[candidate.gap].label));
    row.insert(GAP_SIMILARITY.to_owned(), json!(candidate.similarity));
    row
}

/// A row of the pool with why it is refused.
fn refused(row: &Row, refusal: &Refusal<'_>) -> Row {
    let (set, id) = (refusal.set, refusal.id);
    let reason = match refusal.reason {
        Reason::SameText => format!("it is item `{id}` of {set}"),
        Reason::SameGroup => format!("it is of the group of item `{id}` of {set}"),
        Reason::NearCopy => format!("it holds {:.0} % of item `{id}` of {set}", 100.0 * refusal.overlap),
    };
    let mut row = row.clone();
    row.insert(columns::REJECTION_GATE.to_owned(), json!(refusal.reason.as_str()));
    row.insert(columns::REJECTION_REASON.to_owned(), json!(reason));
    row
}

/// How many were refused for each reason, those without any as well.
fn reasons(counts: &BTreeMap<Reason, usize>) -> BTreeMap<&'static str, usize> {
    Reason::ALL
        .into_iter()
        .map(|reason| (reason.as_str(), counts.get(&reason).copied().unwrap_or(0)))
        .collect()
}
