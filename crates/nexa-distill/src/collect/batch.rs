//! Collects by batches: hands the calls in, ends, and fetches the replies when the same command is run again.
//!
//! What was handed in stands in `batches.jsonl` of the run's folder, written before and after every step: a process that
//! is killed between uploading a file and hearing the name of its batch finds that batch by its file the next time. The
//! answers go the way of all answers, under the same keys.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use nexa_core::event::Event;
use nexa_core::files::{self, LineLog};
use nexa_core::hash::ContentHash;
use serde::{Deserialize, Serialize};

use super::collection::{Collection, Ended};
use super::journal::Calls;
use crate::client::{Batch, Client, Failure};
use crate::{Error, Result};

/// The most requests of a batch.
const MAX_REQUESTS: usize = 50_000;
/// The most bytes of a batch's file, with room for the limit of 200 MB to mean either kind of megabyte.
const MAX_BYTES: usize = 190_000_000;
/// The log of a run's batches.
const LOG: &str = "batches.jsonl";

/// What happened to a batch.
#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    /// A file with these calls is there, and about to be handed in.
    Uploaded { file: String, round: u32, first_call: u64, last_call: u64 },
    /// It was handed in as this batch.
    Created { file: String, batch: String },
    /// The replies of the batch are kept.
    Collected { file: String },
    /// The provider does not accept a request, and never will.
    Refused { key: ContentHash, message: String },
}

/// A file that was handed in, or is about to be.
#[derive(Debug, Clone)]
struct Pending {
    calls: Calls,
    batch: Option<String>,
}

/// The batches of a run.
pub(super) struct Batches {
    log: LineLog,
    pending: BTreeMap<String, Pending>,
    refused: HashMap<ContentHash, String>,
    /// How often what was left was handed in.
    round: u32,
}

impl Batches {
    /// Reads what earlier attempts left in a run's folder.
    pub(super) fn open(run_folder: &Path) -> Result<Self> {
        let path = run_folder.join(LOG);
        let (mut pending, mut refused, mut last_round) = (BTreeMap::new(), HashMap::new(), 0);
        for line in files::read_lines::<Line>(&path)? {
            match line {
                Line::Uploaded { file, round, first_call, last_call } => {
                    last_round = last_round.max(round);
                    let calls = Calls { first: first_call, last: last_call };
                    pending.insert(file, Pending { calls, batch: None });
                }
                Line::Created { file, batch } => {
                    if let Some(pending) = pending.get_mut(&file) {
                        pending.batch = Some(batch);
                    }
                }
                Line::Collected { file } => {
                    pending.remove(&file);
                }
                Line::Refused { key, message } => {
                    refused.insert(key, message);
                }
            }
        }
        Ok(Self { log: LineLog::open(&path)?, pending, refused, round: last_round })
    }

    /// Whether the provider has calls of this run.
    pub(super) fn are_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The calls that the provider has, which are not lost although no process waits for them.
    pub(super) fn calls(&self) -> Vec<Calls> {
        self.pending.values().map(|pending| pending.calls).collect()
    }

    /// Asks the provider to stop working on what it has, and returns the names of those batches.
    pub(super) async fn cancel(&mut self, client: &Client) -> Result<Vec<String>> {
        self.adopt(client).await?;
        let mut cancelled = Vec::new();
        for batch in self.pending.values().filter_map(|pending| pending.batch.as_ref()) {
            client.cancel_batch(batch).await.map_err(|failure| failed(client, &failure))?;
            cancelled.push(batch.clone());
        }
        Ok(cancelled)
    }

