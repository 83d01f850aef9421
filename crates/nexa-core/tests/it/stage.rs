//! Skipping, resuming, locking and committing.

use nexa_core::artifact::{Kind, Store};
use nexa_core::run::{self, Status};
use nexa_core::stage::{Inputs, Outcome};
use nexa_core::{Error, ExitCode, files};

use crate::support::{Meeting, TestLab, Writer};

#[test]
fn work_of_the_same_key_is_done_once() {
    let lab = TestLab::new();
    let stage = Writer::new("one");
    let made = lab.made(&stage, "rows", &Inputs::none());
    assert_eq!(made.id().to_string(), "tutor/rows_v1");
    assert!(
        matches!(lab.execute(&stage, "rows", &Inputs::none()), Ok(Outcome::UpToDate(again)) if again == made)
    );
    assert_eq!(stage.runs(), 1);
}

#[test]
fn whatever_changes_the_result_makes_a_new_version() {
    let lab = TestLab::new();
    let none = Inputs::none();
    lab.made(&Writer::new("one"), "rows", &none);
    assert_eq!(lab.made(&Writer::new("two"), "rows", &none).id().version, 2, "config");
    let newer = Writer { code_version: 2, ..Writer::new("two") };
    assert_eq!(lab.made(&newer, "rows", &none).id().version, 3, "code version");

    let outside = lab.lab.root().join("outside.txt");
    std::fs::write(&outside, "a").unwrap();
    let reader = Writer { outside: vec![outside.clone()], ..Writer::new("two") };
    assert_eq!(lab.made(&reader, "rows", &none).id().version, 4, "a file from outside");
    std::fs::write(&outside, "b").unwrap();
    assert_eq!(lab.made(&reader, "rows", &none).id().version, 5, "its content");

    let (one, two) =
        (lab.made(&Writer::new("in 1"), "in", &none), lab.made(&Writer::new("in 2"), "in", &none));
    let join = Writer::new("join");
    assert_eq!(lab.made(&join, "joined", &none.clone().with("rows", one)).id().version, 1);
    assert_eq!(lab.made(&join, "joined", &none.with("rows", two)).id().version, 2, "an input's content");
}

#[test]
fn force_makes_a_new_version_of_equal_content() {
    let lab = TestLab::new();
    let stage = Writer::new("one");
    let first = lab.made(&stage, "rows", &Inputs::none());
    let Outcome::Made(second) = lab.execute_with(&stage, "rows", &Inputs::none(), true).unwrap() else {
        panic!("was up to date")
    };
    assert_eq!(second.id().version, 2);
    assert_eq!(first.manifest.content_hash, second.manifest.content_hash);
}

#[test]
fn a_stopped_run_goes_on_with_what_it_kept() {
    let lab = TestLab::new();
    let stage = Writer { failures: 2, ..Writer::new("one") };
    for _ in 0..2 {
        let error = lab.execute(&stage, "rows", &Inputs::none()).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Interrupted);
    }
    let stopped = run::all(&lab.lab).unwrap();
    assert_eq!((stopped.len(), stopped[0].status), (1, Status::Interrupted));
    assert!(Store::new(&lab.lab).of_project("tutor").unwrap().is_empty(), "no artifact from a stopped run");

    let artifact = lab.made(&stage, "rows", &Inputs::none());
    assert_eq!(artifact.manifest.summary["found_earlier_work"], true);
    let runs = run::all(&lab.lab).unwrap();
    assert_eq!((runs.len(), runs[0].status, runs[0].attempts.len()), (1, Status::Finished, 3));
    assert_eq!((runs[0].spend.usd, runs[0].spend.requests), (0.5, 2), "what earlier attempts paid counts");
    assert_eq!(artifact.manifest.spend, runs[0].spend);
    assert_eq!(runs[0].spend.unknown, ["machine time"], "a machine without a price does not cost 0");
}

#[test]
fn every_attempt_leaves_a_report_of_what_was_done_and_what_it_cost() {
    let lab = TestLab::new();
    let stage = Writer { failures: 1, ..Writer::new("one") };
    lab.execute(&stage, "rows", &Inputs::none()).unwrap_err();
    let record = run::all(&lab.lab).unwrap().remove(0);
    let report = || files::read_text(&run::folder(&lab.lab, &record.id).join(run::report::FILE)).unwrap();
    assert!(report().contains("- status: interrupted\n"), "{}", report());
    assert!(!report().contains("## Result"), "{}", report());
    let made = lab.made(&stage, "rows", &Inputs::none());
    let hash = made.manifest.content_hash.as_str();
    for expected in [
        "- status: finished\n",
        "`tutor/rows_v1`",
        hash,
        "- attempts: 2\n",
        "| this machine |",
        "text: one",
        "## Where",
    ] {
        assert!(report().contains(expected), "{expected}: {}", report());
    }
}

#[test]
fn a_run_that_was_killed_after_its_commit_is_closed_by_the_next_call() {
    let lab = TestLab::new();
    let stage = Writer::new("one");
    let made = lab.made(&stage, "rows", &Inputs::none());
    // As a kill between the manifest and the record leaves it: the run at work, its pointer in place.
    let mut record = run::all(&lab.lab).unwrap().remove(0);
    record.status = Status::Running;
    record.output = None;
    record.spend = nexa_core::cost::Spend::default();
    record.write(&run::folder(&lab.lab, &record.id)).unwrap();
    let pointer = lab.only_pointer();
    files::write_json(&pointer, &serde_json::json!({"run": record.id})).unwrap();

    assert!(matches!(lab.execute(&stage, "rows", &Inputs::none()), Ok(Outcome::UpToDate(_))));
    let record = run::all(&lab.lab).unwrap().remove(0);
    assert_eq!((record.status, record.output.as_ref()), (Status::Finished, Some(made.id())));
    assert_eq!(record.spend, made.manifest.spend, "what it cost is not lost");
    assert!(!pointer.exists());
    assert_eq!(stage.runs(), 1);
}

