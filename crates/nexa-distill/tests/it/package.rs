//! Packaging: neither a problem nor its paraphrase on two sides, and texts as they were.

use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::decontamination::{CheckedSet, SUMMARY_KEY};
use nexa_core::hash::ContentHash;
use nexa_core::stage::{Context, Inputs, Stage, StageError};
use nexa_core::table::{JsonLines, Row, Tables};
use nexa_core::{ExitCode, config};
use nexa_distill::filter::Filter;
use nexa_distill::package::{Config, Package, SPEND_LINES, SpendLine, usd_per_row};
use serde_json::{Value, json};

use crate::support::{TestLab, Words, collect, object, rows};

fn stage(yaml: &str) -> Package {
    let value = config::parse_yaml(yaml, "test").unwrap();
    Package::new(config::from_value::<Config>(value, "test").unwrap()).unwrap()
}

fn row(id: usize, question: &str, answer: &str, file: &str) -> Row {
    let row = json!({"id": format!("r{id}"), "question": question, "answer": answer, "source_file": file});
    row.as_object().unwrap().clone()
}

/// Packages rows; the lab has to stay for as long as its files are read.
fn package(rows: Vec<Row>, yaml: &str) -> (TestLab, Artifact) {
    let lab = TestLab::new();
    let inputs = Inputs::none().with("dataset", lab.put(Kind::Dataset, "dataset", rows));
    let artifact = lab.execute(&stage(yaml), "sft", &inputs).unwrap();
    (lab, artifact)
}

const ANSWER: &str = "He buys 48/2 = <<48/2=24>>24 pens.\nThen 24 + 48 = <<24+48=72>>72.\n#### 72";

#[test]
fn a_paraphrase_never_stands_on_two_sides() {
    let names = ["Ava", "Ben", "Cara", "Dan"];
    let rows_in: Vec<Row> = (0..400)
        .map(|n| {
            let (problem, name) = (n / 4, names[n % 4]);
            let question = format!(
                "{name} has {} pens, buys {} more and loses some. How many pens?",
                problem + 10,
                problem % 7 + 2
            );
            row(n, &question, "#### 1", "all.jsonl")
        })
        .collect();
    let (_lab, made) = package(rows_in, "{test_share: 0.3, validation_share: 0.2, seed: 5}");
    let all = rows(&made, "parquet");
    assert_eq!(all.len(), 400);
    for problem in all.chunks(4) {
        assert!(
            problem
                .iter()
                .all(|row| row["split"] == problem[0]["split"] && row["group"] == problem[0]["group"])
        );
    }
    let counts = &made.manifest.summary["rows"];
    let total: u64 = ["train", "validation", "test"]
        .iter()
        .map(|split| {
            let rows = rows(&made, &format!("{split}.jsonl")).len() as u64;
            assert_eq!(counts[*split], rows);
            assert!(rows > 20, "{split}: {rows}");
            rows
        })
        .sum();
    assert_eq!(total, 400);
    assert_eq!(made.manifest.summary["groups"], 100);
}

#[test]
fn a_file_decides_and_train_rows_that_are_tested_elsewhere_are_left_out() {
    let rows_in = vec![
        row(0, "Ava has 3 pens and buys 4 pens. How many?", ANSWER, "gsm8k/train.jsonl"),
        row(1, "A train needs 9 hours.", ANSWER, "gsm8k/train.jsonl"),
        row(2, "Ben has 3 pens and buys 4 pens. How many?", ANSWER, "gsm8k/test.jsonl"),
    ];
    let (_lab, made) =
        package(rows_in, "{split_column: source_file, test_values: [test.jsonl], validation_share: 0}");
    let ids = |file: &str| rows(&made, file).iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids("train.jsonl"), ["r1"]);
    assert_eq!(ids("test.jsonl"), ["r2"]);
    assert_eq!(made.manifest.summary["leaked"], 1);
}

#[test]
fn texts_are_kept_but_for_what_is_to_be_taken_out() {
    let rows_in = || vec![row(0, "How many?\n\nSay it.", ANSWER, "a.jsonl")];
    let check = |yaml: &str, expected: &str| {
        let (_lab, made) = package(rows_in(), yaml);
        let row = &rows(&made, "train.jsonl")[0];
        let messages = json!([
            {"role": "user", "content": "How many?\n\nSay it."},
            {"role": "assistant", "content": expected},
        ]);
        assert_eq!(row["messages"], messages);
        assert_eq!((&row["reference"], &row["domain"]), (&json!("72"), &Value::Null));
    };
    check("{test_share: 0, validation_share: 0}", ANSWER);
    check(
        "{test_share: 0, validation_share: 0, strip_calculator_annotations: true}",
        "He buys 48/2 = 24 pens.\nThen 24 + 48 = 72.\n#### 72",
    );
}

