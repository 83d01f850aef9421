//! What is sent, and how often, whatever happens to the logs and to the process.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nexa_core::run::Status;

use super::{cut, facts, train};
use crate::trackers::follower::Follower;
use crate::trackers::{Begun, Failure, Row, RunFacts, Tracker};

/// What a tracker was told: points in their order, and the end.
#[derive(Debug, Default)]
struct Board {
    points: Vec<(String, u64, f64, i64)>,
    ended: Option<Status>,
}

/// A tracker that keeps what it is told in memory.
struct Memory {
    board: Arc<Mutex<Board>>,
    destination: &'static str,
    /// Whether it can take something back.
    forgets: bool,
    /// Fails once, after it has taken the rows.
    fails_late: bool,
}

impl Tracker for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn destination(&self) -> String {
        self.destination.to_owned()
    }

    fn begin(&mut self, run: &RunFacts, _known: Option<&str>) -> Result<Begun, Failure> {
        Ok(Begun { remote: run.id.clone(), ..Begun::default() })
    }

    fn rewind(&mut self, step: u64) -> Result<Option<u64>, Failure> {
        if self.forgets {
            self.board.lock().unwrap().points.retain(|point| point.1 < step);
        }
        Ok(self.forgets.then_some(step))
    }

    fn rows(&mut self, rows: &[Row]) -> Result<(), Failure> {
        let mut board = self.board.lock().unwrap();
        for row in rows {
            let points = row.values.iter().map(|(key, value)| (key.clone(), row.step, *value, row.time_ms));
            board.points.extend(points);
        }
        if std::mem::replace(&mut self.fails_late, false) {
            return Err(Failure::Unavailable("the answer was lost".to_owned()));
        }
        Ok(())
    }

    fn end(&mut self, status: Status) -> Result<(), Failure> {
        self.board.lock().unwrap().ended = Some(status);
        Ok(())
    }
}

/// Follows the logs to their end, as one attempt of a run.
fn follow(folder: &Path, board: &Arc<Mutex<Board>>, forgets: bool) -> Follower {
    let mut follower = attempt(folder, board, forgets);
    while follower.advance().unwrap() {}
    follower
}

fn attempt(folder: &Path, board: &Arc<Mutex<Board>>, forgets: bool) -> Follower {
    let tracker = Memory { board: Arc::clone(board), destination: "here", forgets, fails_late: false };
    Follower::new(Box::new(tracker), folder, &facts())
}

/// The points that the logs hold, by metric and step.
fn logged(folder: &Path) -> BTreeMap<(String, u64), f64> {
    let mut points = BTreeMap::new();
    for log in ["metrics.jsonl", "timing.jsonl"] {
        for line in std::fs::read_to_string(folder.join(log)).unwrap().lines() {
            let row: BTreeMap<String, f64> = serde_json::from_str(line).unwrap();
            let step = row["step"] as u64;
            points.extend(row.into_iter().filter(|(key, _)| key != "step").map(|(key, v)| ((key, step), v)));
        }
    }
    points
}

/// The points of a board; each is there once.
fn shown(board: &Arc<Mutex<Board>>) -> BTreeMap<(String, u64), f64> {
    let board = board.lock().unwrap();
    let points: BTreeMap<_, _> =
        board.points.iter().map(|(key, step, value, _)| ((key.clone(), *step), *value)).collect();
    assert_eq!(points.len(), board.points.len(), "sent twice: {:?}", board.points);
    points
}

#[test]
fn rows_come_in_order_with_their_times() {
    let folder = tempfile::tempdir().unwrap();
    let board = Arc::default();
    train(folder.path(), 1..=2, 10.0);
    follow(folder.path(), &board, false).end(Status::Finished).unwrap();
    let (first, second) = (1_700_000_010_000, 1_700_000_020_000);
    let expected = [
        ("seconds", 1, 10.0, first),
        ("loss", 1, 4.0, first),
        ("learning_rate", 1, 0.002, first),
        ("seconds", 2, 20.0, second),
        ("loss", 2, 2.0, second),
        ("learning_rate", 2, 0.002, second),
        ("val_loss", 2, 3.0, second),
    ];
    let board = board.lock().unwrap();
    assert_eq!(board.points, expected.map(|(key, step, value, time)| (key.to_owned(), step, value, time)));
    assert_eq!(board.ended, Some(Status::Finished));
}

