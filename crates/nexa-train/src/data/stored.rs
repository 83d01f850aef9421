//! What a teacher thought of an answer, as a row of a data set holds it, and its place in the student's tokens.
//!
//! Two forms are read. That of OpenAI, which other servers speak too: `logprobs: {content: [{token, bytes, logprob,
//! top_logprobs: […]}]}` says how the teacher spelled each token of the last answer. And the compact one:
//! `teacher_token_ids` and `teacher_log_probs`, for each trained token of the row a list of ids and one of numbers.
//!
//! A distribution belongs to one token of one vocabulary. So the student's tokens must be the teacher's, one for one,
//! and each alternative must be a token of the student; a row where that does not hold is left out with its reason.

use std::collections::HashMap;

use nexa_core::lm::Tokenizer as _;
use nexa_core::table::Row;
use nexa_model::{ChatTokenizer, Stop};
use serde_json::Value;

use super::encode::Encoded;
use super::options::DatasetConfig;
use super::top::TopRow;

/// The column of the first form where the configuration names no other.
const LOGPROBS: &str = "logprobs";
/// The columns of the second form.
const IDS: &str = "teacher_token_ids";
const LOG_PROBS: &str = "teacher_log_probs";
/// How far numbers may be above what logarithms of probabilities can be: some servers round.
const ROUNDING: f64 = 1e-2;

/// What a row says of its teacher.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stored {
    /// Each token of the last answer, as the teacher spelled it.
    Spelled(Vec<SpelledToken>),
    /// For each trained token, ids and log-probabilities.
    Ids(Vec<TopRow>),
}

/// A token of an answer in the form of OpenAI.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SpelledToken {
    bytes: Vec<u8>,
    /// What could have stood there, itself among it, with log-probabilities.
    alternatives: Vec<(Vec<u8>, f32)>,
}

impl SpelledToken {
    /// The alternatives as tokens of the student, of which one was chosen.
    ///
    /// # Errors
    /// Returns the bytes that are no token.
    fn row(self, chosen: u32, by_bytes: &HashMap<Vec<u8>, u32>) -> Result<TopRow, Vec<u8>> {
        let id_of = |(bytes, log_prob): (Vec<u8>, f32)| {
            let id = if bytes == self.bytes { Some(chosen) } else { by_bytes.get(&bytes).copied() };
            id.map(|id| (id, log_prob)).ok_or(bytes)
        };
        self.alternatives.into_iter().map(id_of).collect()
    }
}

/// The student's tokens by what they spell.
#[derive(Debug)]
pub(super) struct Vocabulary<'a> {
    tokenizer: &'a ChatTokenizer,
    by_bytes: HashMap<Vec<u8>, u32>,
}

impl<'a> Vocabulary<'a> {
    pub(super) fn new(tokenizer: &'a ChatTokenizer) -> Self {
        Self { by_bytes: tokenizer.tokens_by_bytes(), tokenizer }
    }
}

impl Stored {
    /// Whether a row has one of the forms.
    pub(super) fn is_in(row: &Row, dataset: &DatasetConfig) -> bool {
        [column(dataset), IDS].iter().any(|name| row.get(*name).is_some_and(|value| !value.is_null()))
    }

    /// Reads what a row holds; `None` where it holds nothing.
    ///
    /// # Errors
    /// Says which column and token is not of its form.
    pub(super) fn read(row: &Row, dataset: &DatasetConfig) -> Result<Option<Self>, String> {
        let parsed = |name: &str| match row.get(name) {
            None | Some(Value::Null) => Ok(None),
            // Tables that know no lists of lists keep them as text.
            Some(Value::String(json)) => {
                serde_json::from_str(json).map(Some).map_err(|error| format!("column `{name}`: {error}"))
            }
            Some(value) => Ok(Some(value.clone())),
        };
        let name = column(dataset);
        match (parsed(name)?, parsed(IDS)?) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(format!("columns `{name}` and `{IDS}` say the same thing twice")),
            (Some(value), None) => spelled(&value).map(Some).map_err(|e| format!("column `{name}`: {e}")),
            (None, Some(token_ids)) => {
                let log_probs = parsed(LOG_PROBS)?.ok_or(format!("column `{LOG_PROBS}` is missing"))?;
                ids(&token_ids, &log_probs).map(Some)
            }
        }
    }

    /// Finds the row of every trained token of a sequence.
    ///
    /// # Errors
    /// Says which token does not line up.
    pub(super) fn align(self, encoded: &Encoded, vocabulary: &Vocabulary<'_>) -> Result<Vec<TopRow>, String> {
        match self {
            Self::Ids(rows) => align_ids(rows, encoded, vocabulary.tokenizer.vocab_size()),
            Self::Spelled(tokens) => align_spelled(tokens, encoded, vocabulary),
        }
    }
}