#[test]
fn a_split_can_be_capped() {
    let rows_in = (0..50).map(|n| row(n, &format!("What is {n} + {n}?"), "#### 1", "a.jsonl")).collect();
    let (_lab, made) = package(rows_in, "{test_share: 0, validation_share: 0, max_rows: {train: 10}}");
    let ids: Vec<_> =
        rows(&made, "train.jsonl").iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 10);
    assert!(ids.iter().map(|id| id[1..].parse::<u32>().unwrap()).is_sorted());
    assert_eq!(made.manifest.counts.rows, Some(10));
}

#[test]
fn nothing_to_train_on_is_an_error() {
    let lab = TestLab::new();
    let rows_in = vec![row(0, "How many?", "#### 1", "test.jsonl")];
    let inputs = Inputs::none().with("dataset", lab.put(Kind::Dataset, "dataset", rows_in));
    let stage = stage("{split_column: source_file, test_values: [test.jsonl]}");
    let error = lab.execute(&stage, "sft", &inputs).unwrap_err();
    assert_eq!(
        (error.exit_code(), error.to_string().as_str()),
        (ExitCode::Input, "distill.package: no row is left of 1: none was left to train on")
    );
}

/// A stage that hands rows on and states that they were held against a file.
struct Checked(ContentHash);

impl Stage for Checked {
    fn name(&self) -> &'static str {
        "test.checked"
    }

    fn kind(&self) -> Kind {
        Kind::Dataset
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!({ "set": self.0 })
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        let rows = JsonLines.read(&context.inputs.require("dataset")?.file("parquet")?)?;
        JsonLines.write(&context.output.join("parquet"), &rows)?;
        let set = CheckedSet { name: "test".to_owned(), hash: self.0.clone(), items: 1, too_short: 0 };
        Ok(context.state(SUMMARY_KEY, [set])?)
    }
}

/// A stage that hands the rows of its data set on, with whatever else it reads beside them.
struct Derived(Kind);

impl Stage for Derived {
    fn name(&self) -> &'static str {
        "test.derived"
    }

    fn kind(&self) -> Kind {
        self.0
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!({})
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        let rows = JsonLines.read(&context.inputs.require("dataset")?.file("parquet")?)?;
        Ok(JsonLines.write(&context.output.join("parquet"), &rows)?)
    }
}

#[test]
fn what_rows_were_only_read_beside_says_nothing_of_them() {
    let lab = TestLab::with("evaluation_sets: [{path: exam.jsonl}]", &[]);
    let exam = lab.folder.path().join("exam.jsonl");
    std::fs::write(&exam, "{\"question\": \"How?\"}\n").unwrap();
    let rows_in = || vec![row(0, "How many?", "#### 1", "a.jsonl")];
    let (first, second) =
        (lab.put(Kind::Dataset, "first", rows_in()), lab.put(Kind::Dataset, "second", rows_in()));
    let on = |artifact: &Artifact| Inputs::none().with("dataset", artifact.clone());
    let checked = Checked(ContentHash::of_file(&exam).unwrap());
    let checked = lab.execute(&checked, "checked", &on(&first)).unwrap();
    let verdicts = lab.execute(&Derived(Kind::Verdicts), "verdicts", &on(&checked)).unwrap();

    let strict = stage("{test_share: 0, validation_share: 0}");
    let refused = |name: &str, inputs: Inputs| {
        let made = lab.execute(&Derived(Kind::Dataset), name, &inputs).unwrap();
        let error = lab.execute(&strict, "sft", &on(&made)).unwrap_err();
        assert!(error.to_string().contains("it was not held against exam.jsonl"), "{error}");
    };
    refused("judged", on(&second).with("verdicts", verdicts));
    // Rows that came on two ways were checked on both, or were not.
    refused("joined", on(&checked).with("more", second.clone()));
    let both = on(&checked).with("more", checked.clone());
    let made = lab.execute(&Derived(Kind::Dataset), "both", &both).unwrap();
    lab.execute(&strict, "sft", &on(&made)).unwrap();
}

