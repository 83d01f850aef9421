//! The calls that are to be made: one for each different request, whatever the rows that want its answer.

use std::collections::HashMap;
use std::path::Path;

use nexa_core::columns;
use nexa_core::hash::ContentHash;
use nexa_core::lm::{ChatMessage, Role};
use nexa_core::table::Row;

use super::Config;
use crate::client::Request;
use crate::{Result, table};

/// A call.
#[derive(Debug)]
pub(super) struct Job {
    /// The hash of the request, under which its answer is kept.
    pub(super) key: ContentHash,
    pub(super) request: Request,
}

/// A row and a sample that want the answer of a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) row: usize,
    pub(super) sample_index: u32,
    pub(super) job: usize,
}

/// All calls, and who wants them.
#[derive(Debug)]
pub(super) struct Jobs {
    jobs: Vec<Job>,
    places: Vec<Place>,
}

impl Jobs {
    /// Makes the calls of a table of inputs. Rows whose requests are equal share one.
    pub(super) fn new(rows: &[Row], config: &Config, place: &Path) -> Result<Self> {
        let mut jobs: Vec<Job> = Vec::new();
        let mut places = Vec::new();
        let mut known: HashMap<ContentHash, usize> = HashMap::new();
        for (row_index, row) in rows.iter().enumerate() {
            let prompt = table::filled(row, columns::USER_PROMPT, place)?;
            let system =
                table::cell(row, columns::SYSTEM_PROMPT).map(|text| ChatMessage::new(Role::System, text));
            let messages: Vec<_> = system.into_iter().chain([ChatMessage::new(Role::User, prompt)]).collect();
            for sample_index in 0..config.samples_per_prompt {
                let request = Request {
                    messages: messages.clone(),
                    temperature: config.temperature,
                    top_p: config.top_p,
                    max_tokens: config.max_tokens,
                    seed: config.seed.wrapping_add(u64::from(sample_index)),
                    sample_index,
                };
                let key = ContentHash::of_json(&serde_json::json!(request));
                let job = *known.entry(key.clone()).or_insert_with(|| {
                    jobs.push(Job { key, request });
                    jobs.len() - 1
                });
                places.push(Place { row: row_index, sample_index, job });
            }
        }
        Ok(Self { jobs, places })
    }

    pub(super) fn all(&self) -> &[Job] {
        &self.jobs
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }
}
