//! Training as its callers see it: files in, files out, and the same bits whatever happens in between.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nexa_core::event::{Cancel, Event, EventSink, NoEvents};
use nexa_core::lm::{ChatMessage, Feed, LanguageModel, Role};
use nexa_model::{ChatTokenizer, Checkpoint, LocalModel};
use nexa_train::{Config, Error, Inputs, ModelConfig, Outcome, initialise, train};

/// A run's folders and inputs.
struct Lab {
    folder: tempfile::TempDir,
    inputs: Inputs,
}

impl Lab {
    /// Writes a tokenizer and samples: additions of small numbers.
    fn new(samples: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pairs: Vec<(String, String)> = (0..samples)
            .map(|i| (format!("What is {i} plus {}?", i % 7), format!("It is {}.", i + i % 7)))
            .collect();
        let texts: Vec<&String> = pairs.iter().flat_map(|(question, answer)| [question, answer]).collect();
        let tokenizer = folder.path().join("tokenizer");
        std::fs::create_dir(&tokenizer).expect("creates");
        ChatTokenizer::train(&texts, 280).expect("trains").save(&tokenizer).expect("saves");
        let lines: String = pairs
            .iter()
            .map(|(question, answer)| line(&[("user", question), ("assistant", answer)]))
            .collect();
        let file = folder.path().join("train.jsonl");
        std::fs::write(&file, lines).expect("writes");
        Self { inputs: Inputs { train: file, validation: None, tokenizer }, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).expect("creates");
        path
    }

    /// Runs with a workspace and an output of this name.
    fn train(
        &self,
        config: &Config,
        name: &str,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<Outcome, Error> {
        let (workspace, output) = (self.path(name), self.path(&format!("{name}-output")));
        train(config, &self.inputs, &workspace, &output, events, cancel)
    }

    fn finish(&self, config: &Config, name: &str) -> Outcome {
        self.train(config, name, &NoEvents, &Cancel::default()).expect("trains")
    }

    /// Returns what must be the same to the last bit: the weights and the metrics.
    fn result(&self, name: &str) -> (Vec<u8>, String) {
        let weights =
            std::fs::read(self.path(&format!("{name}-output")).join("model.safetensors")).expect("reads");
        (weights, std::fs::read_to_string(self.path(name).join("metrics.jsonl")).expect("reads"))
    }
}

fn line(messages: &[(&str, &str)]) -> String {
    let messages: Vec<_> = messages
        .iter()
        .map(|(role, content)| serde_json::json!({ "role": role, "content": content }))
        .collect();
    format!("{}\n", serde_json::json!({ "messages": messages, "id": 7 }))
}

fn config() -> Config {
    Config {
        model: ModelConfig {
            hidden_size: 32,
            intermediate_size: 48,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            ..ModelConfig::default()
        },
        sequence_len: 64,
        micro_batch_size: 3,
        gradient_accumulation_steps: 2,
        max_steps: Some(23),
        learning_rate: 5e-3,
        warmup_steps: 4,
        val_set_size: 5.0,
        logging_steps: 4,
        eval_steps: 6,
        save_steps: 5,
        ..Config::default()
    }
}

/// Does something when a step is reported, once.
struct At<F: FnMut()> {
    step: u64,
    action: Mutex<Option<F>>,
}

impl<F: FnMut()> At<F> {
    fn new(step: u64, action: F) -> Self {
        Self { step, action: Mutex::new(Some(action)) }
    }
}

impl<F: FnMut() + Send> EventSink for At<F> {
    fn emit(&self, event: Event) {
        if let Event::Progress { done, .. } = event
            && done == self.step
            && let Some(mut action) = self.action.lock().expect("not poisoned").take()
        {
            action();
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creates");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copies");
    }
}

#[test]
fn resuming_after_a_cancel_equals_straight_through() {
    let lab = Lab::new(40);
    let straight = lab.finish(&config(), "straight");
    for step in [1, 5, 6, 13, 22] {
        let name = format!("cancelled-{step}");
        let cancel = Cancel::default();
        let asking = cancel.clone();
        let events = At::new(step, move || asking.cancel());
        let error = lab.train(&config(), &name, &events, &cancel).expect_err("was cancelled");
        assert!(matches!(error, Error::Interrupted { step: at } if at == step), "{error}");
        let resumed = lab.finish(&config(), &name);
        assert_eq!(lab.result(&name), lab.result("straight"), "cancelled at step {step}");
        assert_eq!(Outcome { seconds: 0.0, ..resumed }, Outcome { seconds: 0.0, ..straight.clone() });
    }
    // A run that is finished gives its result again.
    lab.finish(&config(), "straight");
    assert_eq!(lab.result("straight"), lab.result("cancelled-13"));
}

#[test]
fn resuming_after_a_kill_equals_straight_through() {
    let lab = Lab::new(40);
    lab.finish(&config(), "straight");
    for step in [2, 8, 16, 21] {
        // What stands on the disk in the middle of a run is what a kill leaves: a state some steps old, and metrics
        // that are ahead of it.
        let (name, running) = (format!("killed-{step}"), format!("running-{step}"));
        let (from, to) = (lab.path(&running), lab.path(&name));
        let copy = At::new(step, move || copy_folder(&from, &to));
        lab.train(&config(), &running, &copy, &Cancel::default()).expect("trains");
        std::fs::write(lab.path(&name).join(".tmp-half"), b"a half-written state").expect("writes");
        let before = std::fs::read_to_string(lab.path(&name).join("metrics.jsonl")).expect("reads");
        assert!(!before.is_empty());
        lab.finish(&config(), &name);
        assert_eq!(lab.result(&name), lab.result("straight"), "killed at step {step}");
    }
}

#[test]
fn threads_and_workers_change_no_bit() {
    let lab = Lab::new(40);
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("starts threads");
        pool.install(|| lab.finish(&config(), &format!("threads-{threads}")));
    }
    assert_eq!(lab.result("threads-2"), lab.result("threads-1"));
    assert_eq!(lab.result("threads-3"), lab.result("threads-1"));
    let other = Config { seed: 43, ..config() };
    lab.finish(&other, "other");
    assert_ne!(lab.result("other").0, lab.result("threads-1").0);
}

