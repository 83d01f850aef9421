//! The part of an MLflow server that trackers use, on loopback: it keeps what it is sent, as often as it is sent.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// What a server was sent.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Metrics in the order of their arrival: key, step, value, timestamp.
    pub(super) metrics: Vec<(String, u64, f64, i64)>,
    pub(super) params: Vec<(String, String)>,
    pub(super) runs: Vec<String>,
    /// What the names of runs begin with: no name is given twice, not by a new database either.
    pub(super) prefix: &'static str,
    pub(super) statuses: Vec<String>,
    pub(super) calls: Vec<String>,
    /// Calls that are done before the connection is closed without an answer.
    pub(super) mute: Vec<&'static str>,
    /// A status that every call is refused with.
    pub(super) refuse_with: Option<u16>,
}

/// A server that lives until it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    thread: Option<JoinHandle<()>>,
    stop: Arc<Mutex<bool>>,
}

impl Server {
    /// Listens on an address; one with port 0 is a free one.
    pub(super) fn start(address: SocketAddr, state: &Arc<Mutex<State>>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (state, stop) = (Arc::clone(state), Arc::new(Mutex::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if *stopped.lock().unwrap() {
                    return;
                }
                // A client that goes away is no concern of the server.
                let _ = answer(stream.unwrap(), &state);
            }
        });
        Self { address, thread: Some(thread), stop }
    }

    /// An address on which nobody listens.
    pub(super) fn free_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        // Wakes the thread up.
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Reads one request, does it, and answers.
fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    let call = path.trim_start_matches("/api/2.0/mlflow/").split('?').next().unwrap_or_default();

    let mut state = state.lock().unwrap();
    state.calls.push(call.to_owned());
    let (status, reply) = match state.refuse_with {
        Some(status) => (status, json!({"error_code": "PERMISSION_DENIED", "message": "not for you"})),
        None => act(call, &body, &mut state),
    };
    if let Some(at) = state.mute.iter().position(|mute| *mute == call) {
        state.mute.remove(at);
        return Ok(());
    }
    let reply = reply.to_string();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{reply}", reply.len())
}

fn act(call: &str, body: &Value, state: &mut State) -> (u16, Value) {
    let missing = (404, json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}));
    match call {
        "experiments/get-by-name" if !state.calls.iter().any(|call| call == "experiments/create") => missing,
        "experiments/get-by-name" => (200, json!({"experiment": {"experiment_id": "7"}})),
        "experiments/create" => (200, json!({"experiment_id": "7"})),
        "runs/search" => {
            let runs: Vec<_> = state.runs.iter().map(|run| json!({"info": {"run_id": run}})).collect();
            (200, json!({"runs": runs}))
        }
        "runs/create" => {
            let run = format!("{}run{}", state.prefix, state.runs.len());
            state.runs.push(run.clone());
            (200, json!({"run": {"info": {"run_id": run}}}))
        }
        "runs/get" => {
            let mut last = BTreeMap::new();
            for (key, step, ..) in &state.metrics {
                last.entry(key).and_modify(|last: &mut u64| *last = *step.max(last)).or_insert(*step);
            }
            let metrics: Vec<_> = last.iter().map(|(key, step)| json!({"key": key, "step": step})).collect();
            (200, json!({"run": {"data": {"metrics": metrics}}}))
        }
        "runs/update" | "runs/log-batch" if !state.runs.iter().any(|run| body["run_id"] == **run) => missing,
        "runs/update" => {
            state.statuses.push(body["status"].as_str().unwrap().to_owned());
            (200, json!({}))
        }
        "runs/log-batch" => {
            let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
            assert!(list("metrics").len() <= 1000 && list("params").len() <= 100);
            for metric in list("metrics") {
                let step = metric["step"].as_u64().unwrap();
                let (value, time) =
                    (metric["value"].as_f64().unwrap(), metric["timestamp"].as_i64().unwrap());
                state.metrics.push((metric["key"].as_str().unwrap().to_owned(), step, value, time));
            }
            for param in list("params") {
                let text = |name: &str| param[name].as_str().unwrap().to_owned();
                state.params.push((text("key"), text("value")));
            }
            (200, json!({}))
        }
        _ => missing,
    }
}
