//! The rows of one file to tokens, once it is known what a row of it is.

use super::build::Source;
use super::encode::{Encoded, encode};
use super::format::{Example, SampleType, columns};
use super::rows::Numbered;
use super::stored::{Stored, Vocabulary};
use crate::Error;

/// A file whose rows are of one kind.
pub(super) struct Encoder<'a> {
    source: &'a Source<'a>,
    /// What a row is.
    pub(super) kind: SampleType,
    /// Where a teacher's words are looked up, where rows hold some.
    vocabulary: Option<Vocabulary<'a>>,
}

impl<'a> Encoder<'a> {
    /// Tells by one row what the rows are.
    pub(super) fn new(source: &'a Source<'a>, first: &Numbered) -> Result<Self, Error> {
        let (dataset, options) = (&source.options.dataset, source.options);
        let kind = dataset.sample_type.or_else(|| SampleType::of(&first.row, dataset)).ok_or_else(|| {
            let columns = columns(&first.row);
            let problem = format!(
                "the columns fit no format (there are: {columns}); name one with `datasets: [{{type: …}}]` and its fields"
            );
            first.error(source.path, problem)
        })?;
        if options.divides_texts && kind != SampleType::Text {
            let columns = columns(&first.row);
            let problem = format!(
                "is `pretrain`, which learns plain text (a column `text`), but the rows have: {columns}; say `objective: \
                 sft`, and `train_on_inputs: true` to learn all of a conversation"
            );
            return Err(Error::Config { key: "objective", problem });
        }
        let is_taught = options.reads_teacher && Stored::is_in(&first.row, dataset);
        let vocabulary = is_taught.then(|| Vocabulary::new(source.tokenizer));
        Ok(Self { source, kind, vocabulary })
    }

    /// Encodes a row: one sequence, or two for a preference.
    pub(super) fn encode(&self, row: &Numbered) -> Result<Vec<Encoded>, Error> {
        let Source { path, options, tokenizer, .. } = *self.source;
        let failed = |problem: String| row.error(path, problem);
        let mut example =
            self.kind.read(&row.row, &options.dataset, tokenizer.has_template()).map_err(failed)?;
        let Some(vocabulary) = &self.vocabulary else {
            return encode(&example, options, tokenizer).map_err(|error| failed(error.to_string()));
        };
        let stored = Stored::read(&row.row, &options.dataset).map_err(failed)?;
        if let (Some(Stored::Spelled(_)), Example::Chat { conversation, context }) = (&stored, &mut example) {
            // The last answer is the one that was spelled; those before it are given.
            *context = (*context).max(conversation.messages.len().saturating_sub(1));
        }
        let mut encoded = encode(&example, options, tokenizer).map_err(|error| failed(error.to_string()))?;
        for sequence in encoded.iter_mut().filter(|sequence| sequence.can_be_trained()) {
            sequence.teacher = Some(match stored.clone() {
                Some(stored) => stored.align(sequence, vocabulary),
                None => Err("the row holds nothing of its teacher, unlike the first one".to_owned()),
            });
        }
        Ok(encoded)
    }
}
