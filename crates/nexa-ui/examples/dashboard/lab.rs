//! A small lab that never ran: made through the same door as a real one, so that its files are of the real form.

use std::path::Path;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::cost::Entry;
use nexa_core::env::Environment;
use nexa_core::event::{Cancel, Event, NoEvents};
use nexa_core::files::LineLog;
use nexa_core::lab::Lab;
use nexa_core::run::RunRecord;
use nexa_core::stage::{Context, Inputs, Request, Services, Stage, StageError, execute};
use nexa_core::table::JsonLines;
use serde_json::{Value, json};

/// The project of the lab.
pub(crate) const PROJECT: &str = "arithmetic_tutor";

type Work = Box<dyn Fn(&Context<'_>) -> Result<(), StageError> + Send + Sync>;

/// A stage that does what it is given.
pub(crate) struct Fake {
    name: &'static str,
    kind: Kind,
    config: Value,
    work: Work,
}

impl Fake {
    /// Makes one.
    pub(crate) fn new(
        name: &'static str,
        kind: Kind,
        config: Value,
        work: impl Fn(&Context<'_>) -> Result<(), StageError> + Send + Sync + 'static,
    ) -> Self {
        Self { name, kind, config, work: Box::new(work) }
    }

    /// Runs it in a lab.
    pub(crate) fn run(&self, lab: &Lab, name: &str, inputs: &Inputs) -> Result<Artifact, StageError> {
        let (environment, cancel) = (Environment::default(), Cancel::default());
        let services = Services {
            lab,
            environment: &environment,
            tables: &JsonLines,
            events: &NoEvents,
            cancel: &cancel,
        };
        let project = lab.project(PROJECT)?;
        let request = Request { project: &project, name, inputs, force: false };
        Ok(execute(self, &services, &request)?.artifact().clone())
    }
}

impl Stage for Fake {
    fn name(&self) -> &'static str {
        self.name
    }
    fn kind(&self) -> Kind {
        self.kind
    }
    fn code_version(&self) -> u32 {
        1
    }
    fn config(&self) -> Value {
        self.config.clone()
    }
    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        (self.work)(context)
    }
}

/// Makes the lab in a folder.
pub(crate) fn fabricate(folder: &Path) -> Result<Lab, StageError> {
    let lab = Lab::init(folder, Some(PROJECT))?;
    let dataset = dataset().run(&lab, "problems", &Inputs::none())?;
    let outputs = collect().run(&lab, "teacher_outputs", &Inputs::none().with("dataset", dataset.clone()))?;
    let filtered = filter().run(&lab, "filtered", &Inputs::none().with("teacher_outputs", outputs))?;
    let small = train(2, 1e-3).run(&lab, "student", &Inputs::none().with("sft_dataset", filtered.clone()))?;
    let large = train(4, 2e-3).run(&lab, "student", &Inputs::none().with("sft_dataset", filtered))?;
    for (model, wrong_every) in [(small, 3), (large, 7)] {
        let inputs = Inputs::none().with("checkpoint", model).with("dataset", dataset.clone());
        evaluate(wrong_every).run(&lab, "evaluation", &inputs)?;
    }
    // The last run fails; that is what it is for.
    let broken = Fake::new("train", Kind::Checkpoint, json!({ "learning_rate": 10.0 }), |context| {
        log_metrics(context, 40, |step| json!({ "step": step, "loss": 3.0 * 1.2_f64.powi(step as i32) }))?;
        Err(nexa_core::Error::config("train.yaml", "`learning_rate`: the loss is not finite at step 40")
            .into())
    });
    if broken.run(&lab, "broken", &Inputs::none()).is_ok() {
        return Err(nexa_core::Error::config("fabricated lab", "the broken run did not fail").into());
    }
    kill_one(&lab)?;
    Ok(lab)
}

fn row(index: u64) -> Value {
    let (a, b) = (index * 37 % 90 + 10, index * 53 % 80 + 11);
    let domain = ["addition", "subtraction", "multiplication"][(index % 3) as usize];
    let (sign, reference) = match index % 3 {
        0 => ("+", (a + b) as i64),
        1 => ("-", a as i64 - b as i64),
        _ => ("×", (a * b) as i64),
    };
    let prompt = match index {
        4 => "What is <script>alert('unescaped')</script> & <b>5 + 5</b>?".to_owned(),
        _ => format!(
            "Mira has {a} marbles. What is {a} {sign} {b}? Show each step, then give the answer on its own line."
        ),
    };
    json!({ "id": format!("problem-{index:04}"), "domain": domain, "user_prompt": prompt, "reference": reference.to_string() })
}

/// A row with what a teacher answered.
fn answered(index: u64) -> Value {
    let mut row = row(index);
    row["teacher_output"] =
        Value::from(format!("First the tens, then the ones.\nThe answer is {}.", row["reference"]));
    row["finish_reason"] = Value::from(if index.is_multiple_of(17) { "length" } else { "stop" });
    row["completion_tokens"] = Value::from(14 + index % 9);
    row
}

fn dataset() -> Fake {
    Fake::new("data.ingest", Kind::Dataset, json!({ "source": "generated", "rows": 180 }), |context| {
        write_rows(context, "jsonl", (0..180).map(row))?;
        context.set_tokens(5230);
        Ok(())
    })
}