    /// Fetches what is ready, and hands in what is left, unless something is still being worked on.
    ///
    /// # Errors
    /// Fails with [`Error::BatchPending`] while the provider works, and as calls do.
    pub(super) async fn run(mut self, collection: &mut Collection<'_>, client: &Client) -> Result<()> {
        for job in collection.open() {
            if let Some(message) = self.refused.get(&collection.jobs[job].key) {
                collection.give_up(job, Failure::BadRequest(message.clone()));
            }
        }
        self.adopt(client).await?;
        let pending: Vec<(String, String)> = self
            .pending
            .iter()
            .filter_map(|(file, pending)| Some((file.clone(), pending.batch.clone()?)))
            .collect();
        for (file, batch) in pending {
            let batch = client.batch(&batch).await.map_err(|failure| failed(client, &failure))?;
            if batch.has_ended() {
                self.fetch(collection, client, &file, &batch).await?;
            }
        }
        if !self.are_pending() && !collection.open().is_empty() {
            if self.round > collection.work.config.max_retries {
                return Ok(());
            }
            self.hand_in(collection, client).await?;
        }
        if self.are_pending() {
            let batches = self.pending.values().filter_map(|pending| pending.batch.clone()).collect();
            let (done, total) = (collection.done(), collection.jobs.len());
            return Err(Error::BatchPending { batches, done, total });
        }
        Ok(())
    }

    /// Finds the batches of files whose handing in was cut off, or hands those files in.
    async fn adopt(&mut self, client: &Client) -> Result<()> {
        let nameless: Vec<String> =
            self.pending.iter().filter(|(_, p)| p.batch.is_none()).map(|(file, _)| file.clone()).collect();
        if nameless.is_empty() {
            return Ok(());
        }
        let known = client.batches().await.map_err(|failure| failed(client, &failure))?;
        for file in nameless {
            let batch = match known.iter().find(|batch| batch.input_file_id == file) {
                Some(batch) => batch.id.clone(),
                None => client.create_batch(&file).await.map_err(|failure| failed(client, &failure))?.id,
            };
            self.created(&file, batch)?;
        }
        Ok(())
    }

    fn created(&mut self, file: &str, batch: String) -> Result<()> {
        self.log.append(&Line::Created { file: file.to_owned(), batch: batch.clone() })?;
        self.log.sync()?;
        if let Some(pending) = self.pending.get_mut(file) {
            pending.batch = Some(batch);
        }
        Ok(())
    }

    /// Keeps the replies of a batch that has ended.
    async fn fetch(
        &mut self,
        collection: &mut Collection<'_>,
        client: &Client,
        file: &str,
        batch: &Batch,
    ) -> Result<()> {
        let Some(pending) = self.pending.get(file).cloned() else { return Ok(()) };
        let mut replies = Vec::new();
        for file in [&batch.output_file_id, &batch.error_file_id].into_iter().flatten() {
            replies.extend(client.replies(file).await.map_err(|failure| failed(client, &failure))?);
        }
        let jobs: HashMap<String, usize> =
            collection.open().into_iter().map(|job| (short(&collection.jobs[job].key), job)).collect();
        let mut ended = Vec::new();
        for reply in replies {
            // Whose answer is kept already was fetched before a kill.
            if let Some((call, job)) = address(&reply.custom_id, &jobs)
                && pending.calls.contains(call)
            {
                ended.push(Ended { job, call, result: reply.result });
            }
        }
        let replied: HashSet<u64> = ended.iter().map(|ended| ended.call).collect();
        for call in pending.calls.numbers().filter(|call| !replied.contains(call)) {
            // What has no reply was not worked on, and is not charged.
            collection.purse.not_billed(call)?;
        }
        for (job, failure) in collection.settle(ended)? {
            match failure {
                Some(failure) if failure.is_for_good() => self.refuse(collection, job, failure)?,
                Some(_) => collection.retries += 1,
                None => {}
            }
        }
        // From here on nobody asks for these replies again.
        collection.enter()?;
        self.log.append(&Line::Collected { file: file.to_owned() })?;
        self.log.sync()?;
        self.pending.remove(file);
        Ok(())
    }

    fn refuse(&mut self, collection: &mut Collection<'_>, job: usize, failure: Failure) -> Result<()> {
        let key = collection.jobs[job].key.clone();
        self.log.append(&Line::Refused { key, message: failure.message().to_owned() })?;
        collection.give_up(job, failure);
        Ok(())
    }

