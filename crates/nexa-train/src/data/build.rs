//! From a file of rows to samples: read in blocks, encoded in parallel, written in order, kept by content.

use std::path::{Path, PathBuf};

use nexa_core::event::{Event, EventSink};
use nexa_core::hash::ContentHash;
use nexa_core::table::Tables;
use nexa_model::{ChatTokenizer, Stop};
use rayon::prelude::*;
use serde_json::json;

use super::encode::{Encoded, Fate, judge};
use super::encoder::Encoder;
use super::file::SampleRef;
use super::options::DataOptions;
use super::report::Report;
use super::rows::{self, Numbered};
use super::shards::{SHARD_TOKENS, ShardWriter, Shards};
use super::top::{TopRef, TopRows, TopWriter};
use crate::Error;

/// Goes up when the same rows and options give other samples.
const CODE_VERSION: u32 = 2;
/// Rows that are encoded at once; memory does not grow with the file.
pub(super) const BLOCK: usize = 1024;

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
    shards: Shards,
    path: PathBuf,
    /// What a teacher thought of them, where the rows told.
    teacher: Option<TopRows>,
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
            if let Some(samples) = Self::read(&path)? {
                source.check(samples.report(), events)?;
                return Ok(samples);
            }
            let file = path.display();
            events.emit(Event::warning(format!("{file} is damaged; the data is tokenised again")));
        }
        Self::write(source, cache, &path, SHARD_TOKENS)?;
        let samples = Self::read(&path)?.ok_or_else(|| {
            std::io::Error::other(format!("{}: what was written cannot be read back", path.display()))
        })?;
        source.check(samples.report(), events)?;
        Ok(samples)
    }

    /// Maps what was written before; `None` where it is not whole.
    fn read(path: &Path) -> Result<Option<Self>, Error> {
        let Some(shards) = Shards::open(path)? else { return Ok(None) };
        let top = top_path(path);
        let is_taught = shards.footer().taught;
        let teacher = match is_taught {
            true if !top.exists() => return Ok(None),
            true => TopRows::open(&top)?.filter(|rows| rows.sequences() == shards.sequences()),
            false => None,
        };
        let is_whole = teacher.is_some() == is_taught;
        Ok(is_whole.then(|| Self { shards, path: path.to_owned(), teacher }))
    }

    /// Tokenises a source into shards of about so many tokens. The first shard comes last: where it is, all is.
    pub(super) fn write(
        source: &Source<'_>,
        cache: &Path,
        path: &Path,
        shard_tokens: u64,
    ) -> Result<(), Error> {
        let mut writer = ShardWriter::new(path, shard_tokens)?;
        let mut teacher: Option<TopWriter> = None;
        let mut report = Report::default();
        source.each(&mut |row, mut fate| {
            let id = row.id(source.path);
            fate.report.misalignments.iter_mut().for_each(|reason| reason.insert_str(0, &format!("{id}: ")));
            report.add(&fate.report);
            let count = fate.samples.len();
            for (index, sequences) in fate.samples.iter().enumerate() {
                let piece = || format!("{id}[{}/{count}]", index + 1);
                writer.sample(&if count > 1 { piece() } else { id.clone() }, sequences)?;
                write_teacher(&mut teacher, sequences, cache)?;
            }
            Ok(())
        })?;
        let taught = teacher.is_some();
        if let Some(teacher) = teacher {
            teacher.finish(&top_path(path))?;
        }
        writer.finish(taught, report)?;
        Ok(nexa_core::files::sync_folder(cache)?)
    }

    /// Counts the samples; a preference is one.
    pub fn len(&self) -> usize {
        self.shards.sequences() / self.shards.footer().sequences_per_sample
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
        self.shards.sequence(index * self.shards.footer().sequences_per_sample)
    }

    /// Returns the better and the worse sequence of a preference.
    ///
    /// # Panics
    /// Panics when there are fewer samples.
    pub fn preference(&self, index: usize) -> Option<[SampleRef<'_>; 2]> {
        let pair = || [0, 1].map(|which| self.shards.sequence(index * 2 + which));
        self.has_preferences().then(pair)
    }

    /// Whether samples are preferences.
    pub fn has_preferences(&self) -> bool {
        self.shards.footer().sequences_per_sample == 2
    }

    /// Whether the rows told what a teacher thought of them.
    pub fn is_taught(&self) -> bool {
        self.teacher.is_some()
    }

    /// What the teacher thought of a sample, where the rows told.
    pub(super) fn teacher(&self, index: usize) -> Option<TopRef<'_>> {
        self.teacher.as_ref().map(|rows| rows.sequence(index))
    }

    /// The fewest alternatives that the teacher told of a token, where the rows told.
    pub(super) fn fewest_told(&self) -> Option<usize> {
        self.teacher.as_ref().map(TopRows::fewest)
    }

    /// Returns what a person finds the row of a sample by: its `id`, else file and line.
    ///
    /// # Panics
    /// Panics when there are fewer samples.
    pub fn id(&self, index: usize) -> &str {
        self.shards.id(index)
    }

    /// The length of every sample; of a preference, of both sequences together.
    pub fn lengths(&self) -> Vec<usize> {
        let lengths: Vec<usize> = self.shards.lengths().collect();
        lengths.chunks(self.shards.footer().sequences_per_sample).map(|both| both.iter().sum()).collect()
    }

    /// What became of the rows.
    pub fn report(&self) -> &Report {
        &self.shards.footer().report
    }

    /// The first file of the cache. Its name is a hash of everything that decides the samples.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Source<'_> {
    /// A hash of everything that decides the samples.
    fn key(&self) -> Result<String, Error> {
        let DataOptions { dataset, split, sequence_len, excess_length, divides_texts, reads_teacher, mask } =
            self.options;
        // Where the rows come from and how often they are seen changes none of them.
        let any = super::DatasetConfig::default();
        let dataset =
            super::DatasetConfig { path: any.path, weight: any.weight, split: any.split, ..dataset.clone() };
        let key = json!({
            "code": CODE_VERSION,
            "data": ContentHash::of_file(self.path)?.as_str(),
            // Rows without an id are called by file and line.
            "name": self.path.file_name().unwrap_or_default().to_string_lossy(),
            "tokenizer": self.tokenizer.fingerprint()?,
            "dataset": dataset,
            "split": split,
            "sequence_len": sequence_len,
            "excess_length": excess_length,
            "divides_texts": divides_texts,
            "reads_teacher": reads_teacher,
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
        let mut rows = rows::open(self.path, self.options.split, self.tables)?;
        let mut encoder = None;
        loop {
            let block: Vec<Numbered> = rows.by_ref().take(BLOCK).collect::<Result<_, Error>>()?;
            let Some(first) = block.first() else { return Ok(()) };
            let encoder = match &encoder {
                Some(encoder) => encoder,
                None => encoder.insert(Encoder::new(self, first)?),
            };
            let fate = |row: &Numbered| {
                judge(encoder.encode(row)?, self.options).map_err(|problem| row.error(self.path, problem))
            };
            // Of several rows that fail, the first one is told, whichever was reached first.
            let fates: Vec<Result<Fate, Error>> = block.par_iter().map(fate).collect();
            for (row, fate) in block.iter().zip(fates) {
                take(row, fate?)?;
            }
        }
    }

    /// Refuses data that teaches nothing or never teaches to stop, and tells what else is wrong with it.
    pub(super) fn check(&self, report: &Report, events: &dyn EventSink) -> Result<(), Error> {
        let sequence_len = self.options.sequence_len;
        if report.samples == 0 {
            let mut reasons = report.left_out(sequence_len);
            reasons.extend(report.misalignments.first().cloned());
            if let Some(split) = self.options.split.filter(|_| report.rows == 0) {
                reasons.push(format!("no row belongs to `split: {}`", split.as_str()));
            }
            let reasons = reasons.join(", ");
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
        for note in report.notes(sequence_len) {
            events.emit(Event::info(format!("{}: {note}", self.path.display())));
        }
        for warning in report.warnings(sequence_len) {
            events.emit(Event::warning(format!("{}: {warning}", self.path.display())));
        }
        Ok(())
    }
}

/// The file of what a teacher thought, beside that of the tokens.
fn top_path(tokens: &Path) -> PathBuf {
    tokens.with_extension("top")
}

/// Appends what a teacher thought of some sequences, where they tell.
fn write_teacher(writer: &mut Option<TopWriter>, sequences: &[Encoded], cache: &Path) -> Result<(), Error> {
    for rows in sequences.iter().filter_map(|sequence| sequence.teacher.as_ref()?.as_ref().ok()) {
        let writer = match writer {
            Some(writer) => writer,
            None => writer.insert(TopWriter::new(cache)?),
        };
        for row in rows {
            writer.row(row.iter().copied())?;
        }
        writer.end_sequence()?;
    }
    Ok(())
}