fn column(dataset: &DatasetConfig) -> &str {
    dataset.logprobs_field.as_deref().unwrap_or(LOGPROBS)
}

fn align_ids(rows: Vec<TopRow>, encoded: &Encoded, vocab_size: usize) -> Result<Vec<TopRow>, String> {
    let trained = encoded.trained_places().count();
    if rows.len() != trained {
        return Err(format!("the teacher speaks of {} tokens, and {trained} carry loss", rows.len()));
    }
    match rows.iter().flatten().find(|(id, _)| *id as usize >= vocab_size) {
        Some((id, _)) => Err(format!("the teacher's token {id} is outside a vocabulary of {vocab_size}")),
        None => Ok(rows),
    }
}

fn align_spelled(
    tokens: Vec<SpelledToken>,
    encoded: &Encoded,
    Vocabulary { tokenizer, by_bytes }: &Vocabulary<'_>,
) -> Result<Vec<TopRow>, String> {
    let turn = encoded.turns.last().ok_or("there is no answer that carries loss")?;
    let own = |place: usize| tokenizer.token_bytes(encoded.token_ids[place]).unwrap_or_default();
    let stop = (turn.stop != Stop::Missing).then(|| turn.tokens.end - 1);
    let mut rows: HashMap<usize, TopRow> = HashMap::with_capacity(turn.tokens.len());
    let count = tokens.len();
    for (number, (token, place)) in tokens.into_iter().zip(turn.tokens.clone()).enumerate() {
        let failed = |problem: String| format!("token {} of the answer {problem}", number + 1);
        let own = own(place);
        // Servers that do not show special tokens spell the end of an answer as nothing.
        if token.bytes != own && !(token.bytes.is_empty() && Some(place) == stop) {
            let [theirs, ours] = [&token.bytes, &own].map(|bytes| shown(bytes));
            return Err(failed(format!("is {theirs} for the teacher and {ours} for the student")));
        }
        let row = token.row(encoded.token_ids[place], by_bytes).map_err(|bytes| {
            failed(format!("has the alternative {}, which is no token of the student", shown(&bytes)))
        })?;
        rows.insert(place, row);
    }
    if count > turn.tokens.len() {
        let own = turn.tokens.len();
        return Err(format!("the teacher's answer has {count} tokens and the student's {own}"));
    }
    // The end of an answer, and what a template writes before it, are mostly not listed: the teacher did end there.
    let unlisted = turn.tokens.start + count..turn.tokens.end;
    let is_ending = |place: usize| Some(place) == stop || own(place).iter().all(u8::is_ascii_whitespace);
    if let Some(place) = unlisted.clone().find(|&place| stop.is_none() || !is_ending(place)) {
        let (number, token) = (place - turn.tokens.start + 1, shown(&own(place)));
        return Err(format!(
            "token {number} of the answer, {token}, is missing in the teacher's list of {count}"
        ));
    }
    let certain = unlisted.map(|place| (place, vec![(encoded.token_ids[place], 0.0)]));
    rows.extend(certain);
    let row_of = |place| {
        let row = rows.remove(&place);
        row.ok_or_else(|| format!("token {} carries loss, and the teacher says nothing of it", place + 1))
    };
    encoded.trained_places().map(row_of).collect()
}

fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

