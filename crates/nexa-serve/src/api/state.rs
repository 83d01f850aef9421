//! What handlers know: the door, which is there from the beginning, and the model behind it once it is loaded.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::request::Parts;
use nexa_core::guard::Guard;
use nexa_core::hosts::AllowedHosts;
use nexa_core::lm::Sampling;

use super::adapters::{self, Adapters};
use super::cors::Origin;
use super::deadline::Deadline;
use super::error::ApiError;
use super::fields::Fields;
use super::guard;
use crate::keys::Keys;
use crate::vllm::Upstream;
use crate::{About, Answer, Engine, Error, Loaded, Prompt, ServerConfig};

/// Hex digits of the weights' hash in `system_fingerprint`.
const FINGERPRINT_DIGITS: usize = 12;

/// A server, whether its model is loaded or not.
pub(crate) struct Door {
    pub(super) keys: Keys,
    /// The hosts that requests may name where no key is asked for.
    pub(super) hosts: AllowedHosts,
    pub(super) origins: Vec<Origin>,
    pub(super) max_body_bytes: usize,
    pub(super) read_timeout: Duration,
    times: Times,
    aliases: Vec<String>,
    lora_folder: Option<PathBuf>,
    guard: Option<Arc<dyn Guard>>,
    served: OnceLock<Arc<Served>>,
    /// What answers in place of a model of our own.
    upstream: OnceLock<Arc<Upstream>>,
    closing: AtomicBool,
}

impl Door {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        Self {
            keys: Keys::new(&config.api_keys),
            hosts: AllowedHosts::new(&config.host),
            origins: config.cors_origins.clone(),
            max_body_bytes: config.max_body_bytes,
            read_timeout: config.read_timeout,
            times: Times { request: config.request_timeout, keep_alive: config.keep_alive },
            aliases: config.aliases.clone(),
            lora_folder: config.lora_folder.clone(),
            guard: config.guard.clone(),
            served: OnceLock::new(),
            upstream: OnceLock::new(),
            closing: AtomicBool::new(false),
        }
    }

    /// Lets requests through to a model. Only the first that is given counts.
    pub(crate) fn open(&self, loaded: Loaded) {
        self.served.get_or_init(|| Arc::new(self.serve(loaded)));
    }

    fn serve(&self, mut loaded: Loaded) -> Served {
        let adapters = Adapters::new(std::mem::take(&mut loaded.adapters), self.lora_folder.clone());
        Served::new(loaded, adapters, self)
    }

    /// Lets requests through to another engine. Only the first that is given counts.
    pub(crate) fn open_upstream(&self, upstream: Arc<Upstream>) {
        self.upstream.get_or_init(|| upstream);
    }

    /// The other engine, if it answers.
    pub(super) fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.upstream.get()
    }

    /// What headers carry of the model, whoever answers for it.
    pub(super) fn manifest(&self) -> Option<HeaderValue> {
        let own = self.served.get().and_then(|served| served.manifest.clone());
        own.or_else(|| self.upstream.get().and_then(|upstream| upstream.manifest.clone()))
    }

    /// When a request that has come now must have been answered.
    pub(super) fn deadline(&self) -> Deadline {
        self.times.deadline()
    }

    /// Lets no more requests through, and gives the engine that ends what was let through.
    pub(crate) fn close(&self) -> Option<Engine> {
        self.closing.store(true, Ordering::Relaxed);
        self.served.get().map(|served| served.engine.clone())
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Whether anybody may use the API.
    pub(super) fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    /// The model, if it is loaded.
    pub(super) fn model(&self) -> Option<&Arc<Served>> {
        self.served.get()
    }
}

/// What the answers of a model keep to.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// How long one may take.
    request: Option<Duration>,
    /// How long a stream may be silent.
    keep_alive: Duration,
}

impl Times {
    fn deadline(self) -> Deadline {
        Deadline::of(self.request)
    }
}

/// The model of a request. Requests that come before it is loaded are refused.
pub(super) struct Model(pub(super) Arc<Served>);

impl FromRequestParts<Arc<Door>> for Model {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, door: &Arc<Door>) -> Result<Self, ApiError> {
        match door.model() {
            Some(served) => Ok(Self(Arc::clone(served))),
            None if door.is_closing() => Err(ApiError::shutting_down()),
            None => Err(ApiError::loading()),
        }
    }
}

