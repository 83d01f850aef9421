//! What an evaluation and the training data of its checkpoint have in common, from lineage to numbers.

use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::event::Cancel;
use nexa_core::stage::{Context, Inputs, Stage, StageError};
use nexa_core::table::JsonLines;
use nexa_eval::evaluate::Config;
use nexa_eval::{Contamination, Evaluate, Evaluation};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::parrot::Parrot;

/// A stage of any name that writes given files.
struct Made {
    stage: &'static str,
    kind: Kind,
    files: Vec<(&'static str, String)>,
    config: Value,
}

impl Stage for Made {
    fn name(&self) -> &'static str {
        self.stage
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!([self.files, self.config])
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        for (name, text) in &self.files {
            nexa_core::files::write_atomic(&context.output.join(name), text.as_bytes())?;
        }
        Ok(())
    }
}

fn make(bench: &Bench, stage: &'static str, name: &str, inputs: &Inputs) -> Artifact {
    let files = vec![("name", name.to_owned())];
    let made = Made { stage, kind: Kind::Checkpoint, files, config: Value::Null };
    bench.execute(&made, name, inputs, &Cancel::default(), false).unwrap().artifact().clone()
}

/// A data set whose training side holds some texts.
fn training_data(bench: &Bench, name: &str, texts: &[&str]) -> Artifact {
    let row = |text: &&str| {
        json!({"id": "t", "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]})
            .to_string()
            + "\n"
    };
    let files =
        vec![("train.jsonl", texts.iter().map(row).collect()), ("test.jsonl", QUESTIONS[3].to_owned())];
    let made = Made { stage: "distill.package", kind: Kind::SftDataset, files, config: Value::Null };
    bench.execute(&made, name, &Inputs::none(), &Cancel::default(), false).unwrap().artifact().clone()
}

const QUESTIONS: [&str; 4] = [
    "A baker fills fourteen trays with nine rolls each and sells two thirds of them before noon today",
    "How many passengers are left on the train after a third of them got off at the second station",
    "Two painters need six hours for a fence so how long would three painters need for it together",
    "Three and four?",
];

fn write_questions(bench: &Bench) {
    let folder = bench.root().join("data/raw/benchmarks/gsm8k");
    std::fs::create_dir_all(&folder).unwrap();
    let rows = QUESTIONS
        .iter()
        .enumerate()
        .map(|(n, question)| json!({"question": question, "answer": format!("#### {n}")}).to_string() + "\n");
    std::fs::write(folder.join("test.jsonl"), rows.collect::<String>()).unwrap();
}

fn evaluate(bench: &Bench, checkpoint: Artifact, config: Config) -> Artifact {
    // Right about the baker and wrong about all others.
    let model = Parrot::new(|prompt| if prompt.contains("baker") { "#### 0" } else { "#### 9" }.to_owned());
    let config = Config { tasks: vec!["gsm8k".to_owned()], num_fewshot: Some(0), ..config };
    let stage = Evaluate::new(config, bench.root(), Arc::new(model)).unwrap();
    let inputs = Inputs::none().with("checkpoint", checkpoint);
    bench.execute(&stage, "eval", &inputs, &Cancel::default(), true).unwrap().artifact().clone()
}

#[test]
fn clean_numbers_stand_beside_those_over_all() {
    let bench = Bench::new();
    write_questions(&bench);
    // The first question is there in full, of the second eight words.
    let first = format!("Solve this: {}!", QUESTIONS[0].to_uppercase());
    let data = training_data(
        &bench,
        "sft",
        &[&first, "they got off at the second station is left on the train after a third of"],
    );
    let base = make(&bench, "train.init", "untrained", &Inputs::none());
    let inputs = Inputs::none().with("sft_dataset", data.clone()).with("base", base);
    let evaluation = evaluate(&bench, make(&bench, "train", "student", &inputs), Config::default());

    let found = Contamination::read(&evaluation).unwrap().unwrap();
    assert!(found.is_known && found.unknown.is_empty());
    assert_eq!(
        found.training_data.iter().map(|text| (&text.hash, text.rows)).collect::<Vec<_>>(),
        [(&data.manifest.content_hash, 2)]
    );
    let [task] = found.tasks.as_slice() else { panic!("{found:?}") };
    // "Question: Three and four? Answer: #### 3" are six words, which are looked for as a whole.
    assert_eq!((task.task.as_str(), task.documents, task.not_looked_for), ("gsm8k", 4, 0));
    let counts: Vec<_> =
        task.rules.iter().map(|found| (found.rule.words, found.overlapping, found.share)).collect();
    assert_eq!(counts, [(8, 1, Some(0.25)), (13, 1, Some(0.25))]);
    let strict = &task.rules[1].metrics[0];
    assert_eq!((strict.metric.as_str(), strict.filter.as_str()), ("exact_match", "strict-match"));
    let values =
        [strict.all, strict.overlapping, strict.clean].map(|part| part.map(|part| (part.value, part.n)));
    assert_eq!(values, [Some((0.25, 4)), Some((1.0, 1)), Some((0.0, 3))]);
    // Wilson for none of three, scipy 1.17.1.
    assert!((strict.clean.unwrap().ci_high.unwrap() - 0.561_497_031_755).abs() < 1e-9);
    assert_eq!(strict.nothing_found, None);

    let predictions = Evaluation::read(&evaluation, &JsonLines).unwrap().predictions;
    let overlaps: Vec<_> = predictions.iter().map(|one| one.overlap.unwrap()).collect();
    // "question", 17 words, "answer", "0": all but the runs with one of these three words are found.
    assert!(overlaps[0][0] > 0.7 && overlaps[0][1] > 0.5, "{overlaps:?}");
    assert!(overlaps[1][0] > 0.0 && overlaps[1][0] < 0.7 && overlaps[1][1] == 0.0, "{overlaps:?}");
    assert_eq!((overlaps[2], overlaps[3]), ([0.0; 2], [0.0; 2]));
    let stated = &evaluation.manifest.summary["training_data"];
    assert_eq!(*stated, json!({"is_known": true, "looked_through": [data.id()], "unknown": []}));
    let line = &found.lines()[0];
    assert!(
        line.contains("training data holds 1 (25.0 %) by runs of 8 words and 1 (25.0 %) by runs of 13"),
        "{line}"
    );
    assert!(
        line.contains("exact_match 0.2500 over all, 0.0000 (0.0000 to 0.5615) over the 3 clean ones"),
        "{line}"
    );
}

#[test]
fn a_group_has_clean_numbers_too() {
    let bench = Bench::new();
    let folder = bench.root().join("projects/sums/configs");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let row = |(n, question): (usize, &&str)| json!({"q": question, "a": n.to_string()}).to_string() + "\n";
    let task = "task: TASK\ndataset_path: json\ndataset_kwargs: {data_files: {test: TASK.jsonl}}\ntest_split: test\n\
                doc_to_text: 'Question: {{q}} Answer:'\ndoc_to_target: '{{a}}'\n";
    for (name, questions) in [("first", &QUESTIONS[..1]), ("second", &QUESTIONS[1..])] {
        write(&format!("{name}.jsonl"), questions.iter().enumerate().map(row).collect());
        write(&format!("{name}.yaml"), task.replace("TASK", name));
    }
    let group = "{group: both, task: [first, second], aggregate_metric_list: [{metric: exact_match}]}";
    write("both.yaml", group.to_owned());
    let data = training_data(&bench, "sft", &[QUESTIONS[1]]);
    let inputs = Inputs::none()
        .with("sft_dataset", data)
        .with("base", make(&bench, "train.init", "untrained", &Inputs::none()));
    let student = make(&bench, "train", "student", &inputs);
    // Right about the first of each task.
    let model = Parrot::new(|_| "0".to_owned());
    let config = Config { tasks: vec!["both".to_owned()], num_fewshot: Some(0), ..Config::default() };
    let stage = Evaluate::new(config, bench.root(), Arc::new(model)).unwrap();
    let inputs = Inputs::none().with("checkpoint", student);
    let made = bench.execute(&stage, "eval", &inputs, &Cancel::default(), true).unwrap();

    let found = Contamination::read(made.artifact()).unwrap().unwrap();
    let names: Vec<_> = found.tasks.iter().map(|task| task.task.as_str()).collect();
    assert_eq!(names, ["both", "first", "second"]);
    let group = &found.tasks[0];
    assert_eq!((group.documents, group.rules[1].overlapping), (4, 1));
    let metric = &group.rules[1].metrics[0];
    let values =
        [metric.all, metric.overlapping, metric.clean].map(|part| part.map(|part| (part.value, part.n)));
    assert_eq!(values, [Some((0.5, 4)), Some((1.0, 1)), Some((1.0 / 3.0, 3))]);
    let line = &found.lines()[0];
    assert!(
        line.starts_with("both: of 4 documents, training data holds 1")
            && line.contains("over the 3 clean ones"),
        "{line}"
    );
}

#[test]
fn nothing_is_clean_where_training_data_is_not_known() {
    let bench = Bench::new();
    write_questions(&bench);
    let imported = make(&bench, "model.import", "imported", &Inputs::none());
    let alone = Contamination::read(&evaluate(&bench, imported.clone(), Config::default())).unwrap().unwrap();
    assert_eq!((alone.is_known, alone.tasks.len()), (false, 0));
    assert_eq!(alone.unknown, ["the model was imported"]);

    // What was trained over it is looked through all the same, and so is what lies behind a merge.
    let data = training_data(&bench, "sft", &[QUESTIONS[0]]);
    let inputs = Inputs::none().with("sft_dataset", data).with("base", imported.clone());
    let trained = make(&bench, "train", "trained", &inputs);
    let merged = make(&bench, "model.merge", "merged", &Inputs::none().with("base", trained));
    let made = evaluate(&bench, merged, Config::default());
    let found = Contamination::read(&made).unwrap().unwrap();
    assert_eq!((found.is_known, &found.unknown), (false, &alone.unknown));
    let metric = &found.tasks[0].rules[1].metrics[0];
    assert_eq!((metric.overlapping.unwrap().n, metric.clean, metric.nothing_found.unwrap().n), (1, None, 3));
    assert!(found.lines()[0].ends_with("over the 3 others, which may not be clean"), "{:?}", found.lines());
    let stated = &made.manifest.summary["training_data"];
    assert_eq!(stated["unknown"], json!([format!("the model was imported ({})", imported.id())]));

    let elsewhere = make(&bench, "other.stage", "other", &Inputs::none());
    let found = Contamination::read(&evaluate(&bench, elsewhere, Config::default())).unwrap().unwrap();
    assert_eq!(found.unknown, ["the model was made by `other.stage`"]);
}

#[test]
fn data_that_is_gone_is_said_to_be() {
    let bench = Bench::new();
    write_questions(&bench);
    let data = training_data(&bench, "sft", &[QUESTIONS[0]]);
    let student = make(&bench, "train", "student", &Inputs::none().with("sft_dataset", data.clone()));
    std::fs::remove_file(data.file("train.jsonl").unwrap()).unwrap();
    let found = Contamination::read(&evaluate(&bench, student.clone(), Config::default())).unwrap().unwrap();
    assert_eq!(found.unknown, ["files of data that it was trained on are missing"]);
    std::fs::remove_file(data.manifest_path()).unwrap();
    let made = evaluate(&bench, student.clone(), Config::default());
    let found = Contamination::read(&made).unwrap().unwrap();
    assert_eq!(
        (found.is_known, found.unknown),
        (false, vec!["data that it was trained on is no longer in the lab".to_owned()])
    );
    assert!(Evaluation::read(&made, &JsonLines).unwrap().predictions.iter().all(|one| one.overlap.is_none()));

    let off = evaluate(&bench, student, Config { contamination: false, ..Config::default() });
    assert_eq!(Contamination::read(&off).unwrap(), None);
    assert!(!off.manifest.summary.contains_key("training_data"));
}

#[test]
fn the_held_out_split_is_looked_for_as_well() {
    let bench = Bench::new();
    let held_out = "Seven gardeners plant nineteen rows of tulips in every garden of the whole long street";
    let rows: Vec<Value> = (0..6)
        .map(|a| {
            let mut row = crate::bench::sum(a);
            let question = if a == 2 { format!("{held_out}. {a} + 1?") } else { format!("{a} + 1?") };
            row["messages"][0]["content"] = json!(question);
            row
        })
        .collect();
    let dataset = bench.dataset("held_out_sft", &rows);
    let trained_on = training_data(&bench, "sft", &[held_out]);
    let student = make(&bench, "train", "student", &Inputs::none().with("sft_dataset", trained_on));
    let inputs = Inputs::none().with("checkpoint", student).with("sft_dataset", dataset);
    let model = Parrot::new(|_| "#### 3".to_owned());
    let stage = Evaluate::new(Config::default(), bench.root(), Arc::new(model)).unwrap();
    let made = bench.execute(&stage, "eval", &inputs, &Cancel::default(), false).unwrap().artifact().clone();
    let found = Contamination::read(&made).unwrap().unwrap();
    let names: Vec<_> =
        found.tasks.iter().map(|task| (task.task.as_str(), task.rules[1].overlapping)).collect();
    assert_eq!(names, [("exact_match", 1), ("perplexity", 1)]);
    let bits = found.tasks[1].rules[1].metrics.last().unwrap();
    assert_eq!((bits.metric.as_str(), bits.all.unwrap().n, bits.clean.unwrap().n), ("bits_per_byte", 6, 5));
}
