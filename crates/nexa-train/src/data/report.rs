//! What became of the rows of a file.

use serde::{Deserialize, Serialize};

/// Rows whose reasons are kept.
const REASONS: usize = 10;

/// Counts of rows, samples and what was left out or looks wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Rows of the file.
    pub rows: u64,
    /// Samples that can be trained on: rows, or pieces of them.
    pub samples: u64,
    /// Tokens of the samples.
    pub tokens: u64,
    /// Tokens that carry loss.
    pub trained_tokens: u64,
    /// Tokens of the longest sample.
    pub longest: u64,
    /// Rows left out because they are longer than `sequence_len`.
    pub too_long: u64,
    /// Rows left out because no token of them carries loss.
    pub nothing_trained: u64,
    /// Texts that were divided into pieces of at most `sequence_len`, each a sample.
    pub divided: u64,
    /// Rows left out because what their teacher thought cannot be put beside their tokens.
    pub misaligned: u64,
    /// Why, for the first of them.
    pub misalignments: Vec<String>,
    /// Samples of whose last token the teacher says nothing but that it came: it is taken as certain.
    pub certain_ends: u64,
    /// Samples that were cut to `sequence_len`.
    pub truncated: u64,
    /// Rows left out because the cut took every token that carries loss.
    pub answer_cut_away: u64,
    /// Samples whose last stop token the cut took.
    pub stop_cut_away: u64,
    /// Trained turns.
    pub turns: u64,
    /// Trained turns whose stop token carries no loss.
    pub untrained_stops: u64,
    /// Trained turns that the template ends without a stop token.
    pub missing_stops: u64,
    /// Trained turns before which the template shows other tokens than it will when the turn is asked for.
    pub other_context: u64,
}

impl Report {
    /// Adds the counts of other rows.
    pub(super) fn add(&mut self, other: &Self) {
        self.longest = self.longest.max(other.longest);
        let room = REASONS - self.misalignments.len();
        self.misalignments.extend(other.misalignments.iter().take(room).cloned());
        for (sum, more) in [
            (&mut self.rows, other.rows),
            (&mut self.samples, other.samples),
            (&mut self.tokens, other.tokens),
            (&mut self.trained_tokens, other.trained_tokens),
            (&mut self.too_long, other.too_long),
            (&mut self.nothing_trained, other.nothing_trained),
            (&mut self.divided, other.divided),
            (&mut self.misaligned, other.misaligned),
            (&mut self.certain_ends, other.certain_ends),
            (&mut self.truncated, other.truncated),
            (&mut self.answer_cut_away, other.answer_cut_away),
            (&mut self.stop_cut_away, other.stop_cut_away),
            (&mut self.turns, other.turns),
            (&mut self.untrained_stops, other.untrained_stops),
            (&mut self.missing_stops, other.missing_stops),
            (&mut self.other_context, other.other_context),
        ] {
            *sum += more;
        }
    }

    /// Why rows were left out, in words.
    pub fn left_out(&self, sequence_len: usize) -> Vec<String> {
        let reasons = [
            (self.too_long, format!("{} are longer than `sequence_len` ({sequence_len})", self.too_long)),
            (self.nothing_trained, format!("{} have no turn to be trained", self.nothing_trained)),
            (
                self.misaligned,
                format!("{} have a teacher whose tokens do not line up with the student's", self.misaligned),
            ),
            (
                self.answer_cut_away,
                format!(
                    "{} lose their whole answer to the cut at `sequence_len` ({sequence_len})",
                    self.answer_cut_away
                ),
            ),
        ];
        reasons.into_iter().filter(|(count, _)| *count > 0).map(|(_, reason)| reason).collect()
    }

    /// What a person may want to know although nothing is wrong with it, in words.
    pub fn notes(&self, sequence_len: usize) -> Vec<String> {
        let notes = [
            (
                self.divided,
                format!(
                    "{} texts are longer than `sequence_len` ({sequence_len}); with the others they are {} pieces",
                    self.divided, self.samples
                ),
            ),
            (
                self.certain_ends,
                format!(
                    "the teacher's list says nothing of the last token of {} samples but that it came, which is taken as certain",
                    self.certain_ends
                ),
            ),
        ];
        notes.into_iter().filter(|(count, _)| *count > 0).map(|(_, note)| note).collect()
    }

    /// Everything that a person should know, in words.
    pub fn warnings(&self, sequence_len: usize) -> Vec<String> {
        let left_out = self.left_out(sequence_len);
        let mut warnings = Vec::new();
        if !left_out.is_empty() {
            warnings.push(format!("of {} samples, {}; they are left out", self.rows, left_out.join(", ")));
        }
        warnings.extend(self.misalignments.iter().cloned());
        let untold = self.misaligned - self.misalignments.len() as u64;
        if untold > 0 {
            warnings.push(format!("… and {untold} more, whose reasons `nexa data inspect` shows row by row"));
        }
        let further = [
            (self.truncated, format!("{} samples are cut to {sequence_len} tokens", self.truncated)),
            (
                self.stop_cut_away,
                format!("{} of the cut samples lose their last stop token", self.stop_cut_away),
            ),
            (
                self.untrained_stops,
                format!(
                    "{} of {} trained turns end with a stop token that carries no loss",
                    self.untrained_stops, self.turns
                ),
            ),
            (
                self.missing_stops,
                format!("{} of {} trained turns end without a stop token", self.missing_stops, self.turns),
            ),
            (
                self.other_context,
                format!(
                    "{} of {} trained turns follow other tokens than their own prompt, because the chat template rewrites earlier turns",
                    self.other_context, self.turns
                ),
            ),
        ];
        warnings.extend(further.into_iter().filter(|(count, _)| *count > 0).map(|(_, warning)| warning));
        warnings
    }
}