/// A model that is served.
pub(super) struct Served {
    pub(super) engine: Engine,
    pub(super) about: About,
    /// The model's own name first, then its aliases.
    pub(super) names: Vec<String>,
    pub(super) adapters: Adapters,
    /// Seconds since 1970 when the model was loaded.
    pub(super) started: u64,
    /// What bodies carry: the id of the checkpoint's manifest, else the beginning of the weights' hash.
    pub(super) fingerprint: String,
    /// What headers carry: the id of the checkpoint's manifest, where it has one.
    pub(super) manifest: Option<HeaderValue>,
    /// What prompts and answers are held against.
    guard: Option<Arc<dyn Guard>>,
    times: Times,
}

impl Served {
    fn new(loaded: Loaded, adapters: Adapters, door: &Door) -> Self {
        let Loaded { engine, about, .. } = loaded;
        let info = engine.info();
        let mut names = vec![info.name.clone()];
        for alias in &door.aliases {
            if !names.contains(alias) {
                names.push(alias.clone());
            }
        }
        let manifest = about.manifest.as_ref().map(ToString::to_string);
        let of_weights = || {
            let digits = info.weights_hash.rsplit(':').next().unwrap_or_default();
            format!("fp_{}", digits.chars().take(FINGERPRINT_DIGITS).collect::<String>())
        };
        Self {
            names,
            started: unix_seconds(),
            manifest: manifest.as_deref().and_then(|id| HeaderValue::from_str(id).ok()),
            fingerprint: manifest.unwrap_or_else(of_weights),
            about,
            adapters,
            guard: door.guard.clone(),
            times: door.times,
            engine,
        }
    }

    /// The model that a request asks for, or one of its adapters; one that names none means the model that there is.
    pub(super) fn target(&self, named: Named) -> Result<Target, ApiError> {
        let Named { name, generation } = named;
        let name = name.unwrap_or_else(|| self.names[0].clone());
        if let Some(adapter) = self.adapters.get(&name) {
            adapters::check_generation(&name, adapter.generation, generation)?;
            let fingerprint = format!("{}+{name}#{}", self.fingerprint, adapter.generation);
            return Ok(Target { name, fingerprint, engine: self.engine.with_adapter(adapter) });
        }
        let name = self.model(Some(name))?;
        if generation.is_some() {
            let message = format!("`lora_generation` is for adapters, but `{name}` is the model itself");
            return Err(ApiError::bad_param("lora_generation", message));
        }
        Ok(Target { name, fingerprint: self.fingerprint.clone(), engine: self.engine.clone() })
    }

    /// The name of the model that a request asks for, where it can be asked of no adapter.
    pub(super) fn model(&self, named: Option<String>) -> Result<String, ApiError> {
        match named {
            None => Ok(self.names[0].clone()),
            Some(name) if self.names.contains(&name) => Ok(name),
            Some(name) if self.adapters.get(&name).is_some() => {
                Err(ApiError::adapter_unused(&name, &self.names[0]))
            }
            Some(name) => Err(ApiError::no_model(&name)),
        }
    }

    /// When a request that has come now must have been answered.
    pub(super) fn deadline(&self) -> Deadline {
        self.times.deadline()
    }

    /// How long a stream may be silent before a comment keeps proxies from closing it.
    pub(super) fn keep_alive(&self) -> Duration {
        self.times.keep_alive
    }

    /// Hands a prompt to the engine, off the threads that serve connections: tokenising a long text takes a while.
    pub(super) async fn submit(
        self: &Arc<Self>,
        engine: &Engine,
        prompt: Prompt,
        sampling: Sampling,
    ) -> Result<Answer, Error> {
        let engine = engine.clone();
        self.blocking(move |served| {
            let Some(rules) = &served.guard else { return engine.submit(&prompt, sampling) };
            guard::check_sampling(&sampling)?;
            let prompt = guard::check(rules.as_ref(), prompt, engine.tokenizer().as_ref())?;
            Ok(engine.submit(&prompt, sampling)?.guarded(Arc::clone(rules)))
        })
        .await
    }

    /// Does work on a thread where it may take its time.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let served = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&served)).await.unwrap_or_else(|panic| {
            Err(nexa_core::lm::Error::Failed {
                model: self.names[0].clone(),
                message: format!("work for a request failed: {panic}"),
            }
            .into())
        })
    }
}

/// What a request calls the model that it asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: Option<String>,
    /// The loading of the adapter that the request expects.
    pub(super) generation: Option<u64>,
}

impl Named {
    /// Takes `model` and `lora_generation`.
    pub(super) fn take(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self { name: fields.string("model")?, generation: adapters::take_generation(fields)? })
    }
}

/// What a request is answered by.
pub(super) struct Target {
    pub(super) name: String,
    /// What bodies carry.
    pub(super) fingerprint: String,
    pub(super) engine: Engine,
}

/// Seconds since 1970.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
