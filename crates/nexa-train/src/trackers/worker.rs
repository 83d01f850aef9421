//! The threads in which trackers follow a run that is at work, and the delivery of what was left over.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nexa_core::env::Environment;
use nexa_core::event::{Event, EventSink};
use nexa_core::run::Status;
use serde::Serialize;

use super::follower::{self, Follower};
use super::{Failure, RunFacts, Tracker, TrackerKind, Tracking};

/// How long the end of a run waits for its trackers: time for a few hundred rows, not for a service that is away.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a thread looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Between two looks into the logs.
    pub(super) look: Duration,
    /// After the first failure; twice as long after each further one.
    pub(super) first_retry: Duration,
    /// The longest of these.
    pub(super) last_retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { look: seconds(1), first_retry: seconds(1), last_retry: seconds(60) }
    }
}

/// What was delivered to a tracker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The tracker.
    pub tracker: &'static str,
    /// Rows that were delivered in this attempt.
    pub delivered: u64,
    /// Lines of the logs that were not.
    pub waiting: u64,
    /// Why not all, or not the end of the run, was delivered.
    pub problem: Option<String>,
}

/// The trackers of a run that is at work.
///
/// Dropped without [`Trackers::finish`], they stop as if the process had been killed: what was not delivered waits.
pub struct Trackers<'a> {
    run_folder: PathBuf,
    run_id: String,
    followed: Vec<Followed>,
    told: Receiver<Event>,
    events: &'a dyn EventSink,
}

/// A tracker in its thread.
struct Followed {
    name: &'static str,
    destination: String,
    end: Sender<End>,
    result: Receiver<Delivery>,
}

/// The request to deliver what is left.
struct End {
    status: Status,
    deadline: Instant,
}

impl<'a> Trackers<'a> {
    /// Begins to follow the logs of a run's folder. Call it when the logs have been cut back to the saved state and
    /// nothing has been added to them yet.
    ///
    /// It neither waits nor fails: a tracker that cannot be used is left out with a warning.
    pub fn start(
        run_folder: &Path,
        tracking: &Tracking,
        facts: &RunFacts,
        events: &'a dyn EventSink,
        environment: &Environment,
    ) -> Self {
        let mut trackers = Vec::new();
        for &kind in &tracking.report_to {
            match tracking.tracker(kind, run_folder, facts, environment) {
                Ok(tracker) => trackers.push(tracker),
                Err(problem) => {
                    events
                        .emit(Event::warning(format!("{}: {problem}; nothing is sent to it", kind.as_str())));
                }
            }
        }
        Self::follow(run_folder, trackers, facts, events, Pace::default())
    }

    /// As [`Trackers::start`], with trackers that exist.
    pub(super) fn follow(
        run_folder: &Path,
        trackers: Vec<Box<dyn Tracker>>,
        facts: &RunFacts,
        events: &'a dyn EventSink,
        pace: Pace,
    ) -> Self {
        let (tell, told) = channel();
        let mut followed = Vec::new();
        for tracker in trackers {
            let (name, destination) = (tracker.name(), tracker.destination());
            let follower = Follower::new(tracker, run_folder, facts);
            let ((end, asked), (answer, result)) = (channel(), channel());
            let tell = tell.clone();
            let work = move || {
                let delivery = Thread { follower, pace, tell, away: false }.run(&asked);
                // Nobody may be left to hear it.
                let _ = answer.send(delivery);
            };
            match thread::Builder::new().name(format!("tracker-{name}")).spawn(work) {
                Ok(_) => followed.push(Followed { name, destination, end, result }),
                Err(e) => {
                    events.emit(Event::warning(format!("{name}: start a thread: {e}; nothing is sent to it")))
                }
            }
        }
        Self { run_folder: run_folder.to_owned(), run_id: facts.id.clone(), followed, told, events }
    }

    /// Emits what the trackers had to tell since the last call. It does not wait.
    pub fn relay_events(&self) {
        for event in self.told.try_iter() {
            self.events.emit(event);
        }
    }

    /// Waits for the next thing that a tracker has to tell.
    #[cfg(test)]
    pub(super) fn next_event(&self) -> Event {
        self.told.recv().expect("a tracker lives")
    }

    /// Delivers what is left and says how the run ended, within `timeout`. What cannot be delivered is told in a
    /// warning, and waits in the run's folder for [`deliver`].
    pub fn finish(self, status: Status, timeout: Duration) -> Vec<Delivery> {
        let deadline = Instant::now() + timeout;
        for followed in &self.followed {
            // A thread that has given up hears nothing; its result lies ready.
            let _ = followed.end.send(End { status, deadline });
        }
        let mut deliveries = Vec::new();
        for Followed { name, destination, result, .. } in &self.followed {
            let delivery = result.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            deliveries.push(delivery.unwrap_or_else(|error| Delivery {
                tracker: name,
                delivered: 0,
                waiting: follower::waiting(&self.run_folder, name, destination),
                problem: Some(match error {
                    RecvTimeoutError::Timeout => format!("no answer within {} s", timeout.as_secs_f64()),
                    RecvTimeoutError::Disconnected => "its thread failed".to_owned(),
                }),
            }));
        }
        self.relay_events();
        for Delivery { tracker, waiting, problem, .. } in &deliveries {
            if let Some(problem) = problem {
                self.events.emit(Event::warning(format!(
                    "{tracker}: {waiting} rows were not delivered ({problem}); `nexa runs track {}` sends them",
                    self.run_id
                )));
            }
        }
        deliveries
    }
}

