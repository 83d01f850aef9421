//! What single answers cost, as the log of answers tells: for receipts of rows.
//!
//! A table of answers says nothing of money, as equal work gives equal tables whatever it cost. The log does, by request;
//! an answer is recognised in it by its text, its model and its tokens, on which its price depends.

use std::io::{BufRead, BufReader};

use nexa_core::lab::Lab;
use nexa_core::{Error, files};
use serde::Deserialize;

use crate::Result;

/// An answer, as a table of answers holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<'a> {
    /// The run that collected it.
    pub run: &'a str,
    /// The model that answered.
    pub model: &'a str,
    /// What it answered.
    pub text: &'a str,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u64>,
}

/// What an answer cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Payment {
    /// The run that paid for it: an earlier one where the answer was there already.
    pub run: String,
    /// US dollars, where they are known.
    pub usd: Option<f64>,
    /// US dollars that it cost at most, where no more is known.
    pub at_most_usd: Option<f64>,
}

/// The part of a line of the log that tells it. Lines of earlier versions do not say who paid.
#[derive(Deserialize)]
struct Line {
    text: String,
    model_id: String,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    run: Option<String>,
    usd: Option<f64>,
    at_most_usd: Option<f64>,
}

/// Looks up what answers cost, in their order; nothing where the log does not tell. The logs are read line by line.
///
/// # Errors
/// Fails with the path when a log cannot be read, and with the line where it is malformed.
pub fn payments(lab: &Lab, given: &[Given<'_>]) -> Result<Vec<Option<Payment>>> {
    let mut found: Vec<Option<Payment>> = vec![None; given.len()];
    let folder = super::log::folder(lab);
    if given.is_empty() || !folder.is_dir() {
        return Ok(found);
    }
    for name in files::walk(&folder)? {
        let path = folder.join(name);
        let file = std::fs::File::open(&path).map_err(|e| Error::io("read", &path, e))?;
        let mut reader = BufReader::new(file);
        let mut text = Vec::new();
        for number in 1.. {
            text.clear();
            let read = reader.read_until(b'\n', &mut text).map_err(|e| Error::io("read", &path, e))?;
            // A last line without an end is being written, or was cut off.
            if read == 0 || text.last() != Some(&b'\n') {
                break;
            }
            let line: Line = serde_json::from_slice(&text)
                .map_err(|e| Error::malformed(&path, format!("line {number}: {e}")))?;
            for (given, found) in given.iter().zip(&mut found) {
                line.pay(given, found);
            }
        }
    }
    Ok(found)
}

impl Line {
    /// Notes the payment where it is for an answer; the payment of the answer's own run before any other.
    fn pay(&self, given: &Given<'_>, found: &mut Option<Payment>) {
        let is_it = self.text == given.text
            && self.model_id == given.model
            && self.prompt_tokens == given.prompt_tokens
            && self.completion_tokens == given.completion_tokens;
        let Some(run) = self.run.as_ref().filter(|_| is_it) else { return };
        if found.is_none() || run == given.run {
            let (usd, at_most_usd) = (self.usd, self.at_most_usd);
            *found = Some(Payment { run: run.clone(), usd, at_most_usd });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_paid_by_its_own_run_before_another() {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::init(folder.path(), None).unwrap();
        let line = |text: &str, payment: &str| {
            format!(
                r#"{{"key":"blake3:00","text":"{text}","finish_reason":"stop","model_id":"m","prompt_tokens":3,"completion_tokens":4,"reported_usd":null{payment}}}"#
            ) + "\n"
        };
        let log = [
            line("old", ""),
            line("hi", r#","run":"r1","call":7,"usd":0.5,"at_most_usd":null"#),
            line("hi", r#","run":"r2","call":1,"usd":0.25,"at_most_usd":null"#),
            line("ho", r#","run":"r1","call":8,"usd":null,"at_most_usd":2.0"#),
            "{\"cut".to_owned(),
        ];
        files::write_atomic(&super::super::log::folder(&lab).join("a.jsonl"), log.concat().as_bytes())
            .unwrap();
        let given =
            |run, text| Given { run, model: "m", text, prompt_tokens: Some(3), completion_tokens: Some(4) };
        let asked =
            [given("r2", "hi"), given("r9", "hi"), given("r1", "ho"), given("r1", "old"), given("r1", "no")];
        let found: Vec<_> = payments(&lab, &asked)
            .unwrap()
            .into_iter()
            .map(|found| found.map(|payment| (payment.run, payment.usd, payment.at_most_usd)))
            .collect();
        let expected = [
            Some(("r2".to_owned(), Some(0.25), None)),
            Some(("r1".to_owned(), Some(0.5), None)),
            Some(("r1".to_owned(), None, Some(2.0))),
            None,
            None,
        ];
        assert_eq!(found, expected);
    }
}
