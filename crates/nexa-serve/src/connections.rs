//! Accepts connections, and does not let slow ones stay.
//!
//! This is what `axum::serve` does, with a limit on the time in which a client says what it wants, and on the time in which it
//! reads nothing of what it is sent: a client that sends its header byte by byte, or nothing at all, or that never reads its
//! answer, would otherwise hold its connection for ever, and the answer with it.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;

/// How long accepting rests where the system has no room for another connection.
const REST: Duration = Duration::from_secs(1);

/// How connections are handled.
#[derive(Clone)]
pub(crate) struct Connections {
    /// What answers.
    pub(crate) router: Router,
    /// How long a client may take to send the header of a request, or to begin another.
    pub(crate) header_timeout: Duration,
    /// How long a client may leave unread what it is sent.
    pub(crate) write_timeout: Duration,
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
        let stream = WriteTimeout { stream, timeout: self.write_timeout, stalled: None };
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

/// A connection that fails once nothing could be written to it for some time.
struct WriteTimeout {
    stream: TcpStream,
    timeout: Duration,
    /// Runs out while there is something to write, but no room for it.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl WriteTimeout {
    /// What comes of a try to write.
    fn tried(
        &mut self,
        context: &mut Context<'_>,
        tried: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if tried.is_ready() {
            self.stalled = None;
            return tried;
        }
        let timeout = self.timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.tried(context, tried)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.tried(context, tried)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
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
