//! The samples that a run trains on or is validated with, of one data set or of several.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use nexa_core::event::EventSink;
use nexa_core::hash::ContentHash;
use nexa_core::table::Tables;
use nexa_model::ChatTokenizer;
use serde::{Deserialize, Serialize};

use super::build::{Samples, Source};
use super::file::SampleRef;
use super::mix::Mix;
use super::options::DataFile;
use super::order::{Order, permutation};
use super::top::TopRef;
use crate::{Config, Error};

/// Some samples of mapped files: those of the first file, then those of the second.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    parts: Vec<Part>,
}

/// The samples of one data set.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    /// Its share of an epoch, in no unit; absent where none has one.
    weight: Option<f64>,
    samples: Arc<Samples>,
    rows: Vec<usize>,
    /// Where its samples begin in the set.
    first: usize,
}

/// What files are read with.
pub(crate) struct Reading<'a> {
    pub(crate) config: &'a Config,
    pub(crate) tokenizer: &'a ChatTokenizer,
    pub(crate) tables: &'a dyn Tables,
    pub(crate) cache: &'a Path,
    pub(crate) events: &'a dyn EventSink,
}

/// How much a data set gives to an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetCounts {
    /// The data set.
    pub name: String,
    /// Its samples.
    pub samples: usize,
    /// Their tokens.
    pub tokens: u64,
    /// Samples that an epoch takes from it, repeated ones as often as they are seen.
    pub in_an_epoch: usize,
}

impl Set {
    /// Opens all samples of some files.
    ///
    /// # Errors
    /// As [`Samples::open`], and when the files do not go together.
    pub(crate) fn open(files: &[DataFile], reading: &Reading<'_>) -> Result<Self, Error> {
        let Reading { config, tokenizer, tables, cache, events } = *reading;
        let open = |file: &DataFile| {
            let options = config.data_options(file);
            let source = Source { path: &file.path, options: &options, tokenizer, tables };
            let samples = Samples::open(&source, cache, events)?;
            let rows = (0..samples.len()).collect();
            let (name, weight) = (file.name.clone(), options.dataset.weight);
            Ok(Part { name, weight, samples: Arc::new(samples), rows, first: 0 })
        };
        Self::joined(files.iter().map(open).collect::<Result<_, Error>>()?)
    }

    /// Opens the validation samples of some files, passing over those that have none.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_validation(files: &[DataFile], reading: &Reading<'_>) -> Result<Self, Error> {
        let mut parts = Vec::new();
        for file in files {
            match Self::open(std::slice::from_ref(file), reading) {
                Ok(set) => parts.extend(set.parts),
                Err(Error::NoSamples { lines: 0, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Self::joined(parts)
    }

    /// Puts data sets together that fit each other.
    fn joined(parts: Vec<Part>) -> Result<Self, Error> {
        if let [first, others @ ..] = parts.as_slice() {
            for other in others {
                check_pair(first, other)?;
            }
        }
        Ok(Self::of(parts))
    }

    fn of(mut parts: Vec<Part>) -> Self {
        let mut first = 0;
        for part in &mut parts {
            part.first = first;
            first += part.rows.len();
        }
        Self { parts }
    }

    /// Moves validation samples out of the training data, as `val_set_size` says; their order is kept.
    pub(crate) fn split(self, config: &Config) -> (Self, Self) {
        let (train, validation) = split(self.len(), config);
        let of = |positions: Vec<usize>| {
            let parts = self.parts.iter().map(|part| {
                let of_part = positions.iter().filter(|position| part.range().contains(position));
                let rows = of_part.map(|position| part.rows[position - part.first]).collect();
                Part { rows, ..part.clone() }
            });
            Self::of(parts.collect())
        };
        (of(train), of(validation))
    }

    /// Counts the samples.
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.rows.len()).sum()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the sequences of a sample: one, or the better and the worse of a preference.
    pub(crate) fn sequences(&self, index: usize) -> Vec<SampleRef<'_>> {
        let (part, row) = self.place(index);
        part.samples.preference(row).map_or_else(|| vec![part.samples.get(row)], Vec::from)
    }

    /// Whether samples are preferences.
    pub(crate) fn has_preferences(&self) -> bool {
        !self.is_empty() && self.parts[0].samples.has_preferences()
    }

    /// Whether the samples come with what a teacher thought of them.
    pub(crate) fn is_taught(&self) -> bool {
        self.parts.first().is_some_and(|part| part.samples.is_taught())
    }

    /// What the teacher thought of a sample, where the samples come with it.
    pub(crate) fn teacher(&self, index: usize) -> Option<TopRef<'_>> {
        let (part, row) = self.place(index);
        part.samples.teacher(row)
    }

