//! The server's life: bind, answer, drain, end.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use nexa_core::env::Secret;
use nexa_core::event::Cancel;
use nexa_core::hosts;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::{Engine, Error, api};

/// How long replies may take to be written once the engine has ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the flag that asks to stop is looked at.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// Where and for whom a model is served.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// An address or a name of this machine.
    pub host: String,
    /// The port; 0 takes any free one.
    pub port: u16,
    /// Keys of which each request must bring one; without any, everybody on this machine may ask.
    pub api_keys: Vec<Secret>,
    /// How long running requests may take to end once the server is asked to stop.
    pub drain_timeout: Duration,
    /// Further names of the model.
    pub aliases: Vec<String>,
    /// Where the model came from, for `/model/info`.
    pub checkpoint_path: Option<PathBuf>,
    /// The largest body of a request.
    pub max_body_bytes: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8000,
            api_keys: Vec::new(),
            drain_timeout: Duration::from_secs(30),
            aliases: Vec::new(),
            checkpoint_path: None,
            max_body_bytes: 4 << 20,
        }
    }
}

/// Serves a model until `cancel` is set, on a runtime of its own. See [`run`].
///
/// # Errors
/// As [`run`], and when the system gives no threads.
pub fn serve(
    engine: Engine,
    config: &ServerConfig,
    on_ready: impl FnOnce(SocketAddr),
    cancel: &Cancel,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("nexa-serve")
        .build()
        .map_err(|source| Error::Start { what: "the server's runtime", source })?;
    let result = runtime.block_on(run(engine, config, on_ready, async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(CANCEL_POLL).await;
        }
    }));
    // Connections that did not close in time are cut.
    runtime.shutdown_background();
    result
}

/// Serves a model until `shutdown` completes.
///
/// `on_ready` is called with the address once requests are answered; `/health` is there before. After `shutdown`,
/// new requests get 503 while running ones end; what is unfinished after `drain_timeout` fails. The engine has ended
/// when this returns.
///
/// # Errors
/// Fails when the address would be open to others without a key, when it cannot be had, or when the engine stops because
/// its model panicked.
pub async fn run(
    engine: Engine,
    config: &ServerConfig,
    on_ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (listener, address) = bind(config).await?;
    let (close, closed) = oneshot::channel::<()>();
    let router = api::router(engine.clone(), config);
    let mut server = tokio::spawn(
        axum::serve(listener, router)
            .with_graceful_shutdown(async {
                // Either word or silence means that it is time.
                let _ = closed.await;
            })
            .into_future(),
    );

    let life = async {
        engine.ready().await?;
        tracing::info!(%address, model = engine.info().name, "serving");
        on_ready(address);
        engine.stopped().await
    };
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        ended = life => ended,
        served = &mut server => match served {
            Ok(Err(source)) => {
                Err(Error::Serve { host: config.host.clone(), port: config.port, source })
            }
            Ok(Ok(())) | Err(_) => Ok(()),
        },
    };

    engine.drain();
    if timeout(config.drain_timeout, engine.stopped()).await.is_err() {
        tracing::warn!(timeout = ?config.drain_timeout, "requests were cut off by the shutdown");
        engine.abort();
    }
    drop(close);
    if !server.is_finished() && timeout(CLOSE_TIMEOUT, &mut server).await.is_err() {
        server.abort();
    }
    outcome
}

/// Binds the address, unless it would be open to other machines without a key.
async fn bind(config: &ServerConfig) -> Result<(TcpListener, SocketAddr), Error> {
    let ServerConfig { host, port, .. } = config;
    let addresses = resolve(host).await?;
    if config.api_keys.is_empty() && !hosts::are_loopback(&addresses) {
        return Err(Error::Exposed { host: host.clone() });
    }
    let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect();
    let bound = async {
        let listener = TcpListener::bind(addresses.as_slice()).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| Error::Bind { host: host.clone(), port: *port, source })
}

async fn resolve(host: &str) -> Result<Vec<IpAddr>, Error> {
    let bare = hosts::without_brackets(host);
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    let unknown = |message: String| Error::Host { host: host.to_owned(), message };
    let found = tokio::net::lookup_host((bare, 0)).await.map_err(|error| unknown(error.to_string()))?;
    let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    if addresses.is_empty() { Err(unknown("it has no address".to_owned())) } else { Ok(addresses) }
}
