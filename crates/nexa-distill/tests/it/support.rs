//! A lab in a temporary folder, and a stage that puts rows into it.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::env::Environment;
use nexa_core::event::{Cancel, Event, EventSink};
use nexa_core::lab::{LAB_FILE, Lab, Project};
use nexa_core::stage::{self, Context, Inputs, Request, Services, Stage, StageError};
use nexa_core::table::{JsonLines, Row, Tables};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct TestLab {
    pub(crate) folder: TempDir,
    pub(crate) lab: Lab,
    pub(crate) project: Project,
    pub(crate) environment: Environment,
    pub(crate) cancel: Cancel,
}

impl TestLab {
    pub(crate) fn new() -> Self {
        Self::with("", "")
    }

    /// A lab with more settings in `nexa.yaml`, and variables as of a `.env`.
    pub(crate) fn with(settings: &str, variables: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LAB_FILE), format!("lab_version: 1\n{settings}")).unwrap();
        let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join(".env"), variables).unwrap();
        let environment = Environment::load(elsewhere.path()).unwrap();
        let project = lab.project("tutor").unwrap();
        Self { folder, lab, project, environment, cancel: Cancel::default() }
    }

    pub(crate) fn execute(
        &self,
        stage: &dyn Stage,
        name: &str,
        inputs: &Inputs,
    ) -> Result<Artifact, StageError> {
        self.execute_watched(stage, name, inputs, &nexa_core::event::NoEvents)
    }

    pub(crate) fn execute_watched(
        &self,
        stage: &dyn Stage,
        name: &str,
        inputs: &Inputs,
        events: &dyn EventSink,
    ) -> Result<Artifact, StageError> {
        let services = Services {
            lab: &self.lab,
            environment: &self.environment,
            tables: &JsonLines,
            events,
            cancel: &self.cancel,
        };
        let request = Request { project: &self.project, name, inputs, force: false };
        Ok(stage::execute(stage, &services, &request)?.artifact().clone())
    }

    /// Puts rows into the lab.
    pub(crate) fn put(&self, kind: Kind, name: &str, rows: Vec<Row>) -> Artifact {
        self.execute(&Rows { kind, rows }, name, &Inputs::none()).unwrap()
    }

    /// Puts prompts with these texts into the lab, as `distill.inputs` makes them.
    pub(crate) fn put_prompts(&self, prompts: &[String]) -> Inputs {
        let rows = prompts.iter().enumerate().map(|(n, prompt)| {
            let row = json!({
                "id": format!("p{n}"), "group": format!("g{n}"), "domain": null, "template_name": "plain",
                "system_prompt": null, "user_prompt": prompt, "reference": null, "source_file": "a.jsonl",
            });
            row.as_object().unwrap().clone()
        });
        Inputs::none().with("inputs", self.put(Kind::TeacherInputs, "prompts", rows.collect()))
    }
}

/// Rows of a file of an artifact.
pub(crate) fn rows(artifact: &Artifact, file: &str) -> Vec<Row> {
    JsonLines.read(&artifact.file(file).unwrap()).unwrap()
}

/// Stops the work once so many answers are there.
pub(crate) struct CancelAt {
    pub(crate) cancel: Cancel,
    pub(crate) answers: u64,
}

impl EventSink for CancelAt {
    fn emit(&self, event: Event) {
        if let Event::Progress { done, .. } = event
            && done >= self.answers
        {
            self.cancel.cancel();
        }
    }
}

struct Rows {
    kind: Kind,
    rows: Vec<Row>,
}

impl Stage for Rows {
    fn name(&self) -> &'static str {
        "test.rows"
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!({ "rows": self.rows })
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(JsonLines.write(&context.output.join("parquet"), &self.rows)?)
    }
}
