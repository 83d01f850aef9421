//! From the failures of an evaluation to new prompts.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::event::Cancel;
use nexa_core::stage::Inputs;
use nexa_core::{Diagnose, ExitCode, columns};
use nexa_eval::feedback::inputs::{AimedInputs, Config, GAP};
use nexa_eval::{Feedback, evaluate, feedback};
use serde_json::{Value, json};

use crate::adder::Adder;
use crate::bench::Bench;

const OLD: &str = "years is the age that N farmers had when N sons sold N fields";
const FAR: &str = "miles is the way that N trains took when N ships left N harbours";

/// A question about ages or about ways.
fn question(a: usize, about: &str) -> String {
    format!("{a} + 1 {}?", about.replace('N', &a.to_string()))
}

fn row(id: &str, prompt: &str) -> Value {
    json!({
        "id": id, "group": format!("g-{id}"), "domain": "words", "reference": "1",
        "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": "#### 1"}],
    })
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// A lab with an evaluation whose even items are of ages, and the feedback on it.
struct Setting {
    bench: Bench,
    dataset: Artifact,
    evaluation: Artifact,
    feedback: Artifact,
}

impl Setting {
    fn new(is_right: fn(usize) -> bool) -> Self {
        let bench = Bench::new();
        let about = |a: usize| if a.is_multiple_of(2) { OLD } else { FAR };
        let mut test: Vec<Value> = (0..40).map(|a| row(&format!("t{a}"), &question(a, about(a)))).collect();
        for (a, row) in test.iter_mut().enumerate() {
            row["reference"] = json!((a + 1).to_string());
        }
        let train = [row("trained", &question(100, OLD))];
        let validation = [row("validated", &question(101, OLD))];
        let dataset = bench.make(
            Kind::SftDataset,
            "words_sft",
            vec![
                ("test.jsonl", lines(&test)),
                ("train.jsonl", lines(&train)),
                ("validation.jsonl", lines(&validation)),
            ],
        );
        let evaluation =
            bench.evaluate("model", &Adder::new(is_right), &dataset, evaluate::Config::default());
        let inputs = Inputs::none().with("evaluation", evaluation.clone());
        let stage = Feedback::new(feedback::Config::default()).unwrap();
        let feedback = bench.execute(&stage, "feedback", &inputs, &Cancel::default(), false).unwrap();
        Self { feedback: feedback.artifact().clone(), bench, dataset, evaluation }
    }

    fn pool(&self, prompts: &[(&str, String)]) -> Artifact {
        let row = |(id, prompt): &(&str, String)| json!({"id": id, "group": format!("g-{id}"), "user_prompt": prompt, "system_prompt": "Think."});
        let rows: Vec<Value> = prompts.iter().map(row).collect();
        self.bench.make(Kind::TeacherInputs, "pool", vec![("jsonl", lines(&rows))])
    }

    fn aim(
        &self,
        config: Config,
        pool: &Artifact,
        more: &[(&str, &Artifact)],
    ) -> Result<Artifact, nexa_core::stage::StageError> {
        let lab = nexa_core::lab::Lab::open(self.bench.root())?;
        let stage = AimedInputs::new(&lab, config)?;
        let mut inputs = Inputs::none()
            .with("feedback", self.feedback.clone())
            .with("evaluation", self.evaluation.clone())
            .with("sft_dataset", self.dataset.clone())
            .with("pool", pool.clone());
        for (role, artifact) in more {
            inputs = inputs.with(role, (*artifact).clone());
        }
        let made = self.bench.execute(&stage, "teacher_inputs", &inputs, &Cancel::default(), false)?;
        Ok(made.artifact().clone())
    }
}

