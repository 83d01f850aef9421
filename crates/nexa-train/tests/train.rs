//! Training as its callers see it: files in, files out, and the same bits whatever happens in between.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nexa_core::event::{Cancel, Event, EventSink, NoEvents};
use nexa_core::lm::{ChatMessage, Feed, LanguageModel, Role, Tokenizer as _};
use nexa_core::table::JsonLines;
use nexa_model::{ChatTokenizer, Checkpoint, LocalModel};
use nexa_train::{
    Config, End, Error, Inputs, ModelConfig, Optimizer, Outcome, Session, initialise, train, verify,
};

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
        let inputs = Inputs {
            train: vec![file.into()],
            validation: Vec::new(),
            tokenizer: Some(tokenizer),
            base: None,
            base_name: None,
            teacher: None,
            cache: folder.path().join("cache"),
        };
        Self { inputs, folder }
    }

    fn tokenizer(&self) -> PathBuf {
        self.folder.path().join("tokenizer")
    }

    /// The file of the samples.
    fn data(&self) -> &Path {
        &self.inputs.train[0].path
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
        let session = Session { events, ..Session::silent(&workspace, &output, cancel, &JsonLines) };
        train(config, &self.inputs, &session)
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
        sequence_len: Some(64),
        micro_batch_size: 3,
        gradient_accumulation_steps: 2,
        max_steps: Some(23),
        learning_rate: Some(5e-3),
        warmup_steps: Some(4),
        val_set_size: 5.0,
        logging_steps: 4,
        eval_steps: Some(6),
        save_steps: Some(5),
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

/// Keeps the warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    fn text(&self) -> String {
        self.0.lock().expect("not poisoned").join("\n")
    }
}

