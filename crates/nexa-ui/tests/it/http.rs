//! A server on a free port, and the least of a client: HTTP/1.0, so that an answer ends with its connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use nexa_core::event::Cancel;
use nexa_core::lab::Lab;
use nexa_core::table::{JsonLines, Tables};
use nexa_ui::{Chat, Config, Error, LeaderboardSource, LeaderboardView, Site, serve};

/// Percent-encodes everything but letters and digits.
fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// A leaderboard that is made by a function.
pub(crate) struct Board(pub(crate) fn(&str) -> Result<LeaderboardView, String>);

impl LeaderboardSource for Board {
    /// Keeps the boards that could be ranked by the metric, as if they were.
    fn leaderboard(&self, project: &str, metric: Option<&str>) -> Result<LeaderboardView, String> {
        let mut view = (self.0)(project)?;
        if let Some(metric) = metric {
            view.groups.clear();
            view.boards.retain(|board| board.metrics.iter().any(|known| known == metric));
            view.boards.iter_mut().for_each(|board| metric.clone_into(&mut board.metric));
        }
        Ok(view)
    }
}

/// A running server; dropping it stops it.
pub(crate) struct Server {
    address: SocketAddr,
    pub(crate) cancel: Cancel,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Server {
    /// Checks that a page answers, that it holds some texts, and that it holds others not.
    pub(crate) fn check(&self, path: &str, holds: &[&str], lacks: &[&str]) {
        let (status, page) = self.get(path);
        assert_eq!(status, 200, "{path}: {page}");
        for text in holds {
            assert!(page.contains(text), "{path} lacks `{text}`:\n{page}");
        }
        for text in lacks {
            assert!(!page.contains(text), "{path} holds `{text}`:\n{page}");
        }
    }

    pub(crate) fn start(lab: &Lab, board: Board) -> Self {
        Self::start_with(lab, board, Arc::new(JsonLines))
    }

    pub(crate) fn start_with(lab: &Lab, board: Board, tables: Arc<dyn Tables>) -> Self {
        let site = Site { lab: lab.clone(), tables, leaderboard: Arc::new(board), chat: Chat::default() };
        Self::start_site(site)
    }

    pub(crate) fn start_site(site: Site) -> Self {
        let cancel = Cancel::default();
        let (sender, receiver) = mpsc::channel();
        let asked = cancel.clone();
        let thread = std::thread::spawn(move || {
            let config = Config { port: 0, ..Config::default() };
            let ready = move |address| sender.send(address).unwrap();
            serve(site, &config, ready, &asked)
        });
        let address = receiver.recv().expect("the server starts");
        Self { address, cancel, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Asks for a page and returns the connection, with the head of the answer read.
    pub(crate) fn open(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, "")
    }

    /// Sends a form.
    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Answer {
        let pairs: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let (body, kind) = (pairs.join("&"), ("Content-Type", "application/x-www-form-urlencoded"));
        let length = body.len().to_string();
        let headers = [headers, &[kind, ("Content-Length", length.as_str())]].concat();
        self.send("POST", path, &headers, &body)
    }

    /// Sends JSON.
    pub(crate) fn post_json(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        Answer::read(self.begin_json(path, headers, body))
    }

    /// Sends JSON and does not wait for an answer.
    pub(crate) fn begin_json(&self, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let length = body.len().to_string();
        let own = [("Content-Type", "application/json"), ("Content-Length", length.as_str())];
        self.begin("POST", path, &[headers, &own].concat(), body)
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], content: &str) -> Answer {
        Answer::read(self.begin(method, path, headers, content))
    }

    fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], content: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut request = format!("{method} {path} HTTP/1.0\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(content);
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Status and body of a page.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let answer = self.open(path, &[]);
        (answer.status, answer.text())
    }

    /// A JSON twin, which must be there.
    pub(crate) fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }

    /// Stops the server as Ctrl-C does and returns how it ended.
    pub(crate) fn stop(mut self) -> Result<(), Error> {
        self.cancel.cancel();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there is the business of whoever waits for its result.
            let _ = thread.join();
        }
    }
}

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    body: BufReader<TcpStream>,
}

/// A server-sent event.
#[derive(Debug, Default)]
pub(crate) struct SentEvent {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: serde_json::Value,
}

impl Answer {
    /// Reads the head of an answer.
    fn read(stream: TcpStream) -> Self {
        let mut body = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(body.read_line(&mut head).unwrap(), 0, "the head ends early: {head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body }
    }

    /// The next line that is not empty; none once the body has ended, however it did.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            match self.body.read_line(&mut line) {
                Ok(0) | Err(_) => return None,
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => return Some(line.trim().to_owned()),
            }
        }
    }

    pub(crate) fn bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn text(self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    /// The next event; none once the stream has ended.
    pub(crate) fn event(&mut self) -> Option<SentEvent> {
        let mut event = SentEvent::default();
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ if line == "\n" && !event.name.is_empty() => return Some(event),
                _ => {}
            }
        }
    }
}
