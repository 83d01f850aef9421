//! A lab in a temporary folder, and a stage that can be told to fail.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::cost::Entry;
use nexa_core::env::Environment;
use nexa_core::event::{Cancel, NoEvents};
use nexa_core::lab::{Lab, Project};
use nexa_core::stage::{self, Context, Inputs, Outcome, Request, Services, Stage, StageError};
use nexa_core::table::JsonLines;
use nexa_core::{Error, files};
use serde_json::{Value, json};

pub(crate) struct TestLab {
    _folder: tempfile::TempDir,
    pub(crate) lab: Lab,
    pub(crate) project: Project,
    environment: Environment,
    cancel: Cancel,
}

impl TestLab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
        let project = lab.project("tutor").unwrap();
        Self { _folder: folder, lab, project, environment: Environment::default(), cancel: Cancel::default() }
    }

    pub(crate) fn services(&self) -> Services<'_> {
        Services {
            lab: &self.lab,
            environment: &self.environment,
            tables: &JsonLines,
            events: &NoEvents,
            cancel: &self.cancel,
        }
    }

    pub(crate) fn execute(
        &self,
        stage: &dyn Stage,
        name: &str,
        inputs: &Inputs,
    ) -> Result<Outcome, StageError> {
        self.execute_with(stage, name, inputs, false)
    }

    pub(crate) fn execute_with(
        &self,
        stage: &dyn Stage,
        name: &str,
        inputs: &Inputs,
        force: bool,
    ) -> Result<Outcome, StageError> {
        let request = Request { project: &self.project, name, inputs, force };
        stage::execute(stage, &self.services(), &request)
    }

    /// The pointer of the only piece of work so far; its lock has the same name.
    pub(crate) fn only_pointer(&self) -> PathBuf {
        let locks = files::walk(&self.lab.state_folder().join("locks")).unwrap();
        let work: Vec<_> = locks.iter().filter(|name| *name != std::path::Path::new("commit")).collect();
        assert_eq!(work.len(), 1, "{work:?}");
        self.lab.state_folder().join("active").join(work[0]).with_extension("json")
    }

    pub(crate) fn made(&self, stage: &dyn Stage, name: &str, inputs: &Inputs) -> Artifact {
        match self.execute(stage, name, inputs).unwrap() {
            Outcome::Made(artifact) => artifact,
            Outcome::UpToDate(artifact) => panic!("{} was up to date", artifact.id()),
        }
    }
}

/// Where a stage says that it has begun, and waits until it may go on.
pub(crate) struct Meeting {
    started: Mutex<Sender<()>>,
    released: Mutex<Receiver<()>>,
}

impl Meeting {
    pub(crate) fn new(started: Sender<()>, released: Receiver<()>) -> Self {
        Self { started: Mutex::new(started), released: Mutex::new(released) }
    }
}

/// Writes `text` to `jsonl`. Counts its runs, and fails after keeping work as often as it is told to.
pub(crate) struct Writer {
    pub(crate) text: String,
    pub(crate) kind: Kind,
    pub(crate) code_version: u32,
    pub(crate) outside: Vec<PathBuf>,
    pub(crate) failures: usize,
    pub(crate) meeting: Option<Meeting>,
    pub(crate) runs: AtomicUsize,
}

impl Writer {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            kind: Kind::Dataset,
            code_version: 1,
            outside: Vec::new(),
            failures: 0,
            meeting: None,
            runs: AtomicUsize::new(0),
        }
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

impl Stage for Writer {
    fn name(&self) -> &'static str {
        "test.write"
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn code_version(&self) -> u32 {
        self.code_version
    }

    fn config(&self) -> Value {
        json!({"text": self.text})
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        self.outside.clone()
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        if let Some(meeting) = &self.meeting {
            meeting.started.lock().unwrap().send(()).unwrap();
            meeting.released.lock().unwrap().recv().unwrap();
        }
        let kept = context.workspace.join("kept.txt");
        if run < self.failures {
            files::write_atomic(&kept, b"paid for")?;
            context.spend(&Entry::Tokens {
                model: "m".to_owned(),
                requests: 1,
                prompt_tokens: 10,
                completion_tokens: 5,
                usd: Some(0.25),
            })?;
            return Err(Error::Interrupted.into());
        }
        let found = kept.is_file();
        files::write_atomic(&context.output.join("jsonl"), self.text.as_bytes())?;
        context.set_rows(1);
        context.state("found_earlier_work", found)?;
        Ok(())
    }
}