fn collect() -> Fake {
    let config = json!({ "teacher": "openai:gpt-4o", "samples": 1, "temperature": 0.7 });
    Fake::new("distill.collect", Kind::TeacherOutputs, config, |context| {
        write_rows(context, "jsonl", (0..180).map(answered))?;
        let (prompt_tokens, completion_tokens) = (12_400, 30_100);
        context.spend(&Entry::Tokens {
            model: "openai/gpt-4o".to_owned(),
            requests: 180,
            prompt_tokens,
            completion_tokens,
            usd: Some(0.332),
        })?;
        Ok(())
    })
}

fn filter() -> Fake {
    Fake::new("distill.filter", Kind::Filtered, json!({ "gates": ["finished", "answer"] }), |context| {
        let (kept, rejected): (Vec<_>, Vec<_>) =
            (0..180_u64).map(|index| (index, answered(index))).partition(|(i, _)| i % 6 != 0);
        write_rows(context, "jsonl", kept.into_iter().map(|(_, row)| row))?;
        let rejected = rejected.into_iter().map(|(index, mut row)| {
            let (gate, reason) = match index % 12 {
                0 => ("answer", "final answer 7, not the reference"),
                _ => ("finished", "the answer was cut off"),
            };
            row["rejection_gate"] = Value::from(gate);
            row["rejection_reason"] = Value::from(reason);
            row
        });
        write_rows(context, "rejected.jsonl", rejected)?;
        context.set_rows(150);
        context.state("funnel", json!({ "teacher outputs": 180, "finished": 165, "answer": 150 }))?;
        context.state(
            "gates",
            json!([
                { "gate": "finished", "seen": 180, "rejected": 15, "share": 0.0833 },
                { "gate": "answer", "seen": 165, "rejected": 15, "share": 0.0909 },
            ]),
        )?;
        Ok(())
    })
}

fn train(layers: u64, learning_rate: f64) -> Fake {
    let config = json!({
        "model": { "num_hidden_layers": layers, "hidden_size": 64 },
        "learning_rate": learning_rate, "max_steps": 2000, "micro_batch_size": 8,
    });
    Fake::new("train", Kind::Checkpoint, config, move |context| {
        let floor = 0.9 / layers as f64;
        log_metrics(context, 2000, |step| {
            let x = step as f64;
            let noise = ((x * 12.9898).sin() * 43758.547).fract() * 0.12;
            let loss = floor + 2.6 * (-x / 350.0).exp() + noise + if step == 1200 { 1.4 } else { 0.0 };
            let mut row = json!({
                "step": step, "tokens": step * 512, "epoch": x / 400.0, "loss": loss,
                "learning_rate": learning_rate * (x / 100.0).min(1.0) * (1.0 - x / 2100.0),
                "grad_norm": 0.4 + 3.0 * (-x / 200.0).exp() + noise.abs(),
            });
            if step % 200 == 0 {
                row["val_loss"] = Value::from(floor + 0.08 + 2.7 * (-x / 360.0).exp());
            }
            row
        })?;
        context.emit(Event::progress(2000, Some(2000), "steps", "loss 0.312  8,120 tokens/s"));
        std::fs::write(context.output.join("model.safetensors"), vec![0_u8; 4096])
            .map_err(|e| nexa_core::Error::io("write", context.output, e))?;
        std::fs::write(context.output.join("config.json"), "{}")
            .map_err(|e| nexa_core::Error::io("write", context.output, e))?;
        context.state("val_loss", floor + 0.09)?;
        Ok(())
    })
}

fn evaluate(wrong_every: u64) -> Fake {
    Fake::new(
        "evaluate",
        Kind::Evaluation,
        json!({ "split": "test", "wrong_every": wrong_every }),
        move |context| {
            let rows = (0..90_u64).map(|index| {
            let source = row(index);
            let correct = index % wrong_every != 0;
            let prediction = if correct { source["reference"].clone() } else { Value::from("7") };
            json!({
                "id": source["id"], "domain": source["domain"], "prompt": source["user_prompt"],
                "reference": source["reference"], "output": format!("The answer is {prediction}."),
                "prediction": prediction, "correct": correct, "logprob_nats": -4.25, "tokens": 6, "bytes": 14,
            })
        });
            write_rows(context, "jsonl", rows)
        },
    )
}

fn write_rows(
    context: &Context<'_>,
    name: &str,
    rows: impl Iterator<Item = Value>,
) -> Result<(), StageError> {
    let rows: Vec<_> = rows.filter_map(|row| row.as_object().cloned()).collect();
    context.services.tables.write(&context.output.join(name), &rows)?;
    context.set_rows(rows.len() as u64);
    Ok(())
}

fn log_metrics(context: &Context<'_>, steps: u64, row: impl Fn(u64) -> Value) -> Result<(), StageError> {
    let mut log = LineLog::open(&context.workspace.join("metrics.jsonl"))?;
    for step in 0..steps {
        log.append(&row(step))?;
    }
    Ok(())
}

/// Turns the failed run into one whose process vanished: its record says that it is at work, but nobody holds its lock.
fn kill_one(lab: &Lab) -> Result<(), StageError> {
    let failed = nexa_core::run::all(lab)?.into_iter().find(|run| run.name == "broken");
    if let Some(failed) = failed {
        let mut killed: RunRecord = failed;
        killed.id = "20260101-000000-train-dead".parse()?;
        killed.status = nexa_core::run::Status::Running;
        killed.exit_reason = None;
        killed.ended_at = None;
        killed.attempts.iter_mut().for_each(|attempt| attempt.ended_at = None);
        let folder = nexa_core::run::folder(lab, &killed.id);
        nexa_core::files::create_folder(&folder)?;
        killed.write(&folder)?;
    }
    Ok(())
}
