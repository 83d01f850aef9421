//! The server's life: bind, answer, drain, end.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use nexa_core::env::Secret;
use nexa_core::event::Cancel;
use nexa_core::guard::Guard;
use nexa_core::hosts;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::{self, Door};
use crate::connections::Connections;
use crate::{Error, Loaded, Origin};

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
    /// How long a request may take; one that takes longer is cancelled, whether or not its client reads what it is sent.
    pub request_timeout: Option<Duration>,
    /// How long a client may take to send the header of a request, and then its body.
    pub read_timeout: Duration,
    /// How long a client may leave unread what it is sent; then its connection is closed, and its requests are cancelled.
    pub write_timeout: Duration,
    /// How long a stream may be silent before a comment keeps proxies from closing it.
    pub keep_alive: Duration,
    /// Further names of the model.
    pub aliases: Vec<String>,
    /// The folder from which requests may load adapters; without one, none can be loaded.
    pub lora_folder: Option<PathBuf>,
    /// What prompts and answers are held against.
    pub guard: Option<Arc<dyn Guard>>,
    /// The largest body of a request.
    pub max_body_bytes: usize,
    /// Pages of other origins whose scripts may read replies.
    pub cors_origins: Vec<Origin>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8000,
            api_keys: Vec::new(),
            drain_timeout: Duration::from_secs(30),
            request_timeout: None,
            read_timeout: Duration::from_secs(30),
            // As nginx has it (`send_timeout`).
            write_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(10),
            aliases: Vec::new(),
            lora_folder: None,
            guard: None,
            max_body_bytes: 4 << 20,
            cors_origins: Vec::new(),
        }
    }
}

/// A point in the life of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Connections are accepted; what needs the model is answered with 503.
    Listening(SocketAddr),
    /// The model is loaded and warm.
    Ready(SocketAddr),
}

/// Serves a model until `cancel` is set, on a runtime of its own. See [`run`].
///
/// # Errors
/// As [`run`], and when the system gives no threads.
pub fn serve<E: From<Error> + Send + 'static>(
    load: impl FnOnce() -> Result<Loaded, E> + Send + 'static,
    config: &ServerConfig,
    tell: impl FnMut(Life),
    cancel: &Cancel,
) -> Result<(), E> {
    in_runtime(run(load, config, tell, cancelled(cancel)))
}

/// Runs a server on a runtime of its own.
pub(crate) fn in_runtime<E: From<Error>>(server: impl Future<Output = Result<(), E>>) -> Result<(), E> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("nexa-serve")
        .build()
        .map_err(|source| Error::Start { what: "the server's runtime", source })?;
    let result = runtime.block_on(server);
    // Connections that did not close in time are cut.
    runtime.shutdown_background();
    result
}

/// Waits until `cancel` is set.
pub(crate) async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(CANCEL_POLL).await;
    }
}

/// A server that accepts connections.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    close: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Listening {
    /// Binds the address of a configuration, and lets a router answer there.
    ///
    /// # Errors
    /// Fails when the address would be open to others without a key, or cannot be had.
    pub(crate) async fn begin(config: &ServerConfig, router: Router) -> Result<Self, Error> {
        let (listener, address) = bind(config).await?;
        let (close, closing) = watch::channel(false);
        let connections = Connections {
            router,
            header_timeout: config.read_timeout,
            write_timeout: config.write_timeout,
            closing,
        };
        Ok(Self { address, close, server: tokio::spawn(connections.serve(listener)) })
    }

    /// Accepts no more, and gives what is being written a while.
    pub(crate) async fn end(self) {
        let Self { close, mut server, .. } = self;
        drop(close);
        if timeout(CLOSE_TIMEOUT, &mut server).await.is_err() {
            server.abort();
        }
    }
}

/// Binds the address, loads a model, and serves it until `shutdown` completes.
///
/// While the model is loaded, and once more after `shutdown` while running requests end, new ones get 503. What is
/// unfinished after `drain_timeout` fails. The engine has ended when this returns; a model that is still being loaded is
/// left to the end of the process.
///
/// # Errors
/// Fails when the address would be open to others without a key, when it cannot be had, when the model cannot be loaded, or
/// when the engine stops because its model panicked.
pub async fn run<E: From<Error> + Send + 'static>(
    load: impl FnOnce() -> Result<Loaded, E> + Send + 'static,
    config: &ServerConfig,
    mut tell: impl FnMut(Life),
    shutdown: impl Future<Output = ()>,
) -> Result<(), E> {
    let door = Arc::new(Door::new(config));
    let listening = Listening::begin(config, api::router(Arc::clone(&door))).await?;
    let address = listening.address;
    tell(Life::Listening(address));

    let life = async {
        let loaded = in_thread(load).await??;
        let engine = loaded.engine.clone();
        door.open(loaded);
        engine.ready().await?;
        tracing::info!(%address, model = engine.info().name, "serving");
        tell(Life::Ready(address));
        engine.stopped().await?;
        Ok(())
    };
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        ended = life => ended,
    };

    if let Some(engine) = door.close() {
        engine.drain();
        if timeout(config.drain_timeout, engine.stopped()).await.is_err() {
            tracing::warn!(timeout = ?config.drain_timeout, "requests were cut off by the shutdown");
            engine.abort();
        }
    }
    listening.end().await;
    outcome
}

/// Runs what takes long on a thread that nobody waits for at the end.
async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let (sender, done) = oneshot::channel();
    std::thread::Builder::new()
        .name("nexa-load".to_owned())
        .spawn(move || {
            // Nobody waits any more where the server was asked to stop.
            let _ = sender.send(work());
        })
        .map_err(|source| Error::Start { what: "the thread that loads the model", source })?;
    done.await.map_err(|_| Error::LoadPanicked)
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