#[test]
fn a_follower_goes_on_where_an_earlier_one_was_killed() {
    for forgets in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let board = Arc::default();
        for steps in [1..701, 701..701, 701..1401] {
            train(folder.path(), steps, 1.0);
            drop(follow(folder.path(), &board, forgets));
            assert_eq!(shown(&board), logged(folder.path()), "forgets: {forgets}");
        }
    }
}

#[test]
fn a_line_that_is_not_whole_waits_for_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let board = Arc::default();
    train(folder.path(), 1..=1, 1.0);
    let path = folder.path().join("metrics.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap() + "{\"step\":2,\"loss\":1.5}\n";
    std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
    let mut follower = follow(folder.path(), &board, false);
    assert_eq!(shown(&board).len(), 3);
    std::fs::write(&path, whole).unwrap();
    while follower.advance().unwrap() {}
    assert_eq!(shown(&board), logged(folder.path()));
}

#[test]
fn what_a_resumed_run_writes_again_is_shown_once() {
    for forgets in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let board = Arc::default();
        train(folder.path(), 1..=9, 1.0);
        drop(follow(folder.path(), &board, forgets));
        let before = logged(folder.path());
        // Cut between the row and the validation of step 4, then trained at another speed.
        cut(folder.path(), 4);
        let mut follower = attempt(folder.path(), &board, forgets);
        while follower.advance().unwrap() {}
        let mut metrics =
            std::fs::File::options().append(true).open(folder.path().join("metrics.jsonl")).unwrap();
        metrics.write_all(b"{\"step\":4,\"val_loss\":2.0}\n").unwrap();
        train(folder.path(), 5..=12, 2.0);
        while follower.advance().unwrap() {}
        let (mut expected, after) = (logged(folder.path()), shown(&board));
        if !forgets {
            // What was sent stands: of what was written again, only the times differ.
            expected.extend(before);
        }
        assert_eq!(after, expected, "forgets: {forgets}");
    }
}

#[test]
fn logs_that_change_under_a_follower_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let board = Arc::default();
    train(folder.path(), 1..=4, 1.0);
    let mut follower = follow(folder.path(), &board, true);
    cut(folder.path(), 2);
    train(folder.path(), 3..=9, 3.0);
    while follower.advance().unwrap() {}
    assert_eq!(shown(&board), logged(folder.path()));
}

#[test]
fn rows_whose_answer_was_lost_are_sent_again_with_the_same_times() {
    let folder = tempfile::tempdir().unwrap();
    let board: Arc<Mutex<Board>> = Arc::default();
    train(folder.path(), 1..=3, 1.0);
    let tracker = Memory { board: Arc::clone(&board), destination: "here", forgets: false, fails_late: true };
    let mut follower = Follower::new(Box::new(tracker), folder.path(), &facts());
    assert!(matches!(follower.advance(), Err(Failure::Unavailable(_))));
    while follower.advance().unwrap() {}
    let board = board.lock().unwrap();
    let (first, second) = board.points.split_at(board.points.len() / 2);
    assert_eq!(first, second);
}

#[test]
fn another_place_gets_everything_and_one_cursor_has_one_user() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (Arc::default(), Arc::default());
    train(folder.path(), 1..=5, 1.0);
    let holder = follow(folder.path(), &here, false);
    let move_to = || {
        let board = Arc::clone(&there);
        Memory { board, destination: "there", forgets: false, fails_late: false }
    };
    let mut second = Follower::new(Box::new(move_to()), folder.path(), &facts());
    assert!(matches!(second.advance(), Err(Failure::Unavailable(_))), "the cursor is taken");
    drop(holder);
    while second.advance().unwrap() {}
    assert_eq!(shown(&there), logged(folder.path()));
}