/// Delivers what a run that has ended has not delivered yet, and how it ended, within `timeout`. What was delivered
/// before is not sent again.
pub fn deliver(
    run_folder: &Path,
    tracking: &Tracking,
    facts: &RunFacts,
    environment: &Environment,
    status: Status,
    timeout: Duration,
) -> Vec<Delivery> {
    let deadline = Instant::now() + timeout;
    let deliver = |kind: TrackerKind| match tracking.tracker(kind, run_folder, facts, environment) {
        Ok(tracker) => {
            let mut follower = Follower::new(tracker, run_folder, facts);
            let done = follower.is_done(status);
            let result =
                if done { Ok(()) } else { flush(&mut follower, status, deadline, Pace::default(), true) };
            delivery(&follower, result)
        }
        Err(problem) => {
            let waiting = follower::waiting(run_folder, kind.as_str(), "");
            Delivery { tracker: kind.as_str(), delivered: 0, waiting, problem: Some(problem) }
        }
    };
    tracking.report_to.iter().map(|&kind| deliver(kind)).collect()
}

/// What a thread holds.
struct Thread {
    follower: Follower,
    pace: Pace,
    tell: Sender<Event>,
    /// Whether the last call found nobody there.
    away: bool,
}

impl Thread {
    /// Follows until asked to end, until nobody is left to ask, or until the tracker refuses.
    fn run(mut self, asked: &Receiver<End>) -> Delivery {
        let mut retry = self.pace.first_retry;
        loop {
            let pause = match self.follower.advance() {
                Ok(more) => {
                    self.tell_recovery();
                    retry = self.pace.first_retry;
                    if more { Duration::ZERO } else { self.pace.look }
                }
                Err(Failure::Unavailable(problem)) => {
                    self.tell_away(&problem);
                    let pause = retry;
                    retry = (retry * 2).min(self.pace.last_retry);
                    pause
                }
                Err(Failure::Refused(problem)) => {
                    let name = self.follower.name();
                    self.tell(Event::warning(format!("{name}: {problem}; nothing more is sent to it")));
                    return delivery(&self.follower, Err(problem));
                }
            };
            match asked.recv_timeout(pause) {
                Ok(End { status, deadline }) => {
                    // Whoever was away the whole time gets one more chance, not all the time there is.
                    let patient = !self.away;
                    let result = flush(&mut self.follower, status, deadline, self.pace, patient);
                    if result.is_ok() {
                        self.tell_recovery();
                    }
                    return delivery(&self.follower, result);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return delivery(&self.follower, Err("the run was given up".to_owned()));
                }
            }
        }
    }

    fn tell_away(&mut self, problem: &str) {
        if !std::mem::replace(&mut self.away, true) {
            let name = self.follower.name();
            self.tell(Event::warning(format!(
                "{name}: {problem}; rows wait in the run's folder and are sent as soon as that works"
            )));
        }
    }

    fn tell_recovery(&mut self) {
        if std::mem::replace(&mut self.away, false) {
            self.tell(Event::info(format!("{}: works again", self.follower.name())));
        }
        if let Some(note) = self.follower.note.take() {
            self.tell(Event::warning(format!("{}: {note}", self.follower.name())));
        }
    }

    fn tell(&self, event: Event) {
        // Nobody may be left to hear it.
        let _ = self.tell.send(event);
    }
}

/// Delivers all that is there and the end of the run; a patient one tries again until the deadline.
fn flush(
    follower: &mut Follower,
    status: Status,
    deadline: Instant,
    pace: Pace,
    patient: bool,
) -> Result<(), String> {
    let mut retry = pace.first_retry;
    loop {
        let result = match follower.advance() {
            Ok(true) if Instant::now() >= deadline => return Err("no time was left".to_owned()),
            Ok(true) => continue,
            Ok(false) => follower.end(status),
            Err(failure) => Err(failure),
        };
        match result {
            Ok(()) => return Ok(()),
            Err(Failure::Unavailable(_)) if patient && Instant::now() + retry < deadline => {
                thread::sleep(retry)
            }
            Err(Failure::Unavailable(problem) | Failure::Refused(problem)) => return Err(problem),
        }
        retry = (retry * 2).min(pace.last_retry);
    }
}

fn delivery(follower: &Follower, result: Result<(), String>) -> Delivery {
    Delivery {
        tracker: follower.name(),
        delivered: follower.delivered,
        waiting: follower.waiting(),
        problem: result.err(),
    }
}
