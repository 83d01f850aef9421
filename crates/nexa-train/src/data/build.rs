//! From a file of rows to samples: read in blocks, encoded in parallel, written in order, kept by content.

use std::path::{Path, PathBuf};

use nexa_core::event::{Event, EventSink};
use nexa_core::hash::ContentHash;
use nexa_core::table::Tables;
use nexa_model::{ChatTokenizer, Stop};
use rayon::prelude::*;
use serde_json::json;

use super::encode::{Fate, encode, judge};
use super::file::{Footer, Mapped, SampleRef, Writer};
use super::format::{SampleType, columns};
use super::options::DataOptions;
use super::report::Report;
use super::rows::{self, Numbered};
use crate::Error;

/// Goes up when the same rows and options give other samples.
const CODE_VERSION: u32 = 1;
/// Rows that are encoded at once; memory does not grow with the file.
const BLOCK: usize = 1024;

/// Where samples come from.
pub struct Source<'a> {
    /// A file of rows.
    pub path: &'a Path,
    /// How they become tokens.
    pub options: &'a DataOptions,
    /// What makes tokens of them.
    pub tokenizer: &'a ChatTokenizer,
    /// Reads files that are not lines of JSON.
    pub tables: &'a dyn Tables,
}

/// The samples of a file, mapped into memory.
#[derive(Debug)]
pub struct Samples {
    mapped: Mapped,
    path: PathBuf,
}

impl Samples {
    /// Opens the samples of a file; tokenises it first where the cache does not hold them whole.
    ///
    /// # Errors
    /// Names file, line and columns of a row that fits no format, or that the chat template refuses; fails when
    /// nothing can be trained on, when no stop token would be learnt, and when a file cannot be read or written.
    pub fn open(source: &Source<'_>, cache: &Path, events: &dyn EventSink) -> Result<Self, Error> {
        let path = cache.join(format!("{}.tokens", source.key()?));
        nexa_core::files::create_folder(cache)?;
        if path.exists() {
            if let Some(mapped) = Mapped::open(&path)? {
                return Self::checked(mapped, path, source, events);
            }
            let file = path.display();
            events.emit(Event::warning(format!("{file} is damaged; the data is tokenised again")));
        }
        let mut writer = Writer::new(cache)?;
        let mut report = Report::default();
        let mut sequences_per_row = 1;
        source.each(&mut |row, fate| {
            report.add(&fate.report);
            if !fate.sequences.is_empty() {
                sequences_per_row = fate.sequences.len();
                writer.row(&row.id(source.path), &fate.sequences)?;
            }
            Ok(())
        })?;
        writer.finish(&path, &Footer { sequences_per_row, report })?;
        nexa_core::files::sync_folder(cache)?;
        let mapped = Mapped::open(&path)?.ok_or_else(|| {
            std::io::Error::other(format!("{}: what was written cannot be read back", path.display()))
        })?;
        Self::checked(mapped, path, source, events)
    }

    fn checked(
        mapped: Mapped,
        path: PathBuf,
        source: &Source<'_>,
        events: &dyn EventSink,
    ) -> Result<Self, Error> {
        source.check(&mapped.footer.report, events)?;
        Ok(Self { mapped, path })
    }

    /// Counts the samples; a preference is one.
    pub fn len(&self) -> usize {
        self.mapped.sequences() / self.mapped.footer.sequences_per_row
    }

