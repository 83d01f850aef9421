//! A lab of its own, with a data set and checkpoints.

use std::path::Path;
use std::sync::{Arc, Mutex};

use nexa_core::artifact::{Artifact, Kind, Store};
use nexa_core::env::Environment;
use nexa_core::event::{Cancel, Event, EventSink};
use nexa_core::lab::{Lab, Project};
use nexa_core::stage::{self, Context, Inputs, Outcome, Request, Services, Stage, StageError};
use nexa_core::table::JsonLines;
use nexa_eval::Evaluate;
use nexa_eval::evaluate::Config;
use serde_json::{Value, json};

use crate::adder::Adder;

/// A stage that writes given files, and states some things in its manifest.
struct Make {
    kind: Kind,
    files: Vec<(&'static str, String)>,
    states: Vec<(&'static str, String)>,
}

impl Stage for Make {
    fn name(&self) -> &'static str {
        "make"
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!([self.files, self.states])
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        for (name, text) in &self.files {
            nexa_core::files::write_atomic(&context.output.join(name), text.as_bytes())?;
        }
        for (name, value) in &self.states {
            context.state(name, value)?;
        }
        Ok(())
    }
}

/// Keeps the lines that a stage tells.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<Event>>);

impl EventSink for Told {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

pub(crate) struct Bench {
    folder: tempfile::TempDir,
    lab: Lab,
    project: Project,
    told: Told,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::init(folder.path(), Some("sums")).unwrap();
        let project = lab.project("sums").unwrap();
        Self { folder, lab, project, told: Told::default() }
    }

    pub(crate) fn store(&self) -> Store<'_> {
        Store::new(&self.lab)
    }

    /// The warnings so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let told = self.told.0.lock().unwrap();
        told.iter()
            .filter_map(|event| match event {
                Event::Warning { message } => Some(message.clone()),
                _ => None,
            })
            .collect()
    }

    /// The progress events so far: done and total.
    pub(crate) fn progress(&self) -> Vec<(u64, Option<u64>)> {
        let told = self.told.0.lock().unwrap();
        told.iter()
            .filter_map(|event| match event {
                Event::Progress { done, total, .. } => Some((*done, *total)),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn execute(
        &self,
        stage: &dyn Stage,
        name: &str,
        inputs: &Inputs,
        cancel: &Cancel,
        force: bool,
    ) -> Result<Outcome, StageError> {
        // A run asks `git` for the commit, and while that process starts it holds the locks that were open: in another
        // thread a run that goes on at once would find its own lock taken.
        static ONE_RUN: Mutex<()> = Mutex::new(());
        let _one_run = ONE_RUN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let environment = Environment::default();
        let services = Services {
            lab: &self.lab,
            environment: &environment,
            tables: &JsonLines,
            events: &self.told,
            cancel,
        };
        stage::execute(stage, &services, &Request { project: &self.project, name, inputs, force })
    }

    pub(crate) fn make(&self, kind: Kind, name: &str, files: Vec<(&'static str, String)>) -> Artifact {
        self.make_of(kind, name, files, &Inputs::none(), Vec::new())
    }

    /// An artifact of given files, made from others, with what its manifest states.
    pub(crate) fn make_of(
        &self,
        kind: Kind,
        name: &str,
        files: Vec<(&'static str, String)>,
        inputs: &Inputs,
        states: Vec<(&'static str, String)>,
    ) -> Artifact {
        let outcome = self.execute(&Make { kind, files, states }, name, inputs, &Cancel::default(), false);
        outcome.unwrap().artifact().clone()
    }

    pub(crate) fn checkpoint(&self, name: &str) -> Artifact {
        self.make(Kind::Checkpoint, name, vec![("name", name.to_owned())])
    }

    /// A data set whose test split asks for `0 + 1` to `n-1 + 1`, the even ones of domain `even`.
    pub(crate) fn sums(&self, n: usize) -> Artifact {
        self.dataset("sums_sft", &(0..n).map(sum).collect::<Vec<_>>())
    }

    pub(crate) fn dataset(&self, name: &str, rows: &[Value]) -> Artifact {
        let lines = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
        let train = [json!({"domain": "even"}), json!({"domain": "even"}), json!({"domain": "odd"})];
        self.make(Kind::SftDataset, name, vec![("test.jsonl", lines(rows)), ("train.jsonl", lines(&train))])
    }

    /// Evaluates a checkpoint named `name` that behaves like `model`.
    pub(crate) fn evaluate(&self, name: &str, model: &Adder, dataset: &Artifact, config: Config) -> Artifact {
        self.try_evaluate(name, model, dataset, config, &Cancel::default()).unwrap()
    }

    pub(crate) fn try_evaluate(
        &self,
        name: &str,
        model: &Adder,
        dataset: &Artifact,
        config: Config,
        cancel: &Cancel,
    ) -> Result<Artifact, StageError> {
        let inputs =
            Inputs::none().with("checkpoint", self.checkpoint(name)).with("sft_dataset", dataset.clone());
        let stage = Evaluate::new(config, self.root(), Arc::new(model.clone()))?;
        self.execute(&stage, &format!("{name}_eval"), &inputs, cancel, false)
            .map(|made| made.artifact().clone())
    }

    /// The rows of an artifact's table.
    pub(crate) fn rows(&self, artifact: &Artifact, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(artifact.file(file).unwrap()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }
}

/// The row that asks for `a + 1`.
pub(crate) fn sum(a: usize) -> Value {
    let domain = if a.is_multiple_of(2) { "even" } else { "odd" };
    json!({
        "id": format!("sum-{a}"), "group": format!("g{a}"), "domain": domain,
        "messages": [
            {"role": "user", "content": format!("{a} + 1?")},
            {"role": "assistant", "content": format!("{a} + 1 = {}\n#### {}", a + 1, a + 1)},
        ],
        "reference": (a + 1).to_string(),
    })
}
