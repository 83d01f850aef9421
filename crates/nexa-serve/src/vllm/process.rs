//! The process of vLLM: its port, its key, and its end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nexa_core::env::Secret;
use tokio::time::Instant;

use super::{KEY_VARIABLE, VllmConfig};
use crate::Error;

/// How often it is looked whether the process still runs.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the process may take to end once it is asked to.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `vllm serve`. It is ended when this is dropped, with the processes that it has started.
pub(crate) struct Process {
    child: Child,
    command: PathBuf,
    pub(super) address: SocketAddr,
    pub(super) key: Secret,
    has_ended: bool,
}

impl Process {
    /// Starts it. What it prints goes to our standard error.
    pub(super) fn start(vllm: &VllmConfig, names: &[String]) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::EngineCommand { command: vllm.command.clone(), source };
        let address = free_port().map_err(failed)?;
        let key = Secret::new(format!("{:032x}", rand::random::<u128>()));
        let child = Command::new(&vllm.command)
            .arg("serve")
            .arg(&vllm.model)
            .args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()])
            .arg("--served-model-name")
            .args(names)
            .args(&vllm.arguments)
            .env(KEY_VARIABLE, key.expose())
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .stderr(io::stderr())
            // Ctrl-C in the terminal is for us: we end the process once its requests have ended.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Self { child, command: vllm.command.clone(), address, key, has_ended: false })
    }

    /// What is to be said where the process has ended by itself.
    pub(super) fn ended(&mut self) -> Result<Option<Error>, Error> {
        let found = self.child.try_wait();
        let status =
            found.map_err(|source| Error::EngineCommand { command: self.command.clone(), source })?;
        self.has_ended = status.is_some();
        Ok(status
            .map(|status| Error::EngineEnded { command: self.command.clone(), status: status.to_string() }))
    }

    pub(super) async fn pause(&self) {
        tokio::time::sleep(PAUSE).await;
    }

    /// Asks the process to end, and ends it where it takes too long.
    pub(super) async fn stop(mut self) {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.ended(), Ok(None)) {
                return;
            }
            self.pause().await;
        }
        tracing::warn!(patience = ?PATIENCE, "vLLM did not end when it was asked to, and was killed");
    }

    /// Sends a signal to the process and to those that it has started.
    fn signal(&self, name: &str) {
        if self.has_ended {
            return;
        }
        let group = format!("-{}", self.child.id());
        // The command, since system calls for it are unsafe here.
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" -- \"$1\"", name, &group])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = sent {
            tracing::warn!(%error, "vLLM could not be told to end");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal("KILL");
        // Without this, what has ended would stay in the list of processes until we end.
        let _ = self.child.wait();
    }
}

/// A port of loopback that is free now.
fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