    /// The fewest alternatives that the teacher told of a token, where the samples come with it.
    pub(crate) fn fewest_told(&self) -> Option<usize> {
        self.parts.iter().filter_map(|part| part.samples.fewest_told()).min()
    }

    /// Returns what a person finds the row of a sample by.
    pub(crate) fn id(&self, index: usize) -> &str {
        let (part, row) = self.place(index);
        part.samples.id(row)
    }

    /// The tokens of every sample.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        let of = |part: &Part| {
            let all = part.samples.lengths();
            part.rows.iter().map(|&row| all[row]).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of).collect()
    }

    /// The order in which a run of a configuration sees the samples.
    pub(crate) fn order(&self, config: &Config) -> Order {
        Order::new(config, self.lengths(), self.mix())
    }

    /// How much each data set gives to an epoch.
    pub(crate) fn counts(&self) -> Vec<DatasetCounts> {
        let (lengths, mix) = (self.lengths(), self.mix());
        let of = |part: &Part| DatasetCounts {
            name: part.name.clone(),
            samples: part.rows.len(),
            tokens: lengths[part.range()].iter().map(|&length| length as u64).sum(),
            in_an_epoch: mix.count(&part.range()),
        };
        self.parts.iter().map(of).collect()
    }

    /// A hash of the samples.
    pub(crate) fn fingerprint(&self) -> ContentHash {
        // The name of a file of samples is a hash of all that decides them.
        let of = |part: &Part| {
            let file = part.samples.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            serde_json::json!([file, part.rows])
        };
        ContentHash::of_json(&self.parts.iter().map(of).collect())
    }

    fn mix(&self) -> Mix {
        let weighted = |part: &Part| Some((part.range(), part.weight?));
        let parts: Option<Vec<_>> = self.parts.iter().map(weighted).collect();
        match parts {
            Some(parts) if parts.len() > 1 => Mix::weighted(&parts),
            _ => Mix::even(self.len()),
        }
    }

    /// The data set of a sample, and its row there.
    fn place(&self, index: usize) -> (&Part, usize) {
        let part = &self.parts[self.parts.partition_point(|part| part.first <= index) - 1];
        (part, part.rows[index - part.first])
    }
}

impl Part {
    fn range(&self) -> Range<usize> {
        self.first..self.first + self.rows.len()
    }
}

/// Refuses two data sets that do not go together.
fn check_pair(a: &Part, b: &Part) -> Result<(), Error> {
    let names = [&a.name, &b.name];
    let fail = |what: &str| {
        let problem = format!("cannot mix `{}` and `{}`: {what}", names[0], names[1]);
        Err(Error::Config { key: "datasets", problem })
    };
    if a.samples.has_preferences() != b.samples.has_preferences() {
        return fail("one of them holds preferences");
    }
    if a.samples.is_taught() != b.samples.is_taught() {
        return fail("one of them comes with what a teacher thought of it");
    }
    if a.weight.is_some() != b.weight.is_some() {
        return fail("one of them has a `weight`; give each one, or none to see every sample once an epoch");
    }
    Ok(())
}

/// The positions that stay and those that are held out.
fn split(count: usize, config: &Config) -> (Vec<usize>, Vec<usize>) {
    let size = config.val_set_size;
    let wanted = if size < 1.0 { size * count as f64 } else { size };
    let wanted = (wanted.round() as usize).min(count.saturating_sub(1));
    let mut held_out = vec![false; count];
    for &index in &permutation(count, config.seed, "validation", 0)[..wanted] {
        held_out[index] = true;
    }
    (0..count).partition(|&index| !held_out[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_takes_shares_and_numbers_and_leaves_something() {
        for (val_set_size, expected) in [(0.0, 0), (0.1, 2), (1.0, 1), (7.0, 7), (99.0, 19)] {
            let config = Config { val_set_size, ..Config::default() };
            let (train, validation) = split(20, &config);
            assert_eq!((train.len(), validation.len()), (20 - expected, expected));
            let mut all = [train, validation].concat();
            all.sort_unstable();
            assert_eq!(all, (0..20).collect::<Vec<_>>());
        }
    }
}
