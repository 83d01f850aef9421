//! MLflow over loopback: away, back, refusing, forgetful.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nexa_core::env::Environment;
use nexa_core::run::Status;

use super::server::{Server, State};
use super::{Told, cut, facts, train};
use crate::trackers::mlflow::Mlflow;
use crate::trackers::worker::Pace;
use crate::trackers::{Delivery, MlflowConfig, Tracker, TrackerKind, Trackers, Tracking, deliver};

/// Longer than any test needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn tracking(address: SocketAddr) -> Tracking {
    let mlflow = MlflowConfig {
        tracking_uri: Some(format!("http://{address}/")),
        experiment_name: Some("e".to_owned()),
    };
    Tracking { report_to: vec![TrackerKind::Mlflow], mlflow, ..Tracking::default() }
}

fn start<'a>(folder: &Path, address: SocketAddr, told: &'a Told) -> Trackers<'a> {
    let mlflow = Mlflow::new(&tracking(address).mlflow, &facts(), &Environment::default()).unwrap();
    let trackers: Vec<Box<dyn Tracker>> = vec![Box::new(mlflow)];
    let millisecond = Duration::from_millis(1);
    let pace = Pace { look: millisecond, first_retry: millisecond, last_retry: millisecond };
    Trackers::follow(folder, trackers, &facts(), told, pace)
}

fn send(folder: &Path, address: SocketAddr, timeout: Duration) -> Delivery {
    let environment = Environment::default();
    deliver(folder, &tracking(address), &facts(), &environment, Status::Finished, timeout).remove(0)
}

/// The steps of the losses that a server was sent, in their order.
fn losses(state: &Mutex<State>) -> Vec<u64> {
    let state = state.lock().unwrap();
    state.metrics.iter().filter(|metric| metric.0 == "loss").map(|metric| metric.1).collect()
}

#[test]
fn rows_wait_for_a_server_that_is_away_and_arrive_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (told, state) = (Told::default(), Arc::default());
    let address = Server::free_address();
    train(folder.path(), 1..=500, 1.0);
    let trackers = start(folder.path(), address, &told);
    let warning = format!("{:?}", trackers.next_event());
    assert!(warning.contains("Warning") && warning.contains("cannot be reached"), "{warning}");

    let server = Server::start(address, &state);
    let recovery = format!("{:?}", trackers.next_event());
    assert!(recovery.contains("mlflow: works again"), "{recovery}");
    train(folder.path(), 501..=600, 1.0);
    let delivery = trackers.finish(Status::Finished, PATIENCE).remove(0);
    drop(server);
    assert_eq!((delivery.waiting, delivery.problem), (0, None));
    assert_eq!(losses(&state), (1..=600).collect::<Vec<_>>());
    let state = state.lock().unwrap();
    assert_eq!(state.runs, ["run0"]);
    assert_eq!(state.statuses, ["FINISHED"]);
    assert!(state.params.contains(&("model.hidden_size".to_owned(), "128".to_owned())), "{:?}", state.params);
    // 600 rows, times and rates, and 300 validations.
    assert_eq!(state.metrics.len(), 600 * 3 + 300);
}

#[test]
fn what_was_not_delivered_in_time_is_told_and_delivered_later() {
    let folder = tempfile::tempdir().unwrap();
    let (told, state) = (Told::default(), Arc::default());
    let address = Server::free_address();
    let trackers = start(folder.path(), address, &told);
    train(folder.path(), 1..=3, 1.0);
    trackers.next_event();
    let delivery = trackers.finish(Status::Finished, PATIENCE).remove(0);
    assert_eq!((delivery.delivered, delivery.waiting), (0, 7));
    assert!(
        told.text().contains("`nexa runs track 20261124-153012-train-k3f9` sends them"),
        "{}",
        told.text()
    );

    assert_eq!(send(folder.path(), address, Duration::ZERO).waiting, 7);
    let server = Server::start(address, &state);
    for delivered in [7, 0] {
        let delivery = send(folder.path(), address, PATIENCE);
        assert_eq!((delivery.delivered, delivery.waiting, delivery.problem), (delivered, 0, None));
    }
    drop(server);
    assert_eq!(losses(&state), [1, 2, 3]);
    assert_eq!(state.lock().unwrap().statuses, ["FINISHED"]);
}

