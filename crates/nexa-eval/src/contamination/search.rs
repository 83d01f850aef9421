//! Reads the training data past the runs of what is asked.

use std::collections::BTreeMap;

use nexa_core::artifact::{Artifact, Store};
use nexa_core::columns::SPLIT;
use nexa_core::event::Event;
use nexa_core::hash::ContentHash;
use nexa_core::overlap::append_texts;
use nexa_core::split::Split;
use nexa_core::stage::Context;
use nexa_core::table::Row;
use nexa_core::words::Words;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::index::Index;
use super::training::{Gap, Source, TrainingData};
use super::{Rule, Shares};
use crate::Result;

/// Rows that are looked through at once.
const BATCH: usize = 1024;

/// The documents of an evaluation, by task: of each its question with its right answer.
pub(crate) type Documents = BTreeMap<String, Vec<String>>;

/// A table of training data that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingText {
    /// The content of the data set.
    pub hash: ContentHash,
    /// Its rows that were trained on.
    pub rows: usize,
}

/// What documents have in common with training data.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlaps {
    pub(super) texts: Vec<TrainingText>,
    pub(super) gaps: Vec<Gap>,
    names: Vec<String>,
    shares: BTreeMap<String, Vec<Option<Shares>>>,
}

impl Overlaps {
    /// Looks for documents in everything that a checkpoint was trained on.
    ///
    /// # Errors
    /// Fails on a malformed manifest, and when the user wants to stop. Training data that cannot be read is a gap.
    pub(crate) fn find(context: &Context<'_>, checkpoint: &Artifact, documents: Documents) -> Result<Self> {
        let TrainingData { sources, gaps } = TrainingData::of(&Store::new(context.services.lab), checkpoint)?;
        let (tasks, texts): (Vec<String>, Vec<Vec<String>>) = documents.into_iter().unzip();
        let index = Index::of(&texts);
        let mut found = Self { gaps, ..Self::default() };
        for source in &sources {
            match look_through(context, source, &index) {
                Ok(rows) => {
                    found.texts.push(TrainingText { hash: source.hash.clone(), rows });
                    found.names.push(source.name.clone());
                }
                Err(nexa_core::Error::Interrupted) => return Err(nexa_core::Error::Interrupted.into()),
                Err(error) => {
                    context.emit(Event::warning(format!("training data of {}: {error}", source.name)));
                    let reason = "data that it was trained on cannot be read".to_owned();
                    found.gaps.push(Gap { name: source.name.clone(), reason });
                }
            }
        }
        // Where nothing was read, nothing was looked for.
        if !found.is_nothing_known() {
            found.shares = tasks.into_iter().zip(index.shares()).collect();
        }
        Ok(found)
    }

    /// Whether no word of what the checkpoint was trained on is known, although it was.
    pub(super) fn is_nothing_known(&self) -> bool {
        self.texts.is_empty() && !self.gaps.is_empty()
    }

    /// Whether everything that the checkpoint was trained on is known.
    pub(super) fn is_known(&self) -> bool {
        self.gaps.is_empty()
    }

    /// What was found of each document of a task; nothing of those that could not be looked for.
    pub(crate) fn shares(&self, task: &str) -> &[Option<Shares>] {
        self.shares.get(task).map_or(&[], Vec::as_slice)
    }

    /// Forgets the documents of a task that were not asked after all; the places of those that were are given.
    pub(crate) fn keep(&mut self, task: &str, places: &[usize]) {
        if let Some(shares) = self.shares.get_mut(task) {
            *shares = places.iter().filter_map(|&at| shares.get(at).copied()).collect();
        }
    }

    /// Of each document of a task, whether it overlaps by a rule; none where it could not be looked for.
    pub(super) fn overlapping(&self, task: &str, rule: usize) -> Vec<Option<bool>> {
        let holds = |shares: &Option<Shares>| shares.map(|shares| Rule::ALL[rule].holds(shares[rule]));
        self.shares(task).iter().map(holds).collect()
    }

    /// The data sets that were read, by name.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// What is not known, with the names of what it is about.
    pub(crate) fn unknown(&self) -> Vec<String> {
        self.gaps.iter().map(|gap| format!("{} ({})", gap.reason, gap.name)).collect()
    }
}

/// Reads one table; returns how many rows were trained on.
fn look_through(context: &Context<'_>, source: &Source, index: &Index) -> nexa_core::Result<usize> {
    let (mut rows, mut batch) = (0, Vec::with_capacity(BATCH));
    let mut look = |batch: &mut Vec<Row>| {
        context.check_cancel()?;
        batch.par_iter().for_each_init(
            || (String::new(), Words::default()),
            |(text, words), row| {
                text.clear();
                row.values().for_each(|value| append_texts(value, text));
                index.look(text, words);
            },
        );
        rows += batch.len();
        batch.clear();
        context.emit(Event::progress(rows as u64, None, "rows", "looking for documents in training data"));
        Ok(())
    };
    context.services.tables.each(&source.path, &mut |row| {
        if source.split.is_none_or(|split| belongs_to(&row, split)) {
            batch.push(row);
        }
        if batch.len() < BATCH { Ok(()) } else { look(&mut batch) }
    })?;
    look(&mut batch)?;
    Ok(rows)
}

/// Whether a row of a table belongs to a side; one that does not say is there to be trained on.
fn belongs_to(row: &Row, split: Split) -> bool {
    match row.get(SPLIT).and_then(serde_json::Value::as_str) {
        None => split == Split::Train,
        Some(side) => side == split.as_str(),
    }
}
