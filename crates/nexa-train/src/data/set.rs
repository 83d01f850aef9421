//! The samples that a run trains on or is validated with.

use std::sync::Arc;

use nexa_core::hash::ContentHash;

use super::build::Samples;
use super::file::SampleRef;
use super::order::permutation;
use crate::Config;

/// Some rows of a mapped file.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    samples: Arc<Samples>,
    rows: Vec<usize>,
}

impl Set {
    /// All rows of a file.
    pub(crate) fn new(samples: Samples) -> Self {
        Self { rows: (0..samples.len()).collect(), samples: Arc::new(samples) }
    }

    /// Moves validation samples out of the training data, as `val_set_size` says; their order is kept.
    pub(crate) fn split(self, config: &Config) -> (Self, Self) {
        let (train, validation) = split(self.rows.len(), config);
        let part = |positions: Vec<usize>| Self {
            samples: self.samples.clone(),
            rows: positions.into_iter().map(|position| self.rows[position]).collect(),
        };
        (part(train), part(validation))
    }

    /// Counts the samples.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the sequences of a sample: one, or the better and the worse of a preference.
    pub(crate) fn sequences(&self, index: usize) -> Vec<SampleRef<'_>> {
        let row = self.rows[index];
        self.samples.preference(row).map_or_else(|| vec![self.samples.get(row)], Vec::from)
    }

    /// Whether samples are preferences.
    pub(crate) fn has_preferences(&self) -> bool {
        !self.is_empty() && self.samples.preference(self.rows[0]).is_some()
    }

    /// Returns what a person finds the row of a sample by.
    pub(crate) fn id(&self, index: usize) -> &str {
        self.samples.id(self.rows[index])
    }

    /// The tokens of every sample.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        let all = self.samples.lengths();
        self.rows.iter().map(|&row| all[row]).collect()
    }

    /// A hash of the samples.
    pub(crate) fn fingerprint(&self) -> ContentHash {
        // The name of a file of samples is a hash of all that decides them.
        let file = self.samples.path().file_name().unwrap_or_default().to_string_lossy();
        ContentHash::of_json(&serde_json::json!([file, self.rows]))
    }
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