    /// Whether there is none; [`Self::open`] refuses that.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a sample, or the better sequence of a preference, without copying it.
    ///
    /// # Panics
    /// Panics when there are fewer samples.
    pub fn get(&self, index: usize) -> SampleRef<'_> {
        self.mapped.sequence(index * self.mapped.footer.sequences_per_row)
    }

    /// Returns the better and the worse sequence of a preference.
    ///
    /// # Panics
    /// Panics when there are fewer samples.
    pub fn preference(&self, index: usize) -> Option<[SampleRef<'_>; 2]> {
        let pairs = self.mapped.footer.sequences_per_row == 2;
        pairs.then(|| [0, 1].map(|which| self.mapped.sequence(index * 2 + which)))
    }

    /// Returns what a person finds the row of a sample by: its `id`, else file and line.
    ///
    /// # Panics
    /// Panics when there are fewer samples.
    pub fn id(&self, index: usize) -> &str {
        self.mapped.id(index)
    }

    /// The length of every sample; of a preference, of both sequences together.
    pub fn lengths(&self) -> Vec<usize> {
        let lengths: Vec<usize> = self.mapped.lengths().collect();
        lengths.chunks(self.mapped.footer.sequences_per_row).map(|both| both.iter().sum()).collect()
    }

    /// What became of the rows.
    pub fn report(&self) -> &Report {
        &self.mapped.footer.report
    }

    /// The file of the cache. Its name is a hash of everything that decides the samples.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Source<'_> {
    /// A hash of everything that decides the samples.
    fn key(&self) -> Result<String, Error> {
        let DataOptions { dataset, sequence_len, excess_length, mask } = self.options;
        let dataset = super::DatasetConfig { path: None, ..dataset.clone() };
        let key = json!({
            "code": CODE_VERSION,
            "data": ContentHash::of_file(self.path)?.as_str(),
            // Rows without an id are called by file and line.
            "name": self.path.file_name().unwrap_or_default().to_string_lossy(),
            "tokenizer": self.tokenizer.fingerprint()?,
            "dataset": dataset,
            "sequence_len": sequence_len,
            "excess_length": excess_length,
            "roles_to_train": mask.roles_to_train,
            "train_on_eos": mask.train_on_eos,
            "train_on_inputs": mask.train_on_inputs,
        });
        let hash = ContentHash::of_json(&key).to_string();
        Ok(hash.trim_start_matches("blake3:").to_owned())
    }

    /// Encodes every row and hands them on in their order.
    pub(super) fn each(
        &self,
        take: &mut dyn FnMut(&Numbered, Fate) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut rows = rows::open(self.path, self.tables)?;
        let mut kind = self.options.dataset.sample_type;
        loop {
            let block: Vec<Numbered> = rows.by_ref().take(BLOCK).collect::<Result<_, Error>>()?;
            let Some(first) = block.first() else { return Ok(()) };
            let kind = match kind {
                Some(kind) => kind,
                None => *kind.insert(self.sample_type(first)?),
            };
            let fates: Vec<Fate> =
                block.par_iter().map(|row| self.encode(row, kind)).collect::<Result<_, Error>>()?;
            for (row, fate) in block.iter().zip(fates) {
                take(row, fate)?;
            }
        }
    }

    /// What the rows are, told by the columns of one.
    pub(super) fn sample_type(&self, row: &Numbered) -> Result<SampleType, Error> {
        let dataset = &self.options.dataset;
        dataset.sample_type.or_else(|| SampleType::of(&row.row, dataset)).ok_or_else(|| {
            let columns = columns(&row.row);
            let problem = format!(
                "the columns fit no format (there are: {columns}); name one with `datasets: [{{type: …}}]` and its fields"
            );
            row.error(self.path, problem)
        })
    }

    fn encode(&self, row: &Numbered, kind: SampleType) -> Result<Fate, Error> {
        let example = kind
            .read(&row.row, &self.options.dataset, self.tokenizer.has_template())
            .map_err(|problem| row.error(self.path, problem))?;
        let encoded = encode(&example, self.options, self.tokenizer)
            .map_err(|error| row.error(self.path, error.to_string()))?;
        judge(encoded, self.options).map_err(|problem| row.error(self.path, problem))
    }

    /// Refuses data that teaches nothing or never teaches to stop, and tells what else is wrong with it.
    pub(super) fn check(&self, report: &Report, events: &dyn EventSink) -> Result<(), Error> {
        let sequence_len = self.options.sequence_len;
        if report.samples == 0 {
            let reasons = report.left_out(sequence_len).join(", ");
            let reason = if reasons.is_empty() { reasons } else { format!(": {reasons}") };
            return Err(Error::NoSamples { path: self.path.to_owned(), lines: report.rows as usize, reason });
        }
        let without = report.untrained_stops + report.missing_stops;
        if report.turns > 0 && without == report.turns && !self.options.mask.train_on_inputs {
            let stop = if report.missing_stops > 0 { Stop::Missing } else { Stop::Untrained };
            let why = match stop {
                Stop::Missing => "writes no stop token after an answer",
                Stop::Trained | Stop::Untrained => "leaves the stop token of every answer out of the loss",
            };
            let problem = format!(
                "{why}, so the model would never learn to stop; use another template, or set `train_on_eos: {}`",
                if stop == Stop::Missing { "none" } else { "all" },
            );
            return Err(Error::Config { key: "chat_template", problem });
        }
        for warning in report.warnings(sequence_len) {
            events.emit(Event::warning(format!("{}: {warning}", self.path.display())));
        }
        Ok(())
    }
}
