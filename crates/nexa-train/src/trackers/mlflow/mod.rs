//! A run on an MLflow server.
//!
//! A run is found again by its tag `nexa.run_id`, so that a call whose answer was lost makes no second one. The server
//! keeps one point for equal metric, step, time and value; rows keep their times, so sending a batch again adds
//! nothing. An attempt begins by asking for the last step of each metric, because the one before may have been killed
//! before it heard that its last batch had arrived. What is left is a batch that the server takes in only after that
//! question: where its steps were also cut off the logs and trained again, they get a second point of the same value.
//!
//! # Source
//! The REST API 2.0 of MLflow (`mlflow/protos/service.proto`), and what a server of version 3.17 answers.

mod api;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use nexa_core::env::Environment;
use nexa_core::run::Status;
use serde_json::{Value, json};

use self::api::{Api, Refusal};
use super::{Begun, Failure, MlflowConfig, Row, RunFacts, Tracker};

/// Metrics and parameters that one `log-batch` takes.
const METRICS_PER_CALL: usize = 1000;
const PARAMS_PER_CALL: usize = 100;
/// Bytes of the keys, parameters and tags that servers since 2.8 take.
const KEY_BYTES: usize = 250;
const PARAM_BYTES: usize = 6000;
const TAG_BYTES: usize = 5000;

/// Sends rows to a server.
pub(super) struct Mlflow {
    api: Api,
    experiment: String,
    run_id: String,
}

/// Checks the address of a server and says what is wrong with it.
pub(super) fn check_uri(uri: &str) -> Result<(), String> {
    api::base_url(uri).map(drop)
}

impl Mlflow {
    /// Reads what the configuration leaves to the environment.
    pub(super) fn new(
        config: &MlflowConfig,
        facts: &RunFacts,
        environment: &Environment,
    ) -> Result<Self, String> {
        let variable =
            |name| environment.get(name).map(|value: nexa_core::env::Secret| value.expose().to_owned());
        let uri = config.tracking_uri.clone().or_else(|| variable("MLFLOW_TRACKING_URI"));
        let uri = uri.ok_or("no address: set `mlflow.tracking_uri` or MLFLOW_TRACKING_URI")?;
        let named = config.experiment_name.clone().or_else(|| variable("MLFLOW_EXPERIMENT_NAME"));
        Ok(Self {
            api: Api::new(&uri, environment)?,
            experiment: named.unwrap_or_else(|| facts.project.clone()),
            run_id: String::new(),
        })
    }

    /// The experiment of the configured name, made where it does not exist.
    fn experiment_id(&self) -> Result<String, Failure> {
        let find = || self.api.get("experiments/get-by-name", &[("experiment_name", &self.experiment)]);
        let reply = match find()? {
            Err(refusal) if refusal.code == "RESOURCE_DOES_NOT_EXIST" => {
                match self.api.post("experiments/create", &json!({"name": self.experiment}))? {
                    // Somebody else was quicker.
                    Err(refusal) if refusal.code == "RESOURCE_ALREADY_EXISTS" => find()??,
                    created => return text(&created?, "/experiment_id"),
                }
            }
            found => found?,
        };
        if reply.pointer("/experiment/lifecycle_stage").and_then(Value::as_str) == Some("deleted") {
            return Err(Failure::Refused(format!(
                "the experiment `{}` is deleted on the server",
                self.experiment
            )));
        }
        text(&reply, "/experiment/experiment_id")
    }

    /// The run of these facts where an earlier call made it.
    fn find_run(&self, experiment_id: &str, facts: &RunFacts) -> Result<Option<String>, Failure> {
        let filter = format!("tags.`nexa.run_id` = '{}'", facts.id);
        let search = json!({"experiment_ids": [experiment_id], "filter": filter, "max_results": 1});
        let reply = self.api.post("runs/search", &search)??;
        Ok(reply.pointer("/runs/0/info/run_id").and_then(Value::as_str).map(str::to_owned))
    }

    /// The last step of each metric that the server has. Steps are sent in their order, so it has those before too.
    fn last_steps(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let reply = self.api.get("runs/get", &[("run_id", &self.run_id)])??;
        let metrics = reply.pointer("/run/data/metrics").and_then(Value::as_array);
        let last = |metric: &Value| Some((metric["key"].as_str()?.to_owned(), number(&metric["step"])?));
        Ok(metrics.into_iter().flatten().filter_map(last).collect())
    }

