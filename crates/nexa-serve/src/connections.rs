//! Accepts connections, and does not let slow ones stay.
//!
//! This is what `axum::serve` does, with a limit on the time in which a client says what it wants: a client that sends its
//! header byte by byte, or nothing at all, would otherwise hold its connection for ever.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long accepting rests where the system has no room for another connection.
const REST: Duration = Duration::from_secs(1);

/// How connections are handled.
#[derive(Clone)]
pub(crate) struct Connections {
    /// What answers.
    pub(crate) router: Router,
    /// How long a client may take to send the header of a request, or to begin another.
    pub(crate) header_timeout: Duration,
    /// True, or closed, once no more should be accepted and those that are open should end after their reply.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Connections {
    /// Answers until `closing`, and then until every connection has ended.
    pub(crate) async fn serve(mut self, listener: TcpListener) {
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                _ = self.closing.wait_for(|closing| *closing) => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    tasks.spawn(self.clone().answer(stream));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted");
                    tokio::time::sleep(REST).await;
                }
            }
        }
        drop(listener);
        while tasks.join_next().await.is_some() {}
    }

    async fn answer(mut self, stream: TcpStream) {
        // Every piece of a stream is worth a packet of its own.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router));
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return log(ended),
            _ = self.closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
        }
        log(connection.await);
    }
}

/// Clients that go away or are slow are nothing special.
fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
