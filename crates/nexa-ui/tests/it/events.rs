//! Following a run at work: nothing twice, nothing missed, and an end.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nexa_core::artifact::Kind;
use nexa_core::event::Event;
use nexa_core::files::LineLog;
use nexa_core::lab::Lab;
use nexa_core::stage::Inputs;
use nexa_ui::LeaderboardView;
use serde_json::{Value, json};

use crate::http::{Answer, Board, Server};
use crate::lab::Fake;

/// What a run at work is told.
enum Order {
    /// Log this many further rows.
    Log(u64),
    /// Begin the metrics anew, as after a resume from a checkpoint.
    Restart,
}

/// A run that does what it is told, and finishes when nobody tells it anything any more.
struct LiveRun {
    id: String,
    orders: Option<Sender<Order>>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl LiveRun {
    fn start(lab: &Lab) -> Self {
        let (orders, ordered) = channel::<Order>();
        let (tell, done) = channel();
        let shared = Arc::new(Mutex::new((ordered, tell)));
        let stage = Fake::new("train", Kind::Checkpoint, json!({}), move |context| {
            let (ordered, tell) = &*shared.lock().unwrap();
            let path = context.workspace.join("metrics.jsonl");
            let mut step = 0;
            tell.send(()).unwrap();
            while let Ok(order) = ordered.recv() {
                match order {
                    Order::Restart => {
                        std::fs::write(&path, "").unwrap();
                        step = 0;
                    }
                    Order::Log(rows) => {
                        let mut log = LineLog::open(&path)?;
                        for _ in 0..rows {
                            step += 1;
                            log.append(&json!({ "step": step, "loss": 1.0 / step as f64 }))?;
                        }
                        context.emit(Event::progress(step, Some(100), "steps", "loss"));
                    }
                }
                tell.send(()).unwrap();
            }
            std::fs::write(context.output.join("model.safetensors"), "weights").unwrap();
            Ok(())
        });
        let (own, name) = (lab.clone(), "live");
        let thread = std::thread::spawn(move || {
            stage.run(&own, name, &Inputs::none()).unwrap();
        });
        done.recv().unwrap();
        let id = nexa_core::run::all(lab).unwrap()[0].id.to_string();
        Self { id, orders: Some(orders), done, thread: Some(thread) }
    }

    fn tell(&self, order: Order) {
        self.orders.as_ref().unwrap().send(order).unwrap();
        self.done.recv().unwrap();
    }

    fn finish(&mut self) {
        self.orders = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

fn lab() -> (tempfile::TempDir, Lab, Server) {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::init(folder.path(), Some(crate::lab::PROJECT)).unwrap();
    let server = Server::start(&lab, Board(|_| Ok(LeaderboardView::default())));
    (folder, lab, server)
}

/// Reads rows until `count` have come; returns their steps and the last cursor.
fn read_rows(stream: &mut Answer, count: usize) -> (Vec<u64>, String) {
    let mut steps = Vec::new();
    loop {
        let event = stream.event().expect("the stream goes on");
        if event.name == "rows" {
            let rows = event.data.as_array().unwrap();
            assert!(rows.iter().all(|row| row["values"]["loss"].is_number()), "{rows:?}");
            steps.extend(rows.iter().map(|row| row["x"].as_f64().unwrap() as u64));
            if steps.len() >= count {
                return (steps, event.id.unwrap());
            }
        }
    }
}

fn read_until(stream: &mut Answer, name: &str) -> Value {
    loop {
        let event = stream.event().unwrap_or_else(|| panic!("the stream ends before `{name}`"));
        if event.name == name {
            return event.data;
        }
    }
}

#[test]
fn a_reader_who_comes_back_gets_what_it_has_not_seen() {
    let (_folder, lab, server) = lab();
    let mut run = LiveRun::start(&lab);
    run.tell(Order::Log(3));
    let path = format!("/runs/{}/events?from=1", run.id);

    let mut first = server.open(&path, &[]);
    assert_eq!((first.status, first.head.contains("text/event-stream")), (200, true));
    assert_eq!(read_rows(&mut first, 2), (vec![2, 3], "3-0".to_owned()));
    assert_eq!(read_until(&mut first, "progress")["done"], 3);
    run.tell(Order::Log(1));
    assert_eq!(read_rows(&mut first, 1), (vec![4], "4-0".to_owned()));
    drop(first);

    run.tell(Order::Log(2));
    let mut again = server.open(&path, &[("Last-Event-ID", "4-0")]);
    assert_eq!(read_rows(&mut again, 2), (vec![5, 6], "6-0".to_owned()));

    run.finish();
    assert_eq!(read_until(&mut again, "end"), json!({ "status": "finished" }));
    assert!(again.event().is_none(), "nothing follows the end");
}

#[test]
fn metrics_that_begin_anew_are_sent_anew() {
    let (_folder, lab, server) = lab();
    let mut run = LiveRun::start(&lab);
    run.tell(Order::Log(5));
    let mut stream = server.open(&format!("/runs/{}/events", run.id), &[]);
    assert_eq!(read_rows(&mut stream, 5), (vec![1, 2, 3, 4, 5], "5-0".to_owned()));
    run.tell(Order::Restart);
    run.tell(Order::Log(1));
    read_until(&mut stream, "reset");
    assert_eq!(read_rows(&mut stream, 1), (vec![1], "1-0".to_owned()));
    run.finish();
}

#[test]
fn the_page_of_a_live_run_shows_that_it_is() {
    let (_folder, lab, server) = lab();
    let mut run = LiveRun::start(&lab);
    run.tell(Order::Log(2));
    let path = format!("/runs/{}", run.id);
    let page = server.get(&path).1;
    assert!(
        page.contains("data-live") && page.contains("status running") && page.contains("2 of 100 steps"),
        "{page}"
    );
    assert_eq!(
        server.json(&format!("{path}.json"))["run"]["cost"]["text"],
        "unknown (time of the unfinished attempt) so far",
        "what is not known yet is not nothing"
    );
    run.finish();
    let page = server.get(&path).1;
    assert!(!page.contains("data-live") && page.contains("status finished"), "{page}");
}

#[test]
fn streams_end_when_the_server_stops() {
    let (_folder, lab, server) = lab();
    let mut run = LiveRun::start(&lab);
    run.tell(Order::Log(1));
    let mut stream = server.open(&format!("/runs/{}/events", run.id), &[]);
    read_rows(&mut stream, 1);
    server.stop().unwrap();
    while let Some(event) = stream.event() {
        assert_ne!(event.name, "end", "the run goes on, only the server stops");
    }
    run.finish();
}

#[test]
fn there_is_no_stream_of_no_run() {
    let (_folder, _lab, server) = lab();
    assert_eq!(server.get("/runs/no-such-run/events").0, 404);
}