#[test]
fn failures_are_put_together_by_what_they_ask() {
    let setting = Setting::new(|a| !a.is_multiple_of(2) || a < 4);
    let clusters = setting.bench.rows(&setting.feedback, feedback::CLUSTERS_FILE);
    assert_eq!(clusters.len(), 1, "{clusters:?}");
    let cluster = &clusters[0];
    assert_eq!((&cluster["failures"], &cluster["is_gap"]), (&json!(18), &json!(true)));
    // Two of the kind were answered right; the twenty others are not of it.
    assert_eq!((&cluster["items"], &cluster["failure_rate"]), (&json!(20), &json!(0.9)));
    let label = cluster["label"].as_str().unwrap();
    assert!(label.contains("age") || label.contains("years") || label.contains("farmer"), "{label}");
    assert_eq!(cluster["domains"], json!([{"domain": "words", "failures": 18}]));
    let report = std::fs::read_to_string(setting.feedback.file("report.md").unwrap()).unwrap();
    assert!(report.contains("## Failures by likeness") && report.contains(label), "{report}");
    assert_eq!(setting.feedback.manifest.summary["gaps"], json!([label]));

    let all_wrong = Setting::new(|_| false);
    let clusters = all_wrong.bench.rows(&all_wrong.feedback, feedback::CLUSTERS_FILE);
    let sizes: Vec<_> = clusters.iter().map(|cluster| cluster["failures"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [20, 20], "ages and ways");
}

#[test]
fn new_prompts_are_near_to_failures_and_never_of_the_test_set() {
    let setting = Setting::new(|a| !a.is_multiple_of(2) || a < 4);
    let copy = format!("Please solve. {} Think.", question(38, OLD).replace("farmers", "fishers"));
    let pool = setting.pool(&[
        ("new-1", question(200, OLD)),
        ("new-2", question(201, OLD)),
        ("way", question(202, FAR)),
        ("nothing", "Name a colour".to_owned()),
        ("trained", question(100, OLD)),
        ("again", question(200, OLD)),
        ("answered", question(203, OLD)),
        ("t7", "The same problem in other words".to_owned()),
        ("copy", question(36, OLD).to_uppercase()),
        ("held", question(101, OLD)),
        ("near", copy),
    ]);
    let answers = lines(&[json!({"id": "answered", "user_prompt": question(203, OLD)})]);
    let answers = setting.bench.make(Kind::TeacherOutputs, "answers", vec![("jsonl", answers)]);
    let config = Config { min_similarity: 0.5, ..Config::default() };
    let made = setting.aim(config, &pool, &[("teacher_outputs", &answers)]).unwrap();

    let ids = |file: &str| -> Vec<String> {
        let rows = setting.bench.rows(&made, file);
        rows.iter().map(|row| row[columns::ID].as_str().unwrap().to_owned()).collect()
    };
    let mut taken = ids("parquet");
    taken.sort_unstable();
    assert_eq!(taken, ["new-1", "new-2"]);
    let rows = setting.bench.rows(&made, "parquet");
    assert!(rows.iter().all(|row| row[GAP].is_string() && row["system_prompt"] == "Think."), "{rows:?}");
    assert_eq!(ids("rejected.parquet"), ["t7", "copy", "held", "near"]);
    let summary = &made.manifest.summary;
    assert_eq!(summary["refused"], json!({"same_text": 2, "same_group": 1, "near_copy": 1}));
    assert_eq!((&summary["asked_before"], &summary["near_to_no_gap"]), (&json!(3), &json!(2)));
    let report = std::fs::read_to_string(made.file("report.md").unwrap()).unwrap();
    assert!(report.contains("- `copy`: it is item `t36` of test.jsonl"), "{report}");
    assert!(report.contains("| **taken** | **2** |"), "{report}");
    let parents: Vec<&str> = made.manifest.parents.iter().map(|parent| parent.role.as_str()).collect();
    assert_eq!(parents, ["evaluation", "feedback", "pool", "sft_dataset", "teacher_outputs"]);

    let few = setting.aim(Config { max_inputs: 1, ..Config::default() }, &pool, &[]).unwrap();
    assert_eq!(few.manifest.counts.rows, Some(1));
}

#[test]
fn evaluation_sets_of_the_lab_are_held_out() {
    let setting = Setting::new(|a| !a.is_multiple_of(2) || a < 4);
    let pool = setting.pool(&[("new-1", question(200, OLD)), ("exam", question(300, OLD))]);
    let path = setting.bench.root().join("exam.jsonl");
    std::fs::write(&path, lines(&[json!({"question": question(300, OLD)})])).unwrap();
    let set = |question: &[&str]| nexa_core::decontamination::EvaluationSet {
        path: "exam.jsonl".to_owned(),
        question: question.iter().map(|&name| name.to_owned()).collect(),
        answer: Vec::new(),
    };
    let aim = |question: &[&str]| {
        let config =
            Config { evaluation_sets: Some(vec![set(question)]), min_overlap: 1.0, ..Config::default() };
        setting.aim(config, &pool, &[])
    };
    assert_eq!(aim(&[]).unwrap().manifest.summary["refused"]["same_text"], json!(1));
    let error = aim(&["text"]).unwrap_err().to_string();
    assert!(error.contains("exam.jsonl: row 1") && error.contains("`question`: question"), "{error}");
}

#[test]
fn what_cannot_be_aimed_is_told() {
    let setting = Setting::new(|a| a != 8);
    let check = |made: Result<Artifact, nexa_core::stage::StageError>, expected: &str| {
        let error = made.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Input);
    };
    let pool = setting.pool(&[("copy", question(8, OLD)), ("trained", question(100, OLD))]);
    let left =
        "none of the 2 prompts of sums/pool_v1 is left to ask: 1 were asked before, 1 are evaluation items";
    check(setting.aim(Config::default(), &pool, &[]), left);
    let other = Setting::new(|_| true);
    let pool = other.pool(&[("new", question(200, OLD))]);
    check(other.aim(Config::default(), &pool, &[]), "no item of sums/model_eval_v1 failed");
    let second = setting.bench.evaluate(
        "second",
        &Adder::new(|_| false),
        &setting.dataset,
        evaluate::Config::default(),
    );
    check(setting.aim(Config::default(), &pool, &[("evaluation", &second)]), "but on sums/model_eval_v1");
    let check = |config: Config, expected: &str| {
        let lab = nexa_core::lab::Lab::open(setting.bench.root()).unwrap();
        let error = AimedInputs::new(&lab, config).unwrap_err();
        assert!(error.to_string().contains(expected) && error.exit_code() == ExitCode::Config, "{error}");
    };
    check(Config { max_inputs: 0, ..Config::default() }, "`max_inputs`");
    check(Config { min_overlap: 1.5, ..Config::default() }, "`min_overlap`: 1.5");
}
