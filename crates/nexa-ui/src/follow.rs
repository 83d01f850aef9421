//! A run at work, as server-sent events.
//!
//! | event | data | id |
//! |---|---|---|
//! | `rows` | new rows of the logs of numbers: `[{"x": step, "values": {…}}]` | lines read so far: where a new stream goes on |
//! | `reset` | `null`: a log began anew, all earlier rows are void | the beginning |
//! | `progress` | the newest progress event of `events.jsonl` | |
//! | `end` | `{"status": …}`; nothing follows | |
//!
//! The files are asked twice a second: several rows come as one event, and no run needs to know who looks at it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use nexa_core::run::{self, Run, RunId, State};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::logs::{Cursor, Logs};
use crate::metrics::Tail;
use crate::server::{Ui, stopping};
use crate::{Error, Result};

const POLL: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that may wait for a slow reader before the files are left alone.
const BUFFERED: usize = 8;

/// Follows a run from a row on, until it has ended, the reader has left or the server stops.
///
/// # Errors
/// Fails when there is no such run or its files cannot be read.
pub(crate) async fn stream(
    ui: Arc<Ui>,
    id: RunId,
    from: Cursor,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let follower = {
        let ui = Arc::clone(&ui);
        blocking(move || Follower::begin(ui, id, from)).await??
    };
    let (sender, receiver) = mpsc::channel(BUFFERED);
    tokio::spawn(async move {
        let stopped = stopping(ui.stopped.clone());
        tokio::select! {
            () = stopped => {}
            () = sender.closed() => {}
            _ = follow(follower, &sender) => {}
        }
    });
    let stream = tokio_stream::StreamExt::map(ReceiverStream::new(receiver), Ok);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Sends news until there will be none. An error ends the stream; the browser then asks again and is told.
async fn follow(mut follower: Follower, sender: &mpsc::Sender<Event>) -> Result<()> {
    let mut clock = tokio::time::interval(POLL);
    loop {
        clock.tick().await;
        let (back, news) = blocking(move || {
            let news = follower.news();
            (follower, news)
        })
        .await?;
        follower = back;
        let news = news?;
        for event in news.events {
            if sender.send(event).await.is_err() {
                return Ok(());
            }
        }
        if news.ended {
            return Ok(());
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Render { path: "events".to_owned(), message: e.to_string() })
}

struct News {
    events: Vec<Event>,
    ended: bool,
}

/// Where a reader stands in the files of a run.
struct Follower {
    ui: Arc<Ui>,
    id: RunId,
    metrics: Logs,
    happenings: Tail,
}

impl Follower {
    fn begin(ui: Arc<Ui>, id: RunId, from: Cursor) -> Result<Self> {
        let folder = run::folder(&ui.lab, &id);
        Run::find(&ui.lab, &id)?;
        let metrics = Logs::after(&folder, from)?;
        let happenings = Tail::after(folder.join("events.jsonl"), 0)?;
        Ok(Self { ui, id, metrics, happenings })
    }

    fn news(&mut self) -> Result<News> {
        // Asked before the files are read: what a run wrote before it ended is then never missed.
        let status = Run::find(&self.ui.lab, &self.id)?.state;
        let mut events = Vec::new();

        let rows = self.metrics.read()?;
        if rows.restarted {
            events.push(event("reset", &Value::Null).id(Cursor::default().to_string()));
        }
        if !rows.lines.is_empty() {
            let good: Vec<_> = rows.lines.into_iter().flatten().collect();
            events.push(event("rows", &good).id(self.metrics.cursor().to_string()));
        }
        if let Some(progress) = newest_progress(&mut self.happenings)? {
            events.push(event("progress", &progress));
        }
        let ended = status != State::Running;
        if ended {
            events.push(event("end", &json!({ "status": status })));
        }
        Ok(News { events, ended })
    }
}

/// The newest progress among the events that were written since the last time.
pub(crate) fn newest_progress(happenings: &mut Tail) -> Result<Option<Map<String, Value>>> {
    let news = happenings.read(|row, _| row)?;
    let is_progress = |row: &Map<String, Value>| row.get("event").is_some_and(|event| event == "progress");
    Ok(news.lines.into_iter().flatten().rfind(is_progress))
}

fn event(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("rows and states are JSON already")
}