impl EventSink for Warnings {
    fn emit(&self, event: Event) {
        if let Event::Warning { message } = event {
            self.0.lock().expect("not poisoned").push(message);
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for name in nexa_core::files::walk(from).expect("lists") {
        std::fs::create_dir_all(to.join(&name).parent().expect("a folder")).expect("creates");
        std::fs::copy(from.join(&name), to.join(&name)).expect("copies");
    }
}

/// The names in a folder of a run, sorted; those of temporary files are among them.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("lists").file_name();
    let mut names: Vec<String> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
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
        let comparison =
            verify::compare_runs(&lab.path(&name), &lab.path("straight")).expect("two finished runs");
        assert_eq!(comparison.to_string(), "identical");
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
        let half_written = lab.path(&format!("{name}/state")).join("step-99.tmp");
        std::fs::write(half_written, b"a half-written state").expect("writes");
        let before = std::fs::read_to_string(lab.path(&name).join("metrics.jsonl")).expect("reads");
        assert!(!before.is_empty());
        lab.finish(&config(), &name);
        assert_eq!(lab.result(&name), lab.result("straight"), "killed at step {step}");
        for folder in ["state", "checkpoints"] {
            let names = |run: &str| names(&lab.path(run).join(folder));
            assert_eq!(names(&name), names("straight"), "{folder} after a kill at step {step}");
        }
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
    let loss = |outcome: &Outcome| outcome.validation.expect("validated").loss;
    let (a, b) = (loss(&whole), loss(&parts));
    assert!((a - b).abs() < 1e-4, "{a} and {b}");
}

#[test]
fn one_batch_is_learned_by_heart_and_said_back() {
    let lab = Lab::new(4);
    let config = Config {
        micro_batch_size: 4,
        gradient_accumulation_steps: 1,
        max_steps: Some(300),
        learning_rate: Some(1e-2),
        val_set_size: 0.0,
        ..config()
    };
    let outcome = lab.finish(&config, "run");
    assert!(outcome.first_loss > 4.0 && outcome.last_loss < 0.02, "{outcome:?}");
    assert_eq!((outcome.validation, outcome.best), (None, None));

    let mut model = LocalModel::load(&lab.path("run-output")).expect("loads");
    let tokenizer = model.tokenizer();
    for (question, expected) in [("What is 3 plus 3?", "It is 6."), ("What is 0 plus 0?", "It is 0.")] {
        let sequence = model.open(&[]).sequence;
        let mut feed = tokenizer.encode_prompt(&[ChatMessage::new(Role::User, question)]).expect("renders");
        let mut answer = Vec::new();
        while answer.len() < 30 {
            let logits = model.step(&[Feed::new(sequence, &feed)]).expect("fits").remove(0);
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
    assert_eq!(rows[rows.len() - 1]["val_loss"].as_f64(), outcome.validation.map(|last| last.loss));
    assert_eq!(rows[0]["padding_waste"], 0.0);
    assert_eq!(rows[rows.len() - 2]["trained_tokens"].as_u64(), Some(outcome.trained_tokens));
    assert!(rows[1]["grad_norm"].as_f64().expect("a number") > 0.0);
    assert_eq!(outcome.steps, 23);
    assert!((outcome.epochs - 23.0 * 6.0 / 35.0).abs() < 1e-12);
}

#[test]
fn the_untrained_model_is_the_one_that_training_starts_from() {
    let lab = Lab::new(10);
    let config = Config {
        max_steps: Some(1),
        warmup_steps: Some(0),
        learning_rate: Some(1e-12),
        val_set_size: 0.0,
        ..config()
    };
    lab.finish(&config, "run");
    let start = lab.path("start");
    initialise(&config, &lab.tokenizer(), &start, config.seed).expect("writes");
    let load = |folder: &Path| Checkpoint::load(folder).expect("loads").weights;
    let (trained, untrained) = (load(&lab.path("run-output")), load(&start));
    for (a, b) in
        trained.values().iter().flat_map(|v| v.iter()).zip(untrained.values().iter().flat_map(|v| v.iter()))
    {
        assert!((a - b).abs() < 1e-6);
    }
}

#[test]
fn samples_that_cannot_be_trained_on_are_counted_and_bad_lines_are_named() {
    let mut lab = Lab::new(10);
    let good = std::fs::read_to_string(lab.data()).expect("reads");
    let long = "a long story ".repeat(30);
    let extra = [line(&[("user", "alone")]), line(&[("user", &long), ("assistant", "yes")]), "\n".to_owned()]
        .concat();
    lab.inputs.train = vec![lab.folder.path().join("more.jsonl").into()];
    let short = Config { max_steps: Some(1), ..config() };
    let run = |text: &str, name: &str| {
        std::fs::write(lab.data(), text).expect("writes");
        let events = Warnings::default();
        let result = lab.train(&short, name, &events, &Cancel::default()).map_err(|error| error.to_string());
        (result, events.text())
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
fn every_optimizer_resumes_to_the_same_bits() {
    let lab = Lab::new(40);
    for optimizer in [Optimizer::Adafactor, Optimizer::Muon] {
        let config = Config { optimizer, max_steps: Some(9), ..config() };
        let (straight, name) = (format!("{optimizer:?}"), format!("{optimizer:?}-cancelled"));
        let outcome = lab.finish(&config, &straight);
        assert!(outcome.last_loss < outcome.first_loss, "{optimizer:?}: {outcome:?}");
        let cancel = Cancel::default();
        let asking = cancel.clone();
        let events = At::new(7, move || asking.cancel());
        lab.train(&config, &name, &events, &cancel).expect_err("was cancelled");
        lab.finish(&config, &name);
        assert_eq!(lab.result(&name), lab.result(&straight), "{optimizer:?}");
    }
}

#[test]
fn a_damaged_state_gives_way_to_the_one_before_it() {
    let lab = Lab::new(40);
    lab.finish(&config(), "straight");
    let cancel = Cancel::default();
    let asking = cancel.clone();
    lab.train(&config(), "run", &At::new(13, move || asking.cancel()), &cancel).expect_err("was cancelled");
    let state = lab.path("run/state");
    assert_eq!(names(&state), ["step-10.safetensors", "step-13.safetensors"]);
    let newest = state.join("step-13.safetensors");
    let whole = std::fs::read(&newest).expect("reads");
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| *bytes.last_mut().expect("long") ^= 1,
        |bytes| bytes.clear(),
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        let name = format!("damaged-{index}");
        copy_folder(&lab.path("run"), &lab.path(&name));
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(lab.path(&name).join("state/step-13.safetensors"), bytes).expect("writes");
        let warnings = Warnings::default();
        lab.train(&config(), &name, &warnings, &Cancel::default()).expect("trains");
        assert!(warnings.text().contains("step-10.safetensors"), "{}", warnings.text());
        assert_eq!(lab.result(&name), lab.result("straight"));
    }
    for name in names(&state) {
        std::fs::write(state.join(name), b"nothing").expect("writes");
    }
    let error = lab.train(&config(), "run", &NoEvents, &Cancel::default()).expect_err("no whole state");
    assert!(error.to_string().contains("step-13.safetensors: "), "{error}");
}

#[test]
fn a_state_of_another_run_is_refused() {
    let lab = Lab::new(40);
    lab.finish(&config(), "run");
    let other = Config { learning_rate: Some(1e-3), ..config() };
    let error = lab.train(&other, "run", &NoEvents, &Cancel::default()).expect_err("another run").to_string();
    assert!(error.contains("step-23.safetensors: the saved state is of another run"), "{error}");
    let same = Config { save_steps: Some(7), loss_watchdog_patience: 9, ..config() };
    lab.finish(&same, "run");
}

#[test]
fn the_best_and_the_newest_models_are_kept() {
    let lab = Lab::new(40);
    // So high a rate only makes the model worse.
    let config = Config {
        learning_rate: Some(3.0),
        lr_scheduler: nexa_train::Scheduler::Linear,
        cosine_min_lr_ratio: 1.0,
        warmup_steps: Some(18),
        loss_watchdog_threshold: Some(1e9),
        load_best_model_at_end: true,
        ..config()
    };
    let outcome = lab.finish(&config, "run");
    let best = outcome.best.expect("validated");
    assert!(best.step < 23, "{outcome:?}");
    assert_eq!(outcome.validation, Some(best));
    let checkpoints = lab.path("run/checkpoints");
    let mut expected = [format!("step-{}", best.step), "step-23".to_owned()];
    expected.sort();
    assert_eq!(names(&checkpoints), expected);
    let kept = |step: u64| std::fs::read(checkpoints.join(format!("step-{step}/model.safetensors")));
    assert_eq!(lab.result("run").0, kept(best.step).expect("reads"));
    assert_ne!(lab.result("run").0, kept(23).expect("reads"));
    Checkpoint::load(&checkpoints.join("step-23")).expect("is a whole model");

    let none = Config { save_total_limit: 0, load_best_model_at_end: false, ..config };
    lab.finish(&none, "none");
    assert!(names(&lab.path("none").join("checkpoints")).is_empty());
}

#[test]
fn validations_without_gain_end_the_run() {
    let lab = Lab::new(40);
    let config = Config {
        early_stopping_threshold: 100.0,
        eval_steps: Some(2),
        early_stopping_patience: Some(2),
        ..config()
    };
    let outcome = lab.finish(&config, "run");
    assert_eq!((outcome.end, outcome.steps), (End::NoGain, 6), "{outcome:?}");
    assert_eq!(outcome.best.map(|best| best.step), Some(6), "the loss fell, but by too little");
    // The patience is part of the state.
    let again = lab.finish(&config, "run");
    assert_eq!(Outcome { seconds: 0.0, ..again }, Outcome { seconds: 0.0, ..outcome });
}

#[test]
fn a_loss_that_is_no_number_or_explodes_stops_the_run() {
    let lab = Lab::new(10);
    let check = |config: Config, expected: &str| {
        let name = format!("{:?}-{:?}", config.model.initializer_range, config.loss_watchdog_threshold);
        let error = lab.train(&config, &name, &NoEvents, &Cancel::default()).expect_err("diverges");
        assert!(matches!(error, Error::Diverged { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let wild = Config {
        model: ModelConfig { initializer_range: Some(1e15), ..config().model },
        val_set_size: 0.0,
        ..config()
    };
    check(wild, "last good state: none yet");
    let strict = Config { loss_watchdog_threshold: Some(0.001), save_steps: Some(1), ..config() };
    // What was saved while the loss was too high would be no good state.
    check(strict, "step 3: the loss is ");
    check(Config { loss_watchdog_threshold: Some(0.002), ..config() }, "last good state: none yet");
    let bursting = Config {
        learning_rate: Some(3.0),
        warmup_steps: Some(0),
        loss_watchdog_threshold: Some(7.0),
        save_steps: Some(1),
        ..config()
    };
    check(bursting, "state/step-1.safetensors");
}

/// Set in the environment of the test binary when it is started to do a job.
const JOB: &str = "NEXA_TRAIN_TEST_JOB";

/// Not a test of its own: what the processes of the next test do.
#[test]
fn job_of_another_process() {
    if let Some(path) = std::env::var_os(JOB) {
        let job = verify::Job::read(Path::new(&path)).expect("reads");
        // A line of its own, after what the test harness has begun to write.
        let announce = || println!("\n{}", verify::PAUSED);
        job.run(&announce, &JsonLines, &NoEvents, &Cancel::default()).expect("trains");
    }
}

#[test]
fn a_killed_process_resumes_to_the_same_bits_and_a_broken_restore_is_found() {
    let lab = Lab::new(40);
    let launch = |job: &Path| {
        let mut command = std::process::Command::new(std::env::current_exe().expect("a program"));
        command.args(["--exact", "job_of_another_process", "--nocapture"]).env(JOB, job);
        command
    };
    let folder = lab.path("trial");
    let trial = verify::Trial {
        config: &config(),
        inputs: &lab.inputs,
        tables: &JsonLines,
        folder: &folder,
        steps: 6,
        breaks_restore: false,
    };
    let resume = |trial| verify::resume(&trial, &launch, &NoEvents, &Cancel::default()).expect("runs");
    let report = resume(trial);
    assert!(report.comparison.is_identical(), "{}", report.comparison);
    let report = resume(verify::Trial { breaks_restore: true, ..trial });
    let text = report.comparison.to_string();
    assert!(text.contains("metrics.jsonl line ") && text.contains("tensor `first.model."), "{text}");
}

/// Rows with a better and a worse answer.
fn preferences(count: usize) -> String {
    let row = |i: usize| {
        serde_json::json!({
            "prompt": format!("What is {i} plus {}?", i % 7),
            "chosen": format!("It is {}.", i + i % 7),
            "rejected": format!("It is {}.", i),
        })
    };
    (0..count).map(|i| format!("{}\n", row(i))).collect()
}

#[test]
fn every_objective_learns_and_resumes_to_the_same_bits() {
    let check = |name: &str, change: &dyn Fn(&mut Config, &mut Lab)| {
        let mut lab = Lab::new(24);
        let mut config =
            Config { max_steps: Some(12), warmup_steps: Some(2), save_steps: Some(3), ..config() };
        config.num_epochs = 40.0;
        change(&mut config, &mut lab);
        let straight = lab.finish(&config, "straight");
        assert!(straight.last_loss < straight.first_loss, "{name}: {straight:?}");
        // Interrupted after every save, and gone on with.
        for _ in 0..3 {
            let cancel = Cancel::default();
            let stop = At::new(5, || cancel.cancel());
            let _ = lab.train(&config, "resumed", &stop, &cancel);
        }
        lab.finish(&config, "resumed");
        assert!(lab.result("straight") == lab.result("resumed"), "{name}: equal to the last bit");
    };
    check("adapters", &|config, _| config.adapter = Some(nexa_train::Adapter::Lora));
    check("adapters with dropout", &|config, _| {
        (config.adapter, config.lora_dropout) = (Some(nexa_train::Adapter::Lora), 0.2);
        config.gradient_checkpointing = true;
    });
    check("mixed data sets", &|config, lab| mix(config, lab, [3.0, 1.0]));
    check("mixed and packed data sets", &|config, lab| {
        mix(config, lab, [3.0, 1.0]);
        (config.sample_packing, config.micro_batch_size) = (true, 1);
    });
    check("likeliest tokens", &|config, lab| {
        with_teacher(config, lab);
        config.kd_top_k = Some(12);
    });
    check("what a data set holds of its teacher", &|config, lab| {
        with_teacher(config, lab);
        lab.inputs.teacher = None;
        tell(lab);
    });
    check("recomputed blocks", &|config, _| config.gradient_checkpointing = true);
    check("packing", &|config, _| (config.sample_packing, config.micro_batch_size) = (true, 1));
    for loss in [nexa_train::PreferenceLoss::Sigmoid, nexa_train::PreferenceLoss::Ipo] {
        check("preferences", &|config, lab| {
            (config.objective, config.dpo_loss) = (nexa_train::Objective::Dpo, loss);
            std::fs::write(lab.data(), preferences(24)).expect("writes");
        });
    }
    check("distillation", &|config, lab| with_teacher(config, lab));
}

/// Adds a data set of 8 subtractions and gives both their weights.
fn mix(config: &mut Config, lab: &mut Lab, weights: [f64; 2]) {
    let row = |i: usize| {
        let (question, answer) = (format!("What is {} minus {i}?", 3 * i), format!("It is {}.", 2 * i));
        line(&[("user", &question), ("assistant", &answer)])
    };
    let path = lab.folder.path().join("minus.jsonl");
    std::fs::write(&path, (0..8).map(row).collect::<String>()).expect("writes");
    lab.inputs.train.push(path.into());
    let entry = |(file, weight): (&nexa_train::DataFile, f64)| nexa_train::DatasetConfig {
        path: Some(file.name.clone().into()),
        weight: Some(weight),
        ..Default::default()
    };
    config.datasets = lab.inputs.train.iter().zip(weights).map(entry).collect();
}

/// Makes the objective a distillation from a model of random weights.
fn with_teacher(config: &mut Config, lab: &mut Lab) {
    let teacher = lab.path("teacher");
    initialise(config, &lab.tokenizer(), &teacher, 99).expect("writes");
    lab.inputs.teacher = Some(teacher);
    config.objective = nexa_train::Objective::Distill;
    (config.kd_alpha, config.kd_ce_alpha) = (1.0, 0.0);
}

/// Puts what a teacher might have thought beside every row.
fn tell(lab: &Lab) {
    let tokenizer = ChatTokenizer::load(&lab.tokenizer()).expect("loads");
    let text = std::fs::read_to_string(lab.data()).expect("reads");
    let told = text.lines().map(|line| {
        let mut row: serde_json::Value = serde_json::from_str(line).expect("a row");
        let answer = row["messages"][1]["content"].as_str().expect("text");
        let count = tokenizer.encode(answer).expect("encodes").len() + 1;
        let ids: Vec<[usize; 2]> = (0..count).map(|index| [20 + index % 30, 60]).collect();
        row["teacher_token_ids"] = serde_json::json!(ids);
        row["teacher_log_probs"] = serde_json::json!(vec![[-0.3, -2.0]; count]);
        format!("{row}\n")
    });
    let told: String = told.collect();
    std::fs::write(lab.data(), told).expect("writes");
}

#[test]
fn all_likeliest_tokens_teach_what_the_teacher_does() {
    let mut lab = Lab::new(24);
    let mut config = Config { max_steps: Some(12), gradient_accumulation_steps: 1, ..config() };
    with_teacher(&mut config, &mut lab);
    let live = lab.finish(&config, "live");
    let vocab_size = ChatTokenizer::load(&lab.tokenizer()).expect("loads").vocab_size();
    for divergence in [nexa_train::Divergence::ForwardKl, nexa_train::Divergence::ReverseKl] {
        let name = format!("{divergence:?}");
        let config = Config { kd_divergence: divergence, ..config.clone() };
        let live = lab.finish(&config, &format!("live-{name}"));
        let kept = lab.finish(&Config { kd_top_k: Some(vocab_size), ..config }, &format!("kept-{name}"));
        for (kept, live) in [(kept.first_loss, live.first_loss), (kept.last_loss, live.last_loss)] {
            assert!((kept - live).abs() < 1e-5, "{name}: {kept} and {live}");
        }
    }
    // The teacher is asked once: what it said stands in the cache, and its weights are not looked at again.
    let few = Config { kd_top_k: Some(4), ..config.clone() };
    let first = lab.finish(&few, "few");
    assert!((first.first_loss - live.first_loss).abs() > 1e-3, "the tail of the distribution is gone");
    let kept = |entry: &String| entry.starts_with("teacher-");
    assert_eq!(
        names(&lab.path("cache")).iter().filter(|name| kept(name)).count(),
        4,
        "two sets, two numbers of tokens"
    );
    lab.finish(&few, "again");
    assert_eq!(lab.result("again"), lab.result("few"));
}

#[test]
fn weights_say_how_much_of_each_data_set_is_seen() {
    let mut lab = Lab::new(24);
    let mut config = Config { val_set_size: 0.0, ..config() };
    mix(&mut config, &mut lab, [1.0, 3.0]);
    let outcome = lab.finish(&config, "run");
    let counts: Vec<_> =
        outcome.datasets.iter().map(|set| (set.name.as_str(), set.samples, set.in_an_epoch)).collect();
    assert_eq!(counts, [("train.jsonl", 24, 8), ("minus.jsonl", 8, 24)]);
    config.datasets.clear();
    let outcome = lab.finish(&config, "plain");
    assert_eq!(outcome.datasets.iter().map(|set| set.in_an_epoch).collect::<Vec<_>>(), [24, 8]);
}

#[test]
fn adapters_change_little_and_lie_beside_the_merged_model() {
    let lab = Lab::new(24);
    let base = lab.path("base");
    initialise(&config(), &lab.tokenizer(), &base, 5).expect("writes");
    let lab =
        Lab { inputs: Inputs { base: Some(base.clone()), tokenizer: None, ..lab.inputs.clone() }, ..lab };
    let config =
        Config { adapter: Some(nexa_train::Adapter::Lora), lora_r: 2, max_steps: Some(6), ..config() };
    let outcome = lab.finish(&config, "run");
    assert!(outcome.trained_parameters < outcome.parameters / 4, "{outcome:?}");
    let output = lab.path("run-output");
    let (mut merged, merged_file) =
        (Checkpoint::load(&base).expect("loads").weights, Checkpoint::load(&output));
    let adapters = nexa_model::Lora::load(&output.join("adapter"), merged.config()).expect("loads");
    adapters.merge(&mut merged);
    assert!(
        merged.values() == merged_file.expect("loads").weights.values(),
        "the merged model is base plus adapters"
    );
}

#[test]
fn data_and_models_that_do_not_fit_the_objective_are_refused() {
    let check = |change: &dyn Fn(&mut Config, &mut Lab), expected: &str| {
        let (mut lab, mut config) = (Lab::new(8), config());
        change(&mut config, &mut lab);
        let error = lab.train(&config, "run", &NoEvents, &Cancel::default()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|config, _| config.objective = nexa_train::Objective::Dpo, "no preferences");
    check(
        &|_, lab| std::fs::write(lab.data(), preferences(8)).expect("writes"),
        "the samples are preferences",
    );
    check(&|config, _| config.objective = nexa_train::Objective::Distill, "needs a teacher");
    let told = |config: &mut Config, lab: &mut Lab| {
        with_teacher(config, lab);
        tell(lab);
    };
    check(&told, "there are two teachers");
    check(
        &|config, lab| {
            told(config, lab);
            (lab.inputs.teacher, config.kd_divergence) = (None, nexa_train::Divergence::ReverseKl);
        },
        "`kd_divergence` is `reverse_kl`",
    );
    check(
        &|config, lab| {
            with_teacher(config, lab);
            config.kd_top_k = Some(999);
        },
        "`kd_top_k` is 999, more than",
    );
    check(
        &|config, lab| {
            mix(config, lab, [1.0, 1.0]);
            config.datasets[0].weight = None;
        },
        "cannot mix `train.jsonl` and `minus.jsonl`: one of them has a `weight`",
    );
    check(
        &|config, lab| {
            mix(config, lab, [1.0, 1.0]);
            config.datasets[1].path = Some("mninus".into());
        },
        "`datasets` names `mninus`, which is none of the data",
    );
    check(
        &|config, lab| {
            let (teacher, other) = (lab.path("teacher"), lab.path("other"));
            ChatTokenizer::train(&["quite other words"], 270).expect("trains").save(&other).expect("saves");
            initialise(config, &other, &teacher, 1).expect("writes");
            lab.inputs.teacher = Some(teacher);
            config.objective = nexa_train::Objective::Distill;
        },
        "`teacher` has a tokenizer of 270 tokens",
    );
    check(
        &|config, lab| {
            let (base, other) = (lab.path("base"), lab.path("other"));
            ChatTokenizer::train(&["quite other words"], 270).expect("trains").save(&other).expect("saves");
            initialise(config, &other, &base, 1).expect("writes");
            lab.inputs.base = Some(base);
        },
        "`base` has a tokenizer of 270 tokens",
    );
    check(
        &|config, _| (config.load_best_model_at_end, config.val_set_size) = (true, 0.0),
        "`load_best_model_at_end` needs validation data",
    );
    check(&|_, lab| lab.inputs.tokenizer = None, "needs a tokenizer");
    check(
        &|config, lab| {
            let base = lab.path("base");
            initialise(config, &lab.tokenizer(), &base, 1).expect("writes");
            lab.inputs.base = Some(base);
            config.sequence_len = Some(4096);
        },
        "more than the",
    );
}
