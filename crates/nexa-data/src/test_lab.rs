//! A lab in a temporary folder, for the tests of this crate.

use std::path::PathBuf;
use std::sync::Mutex;

use nexa_core::artifact::Kind;
use nexa_core::env::Environment;
use nexa_core::event::{Cancel, Event, EventSink};
use nexa_core::lab::Lab;
use nexa_core::stage::{Context, Inputs, Outcome, Request, Services, Stage, StageError, execute};

use crate::tables::FileTables;

/// A lab with the project `tutor`, which remembers what stages told.
pub(crate) struct TestLab {
    pub(crate) lab: Lab,
    pub(crate) events: Recorder,
    pub(crate) cancel: Cancel,
    folder: tempfile::TempDir,
}

impl TestLab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
        Self { lab, events: Recorder::default(), cancel: Cancel::default(), folder }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        nexa_core::files::write_atomic(&self.path(relative), content.as_ref()).unwrap();
    }

    pub(crate) fn execute(
        &self,
        stage: &dyn Stage,
        name: &str,
        inputs: &Inputs,
    ) -> Result<Outcome, StageError> {
        let services = Services {
            lab: &self.lab,
            environment: &Environment::default(),
            tables: &FileTables,
            events: &self.events,
            cancel: &self.cancel,
        };
        let project = self.lab.project("tutor")?;
        execute(stage, &services, &Request { project: &project, name, inputs, force: false })
    }
}

/// Keeps every event.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// The warnings so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        events
            .iter()
            .filter_map(|event| match event {
                Event::Warning { message } => Some(message.clone()),
                _ => None,
            })
            .collect()
    }
}

impl EventSink for Recorder {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// A stage that makes an artifact of given files.
pub(crate) struct Files {
    pub(crate) kind: Kind,
    pub(crate) files: Vec<(&'static str, &'static str)>,
}

impl Stage for Files {
    fn name(&self) -> &'static str {
        "test.files"
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!(self.files)
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        for (name, content) in &self.files {
            nexa_core::files::write_atomic(&context.output.join(name), content.as_bytes())?;
        }
        Ok(())
    }
}
