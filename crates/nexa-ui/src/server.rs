//! Listening, and stopping for certain.

use std::future::IntoFuture;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use nexa_core::event::Cancel;
use nexa_core::hosts::{self, AllowedHosts};
use nexa_core::lab::Lab;
use nexa_core::table::Tables;
use rand::RngExt;
use tokio::sync::watch;

use crate::chat::{Chat, Upstream};
use crate::leaderboard::LeaderboardSource;
use crate::router;
use crate::tables::TableCache;
use crate::{Error, Result};

/// How often the cancel flag is looked at.
const CANCEL_POLL: Duration = Duration::from_millis(100);
/// How long requests may go on after the user asked to stop.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);

/// Where the dashboards are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A name or address of this machine.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// Whether other machines may see the lab, and review in it. There is no login, so anything but loopback needs this
    /// word.
    pub open_to_network: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { host: "127.0.0.1".to_owned(), port: 8501, open_to_network: false }
    }
}

/// What is shown.
pub struct Site {
    /// The lab.
    pub lab: Lab,
    /// Reads its tables.
    pub tables: Arc<dyn Tables>,
    /// Makes the leaderboards of its projects.
    pub leaderboard: Arc<dyn LeaderboardSource>,
    /// Who answers on the chat page.
    pub chat: Chat,
}

/// What every request may use.
pub(crate) struct Ui {
    pub(crate) lab: Lab,
    pub(crate) tables: TableCache,
    pub(crate) leaderboard: Arc<dyn LeaderboardSource>,
    pub(crate) upstream: Upstream,
    /// What only the pages of this process hold.
    token: String,
    /// Turns true when the server stops; whatever stays open for long must watch it.
    pub(crate) stopped: watch::Receiver<bool>,
}

impl Ui {
    /// What pages of this process prove themselves by.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Says that only a page of this process may do something. Hashes are compared, so that the time tells nothing.
    pub(crate) fn expect_token(&self, given: &str, doing: &'static str) -> Result<()> {
        if blake3::hash(given.as_bytes()) == blake3::hash(self.token.as_bytes()) {
            return Ok(());
        }
        Err(Error::Stale { doing })
    }
}

/// Serves the dashboards of a lab until `cancel` is set. `on_ready` is called once the address accepts connections.
///
/// Requests in flight may finish for three seconds after that; then everything is dropped.
///
/// # Errors
/// Fails when other machines could see the lab without a word that they may, when the key of the chat cannot be sent, when the address cannot be listened on, or
/// when the server ends abnormally.
pub fn serve(site: Site, config: &Config, on_ready: impl FnOnce(SocketAddr), cancel: &Cancel) -> Result<()> {
    let address = display_address(config);
    let failed = |source| Error::Serve { address: address.clone(), source };
    let listener = listen(config, &address)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("nexa-ui")
        .enable_all()
        .build()
        .map_err(failed)?;

    let (stop, stopped) = watch::channel(false);
    let Site { lab, tables, leaderboard, chat } = site;
    let upstream = Upstream::new(chat)?;
    let (tables, token) = (TableCache::new(tables), format!("{:032x}", rand::rng().random::<u128>()));
    let ui = Arc::new(Ui { lab, tables, leaderboard, upstream, token, stopped: stopped.clone() });
    let app = router::app(ui, AllowedHosts::new(&config.host));
    let result = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let server = axum::serve(listener, app).with_graceful_shutdown(stopping(stopped));
        on_ready(bound);
        tokio::select! {
            result = server.into_future() => result,
            () = stop_when_cancelled(cancel, stop) => Ok(()),
        }
    });
    // A page that still reads a large table must not keep the process alive.
    runtime.shutdown_timeout(CANCEL_POLL);
    result.map_err(failed)
}

/// Binds the address, unless it would be open to other machines without a word that it may.
fn listen(config: &Config, address: &str) -> Result<TcpListener> {
    let failed = |source| Error::Listen { address: address.to_owned(), source };
    let host = hosts::without_brackets(&config.host);
    let addresses: Vec<SocketAddr> = (host, config.port).to_socket_addrs().map_err(failed)?.collect();
    let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
    if !config.open_to_network && !hosts::are_loopback(&ips) {
        return Err(Error::Exposed { host: config.host.clone() });
    }
    TcpListener::bind(addresses.as_slice()).map_err(failed)
}

/// Waits until the server stops. A sender that is gone means the same.
pub(crate) async fn stopping(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Tells everyone to stop once the user asks for it, and returns when the time for that is over.
async fn stop_when_cancelled(cancel: &Cancel, stop: watch::Sender<bool>) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(CANCEL_POLL).await;
    }
    stop.send_replace(true);
    tokio::time::sleep(SHUTDOWN_DEADLINE).await;
}

fn display_address(config: &Config) -> String {
    match hosts::without_brackets(&config.host).parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, config.port).to_string(),
        Err(_) => format!("{}:{}", config.host, config.port),
    }
}
