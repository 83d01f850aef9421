//! One row to token ids and loss mask.

use nexa_core::lm;
use nexa_model::{ChatTokenizer, EncodedTurn, Stop, TrainOnEos};

use super::format::Example;
use super::options::{DataOptions, ExcessLength};
use super::report::Report;
use super::top::TopRow;

/// A row as tokens, before it is cut or left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Encoded {
    pub(super) token_ids: Vec<u32>,
    pub(super) trained: Vec<bool>,
    pub(super) turns: Vec<EncodedTurn>,
    /// What a teacher thought of each trained token, or why that cannot be told; absent where none was to be read.
    pub(super) teacher: Option<Result<Vec<TopRow>, String>>,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fate {
    /// Its samples, each of one sequence, or the better and the worse one of a preference. One, none where the row is
    /// left out, or as many as a long text has pieces.
    pub(super) samples: Vec<Vec<Encoded>>,
    /// Its counts.
    pub(super) report: Report,
}

/// Encodes what a row says: one sequence, or two for a preference.
pub(super) fn encode(
    example: &Example,
    options: &DataOptions,
    tokenizer: &ChatTokenizer,
) -> Result<Vec<Encoded>, lm::Error> {
    if let Example::Preference(pair) = example {
        let mut both = Vec::with_capacity(2);
        for example in pair.iter() {
            both.extend(encode(example, options, tokenizer)?);
        }
        return Ok(both);
    }
    Ok(vec![single(example, options, tokenizer)?])
}

fn single(example: &Example, options: &DataOptions, tokenizer: &ChatTokenizer) -> Result<Encoded, lm::Error> {
    let mut encoded = match example {
        Example::Chat { conversation, context } => {
            let encoded = tokenizer.encode_conversation(conversation, &options.mask)?;
            let (token_ids, mut trained, mut turns) = (encoded.token_ids, encoded.trained, encoded.turns);
            if *context > 0 && !options.mask.train_on_inputs {
                // What stands before the completion is given, whoever said it.
                let roles = &options.mask.roles_to_train;
                let given = &conversation.messages[..*context];
                let given =
                    given.iter().filter(|message| roles.contains(&message.role)).count().min(turns.len());
                let end = turns[..given].last().map_or(0, |turn| turn.tokens.end);
                trained[..end].fill(false);
                turns.drain(..given);
            }
            Encoded { token_ids, trained, turns, teacher: None }
        }
        Example::Completion { prompt, completion } => {
            let encoded = tokenizer.encode_completion(prompt, completion)?;
            let start = encoded.trained.iter().position(|&trained| trained).unwrap_or(encoded.trained.len());
            let stop = if tokenizer.eos_token().is_some() { Stop::Trained } else { Stop::Missing };
            let turn = EncodedTurn { tokens: start..encoded.token_ids.len(), stop, follows_prompt: true };
            let (token_ids, mut trained) = (encoded.token_ids, encoded.trained);
            if options.mask.train_on_inputs {
                trained.fill(true);
            }
            Encoded { token_ids, trained, turns: vec![turn], teacher: None }
        }
        Example::Text(text) => {
            let token_ids = tokenizer.encode_document(text)?;
            Encoded { trained: vec![true; token_ids.len()], token_ids, ..Encoded::default() }
        }
        Example::Preference(_) => Encoded::default(),
    };
    // What follows the last trained token would be computed for nothing.
    let length = encoded.trained.iter().rposition(|&trained| trained).map_or(0, |last| last + 1);
    encoded.token_ids.truncate(length);
    encoded.trained.truncate(length);
    Ok(encoded)
}

