//! Asks a teacher on behalf of another stage: the same calls, log of answers, budget and ledger as in a collection.

use std::path::Path;

use nexa_core::stage::Context;
use nexa_core::table::Row;

use super::job::Jobs;
use super::{Begun, Collect};
use crate::Result;
use crate::client::{Answer, Request};

/// What came of one prompt, in one sample.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The position of the prompt.
    pub(crate) row: usize,
    /// Which of several samples this is.
    pub(crate) sample_index: u32,
    /// How often it was asked again.
    pub(crate) repeats: u32,
    /// The answer, or why there is none: a word and a sentence.
    pub(crate) answer: Result<Answer, (&'static str, String)>,
}

impl Collect {
    /// Asks about every prompt, and returns what came of each sample, in the order of the prompts.
    ///
    /// # Errors
    /// As in a collection; what was answered is kept for the next attempt.
    pub(crate) fn ask(&self, context: &Context<'_>, prompts: &[Row], place: &Path) -> Result<Vec<Asked>> {
        self.answers(context, self.begin(context, prompts, place)?)
    }

    /// Asks every one of some requests, each with its own sampling, and returns what came of each, in their order.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) fn ask_each(&self, context: &Context<'_>, requests: Vec<Request>) -> Result<Vec<Asked>> {
        self.answers(context, self.begin_jobs(context, Jobs::of(requests))?)
    }

    fn answers(&self, context: &Context<'_>, begun: Begun) -> Result<Vec<Asked>> {
        let (collection, places) = self.finish(context, begun)?;
        let asked = places.iter().map(|place| Asked {
            row: place.row,
            sample_index: place.sample_index,
            repeats: collection.repeats(place.job),
            answer: collection.answer(place.job).cloned(),
        });
        Ok(asked.collect())
    }
}