#[test]
fn rows_that_were_not_held_against_the_evaluation_sets_are_refused() {
    let lab = TestLab::with("evaluation_sets: [{path: exam.jsonl}]", &[]);
    let exam = lab.folder.path().join("exam.jsonl");
    std::fs::write(&exam, "{\"question\": \"How?\"}\n").unwrap();
    let rows_in = vec![row(0, "How many?", "#### 1", "a.jsonl")];
    let dataset = lab.put(Kind::Dataset, "dataset", rows_in);
    let on = |artifact: &Artifact| Inputs::none().with("dataset", artifact.clone());
    let strict = stage("{test_share: 0, validation_share: 0}");
    let package = |artifact: &Artifact| lab.execute(&strict, "sft", &on(artifact));

    let error = package(&dataset).unwrap_err();
    assert_eq!(error.to_string(), "package tutor/dataset_v1: it was not held against exam.jsonl");
    assert!(error.hint().unwrap().contains("nexa data decontaminate --from tutor/dataset_v1"));
    assert_eq!(error.exit_code(), ExitCode::Input);
    let lenient = stage("{test_share: 0, validation_share: 0, allow_contaminated: true}");
    lab.execute(&lenient, "lenient", &on(&dataset)).unwrap();

    let other = lab.execute(&Checked(ContentHash::of_bytes(b"other")), "other", &on(&dataset)).unwrap();
    package(&other).unwrap_err();
    let checked =
        lab.execute(&Checked(ContentHash::of_file(&exam).unwrap()), "checked", &on(&dataset)).unwrap();
    package(&checked).unwrap();
    // What is made of checked rows counts as checked.
    let later = lab.execute(&Checked(ContentHash::of_bytes(b"later")), "later", &on(&checked)).unwrap();
    package(&later).unwrap();
}

#[test]
fn a_dataset_of_answers_is_packaged_by_their_columns() {
    let answer = json!({"id": "a", "user_prompt": "How many?", "teacher_output": "#### 4"});
    let (_lab, made) =
        package(vec![answer.as_object().unwrap().clone()], "{test_share: 0, validation_share: 0}");
    assert_eq!(rows(&made, "train.jsonl")[0]["messages"][0]["content"], "How many?");
}

/// A filtered artifact as `distill.filter` makes it of three samples of one prompt and one of another.
fn filtered(lab: &TestLab) -> Inputs {
    let output = |id: &str, prompt: &str, text: &str, reference: &str| {
        object(json!({
            "id": id, "group": prompt, "domain": null, "system_prompt": "Be brief.", "user_prompt": prompt,
            "reference": reference, "teacher_output": text, "finish_reason": "stop", "model_id": "mock-1",
        }))
    };
    let outputs = vec![
        output("a-s0", "2 + 2?", "2 + 2 = 4\n\n#### 4", "4"),
        output("a-s1", "2 + 2?", "It is five.\n#### 5", "4"),
        output("a-s2", "2 + 2?", "4, as 2 + 2 = 4\n#### 4", "4"),
        output("b-s0", "3 + 3?", "unrenderable 6\n#### 6", "6"),
        output("c-s0", "4 + 4?", "4 + 4 = 8, which is the same as two times four, of course\n#### 8", "8"),
    ];
    let outputs = lab.put(Kind::TeacherOutputs, "outputs", outputs);
    let verdict = |id: &str, score: f64| object(json!({"id": id, "score": score}));
    let verdicts = [("a-s0", 5.0), ("a-s1", 1.0), ("a-s2", 4.0), ("b-s0", 4.0), ("c-s0", 4.0)];
    let verdicts = verdicts.map(|(id, score)| verdict(id, score)).to_vec();
    let verdicts = lab.put(Kind::Verdicts, "verdicts", verdicts);
    let inputs = Inputs::none().with("outputs", outputs).with("verdicts", verdicts);
    let filter = Filter::new(nexa_distill::filter::Config::default()).unwrap();
    Inputs::none().with("filtered", lab.execute(&filter, "filtered", &inputs).unwrap())
}

#[test]
fn an_answer_within_a_conversation_is_learnt_with_all_that_stood_before() {
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let turns = [
        turn("user", "2 + 2?"),
        turn("assistant", "4"),
        turn("user", "And doubled?"),
        turn("assistant", "9"),
    ];
    let row = json!({
        "id": "a", "system_prompt": "Be brief.", "user_prompt": "And doubled?", "messages": turns,
        "teacher_output": "8",
    });
    let outputs = vec![row.as_object().unwrap().clone()];
    let lab = TestLab::new();
    let inputs = Inputs::none().with("filtered", lab.put(Kind::Filtered, "filtered", outputs));
    let stage = stage("{test_share: 0, validation_share: 0, formats: [alpaca]}");
    let made = lab.execute(&stage, "sft", &inputs).unwrap();
    let asked = [turn("system", "Be brief."), turns[0].clone(), turns[1].clone(), turns[2].clone()];
    let expected: Vec<_> = asked.into_iter().chain([turn("assistant", "8")]).collect();
    assert_eq!(rows(&made, "train.jsonl")[0]["messages"], json!(expected));
    let alpaca = &rows(&made, "train.alpaca.jsonl")[0];
    assert_eq!(alpaca["instruction"], "user: 2 + 2?\n\nassistant: 4\n\nuser: And doubled?");
    assert_eq!(alpaca["output"], "8");
}