fn spelled(value: &Value) -> Result<Stored, String> {
    let content = value.get("content").unwrap_or(value);
    let content = content.as_array().ok_or("there is no list `content`")?;
    let read = |(index, entry): (usize, &Value)| {
        let place = |problem: String| format!("token {}: {problem}", index + 1);
        let (bytes, log_prob) = spelling(entry).map_err(place)?;
        let mut alternatives: Vec<(Vec<u8>, f64)> = Vec::new();
        let listed = entry.get("top_logprobs").and_then(Value::as_array).into_iter().flatten();
        for alternative in listed.map(spelling).chain([Ok((bytes.clone(), log_prob))]) {
            let (bytes, log_prob) = alternative.map_err(place)?;
            // The chosen token is mostly among the likeliest, and listed with them.
            if alternatives.iter().all(|(known, _)| *known != bytes) {
                alternatives.push((bytes, log_prob));
            }
        }
        check(alternatives.iter().map(|(_, log_prob)| *log_prob)).map_err(place)?;
        let alternatives =
            alternatives.into_iter().map(|(bytes, log_prob)| (bytes, log_prob as f32)).collect();
        Ok(SpelledToken { bytes, alternatives })
    };
    content.iter().enumerate().map(read).collect::<Result<_, String>>().map(Stored::Spelled)
}

/// The bytes and the log-probability of one alternative. Where a token is no whole text, its bytes say what it is.
fn spelling(entry: &Value) -> Result<(Vec<u8>, f64), String> {
    let log_prob = entry.get("logprob").and_then(Value::as_f64).ok_or("`logprob` is no number")?;
    let bytes = match entry.get("bytes") {
        None | Some(Value::Null) => None,
        Some(Value::Array(bytes)) => {
            let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
            Some(bytes.iter().map(byte).collect::<Option<Vec<u8>>>().ok_or("`bytes` are no bytes")?)
        }
        Some(_) => return Err("`bytes` is no list".to_owned()),
    };
    let token = entry.get("token").and_then(Value::as_str).map(|token| token.as_bytes().to_vec());
    Ok((bytes.or(token).ok_or("there is neither `token` nor `bytes`")?, log_prob))
}

fn ids(token_ids: &Value, log_probs: &Value) -> Result<Stored, String> {
    let list = |value: &Value, name: &str| {
        value.as_array().cloned().ok_or_else(|| format!("column `{name}` is no list of lists"))
    };
    let (token_ids, log_probs) = (list(token_ids, IDS)?, list(log_probs, LOG_PROBS)?);
    if token_ids.len() != log_probs.len() {
        let lengths = [token_ids.len(), log_probs.len()];
        return Err(format!(
            "columns `{IDS}` and `{LOG_PROBS}` speak of {} and {} tokens",
            lengths[0], lengths[1]
        ));
    }
    let read = |(index, (ids, numbers)): (usize, (&Value, &Value))| {
        let place =
            |problem: String| format!("columns `{IDS}` and `{LOG_PROBS}`, token {}: {problem}", index + 1);
        let (ids, numbers) = (list(ids, IDS)?, list(numbers, LOG_PROBS)?);
        if ids.len() != numbers.len() {
            return Err(place(format!("{} ids and {} numbers", ids.len(), numbers.len())));
        }
        let mut row: Vec<(u32, f64)> = Vec::with_capacity(ids.len());
        for (id, number) in ids.iter().zip(&numbers) {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| place("an id is no token id".to_owned()))?;
            if row.iter().any(|(known, _)| *known == id) {
                return Err(place(format!("id {id} is listed twice")));
            }
            row.push((
                id,
                number.as_f64().ok_or_else(|| place("a log-probability is no number".to_owned()))?,
            ));
        }
        check(row.iter().map(|(_, log_prob)| *log_prob)).map_err(place)?;
        Ok(row.into_iter().map(|(id, log_prob)| (id, log_prob as f32)).collect())
    };
    let rows = token_ids.iter().zip(&log_probs).enumerate().map(read);
    rows.collect::<Result<_, String>>().map(Stored::Ids)
}

/// Checks that numbers can be the logarithms of probabilities of different tokens.
fn check(log_probs: impl Iterator<Item = f64>) -> Result<(), String> {
    let (mut sum, mut count) = (0.0, 0);
    for log_prob in log_probs {
        if !(log_prob.is_finite() && log_prob <= ROUNDING) {
            return Err(format!("{log_prob} is no log-probability"));
        }
        sum += log_prob.exp();
        count += 1;
    }
    if count == 0 {
        return Err("nothing is listed".to_owned());
    }
    if sum > 1.0 + ROUNDING {
        return Err(format!("the probabilities add up to {sum:.3}"));
    }
    Ok(())
}
