//! Runs as listings show them: their order, how they stand, what they cost so far.

use std::sync::Mutex;

use nexa_core::artifact::Kind;
use nexa_core::cost::{Entry, Ledger};
use nexa_core::run::{self, Run, RunRecord, State, Status};
use nexa_core::stage::{Context, Inputs, Stage, StageError};
use nexa_core::{Diagnose, Error, ExitCode};
use serde_json::Value;

use crate::support::{TestLab, Writer};

const UNFINISHED: &str = "time of the unfinished attempt";

fn tokens(usd: Option<f64>) -> Entry {
    Entry::Tokens { model: "m".to_owned(), requests: 1, prompt_tokens: 10, completion_tokens: 5, usd }
}

/// Spends, then looks at the runs while it is at work.
#[derive(Default)]
struct Looker(Mutex<Vec<Run>>);

impl Stage for Looker {
    fn name(&self) -> &'static str {
        "test.look"
    }

    fn kind(&self) -> Kind {
        Kind::Dataset
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        context.spend(&tokens(Some(0.25)))?;
        *self.0.lock().unwrap() = run::list(context.services.lab)?.complete()?;
        Err(Error::Interrupted.into())
    }
}

#[test]
fn a_run_at_work_shows_what_its_ledger_tells() {
    let lab = TestLab::new();
    let stage = Looker::default();
    lab.execute(&stage, "rows", &Inputs::none()).unwrap_err();
    let seen = stage.0.into_inner().unwrap().remove(0);
    assert_eq!((seen.state, seen.record.spend.usd, seen.record.spend.requests), (State::Running, 0.25, 1));
    assert_eq!(seen.record.spend.unknown, [UNFINISHED], "the time of the attempt is unknown, not 0");
    let ended = Run::find(&lab.lab, &seen.record.id).unwrap();
    assert_eq!((ended.state, ended.record.spend.usd), (State::Interrupted, 0.25));
    assert_eq!(ended.record.spend.unknown, ["machine time"]);
}

/// Turns a finished run into one whose process is gone.
fn kill(lab: &TestLab) -> RunRecord {
    lab.made(&Writer::new("one"), "rows", &Inputs::none());
    let mut record = run::list(&lab.lab).unwrap().found.remove(0).record;
    record.status = Status::Running;
    record.spend = nexa_core::cost::Spend { unknown: vec![UNFINISHED.to_owned()], ..Default::default() };
    record.write(&run::folder(&lab.lab, &record.id)).unwrap();
    record
}

#[test]
fn a_killed_run_is_told_from_one_at_work_and_keeps_what_it_spent() {
    let lab = TestLab::new();
    let record = kill(&lab);
    let mut ledger = Ledger::open(&run::folder(&lab.lab, &record.id)).unwrap();
    ledger.append(&tokens(Some(0.5))).unwrap();
    ledger.append(&tokens(None)).unwrap();
    let killed = Run::find(&lab.lab, &record.id).unwrap();
    assert_eq!(
        (killed.state, killed.record.spend.usd, killed.record.spend.requests),
        (State::Killed, 0.5, 2)
    );
    assert_eq!(killed.record.spend.unknown, ["machine time", UNFINISHED, "tokens of m"]);
    assert_eq!(serde_json::to_value(&killed).unwrap()["state"], "killed");
    assert_eq!(run::list(&lab.lab).unwrap().complete().unwrap(), [killed]);
}

#[test]
fn runs_are_listed_newest_first_beside_what_cannot_be_read() {
    let lab = TestLab::new();
    for text in ["one", "two", "three"] {
        lab.made(&Writer::new(text), "rows", &Inputs::none());
    }
    let listed = run::list(&lab.lab).unwrap().complete().unwrap();
    let versions: Vec<_> = listed.iter().map(|run| run.record.output.as_ref().unwrap().version).collect();
    assert_eq!(versions, [3, 2, 1]);

    std::fs::create_dir(lab.lab.runs_folder().join("no-record")).unwrap();
    let broken = run::folder(&lab.lab, &listed[1].record.id).join("run.json");
    std::fs::write(&broken, "{").unwrap();
    let scan = run::list(&lab.lab).unwrap();
    assert_eq!((scan.found.len(), scan.problems.len()), (2, 1));
    assert_eq!(scan.problems[0].path, broken);
    assert!(matches!(scan.complete(), Err(Error::Malformed { .. })));
    assert_eq!(Run::find(&lab.lab, &listed[1].record.id).unwrap_err().exit_code(), ExitCode::Input);
}

#[test]
fn a_ledger_that_cannot_be_read_hides_no_run() {
    let lab = TestLab::new();
    let record = kill(&lab);
    let ledger = run::folder(&lab.lab, &record.id).join("ledger.jsonl");
    std::fs::write(&ledger, "broken\n").unwrap();
    let scan = run::list(&lab.lab).unwrap();
    assert_eq!(scan.problems[0].path, ledger);
    assert_eq!(
        (scan.found[0].state, scan.found[0].record.spend.unknown.as_slice()),
        (State::Killed, &[UNFINISHED.to_owned()][..])
    );
    assert!(Run::find(&lab.lab, &record.id).is_err());
}

#[test]
fn a_run_that_is_not_there_says_how_to_find_one() {
    let lab = TestLab::new();
    let error = Run::find(&lab.lab, &"no-such-run".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "find run `no-such-run`");
    assert!(error.hint().unwrap().contains("nexa runs list"));
}