#[test]
fn every_form_says_the_same() {
    let lab = TestLab::new();
    let formats = "[messages, sharegpt, alpaca, prompt_completion, input_output, dpo]";
    let stage = stage(&format!("{{test_share: 0, validation_share: 0, formats: {formats}}}"));
    let made = lab.execute(&stage, "sft", &filtered(&lab)).unwrap();
    let first = |format: &str| {
        let line = rows(&made, &format!("train.{format}.jsonl")).remove(0);
        let mut table = rows(&made, &format!("{format}.parquet")).remove(0);
        assert_eq!(table.remove("split"), Some(json!("train")));
        assert_eq!(line, table, "{format}");
        Value::Object(line)
    };
    let answer = "2 + 2 = 4\n\n#### 4";
    let system = json!({"role": "system", "content": "Be brief."});
    let user = json!({"role": "user", "content": "2 + 2?"});
    let assistant = |text: &str| json!({"role": "assistant", "content": text});
    assert_eq!(
        first("sharegpt"),
        json!({"id": "a-s0", "system": "Be brief.", "conversations": [
            {"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": answer},
        ]})
    );
    assert_eq!(
        first("alpaca"),
        json!({"id": "a-s0", "instruction": "2 + 2?", "input": "", "output": answer, "system": "Be brief."})
    );
    assert_eq!(
        first("prompt_completion"),
        json!({"id": "a-s0", "prompt": [system, user], "completion": [assistant(answer)]})
    );
    assert_eq!(
        first("input_output"),
        json!({"id": "a-s0", "input": "2 + 2?", "output": answer, "meta": {
            "id": "a-s0", "group": "2 + 2?", "domain": null, "reference": "4", "system_prompt": "Be brief.",
        }})
    );
    assert_eq!(
        first("dpo"),
        json!({
            "id": "a-s0", "prompt": [system, user], "chosen": [assistant(answer)],
            "rejected": [assistant("4, as 2 + 2 = 4\n#### 4")], "chosen_score": 5.0, "rejected_score": 4.0,
            "rejected_because": "judge",
        })
    );
    assert_eq!(rows(&made, "train.dpo.jsonl").len(), 1);
}

#[test]
fn what_a_gate_rejected_is_the_worse_answer_where_judges_see_too_little_between() {
    let lab = TestLab::new();
    let stage = stage("{test_share: 0, validation_share: 0, formats: [dpo], dpo_min_margin: 2}");
    let made = lab.execute(&stage, "sft", &filtered(&lab)).unwrap();
    let pair = rows(&made, "train.dpo.jsonl").remove(0);
    assert_eq!(pair["rejected"][0]["content"], "It is five.\n#### 5");
    assert_eq!(pair["rejected_because"], "wrong_answer");
}

#[test]
fn what_the_student_cannot_take_is_left_out_with_the_reason() {
    let lab = TestLab::new();
    let tokenizer = lab.put(Kind::Tokenizer, "tokenizer", vec![object(json!({"a": 1}))]);
    let stage =
        stage("{test_share: 0, validation_share: 0, max_tokens: 20}").with_tokenizers(Arc::new(Words));
    let inputs = filtered(&lab).with("tokenizer", tokenizer);
    let made = lab.execute(&stage, "sft", &inputs).unwrap();
    let rejected = rows(&made, "rejected.parquet");
    let reasons: Vec<_> = rejected
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["rejection_reason"].as_str().unwrap()))
        .collect();
    assert_eq!(reasons, [("b-s0", "tokenize: the template refuses it"), ("c-s0", "28 tokens, more than 20")]);
    // Six for the marks of three turns, five for the system's and the user's words, seven and nine for the answers.
    assert_eq!(made.manifest.counts.tokens, Some(18 + 20));
    let card: Value = nexa_core::files::read_json(&made.file("card.json").unwrap()).unwrap();
    let train = &card["splits"]["train"];
    assert_eq!((&train["unit"], &train["length"]["mean"]), (&json!("tokens"), &json!(19.0)));
    // Two marks for the answer's turn, which carry loss as its words do.
    assert_eq!((&train["prompt"]["max"], &train["completion"]["total"]), (&json!(9), &json!(9 + 11)));

    let without = stage_error(&lab, "max_tokens: 20", &filtered(&lab));
    assert!(without.contains("`max_tokens` is 20, but it needs the student's tokenizer"), "{without}");
    let pairs =
        Inputs::none().with("dataset", lab.put(Kind::Dataset, "dataset", vec![row(0, "a", ANSWER, "f")]));
    let error = stage_error(&lab, "formats: [dpo]", &pairs);
    assert!(error.contains("pairs are made of role `filtered`"), "{error}");
}