/// Leaves a row out, cuts it or divides it, as the options say.
///
/// # Errors
/// Says how long the row is where long ones are to stop the run.
pub(super) fn judge(mut sequences: Vec<Encoded>, options: &DataOptions) -> Result<Fate, String> {
    let mut report = Report { rows: 1, ..Report::default() };
    let left_out = |report| Ok(Fate { samples: Vec::new(), report });
    if sequences.iter().any(|sequence| !sequence.can_be_trained()) {
        report.nothing_trained = 1;
        return left_out(report);
    }
    if let Some(Err(reason)) = sequences.iter().find_map(|sequence| sequence.teacher.as_ref()) {
        report.misaligned = 1;
        report.misalignments.push(reason.clone());
        return left_out(report);
    }
    let longest = sequences.iter().map(|sequence| sequence.token_ids.len()).max().unwrap_or(0);
    let mut samples = Vec::new();
    if longest > options.sequence_len && options.divides_texts {
        report.divided = 1;
        let pieces = sequences.iter().flat_map(|sequence| sequence.pieces(options.sequence_len));
        samples.extend(pieces.map(|piece| vec![piece]));
    } else if longest > options.sequence_len {
        match options.excess_length {
            ExcessLength::Raise => {
                return Err(format!("{longest} tokens, more than `sequence_len` ({})", options.sequence_len));
            }
            ExcessLength::Drop => {
                report.too_long = 1;
                return left_out(report);
            }
            ExcessLength::Truncate => {
                for sequence in &mut sequences {
                    let stops =
                        sequence.turns.last().is_some_and(|turn| turn.tokens.end > options.sequence_len);
                    report.stop_cut_away |= u64::from(stops);
                    sequence.cut(options.sequence_len);
                }
                if sequences.iter().any(|sequence| !sequence.can_be_trained()) {
                    return left_out(Report { rows: 1, answer_cut_away: 1, ..Report::default() });
                }
                report.truncated = 1;
            }
        }
    }
    if samples.is_empty() {
        samples.push(sequences);
    }
    report.samples = samples.len() as u64;
    for sequence in samples.iter().flatten() {
        let tokens = sequence.token_ids.len() as u64;
        report.tokens += tokens;
        report.longest = report.longest.max(tokens);
        report.trained_tokens += sequence.trained.iter().filter(|&&trained| trained).count() as u64;
        report.turns += sequence.turns.len() as u64;
        let count =
            |is: fn(&EncodedTurn) -> bool| sequence.turns.iter().filter(|turn| is(turn)).count() as u64;
        report.other_context += count(|turn| !turn.follows_prompt);
        // Whoever asked for no stop tokens, or for the last one alone, need not be told.
        if options.mask.train_on_eos == TrainOnEos::Turn || options.mask.train_on_eos == TrainOnEos::All {
            report.untrained_stops += count(|turn| turn.stop == Stop::Untrained);
            report.missing_stops += count(|turn| turn.stop == Stop::Missing);
        }
        let last = sequence.teacher.as_ref().and_then(|rows| rows.as_ref().ok()?.last());
        report.certain_ends += u64::from(last.is_some_and(|entries| entries.len() == 1));
    }
    Ok(Fate { samples, report })
}

impl Encoded {
    /// Whether a token carries loss. The first one has nothing to be predicted from.
    pub(super) fn can_be_trained(&self) -> bool {
        self.trained_places().next().is_some()
    }

    /// The tokens that carry loss, the first one apart.
    pub(super) fn trained_places(&self) -> impl Iterator<Item = usize> + '_ {
        (1..self.trained.len()).filter(|&place| self.trained[place])
    }

    /// Divides a text into pieces of a length, and one with what is left. None has a single token, of which there would
    /// be nothing to learn: the piece before it leaves it another one.
    fn pieces(&self, length: usize) -> Vec<Self> {
        let (mut pieces, mut start) = (Vec::new(), 0);
        while start < self.token_ids.len() {
            let mut end = (start + length).min(self.token_ids.len());
            if self.token_ids.len() - end == 1 && length > 2 {
                end -= 1;
            }
            let (token_ids, trained) =
                (self.token_ids[start..end].to_vec(), self.trained[start..end].to_vec());
            pieces.push(Self { token_ids, trained, ..Self::default() });
            start = end;
        }
        pieces.retain(Self::can_be_trained);
        pieces
    }

    fn cut(&mut self, length: usize) {
        self.token_ids.truncate(length);
        self.trained.truncate(length);
        self.turns.retain(|turn| turn.tokens.end <= length);
        let left = self.trained_places().count();
        if let Some(Ok(rows)) = &mut self.teacher {
            rows.truncate(left);
        }
    }
}
