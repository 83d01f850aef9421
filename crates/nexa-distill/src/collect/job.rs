//! The calls that are to be made: one for each different request, whatever the rows that want its answer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use nexa_core::columns;
use nexa_core::hash::ContentHash;
use nexa_core::lm::{ChatMessage, Role};
use nexa_core::table::Row;

use super::Config;
use crate::client::{Request, Sampling};
use crate::{Result, conversation, table};

/// A call.
#[derive(Debug)]
pub(super) struct Job {
    /// The hash of the request, under which its answer is kept.
    pub(super) key: ContentHash,
    pub(super) request: Request,
}

impl Job {
    pub(super) fn new(request: Request) -> Self {
        Self { key: request.key(), request }
    }
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
    pub(super) jobs: Vec<Job>,
    pub(super) places: Vec<Place>,
}

impl Jobs {
    /// Makes the calls of a table of inputs. Rows whose requests are equal share one.
    pub(super) fn new(rows: &[Row], config: &Config, sampling: &Arc<Sampling>, place: &Path) -> Result<Self> {
        let mut requests = Vec::new();
        for (row_index, row) in rows.iter().enumerate() {
            let messages = asked(row, place)?;
            for sample_index in 0..config.samples_per_prompt {
                let request = Request {
                    messages: messages.clone(),
                    sampling: Arc::clone(sampling),
                    max_tokens: config.max_tokens,
                    seed: config.seed.wrapping_add(u64::from(sample_index)),
                    sample_index,
                    repeats: 0,
                };
                requests.push((row_index, request));
            }
        }
        Ok(Self::of_rows(requests))
    }

    /// Makes the calls of some requests, each of which stands for a row of its own. Equal ones share a call.
    pub(super) fn of(requests: Vec<Request>) -> Self {
        Self::of_rows(requests.into_iter().enumerate())
    }

    fn of_rows(requests: impl IntoIterator<Item = (usize, Request)>) -> Self {
        let mut jobs: Vec<Job> = Vec::new();
        let mut known: HashMap<ContentHash, usize> = HashMap::new();
        let place = |(row, request): (usize, Request)| {
            let sample_index = request.sample_index;
            let job = Job::new(request);
            let job = *known.entry(job.key.clone()).or_insert_with(|| {
                jobs.push(job);
                jobs.len() - 1
            });
            Place { row, sample_index, job }
        };
        let places = requests.into_iter().map(place).collect();
        Self { jobs, places }
    }
}

/// What is asked for a row: its `messages` where it has some, else its system prompt and its prompt.
fn asked(row: &Row, place: &Path) -> Result<Vec<ChatMessage>> {
    let turns = conversation::turns(row).map_err(|message| {
        let id = table::cell(row, columns::ID).unwrap_or_default();
        nexa_core::Error::malformed(place, format!("row `{id}`: {message}"))
    })?;
    let turns = match turns {
        Some(turns) => turns,
        None => vec![ChatMessage::new(Role::User, table::filled(row, columns::USER_PROMPT, place)?)],
    };
    let system_prompt = table::cell(row, columns::SYSTEM_PROMPT);
    Ok(conversation::after(system_prompt.as_deref(), turns))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_row_is_asked_as_a_prompt_or_as_a_conversation() {
        let check = |row: Value, expected: Result<&str, &str>| {
            let found = asked(row.as_object().unwrap(), Path::new("data")).map(|turns| {
                let turns: Vec<_> =
                    turns.iter().map(|turn| format!("{}={}", turn.role.as_str(), turn.content)).collect();
                turns.join(" ")
            });
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (found, _) => panic!("{found:?}"),
            }
        };
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        check(json!({"user_prompt": "a"}), Ok("user=a"));
        check(json!({"user_prompt": "a", "system_prompt": "s", "messages": null}), Ok("system=s user=a"));
        let talk = json!([turn("user", "a"), turn("assistant", "b"), turn("user", "c")]);
        check(json!({"messages": talk, "system_prompt": "s"}), Ok("system=s user=a assistant=b user=c"));
        check(json!({"messages": talk.to_string()}), Ok("user=a assistant=b user=c"));
        let answered = json!([turn("system", "t"), turn("user", "a"), turn("assistant", "b")]);
        check(json!({"messages": answered, "system_prompt": "s"}), Ok("system=t user=a"));
        check(json!({"id": "r1", "messages": [turn("assistant", "b")]}), Err("row `r1`: column `messages`"));
        check(json!({"messages": [{"role": "robot", "content": "b"}]}), Err("unknown variant"));
        check(json!({"id": "r1"}), Err("user_prompt"));
    }
}