#[test]
fn micro_batches_weigh_by_their_trained_tokens() {
    let lab = Lab::new(40);
    let with = |micro_batch_size, gradient_accumulation_steps| Config {
        micro_batch_size,
        gradient_accumulation_steps,
        max_steps: Some(3),
        ..config()
    };
    let whole = lab.finish(&with(12, 1), "whole");
    let parts = lab.finish(&with(1, 12), "parts");
    assert_eq!((whole.tokens, whole.trained_tokens), (parts.tokens, parts.trained_tokens));
    let (a, b) = (whole.validation_loss.expect("validated"), parts.validation_loss.expect("validated"));
    assert!((a - b).abs() < 1e-4, "{a} and {b}");
}

#[test]
fn one_batch_is_learned_by_heart_and_said_back() {
    let lab = Lab::new(4);
    let config = Config {
        micro_batch_size: 4,
        gradient_accumulation_steps: 1,
        max_steps: Some(300),
        learning_rate: 1e-2,
        val_set_size: 0.0,
        ..config()
    };
    let outcome = lab.finish(&config, "run");
    assert!(outcome.first_loss > 4.0 && outcome.last_loss < 0.02, "{outcome:?}");
    assert_eq!(outcome.validation_loss, None);

    let mut model = LocalModel::load(&lab.path("run-output")).expect("loads");
    let tokenizer = model.tokenizer();
    for (question, expected) in [("What is 3 plus 3?", "It is 6."), ("What is 0 plus 0?", "It is 0.")] {
        let sequence = model.open();
        let mut feed = tokenizer.encode_prompt(&[ChatMessage::new(Role::User, question)]).expect("renders");
        let mut answer = Vec::new();
        while answer.len() < 30 {
            let logits = model.step(&[Feed { sequence, token_ids: &feed }]).expect("fits").remove(0);
            let best =
                (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a token") as u32;
            if tokenizer.stop_tokens().contains(&best) {
                break;
            }
            answer.push(best);
            feed = vec![best];
        }
        assert_eq!(tokenizer.decode(&answer).expect("decodes"), expected);
    }
}

#[test]
fn metrics_have_a_row_where_the_config_says() {
    let lab = Lab::new(40);
    let outcome = lab.finish(&config(), "run");
    let rows: Vec<serde_json::Value> =
        lab.result("run").1.lines().map(|row| serde_json::from_str(row).expect("JSON")).collect();
    let steps = |key: &str| -> Vec<u64> {
        rows.iter().filter(|row| row.get(key).is_some()).filter_map(|row| row["step"].as_u64()).collect()
    };
    assert_eq!(steps("loss"), [1, 4, 8, 12, 16, 20, 23]);
    assert_eq!(steps("val_loss"), [6, 12, 18, 23]);
    assert_eq!(rows[rows.len() - 1]["val_loss"].as_f64(), outcome.validation_loss);
    assert!(rows[1]["grad_norm"].as_f64().expect("a number") > 0.0);
    assert_eq!(outcome.steps, 23);
    assert!((outcome.epochs - 23.0 * 6.0 / 35.0).abs() < 1e-12);
}

#[test]
fn the_untrained_model_is_the_one_that_training_starts_from() {
    let lab = Lab::new(10);
    let config =
        Config { max_steps: Some(1), warmup_steps: 0, learning_rate: 1e-12, val_set_size: 0.0, ..config() };
    lab.finish(&config, "run");
    let start = lab.path("start");
    initialise(&config, &lab.inputs.tokenizer, &start, config.seed).expect("writes");
    let load = |folder: &Path| Checkpoint::load(folder).expect("loads").weights;
    let (trained, untrained) = (load(&lab.path("run-output")), load(&start));
    for (a, b) in trained.values().iter().flatten().zip(untrained.values().iter().flatten()) {
        assert!((a - b).abs() < 1e-6);
    }
}

#[test]
fn samples_that_cannot_be_trained_on_are_counted_and_bad_lines_are_named() {
    struct Warnings(Mutex<Vec<String>>);
    impl EventSink for Warnings {
        fn emit(&self, event: Event) {
            if let Event::Warning { message } = event {
                self.0.lock().expect("not poisoned").push(message);
            }
        }
    }
    let mut lab = Lab::new(10);
    let good = std::fs::read_to_string(&lab.inputs.train).expect("reads");
    let long = "a long story ".repeat(30);
    let extra = [line(&[("user", "alone")]), line(&[("user", &long), ("assistant", "yes")]), "\n".to_owned()]
        .concat();
    lab.inputs.train = lab.folder.path().join("more.jsonl");
    let short = Config { max_steps: Some(1), ..config() };
    let run = |text: &str, name: &str| {
        std::fs::write(&lab.inputs.train, text).expect("writes");
        let events = Warnings(Mutex::default());
        let result = lab.train(&short, name, &events, &Cancel::default()).map_err(|error| error.to_string());
        (result, events.0.into_inner().expect("not poisoned").join("\n"))
    };
    let (result, warnings) = run(&format!("{good}{extra}"), "some");
    assert!(result.is_ok(), "{result:?}");
    let expected = "of 12 samples, 1 are longer than `sequence_len` (64), 1 have no turn to be trained; they are left out";
    assert!(warnings.ends_with(expected), "{warnings}");
    let error = run(&extra, "none").0.expect_err("no samples");
    assert!(error.contains("none of 2 samples can be trained on: 1 are longer"), "{error}");
    let error = run(&format!("{good}{{\"messages\": 3}}\n"), "bad").0.expect_err("bad line");
    assert!(error.contains("more.jsonl:11: column `messages` is not a list"), "{error}");
}

#[test]
fn a_state_of_another_run_is_refused() {
    let lab = Lab::new(40);
    lab.finish(&config(), "run");
    let other = Config { learning_rate: 1e-3, ..config() };
    let error = lab.train(&other, "run", &NoEvents, &Cancel::default()).expect_err("another run").to_string();
    assert!(error.contains("state.safetensors: the saved state is of another run"), "{error}");
    let state = lab.path("run").join("state.safetensors");
    let whole = std::fs::read(&state).expect("reads");
    std::fs::write(&state, &whole[..whole.len() / 2]).expect("writes");
    let error =
        lab.train(&config(), "run", &NoEvents, &Cancel::default()).expect_err("a torn state").to_string();
    assert!(error.contains("state.safetensors: "), "{error}");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let lab = Lab::new(10);
    let wild =
        Config { learning_rate: 1e3, warmup_steps: 0, max_steps: Some(400), max_grad_norm: 0.0, ..config() };
    let wild = Config { model: ModelConfig { initializer_range: Some(1e15), ..wild.model.clone() }, ..wild };
    let error = lab.train(&wild, "run", &NoEvents, &Cancel::default()).expect_err("diverges");
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
}
