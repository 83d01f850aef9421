//! What a teacher thought of trained tokens, in a file that is mapped into memory: its likeliest tokens and their
//! log-probabilities; see [`super::sections`] for the frame.
//!
//! | section | holds |
//! |---|---|
//! | ids | `u32` each |
//! | log-probabilities | `f32` each, in nats |
//! | row ends | `u64` each: the first entry of every trained token, and the end of the last |
//! | sequence ends | `u64` each: the first row of every sequence, and the end of the last |

use std::io;
use std::path::Path;

use nexa_model::TeacherRows;

use super::sections::{Magic, SectionWriter, Sections};
use crate::Error;

/// Opens every file; the last digit is the version of the layout.
const MAGIC: &Magic = b"nexa top-k    1\n";
const IDS: usize = 0;
const LOG_PROBS: usize = 1;
const ROW_ENDS: usize = 2;
const SEQUENCE_ENDS: usize = 3;
const SECTIONS: usize = 4;

/// What a teacher thought of one token: ids and log-probabilities in nats.
pub(super) type TopRow = Vec<(u32, f32)>;

/// Writes a file in one pass.
#[derive(Debug)]
pub(crate) struct TopWriter {
    sections: SectionWriter,
    rows: u64,
    entries: u64,
}

impl TopWriter {
    /// Begins a file in a folder.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let mut sections = SectionWriter::new(folder, MAGIC, SECTIONS)?;
        for index in [ROW_ENDS, SEQUENCE_ENDS] {
            sections.section(index).write_all(&0_u64.to_le_bytes())?;
        }
        Ok(Self { sections, rows: 0, entries: 0 })
    }

    /// Appends the next token of the sequence at work.
    pub(crate) fn row(&mut self, entries: impl IntoIterator<Item = (u32, f32)>) -> io::Result<()> {
        for (id, log_prob) in entries {
            self.sections.section(IDS).write_all(&id.to_le_bytes())?;
            self.sections.section(LOG_PROBS).write_all(&log_prob.to_le_bytes())?;
            self.entries += 1;
        }
        self.rows += 1;
        self.sections.section(ROW_ENDS).write_all(&self.entries.to_le_bytes())
    }

    /// Ends the sequence at work.
    pub(crate) fn end_sequence(&mut self) -> io::Result<()> {
        self.sections.section(SEQUENCE_ENDS).write_all(&self.rows.to_le_bytes())
    }

    /// Puts the file in its place.
    pub(crate) fn finish(self, path: &Path) -> io::Result<()> {
        self.sections.finish(path)
    }
}

/// A file that was checked and mapped.
#[derive(Debug)]
pub(crate) struct TopRows(Sections);

/// What a teacher thought of the trained tokens of one sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopRef<'a> {
    ids: &'a [u32],
    log_probs: &'a [f32],
    /// Where the entries of every token begin, and the end of the last.
    ends: &'a [u64],
}

impl TopRows {
    /// Maps a file and compares it with its checksum. `None` where it is cut, damaged or of another version.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Error> {
        Ok(Sections::open(path, MAGIC, SECTIONS)?.map(Self))
    }

    /// Counts the sequences.
    pub(crate) fn sequences(&self) -> usize {
        self.0.numbers::<u64>(SEQUENCE_ENDS).len() - 1
    }

    /// The rows of a sequence.
    ///
    /// # Panics
    /// Panics when there are fewer sequences.
    pub(crate) fn sequence(&self, index: usize) -> TopRef<'_> {
        let sequences: &[u64] = self.0.numbers(SEQUENCE_ENDS);
        let rows = sequences[index] as usize..=sequences[index + 1] as usize;
        TopRef {
            ids: self.0.numbers(IDS),
            log_probs: self.0.numbers(LOG_PROBS),
            ends: &self.0.numbers::<u64>(ROW_ENDS)[rows],
        }
    }

    /// The fewest entries of a token.
    pub(crate) fn fewest(&self) -> usize {
        let ends: &[u64] = self.0.numbers(ROW_ENDS);
        ends.windows(2).map(|pair| (pair[1] - pair[0]) as usize).min().unwrap_or(0)
    }
}

impl TopRef<'_> {
    fn rows(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.ends.windows(2).map(|pair| pair[0] as usize..pair[1] as usize)
    }

    /// Lays the rows of several sequences end to end, as a decoder wants them: as many entries for each token as the
    /// longest has.
    pub(crate) fn lay<'a>(sequences: impl IntoIterator<Item = TopRef<'a>>) -> TeacherRows {
        let sequences: Vec<TopRef<'a>> = sequences.into_iter().collect();
        let longest = sequences.iter().flat_map(TopRef::rows).map(|row| row.len()).max();
        let k = longest.unwrap_or(0).max(1);
        let (mut ids, mut log_probs) = (Vec::new(), Vec::new());
        for sequence in &sequences {
            for row in sequence.rows() {
                let end = ids.len() + k;
                ids.extend_from_slice(&sequence.ids[row.clone()]);
                log_probs.extend_from_slice(&sequence.log_probs[row]);
                ids.resize(end, 0);
                log_probs.resize(end, f32::NEG_INFINITY);
            }
        }
        TeacherRows::top(k, ids, log_probs)
    }
}