#[test]
fn a_lost_answer_makes_no_second_run_and_no_other_point() {
    let folder = tempfile::tempdir().unwrap();
    let state: Arc<Mutex<State>> = Arc::default();
    state.lock().unwrap().mute = vec!["runs/create", "runs/log-batch", "runs/update"];
    let server = Server::start("127.0.0.1:0".parse().unwrap(), &state);
    train(folder.path(), 1..=3, 1.0);
    let delivery = send(folder.path(), server.address, PATIENCE);
    assert_eq!((delivery.waiting, delivery.problem), (0, None));
    let state = state.lock().unwrap();
    assert_eq!(state.runs, ["run0"]);
    let mut points = state.metrics.iter().map(|point| format!("{point:?}")).collect::<Vec<_>>();
    points.sort();
    points.dedup();
    assert_eq!(points.len(), 3 * 3 + 1, "equal points count once: {points:?}");
}

#[test]
fn a_batch_whose_arrival_a_killed_attempt_never_heard_of_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let state: Arc<Mutex<State>> = Arc::default();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), &state);
    // The first batch holds the parameters; the answer to that with the metrics is lost, and there is no time left.
    train(folder.path(), 1..=2, 1.0);
    assert_eq!(send(folder.path(), server.address, PATIENCE).problem, None);
    state.lock().unwrap().mute = vec!["runs/log-batch"];
    train(folder.path(), 3..=9, 1.0);
    assert_eq!(send(folder.path(), server.address, Duration::ZERO).delivered, 0);
    assert_eq!(losses(&state).last(), Some(&9));
    // The resumed run cuts the logs and takes another time for the same steps.
    cut(folder.path(), 5);
    train(folder.path(), 6..=12, 2.0);
    assert_eq!(send(folder.path(), server.address, PATIENCE).problem, None);
    assert_eq!(losses(&state), (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_refusal_ends_the_sending_with_one_warning() {
    let check = |status: u16, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (told, state) = (Told::default(), Arc::<Mutex<State>>::default());
        state.lock().unwrap().refuse_with = Some(status);
        let server = Server::start("127.0.0.1:0".parse().unwrap(), &state);
        train(folder.path(), 1..=3, 1.0);
        let trackers = start(folder.path(), server.address, &told);
        let warning = format!("{:?}", trackers.next_event());
        assert!(warning.contains(expected) && warning.contains("nothing more is sent"), "{warning}");
        let delivery = trackers.finish(Status::Finished, PATIENCE).remove(0);
        assert_eq!((delivery.delivered, delivery.waiting), (0, 7));
        assert_eq!(state.lock().unwrap().calls.len(), 1, "it is asked once");
    };
    check(401, "MLFLOW_TRACKING_TOKEN");
    check(400, "not for you");
    check(302, "points to");
}

#[test]
fn a_server_that_forgot_the_run_gets_everything_again() {
    let folder = tempfile::tempdir().unwrap();
    let state: Arc<Mutex<State>> = Arc::default();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), &state);
    train(folder.path(), 1..=3, 1.0);
    assert_eq!(send(folder.path(), server.address, PATIENCE).delivered, 7);
    *state.lock().unwrap() = State { prefix: "new-", ..State::default() };
    train(folder.path(), 4..=4, 1.0);
    assert_eq!(send(folder.path(), server.address, PATIENCE).delivered, 10);
    assert_eq!(losses(&state), [1, 2, 3, 4]);
}

#[test]
fn a_tracker_without_an_address_is_left_out_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let told = Told::default();
    let tracking = Tracking { report_to: vec![TrackerKind::Mlflow], ..Tracking::default() };
    let trackers = Trackers::start(folder.path(), &tracking, &facts(), &told, &Environment::default());
    assert_eq!(trackers.finish(Status::Finished, PATIENCE), []);
    assert!(told.text().contains("set `mlflow.tracking_uri` or MLFLOW_TRACKING_URI"), "{}", told.text());
}
