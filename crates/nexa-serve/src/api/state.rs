//! What every handler knows: the engine, its names and who may use it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nexa_core::hash::ContentHash;
use nexa_core::hosts::AllowedHosts;
use nexa_core::lm::Sampling;

use super::error::ApiError;
use super::fields::Fields;
use crate::{Answer, Engine, Error, Prompt, ServerConfig};

/// Hex digits of the weights' hash in `system_fingerprint`.
const FINGERPRINT_DIGITS: usize = 12;

/// A model that is served.
pub(super) struct Served {
    pub(super) engine: Engine,
    /// The model's own name first, then its aliases.
    pub(super) names: Vec<String>,
    pub(super) checkpoint_path: Option<PathBuf>,
    /// Seconds since 1970 when the server started.
    pub(super) started: u64,
    pub(super) fingerprint: String,
    pub(super) max_body_bytes: usize,
    /// The hosts that requests may name where no key is asked for.
    pub(super) hosts: AllowedHosts,
    keys: Vec<ContentHash>,
}

impl Served {
    pub(super) fn new(engine: Engine, config: &ServerConfig) -> Self {
        let info = engine.info();
        let digits = info.weights_hash.rsplit(':').next().unwrap_or_default();
        let mut names = vec![info.name.clone()];
        for alias in &config.aliases {
            if !names.contains(alias) {
                names.push(alias.clone());
            }
        }
        Self {
            names,
            checkpoint_path: config.checkpoint_path.clone(),
            started: unix_seconds(),
            fingerprint: format!("fp_{}", digits.chars().take(FINGERPRINT_DIGITS).collect::<String>()),
            max_body_bytes: config.max_body_bytes,
            hosts: AllowedHosts::new(&config.host),
            keys: config.api_keys.iter().map(|key| ContentHash::of_bytes(key.expose().as_bytes())).collect(),
            engine,
        }
    }

    /// Takes `model`; a request without one means the model that there is.
    pub(super) fn take_model(&self, fields: &mut Fields) -> Result<String, ApiError> {
        match fields.string("model")? {
            None => Ok(self.names[0].clone()),
            Some(name) if self.names.contains(&name) => Ok(name),
            Some(name) => Err(ApiError::no_model(&name)),
        }
    }

    /// Hands a prompt to the engine, off the threads that serve connections: tokenising a long text takes a while.
    pub(super) async fn submit(
        self: &Arc<Self>,
        prompt: Prompt,
        sampling: Sampling,
    ) -> Result<Answer, Error> {
        let served = Arc::clone(self);
        let submitted = tokio::task::spawn_blocking(move || served.engine.submit(&prompt, sampling)).await;
        submitted.unwrap_or_else(|panic| {
            Err(nexa_core::lm::Error::Failed {
                model: self.names[0].clone(),
                message: format!("the tokenizer failed: {panic}"),
            }
            .into())
        })
    }

    /// Whether anybody may use the API.
    pub(super) fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key is one of ours. Hashes are compared, each to its end, so that the time tells nothing about a key.
    pub(super) fn accepts(&self, key: &str) -> bool {
        let given = ContentHash::of_bytes(key.as_bytes());
        self.keys.iter().fold(false, |accepted, known| accepted | equal_in_constant_time(known, &given))
    }
}

fn equal_in_constant_time(one: &ContentHash, other: &ContentHash) -> bool {
    let bytes = one.as_str().bytes().zip(other.as_str().bytes());
    std::hint::black_box(bytes.fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

/// Seconds since 1970.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