    fn create_run(&self, experiment_id: &str, facts: &RunFacts) -> Result<String, Failure> {
        let mut tags = vec![
            tag("nexa.run_id", &facts.id),
            tag("mlflow.source.name", "nexa"),
            tag("mlflow.source.type", "JOB"),
        ];
        if let Some(commit) = facts.tags.get("nexa.git.commit") {
            tags.push(tag("mlflow.source.git.commit", commit));
        }
        let others = facts.tags.iter().filter(|(key, _)| *key != "nexa.run_id");
        tags.extend(others.map(|(key, value)| tag(key, value)));
        let run = json!({
            "experiment_id": experiment_id,
            "run_name": facts.name,
            "start_time": facts.started_at.timestamp_millis(),
            "tags": tags,
        });
        text(&self.api.post("runs/create", &run)??, "/run/info/run_id")
    }

    /// Logs the parameters, and says what the server has against them: a run without them is better than none.
    fn log_params(&self, facts: &RunFacts) -> Result<Option<String>, Failure> {
        let params: Vec<Value> = facts
            .params
            .iter()
            .map(|(key, value)| json!({"key": name(key), "value": cut(value, PARAM_BYTES)}))
            .collect();
        for params in params.chunks(PARAMS_PER_CALL) {
            let batch = json!({"run_id": self.run_id, "params": params});
            match self.api.post("runs/log-batch", &batch)? {
                Err(Refusal { status: 400, message, .. }) => {
                    return Ok(Some(format!("parameters were not taken: {message}")));
                }
                reply => reply?,
            };
        }
        Ok(None)
    }
}

impl Tracker for Mlflow {
    fn name(&self) -> &'static str {
        "mlflow"
    }

    fn destination(&self) -> String {
        format!("{} {}", self.api.base(), self.experiment)
    }

    fn begin(&mut self, run: &RunFacts, known: Option<&str>) -> Result<Begun, Failure> {
        if let Some(known) = known {
            let update = json!({"run_id": known, "status": "RUNNING"});
            match self.api.post("runs/update", &update)? {
                // The server lost its database, or somebody removed the run.
                Err(refusal) if refusal.status == 404 => {}
                reply => {
                    reply?;
                    self.run_id = known.to_owned();
                    return Ok(Begun { remote: known.to_owned(), sent: self.last_steps()?, note: None });
                }
            }
        }
        let experiment_id = self.experiment_id()?;
        self.run_id = match self.find_run(&experiment_id, run)? {
            Some(found) => found,
            None => self.create_run(&experiment_id, run)?,
        };
        let note = self.log_params(run)?;
        Ok(Begun { remote: self.run_id.clone(), sent: self.last_steps()?, note })
    }

    fn rewind(&mut self, _step: u64) -> Result<Option<u64>, Failure> {
        Ok(None)
    }

    fn rows(&mut self, rows: &[Row]) -> Result<(), Failure> {
        let metrics: Vec<Value> = rows
            .iter()
            .flat_map(|row| {
                row.values.iter().map(|(key, value)| {
                    let key = name(key);
                    json!({"key": key, "value": value, "timestamp": row.time_ms, "step": row.step})
                })
            })
            .collect();
        for metrics in metrics.chunks(METRICS_PER_CALL) {
            self.api.post("runs/log-batch", &json!({"run_id": self.run_id, "metrics": metrics}))??;
        }
        Ok(())
    }

    fn end(&mut self, status: Status) -> Result<(), Failure> {
        let word = match status {
            Status::Running => "RUNNING",
            Status::Finished => "FINISHED",
            Status::Failed => "FAILED",
            Status::Interrupted => "KILLED",
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let update = json!({"run_id": self.run_id, "status": word, "end_time": now});
        self.api.post("runs/update", &update)??;
        Ok(())
    }
}

fn tag(key: &str, value: &str) -> Value {
    json!({"key": name(key), "value": cut(value, TAG_BYTES)})
}

/// A name that the server takes: letters, digits and `_ - . space : /`, not too many.
fn name(key: &str) -> String {
    let taken = |letter: char| letter.is_ascii_alphanumeric() || "_-. :/".contains(letter);
    key.chars().take(KEY_BYTES).map(|letter| if taken(letter) { letter } else { '_' }).collect()
}

/// The beginning of a text, at most `bytes` long.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// A whole number, which a server may write as a text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn text(reply: &Value, pointer: &str) -> Result<String, Failure> {
    let found = reply.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| Failure::Refused(format!("the server's answer has no `{pointer}`; is it MLflow?")))
}