    /// Hands in the jobs that have not ended, in as many files as their limits ask for.
    async fn hand_in(&mut self, collection: &mut Collection<'_>, client: &Client) -> Result<()> {
        self.round += 1;
        let open = collection.open();
        let mut next = 0;
        while next < open.len() {
            let (mut lines, mut calls) = (String::new(), None::<Calls>);
            let mut requests = 0;
            while next < open.len() && requests < MAX_REQUESTS {
                let job = &collection.jobs[open[next]];
                let worst_case = collection.purse.worst_case(&job.request);
                if !collection.purse.allows(worst_case) {
                    let (done, total) = (collection.done(), collection.jobs.len());
                    if calls.is_none() && !self.are_pending() {
                        return Err(collection.purse.exceeded(worst_case, done, total));
                    }
                    // What fits is handed in; the rest has its turn once it is known what that cost.
                    next = open.len();
                    break;
                }
                let body = job.request.body(client.endpoint());
                let line = Client::batch_line(&custom_id(collection.purse.next_call(), &job.key), &body);
                if !lines.is_empty() && lines.len() + line.len() > MAX_BYTES {
                    break;
                }
                let call = collection.purse.promise(worst_case)?;
                calls = Some(calls.map_or(Calls { first: call, last: call }, |calls| calls.with(call)));
                lines.push_str(&line);
                requests += 1;
                next += 1;
            }
            if let Some(calls) = calls {
                self.send(collection, client, (&lines, calls)).await?;
            }
        }
        Ok(())
    }

    async fn send(
        &mut self,
        collection: &mut Collection<'_>,
        client: &Client,
        (lines, calls): (&str, Calls),
    ) -> Result<()> {
        collection.purse.sync()?;
        let uploaded = client.upload(lines).await;
        let file = match uploaded {
            Ok(file) => file,
            Err(failure) => {
                // A file alone costs nothing.
                calls.numbers().try_for_each(|call| collection.purse.not_billed(call))?;
                return Err(failed(client, &failure));
            }
        };
        let Calls { first, last } = calls;
        let round = self.round;
        self.log.append(&Line::Uploaded { file: file.clone(), round, first_call: first, last_call: last })?;
        self.log.sync()?;
        self.pending.insert(file.clone(), Pending { calls, batch: None });
        let batch = client.create_batch(&file).await.map_err(|failure| failed(client, &failure))?;
        let told = format!("handed in {} calls as `{}`", last - first + 1, batch.id);
        collection.work.context.emit(Event::info(told));
        self.created(&file, batch.id)
    }
}

/// The error of a failure that is not about one request.
fn failed(client: &Client, failure: &Failure) -> Error {
    let endpoint = client.endpoint().base_url.clone();
    Error::BatchFailed { endpoint, kind: failure.kind(), message: failure.message().to_owned() }
}

/// The name of a request in its file: the call, and what tells its job.
fn custom_id(call: u64, key: &ContentHash) -> String {
    format!("{call}-{}", short(key))
}

/// The call and the job that a name in a file means.
fn address(custom_id: &str, jobs: &HashMap<String, usize>) -> Option<(u64, usize)> {
    let (call, key) = custom_id.split_once('-')?;
    Some((call.parse().ok()?, *jobs.get(key)?))
}

/// So much of a key that no two of a collection share it.
fn short(key: &ContentHash) -> String {
    key.as_str().trim_start_matches("blake3:").chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_call_and_job() {
        let key = ContentHash::of_bytes(b"request");
        let jobs = HashMap::from([(short(&key), 7)]);
        assert_eq!(address(&custom_id(12, &key), &jobs), Some((12, 7)));
        let check = |name: &str| assert_eq!(address(name, &jobs), None, "{name}");
        check("12-00");
        check(&format!("x-{}", short(&key)));
        check("12");
    }

    #[test]
    fn the_log_tells_what_is_pending() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LineLog::open(&folder.path().join(LOG)).unwrap();
        let uploaded = |file: &str, round, first_call, last_call| Line::Uploaded {
            file: file.to_owned(),
            round,
            first_call,
            last_call,
        };
        log.append(&uploaded("a", 1, 1, 3)).unwrap();
        log.append(&Line::Created { file: "a".to_owned(), batch: "batch_a".to_owned() }).unwrap();
        log.append(&uploaded("b", 2, 4, 5)).unwrap();
        log.append(&Line::Collected { file: "a".to_owned() }).unwrap();
        let batches = Batches::open(folder.path()).unwrap();
        assert_eq!((batches.calls(), batches.round), (vec![Calls { first: 4, last: 5 }], 2));
        assert!(batches.pending["b"].batch.is_none());
    }
}
