//! vLLM as the engine: started on a folder, and stood before with the same keys, limits and metrics.
//!
//! vLLM runs as a process of its own, on a loopback port that nobody else is told of, with a key that nobody else has. What
//! is asked of this server is passed on to it (`api::proxy`), so that whoever asks cannot tell the engines apart but by what
//! they can do. A client that goes away takes its request with it; when this server is asked to stop, running requests may
//! end before vLLM is.

mod process;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;

use nexa_core::event::Cancel;
use tokio::time::timeout;

use crate::api::{self, Door};
use crate::serve::{Listening, cancelled, in_runtime};
use crate::{About, Error, Life, ServerConfig};

use self::process::Process;
pub(crate) use self::upstream::Upstream;

/// The API key of the process, in its environment: arguments can be seen by everybody.
const KEY_VARIABLE: &str = "VLLM_API_KEY";

/// What is started, and how much it is given at once.
#[derive(Debug, Clone)]
pub struct VllmConfig {
    /// The program: a path, or a name that is looked for in `PATH`.
    pub command: PathBuf,
    /// The folder of the model, in the form of `transformers`.
    pub model: PathBuf,
    /// The name under which it is served.
    pub name: String,
    /// Further arguments of `vllm serve`.
    pub arguments: Vec<String>,
    /// Requests that may be under way; further ones are refused with 429.
    pub max_in_flight: usize,
}

/// Starts vLLM and serves what it answers until `cancel` is set, on a runtime of its own. See [`run`].
///
/// # Errors
/// As [`run`], and when the system gives no threads.
pub fn serve(
    vllm: VllmConfig,
    about: About,
    config: &ServerConfig,
    tell: impl FnMut(Life),
    cancel: &Cancel,
) -> Result<(), Error> {
    in_runtime(run(vllm, about, config, tell, cancelled(cancel)))
}

/// Binds the address, starts vLLM, and passes on to it what is asked until `shutdown` completes.
///
/// Until vLLM answers, and once more after `shutdown` while running requests end, new ones get 503. Requests that are
/// unfinished after `drain_timeout` are cut off. The process has ended when this returns.
///
/// # Errors
/// Fails when the address would be open to others without a key, when it cannot be had, when the program cannot be started,
/// or when it ends by itself.
pub async fn run(
    vllm: VllmConfig,
    about: About,
    config: &ServerConfig,
    mut tell: impl FnMut(Life),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let door = Arc::new(Door::new(config));
    let listening = Listening::begin(config, api::proxy_router(Arc::clone(&door))).await?;
    let address = listening.address;
    tell(Life::Listening(address));

    let names: Vec<String> = std::iter::once(&vllm.name).chain(&config.aliases).cloned().collect();
    let mut process = Process::start(&vllm, &names)?;
    let upstream = Arc::new(Upstream::new(&process, names, vllm.max_in_flight, about)?);
    let life = async {
        loop {
            if let Some(ended) = process.ended()? {
                return Err(ended);
            }
            if upstream.is_healthy().await {
                break;
            }
            process.pause().await;
        }
        door.open_upstream(Arc::clone(&upstream));
        tracing::info!(%address, model = vllm.name, "serving through vLLM");
        tell(Life::Ready(address));
        loop {
            if let Some(ended) = process.ended()? {
                return Err(ended);
            }
            process.pause().await;
        }
    };
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        ended = life => ended,
    };

    door.close();
    if outcome.is_ok() && timeout(config.drain_timeout, upstream.idle()).await.is_err() {
        tracing::warn!(timeout = ?config.drain_timeout, "requests were cut off by the shutdown");
    }
    process.stop().await;
    listening.end().await;
    outcome
}
