//! Asks a teacher on behalf of another stage: the same calls, log of answers, budget and ledger as in a collection.

use std::path::Path;
use std::time::Duration;

use nexa_core::stage::Context;
use nexa_core::table::Row;

use super::driver::{Driver, Work};
use super::job::Jobs;
use super::log::ResponseLog;
use super::money::Purse;
use super::{Collect, Source};
use crate::Result;
use crate::client::{Answer, Client, Failure};

/// What came of one prompt, in one sample.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The position of the prompt.
    pub(crate) row: usize,
    /// Which of several samples this is.
    pub(crate) sample_index: u32,
    /// The answer, or why there will be none.
    pub(crate) answer: Result<Answer, Failure>,
}

impl Collect {
    /// Asks about every prompt, and returns what came of each sample, in the order of the prompts.
    ///
    /// # Errors
    /// As in a collection; what was answered is kept for the next attempt.
    pub(crate) fn ask(&self, context: &Context<'_>, prompts: &[Row], place: &Path) -> Result<Vec<Asked>> {
        let Self { config, teacher, source } = self;
        let jobs = Jobs::new(prompts, config, place)?;
        let (embedded, base_url) = match source {
            Source::BaseUrl(base_url) => (None, base_url.clone()),
            Source::EmbeddedVersion(_) => {
                let embedded = self.start_embedded()?;
                let base_url = embedded.base_url();
                (Some(embedded), base_url)
            }
        };
        let endpoint = teacher.endpoint(context.services.environment, &base_url)?;
        let log = ResponseLog::open(context, &self.log_place(), &teacher.to_string())?;
        let purse = Purse::open(context, config, &endpoint, log.paid())?;
        let client = Client::new(endpoint, Duration::from_secs(config.timeout_s))?;
        let results = Driver::new(Work { context, config, teacher, jobs: &jobs }, log, purse).run(&client)?;
        drop(embedded);
        results.require_settled(teacher)?;
        let asked = jobs.places().iter().map(|place| Asked {
            row: place.row,
            sample_index: place.sample_index,
            answer: results.of(place.job).cloned(),
        });
        Ok(asked.collect())
    }
}