fn stage_error(lab: &TestLab, yaml: &str, inputs: &Inputs) -> String {
    let yaml = format!("{{test_share: 0, validation_share: 0, {yaml}}}");
    lab.execute(&stage(&yaml), "refused", inputs).unwrap_err().to_string()
}

#[test]
fn collections_of_one_teacher_are_one_on_the_card_and_others_stand_alone() {
    let ask = |lab: &TestLab, name: &str, question: &str, temperature: f64| {
        let stage = collect("embedded", |config| {
            config.embedded = nexa_distill::embedded::Faults::NONE;
            config.temperature = temperature;
        });
        let outputs = lab.execute(&stage, name, &lab.put_prompts(&[question.to_owned()])).unwrap();
        let filter = Filter::new(nexa_distill::filter::Config::default()).unwrap();
        let inputs = Inputs::none().with("outputs", outputs);
        lab.execute(&filter, &format!("{name}_filtered"), &inputs).unwrap()
    };
    let teachers = |temperature: f64| {
        // Answers are the same at any temperature, so in one lab what was filtered before would be taken.
        let lab = TestLab::new();
        let first = "Ava has 3 apples and buys 4 more apples. How many apples does Ava have now?";
        let first = ask(&lab, "first", first, 0.7);
        let second = "Ben has 9 pears and buys 2 more pears. How many pears does Ben have now?";
        let second = ask(&lab, "second", second, temperature);
        let inputs = Inputs::none().with("filtered", first).with("regenerated", second);
        let made = lab.execute(&stage("{test_share: 0, validation_share: 0}"), "sft", &inputs).unwrap();
        let card: Value = nexa_core::files::read_json(&made.file("card.json").unwrap()).unwrap();
        let of = |teacher: &Value| (teacher["collections"].clone(), teacher["answers"].clone());
        card["teachers"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(teachers(0.7), [(json!(2), json!(2))]);
    assert_eq!(teachers(0.2), [(json!(1), json!(1)), (json!(1), json!(1))]);
}

#[test]
fn a_card_tells_where_the_data_come_from_and_what_is_wrong_with_them() {
    let lab = TestLab::new();
    let prompts = ["Ava has 3 apples and buys 4 more apples. How many apples does Ava have now?".to_owned()];
    let collect = collect("embedded", |config| config.embedded = nexa_distill::embedded::Faults::NONE);
    let outputs = lab.execute(&collect, "outputs", &lab.put_prompts(&prompts)).unwrap();
    let filter = Filter::new(nexa_distill::filter::Config::default()).unwrap();
    let filtered = lab.execute(&filter, "filtered", &Inputs::none().with("outputs", outputs)).unwrap();
    let inputs = Inputs::none().with("filtered", filtered);
    let made = lab.execute(&stage("{test_share: 0, validation_share: 0}"), "sft", &inputs).unwrap();
    let card: Value = nexa_core::files::read_json(&made.file("card.json").unwrap()).unwrap();
    assert_eq!(card["teachers"][0]["teacher"], "embedded");
    assert_eq!(card["teachers"][0]["models"], json!(["nexa/arithmetic-teacher"]));
    assert_eq!(card["teachers"][0]["sampling"]["temperature"], 0.7);
    assert_eq!(card["funnels"][0]["rows_in"], 1);
    assert_eq!(card["splits"]["train"]["rows"], 1);
    assert_eq!(card["packaging"]["without_reference"], 1);
    let text = std::fs::read_to_string(made.file("card.md").unwrap()).unwrap();
    for expected in
        ["1 of 1 answers were held against no reference", "No model judged", "| wrong_answer@2 | 1 | 0 | 1 |"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(made.manifest.summary["upstream_spend"]["requests"], 1);
    let lines: Vec<SpendLine> = serde_json::from_value(made.manifest.summary[SPEND_LINES].clone()).unwrap();
    let paid = lines.iter().find(|line| line.model.is_some()).unwrap();
    assert_eq!((paid.stage.as_str(), paid.artifact.as_str()), ("distill.collect", "tutor/outputs_v1"));
    assert_eq!((paid.spend.requests, usd_per_row(&paid.spend, 1)), (1, Some(0.0)));
}
