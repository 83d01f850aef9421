//! A lab in a temporary folder, and a stage that puts rows into it.

use std::path::PathBuf;
use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::env::Environment;
use nexa_core::event::{Cancel, Event, EventSink};
use nexa_core::lab::{LAB_FILE, Lab, Project};
use nexa_core::lm::{self, ChatMessage, EncodedChat, Role, Tokenizer, TokenizerLoader};
use nexa_core::run;
use nexa_core::stage::{self, Context, Inputs, Request, Services, Stage, StageError};
use nexa_core::table::{JsonLines, Row, Tables};
use nexa_distill::collect::{Collect, Config};
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
        Self::with("", &[])
    }

    /// A lab with more settings in `nexa.yaml`, and these variables alone, whatever those of the process are.
    pub(crate) fn with(settings: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LAB_FILE), format!("lab_version: 1\n{settings}")).unwrap();
        let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
        let environment = Environment::of(variables.iter().copied());
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
        let services = self.services(events);
        let request = Request { project: &self.project, name, inputs, force: false };
        Ok(stage::execute(stage, &services, &request)?.artifact().clone())
    }

    /// Runs a stage that makes `answers`, and has it die once so many answers are there.
    pub(crate) fn die(&self, stage: &dyn Stage, inputs: &Inputs, answers: u64) {
        let run = || self.execute_watched(stage, "answers", inputs, &DieAt { answers });
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
    }

    /// The folder of the run that made an artifact.
    pub(crate) fn run_folder(&self, artifact: &Artifact) -> PathBuf {
        run::folder(&self.lab, &artifact.manifest.producer.run)
    }

    /// The folder of the unfinished run of a stage that makes `answers`.
    pub(crate) fn open_run_folder(&self, stage: &dyn Stage, inputs: &Inputs) -> PathBuf {
        let events = nexa_core::event::NoEvents;
        let services = self.services(&events);
        let request = Request { project: &self.project, name: "answers", inputs, force: false };
        stage::unfinished_run(stage, &services, &request).unwrap().unwrap()
    }

    fn services<'a>(&'a self, events: &'a dyn EventSink) -> Services<'a> {
        Services {
            lab: &self.lab,
            environment: &self.environment,
            tables: &JsonLines,
            events,
            cancel: &self.cancel,
        }
    }

    /// Puts rows into the lab.
    pub(crate) fn put(&self, kind: Kind, name: &str, rows: Vec<Row>) -> Artifact {
        self.execute(&Rows { kind, rows }, name, &Inputs::none()).unwrap()
    }

    /// Puts an evaluation of a model into the lab, with these predictions.
    pub(crate) fn put_evaluation(&self, model: &str, rows: Vec<Row>) -> Artifact {
        self.execute(&Predictions { model: model.to_owned(), rows }, "evaluation", &Inputs::none()).unwrap()
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

/// A row of a JSON object.
pub(crate) fn object(value: Value) -> Row {
    value.as_object().unwrap().clone()
}

/// Opens a tokenizer of words, whatever the folder holds: each word is a token, and each turn has two more. It renders no
/// conversation with the word `unrenderable`.
pub(crate) struct Words;

impl TokenizerLoader for Words {
    fn load_tokenizer(&self, _: &std::path::Path) -> Result<Arc<dyn Tokenizer>, lm::Error> {
        Ok(Arc::new(Self))
    }
}

impl Tokenizer for Words {
    fn vocab_size(&self) -> usize {
        3
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, lm::Error> {
        Ok(text.split_whitespace().map(|_| 2).collect())
    }

    fn decode(&self, token_ids: &[u32]) -> Result<String, lm::Error> {
        Ok("word ".repeat(token_ids.len()))
    }

    fn token_bytes(&self, _: u32) -> Option<Vec<u8>> {
        None
    }

    fn is_special(&self, _: u32) -> bool {
        false
    }

    fn encode_prompt(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, lm::Error> {
        Ok(self.encode_chat(messages)?.token_ids)
    }

    fn encode_chat(&self, messages: &[ChatMessage]) -> Result<EncodedChat, lm::Error> {
        let mut chat = EncodedChat::default();
        for message in messages {
            if message.content.contains("unrenderable") {
                return Err(lm::Error::Tokenizer("the template refuses it".to_owned()));
            }
            let words = self.encode(&message.content)?;
            chat.trained.extend(std::iter::repeat_n(message.role == Role::Assistant, words.len() + 2));
            chat.token_ids.push(0);
            chat.token_ids.extend(words);
            chat.token_ids.push(1);
        }
        Ok(chat)
    }

    fn prefix_token(&self) -> u32 {
        0
    }

    fn stop_tokens(&self) -> &[u32] {
        &[1]
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

/// Dies once so many answers are there, as if the process were killed: nothing after that is written.
pub(crate) struct DieAt {
    pub(crate) answers: u64,
}

impl EventSink for DieAt {
    fn emit(&self, event: Event) {
        if let Event::Progress { done, .. } = event
            && done >= self.answers
        {
            // Unlike a panic of the test's own, this one is expected, and says nothing on the screen.
            std::panic::resume_unwind(Box::new("died"));
        }
    }
}

/// So many prompts that differ.
pub(crate) fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("question {n:03}")).collect()
}

/// The stage that asks a teacher, four calls at a time.
pub(crate) fn collect(teacher: &str, change: impl FnOnce(&mut Config)) -> Collect {
    let mut config = Config { teacher: teacher.to_owned(), max_concurrent_requests: 4, ..Config::default() };
    change(&mut config);
    Collect::new(config, &Environment::of([])).unwrap()
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

struct Predictions {
    model: String,
    rows: Vec<Row>,
}

impl Stage for Predictions {
    fn name(&self) -> &'static str {
        "test.predictions"
    }

    fn kind(&self) -> Kind {
        Kind::Evaluation
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!({ "model": self.model, "rows": self.rows })
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        context.state("model", &self.model)?;
        Ok(JsonLines.write(&context.output.join("predictions.parquet"), &self.rows)?)
    }
}