#[test]
fn a_run_that_is_being_worked_on_is_left_alone() {
    let lab = TestLab::new();
    let (started, is_started) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel();
    let stage = Writer { meeting: Some(Meeting::new(started, released)), ..Writer::new("one") };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| lab.made(&stage, "rows", &Inputs::none()));
        is_started.recv().unwrap();
        assert!(run::all(&lab.lab).unwrap()[0].is_alive(&lab.lab));
        let error = lab.execute(&Writer::new("one"), "rows", &Inputs::none()).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Busy);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        // The same work under another name is work of its own.
        let other = lab.made(&Writer::new("one"), "copy", &Inputs::none());
        assert_eq!(other.id().name, "copy");
        release.send(()).unwrap();
        assert_eq!(first.join().unwrap().id().name, "rows");
    });
    assert!(run::all(&lab.lab).unwrap().iter().all(|run| run.status == Status::Finished));
}

#[test]
fn an_attempt_that_was_killed_after_its_time_was_charged_is_charged_once() {
    let lab = TestLab::new();
    let stage = Writer { failures: 1, ..Writer::new("one") };
    lab.execute(&stage, "rows", &Inputs::none()).unwrap_err();
    let mut record = run::all(&lab.lab).unwrap().remove(0);
    record.status = Status::Running;
    record.attempts[0].ended_at = None;
    record.write(&run::folder(&lab.lab, &record.id)).unwrap();
    lab.made(&stage, "rows", &Inputs::none());
    let ledger = run::folder(&lab.lab, &record.id).join("ledger.jsonl");
    let entries: Vec<serde_json::Value> = files::read_lines(&ledger).unwrap();
    let times = entries.iter().filter(|entry| entry.to_string().contains("machine")).count();
    assert_eq!(times, 2, "one for each attempt: {entries:?}");
}

#[test]
fn a_broken_index_does_not_stop_the_work_that_it_lists() {
    let lab = TestLab::new();
    let database = lab.lab.state_folder().join("lab.db");
    files::remove(&database).unwrap();
    files::create_folder(&database).unwrap();
    let made = lab.made(&Writer::new("one"), "rows", &Inputs::none());
    made.verify().unwrap();
    assert!(nexa_core::index::Index::open(&lab.lab).is_err());
}

#[test]
fn a_changed_input_is_refused() {
    let lab = TestLab::new();
    let input = lab.made(&Writer::new("one"), "rows", &Inputs::none());
    std::fs::write(input.file("jsonl").unwrap(), "oNe").unwrap();
    let error = lab.execute(&Writer::new("two"), "next", &Inputs::none().with("rows", input)).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Integrity);
    assert!(error.to_string().contains("rows_v1.jsonl"), "{error}");
}

#[test]
fn a_lost_file_is_made_again() {
    let lab = TestLab::new();
    let stage = Writer::new("one");
    let made = lab.made(&stage, "rows", &Inputs::none());
    files::remove(&made.file("jsonl").unwrap()).unwrap();
    assert_eq!(lab.made(&stage, "rows", &Inputs::none()).id().version, 2);
}

#[test]
fn files_without_a_manifest_are_replaced() {
    let lab = TestLab::new();
    let folder = lab.lab.root().join(Kind::Checkpoint.folder("tutor"));
    files::write_atomic(&folder.join("model_v1/half.bin"), b"left by a crash").unwrap();
    let stage = Writer { kind: Kind::Checkpoint, ..Writer::new("one") };
    let made = lab.made(&stage, "model", &Inputs::none());
    assert_eq!(made.id().version, 1);
    assert_eq!(files::walk(&made.path()).unwrap(), [std::path::PathBuf::from("jsonl")]);
    made.verify().unwrap();
}

#[test]
fn a_name_belongs_to_one_kind() {
    let lab = TestLab::new();
    lab.made(&Writer::new("one"), "rows", &Inputs::none());
    let other = Writer { kind: Kind::Filtered, ..Writer::new("two") };
    let error = lab.execute(&other, "rows", &Inputs::none()).unwrap_err();
    assert!(error.to_string().contains("has a dataset of that name"), "{error}");
    let error = lab.execute(&other, "no/path", &Inputs::none()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Config);
}

#[test]
fn artifacts_are_found_by_what_people_write() {
    let lab = TestLab::new();
    lab.made(&Writer::new("one"), "rows", &Inputs::none());
    let newest = lab.made(&Writer::new("two"), "rows", &Inputs::none());
    let store = Store::new(&lab.lab);
    let check = |text: &str, version: u32| {
        assert_eq!(store.resolve("tutor", text).unwrap().id().version, version, "{text}");
    };
    check("tutor/rows_v1", 1);
    check("rows_v1", 1);
    check("rows", 2);
    check(newest.file("jsonl").unwrap().to_str().unwrap(), 2);
    check(newest.manifest_path().to_str().unwrap(), 2);
    assert!(matches!(store.resolve("tutor", "nothing"), Err(Error::NotFound { .. })));
}
