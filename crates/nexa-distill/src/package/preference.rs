//! Pairs of answers to one prompt, a better and a worse one, for preference training.
//!
//! What a person edited is better than what stood there before. Else the better one is the accepted answer that judges
//! like best, or the first where nobody judged, and the worse one is the accepted answer that they like least, if it lies
//! far enough below; else the first answer that a gate or a reviewer rejected for what it says. What was rejected for its
//! length or its ending is no worse answer: a student would learn the length.

use std::collections::HashMap;

use nexa_core::artifact::Artifact;
use nexa_core::columns;
use nexa_core::lm::{ChatMessage, Role};
use nexa_core::stage::Context;
use nexa_core::table::Row;
use serde_json::json;

use super::{Packaged, Split, formats, rows};
use crate::gates::Answer;
use crate::{Result, review, table};

/// Gates whose rejects are not about what an answer says.
const NOT_WORSE: [&str; 5] = ["empty", "length", "tokens", "truncation", "duplicate"];

/// A pair.
#[derive(Debug)]
pub(super) struct Preference {
    /// The side of its better answer.
    pub(super) split: Split,
    id: String,
    prompt: Vec<ChatMessage>,
    chosen: String,
    rejected: String,
    chosen_score: Option<f64>,
    rejected_score: Option<f64>,
    /// Why the worse answer is worse: a gate, `judge`, or `edit`.
    because: String,
}

impl Preference {
    /// The pair as a row.
    pub(super) fn row(&self) -> Row {
        let answer = |text: &str| json!([ChatMessage::new(Role::Assistant, text)]);
        formats::named(
            &self.id,
            json!({
                "prompt": self.prompt,
                "chosen": answer(&self.chosen),
                "rejected": answer(&self.rejected),
                "chosen_score": self.chosen_score,
                "rejected_score": self.rejected_score,
                "rejected_because": self.because,
            }),
        )
    }
}

/// What the judges' scores are in a table of scores.
const JUDGE: &str = "judge";
/// What stands for the gate where a person wrote the better answer.
const EDIT: &str = "edit";

/// Makes the pairs of filtered answers, one for each prompt that has a better and a worse one.
pub(super) fn pairs(
    context: &Context<'_>,
    filtered: &Artifact,
    packaged: &Packaged<'_>,
    min_margin: f64,
) -> Result<Vec<Preference>> {
    let read = |artifact: &Artifact, name: &str| match artifact.file(name) {
        Ok(path) => context.services.tables.read(&path),
        // An artifact in which nothing was rejected or judged has no such file.
        Err(_) => Ok(Vec::new()),
    };
    let rejected = read(filtered, "rejected.parquet")?;
    let mut scores = read(filtered, "scores.parquet")?;
    for regenerated in rows::regenerated(context) {
        scores.extend(read(regenerated, "scores.parquet")?);
    }
    let scores: HashMap<String, f64> = scores
        .iter()
        .filter_map(|row| Some((table::cell(row, columns::ID)?, row.get(JUDGE)?.as_f64()?)))
        .collect();
    let mut worse = HashMap::<Vec<ChatMessage>, Vec<&Row>>::new();
    for row in &rejected {
        let answer = Answer::of(row);
        let gate = table::cell(row, columns::REJECTION_GATE).unwrap_or_default();
        let is_worse = !NOT_WORSE.contains(&gate.as_str()) && !review::is_undecided(row);
        if is_worse && !answer.output.trim().is_empty() {
            worse.entry(answer.asked()).or_default().push(row);
        }
    }
    Ok(Prompts::of(packaged).filter_map(|prompt| prompt.pair(&scores, &worse, min_margin)).collect())
}

/// The accepted answers to one prompt, by position.
struct Prompt<'a> {
    packaged: &'a Packaged<'a>,
    answers: Vec<usize>,
}

struct Prompts;

impl Prompts {
    /// Prompts in the order of their first answers.
    fn of<'a>(packaged: &'a Packaged<'a>) -> impl Iterator<Item = Prompt<'a>> {
        let mut prompts: Vec<Vec<usize>> = Vec::new();
        let mut known = HashMap::new();
        for (position, item) in packaged.items.iter().enumerate() {
            if packaged.kept[position].is_none() {
                continue;
            }
            let Some((_, asked)) = item.messages.split_last() else { continue };
            let prompt = *known.entry(asked).or_insert_with(|| {
                prompts.push(Vec::new());
                prompts.len() - 1
            });
            prompts[prompt].push(position);
        }
        prompts.into_iter().map(move |answers| Prompt { packaged, answers })
    }
}

impl Prompt<'_> {
    fn pair(
        &self,
        scores: &HashMap<String, f64>,
        worse: &HashMap<Vec<ChatMessage>, Vec<&Row>>,
        min_margin: f64,
    ) -> Option<Preference> {
        let items = self.packaged.items;
        let edited = self.answers.iter().copied().find(|&position| items[position].original.is_some());
        // Judges have seen what stood there before an edit.
        let score = |position: usize| match items[position].original {
            Some(_) => None,
            None => scores.get(&items[position].id).copied(),
        };
        // The first of equals stays.
        let best = edited.or_else(|| {
            self.answers.iter().copied().reduce(|best, next| {
                if score(next).unwrap_or(f64::MIN) > score(best).unwrap_or(f64::MIN) { next } else { best }
            })
        })?;
        let item = &items[best];
        let (chosen, prompt) = item.messages.split_last()?;
        let pair = |rejected: &str, rejected_score, because: &str| Preference {
            split: self.packaged.kept[best].unwrap_or(Split::Train),
            id: item.id.clone(),
            prompt: prompt.to_vec(),
            chosen: chosen.content.clone(),
            rejected: rejected.to_owned(),
            chosen_score: score(best),
            rejected_score,
            because: because.to_owned(),
        };
        if let Some(original) = item.original.as_ref().filter(|original| **original != chosen.content) {
            return Some(pair(original, scores.get(&item.id).copied(), EDIT));
        }
        let least = self
            .answers
            .iter()
            .filter_map(|&position| Some((position, score(position)?)))
            .min_by(|one, other| one.1.total_cmp(&other.1));
        if let (Some(best_score), Some((least, least_score))) = (score(best), least)
            && best_score - least_score >= min_margin
            && best_score > least_score
        {
            let text = &items[least].messages.last()?.content;
            return Some(pair(text, Some(least_score), JUDGE));
        }
        let rejects = worse.get(prompt)?;
        let reject = rejects.iter().find(|row| Answer::of(row).output != chosen.content)?;
        let id = table::cell(reject, columns::ID).unwrap_or_default();
        let gate = table::cell(reject, columns::REJECTION_GATE).unwrap_or_default();
        Some(pair(Answer::of(reject).output, scores.get(&id).copied(), &gate))
    }
}
