use nexa_core::Diagnose;
use nexa_core::artifact::Kind;
use nexa_core::review::{Action, Labels, Line};
use nexa_core::stage::Inputs;

use super::*;
use crate::ingest::{Config, Ingest};
use crate::test_lab::{Files, TestLab};

const INPUTS: &str = r#"{"id":"q1-plain","template_name":"plain","user_prompt":"One?"}
{"id":"q1-kind","template_name":"kind","user_prompt":"One, please?"}
{"id":"q2-plain","template_name":"plain","user_prompt":"Two?"}
"#;
const OUTPUTS: &str = r#"{"id":"q1-plain-s0","template_name":"plain","sample_index":0,"teacher_output":"1","model_id":"m","finish_reason":"stop","prompt_tokens":3,"completion_tokens":1}
{"id":"q1-plain-s1","template_name":"plain","sample_index":1,"teacher_output":"no","model_id":"m","finish_reason":"length","prompt_tokens":3,"completion_tokens":9}
{"id":"q2-plain-s0","template_name":"plain","sample_index":0,"teacher_output":"2","model_id":"m","finish_reason":"stop","prompt_tokens":3,"completion_tokens":1}
"#;
const FAILED: &str = r#"{"id":"q1-kind","template_name":"kind","sample_index":0,"failure":"refused"}
"#;
const PASSED: &str = r#"{"id":"q1-plain-s0","template_name":"plain","sample_index":0,"teacher_output":"1"}
{"id":"q2-plain-s0","template_name":"plain","sample_index":0,"teacher_output":"2"}
"#;
const REJECTED: &str = r#"{"id":"q1-plain-s1","template_name":"plain","sample_index":1,"teacher_output":"no","rejection_gate":"truncation","rejection_reason":"cut off"}
"#;
const SCORES: &str = r#"{"id":"q1-plain-s0","length":1.0,"json":null}
{"id":"q1-plain-s1","length":2.0,"json":null}
{"id":"q2-plain-s0","length":1.0,"json":null}
"#;
const PACKAGE: &str = r#"{"id":"q1-plain-s0","split":"train"}
{"id":"q2-plain-s0","split":"test"}
"#;
const PREDICTIONS: &str = r#"{"id":"q2-plain-s0","prediction":"3","correct":false}
"#;

/// A lab with the whole way of the rows q1, q2 and q3.
struct Way(TestLab);

impl Way {
    fn new() -> Self {
        let way = Self(TestLab::new());
        way.0.write("raw/q.jsonl", "{\"id\":\"q1\"}\n{\"id\":\"q2\"}\n\n{\"id\":\"q3\"}\n");
        way.ingest("rows");
        way.make(Kind::TeacherInputs, "inputs", &[("jsonl", INPUTS)], &["rows"]);
        way.make(
            Kind::TeacherOutputs,
            "outputs",
            &[("jsonl", OUTPUTS), ("failed.jsonl", FAILED)],
            &["inputs"],
        );
        let files = [("jsonl", PASSED), ("rejected.jsonl", REJECTED), ("scores.jsonl", SCORES)];
        way.make(Kind::Filtered, "filtered", &files, &["outputs"]);
        way.make(Kind::SftDataset, "sft", &[("jsonl", PACKAGE), ("train.jsonl", PACKAGE)], &["filtered"]);
        way.make(Kind::Tokenizer, "tokenizer", &[("tokenizer.json", "{}")], &["sft"]);
        way.make(Kind::Checkpoint, "untrained", &[("w", "0")], &["tokenizer"]);
        way.make(Kind::Checkpoint, "student", &[("w", "1")], &["sft", "tokenizer", "untrained"]);
        way.make(Kind::Checkpoint, "tuned", &[("w", "2")], &["student"]);
        way.make(Kind::Evaluation, "report", &[("predictions.jsonl", PREDICTIONS)], &["student", "sft"]);
        way
    }

    fn ingest(&self, name: &str) {
        let config = Config { paths: vec!["raw/q.jsonl".into()], ..Config::default() };
        self.0.execute(&Ingest::new(&self.0.lab, config).unwrap(), name, &Inputs::none()).unwrap();
    }

    fn make(&self, kind: Kind, name: &str, files: &[(&'static str, &'static str)], from: &[&str]) {
        let inputs = from.iter().fold(Inputs::none(), |inputs, name| inputs.with(name, self.artifact(name)));
        self.0.execute(&Files { kind, files: files.to_vec() }, name, &inputs).unwrap();
    }

    fn store(&self) -> Store<'_> {
        Store::new(&self.0.lab)
    }

    fn artifact(&self, name: &str) -> Artifact {
        self.store().resolve("tutor", name).unwrap()
    }

    fn receipt(&self, row: &str) -> Receipt {
        receipt(&self.store(), &Asked { project: "tutor", row, within: None }).unwrap()
    }

    fn refused(&self, row: &str, within: Option<&Artifact>) -> crate::Error {
        receipt(&self.store(), &Asked { project: "tutor", row, within }).unwrap_err()
    }
}

#[test]
fn a_receipt_holds_the_whole_way_of_a_row_and_none_of_its_siblings() {
    let way = Way::new();
    let filtered = way.artifact("filtered");
    let labels = Labels::new(&way.0.lab, filtered.id());
    labels.append("ana", &[Line::new("q1-plain-s0", Action::Accept, "ana")]).unwrap();

    let receipt = way.receipt("q1-plain-s0");
    assert_eq!(receipt.found_in.stem(), "outputs_v1");
    let origin = &receipt.origins[0];
    assert_eq!((origin.id.as_str(), origin.line, origin.changed), ("q1", Some(1), false));
    let prompts: Vec<_> = receipt.prompts.iter().map(|one| one.user_prompt.as_deref().unwrap()).collect();
    assert_eq!(prompts, ["One?"], "not that of the other template");
    let attempts: Vec<_> = receipt
        .attempts
        .iter()
        .map(|one| (one.id.as_str(), one.outcome.as_str(), one.completion_tokens))
        .collect();
    assert_eq!(attempts, [("q1-plain-s0", "stop", Some(1))], "not the other sample");
    assert_eq!(receipt.gates.len(), 1);
    let gated = &receipt.gates[0];
    assert_eq!((gated.passed, gated.scores.len(), &gated.scores["length"]), (true, 1, &1.0.into()));
    assert_eq!(
        (receipt.reviews[0].reviewer.as_str(), receipt.reviews[0].verdict.as_str()),
        ("ana", "accept")
    );
    assert_eq!(receipt.packages.len(), 1, "one table says it, not one a form");
    assert_eq!(receipt.packages[0].split.as_deref(), Some("train"));
    let runs: Vec<_> = receipt
        .runs
        .iter()
        .map(|one| (one.artifact.name.as_str(), one.as_what, one.through.name.as_str()))
        .collect();
    let expected = [
        ("tokenizer", Use::Trained, "sft"),
        ("student", Use::Trained, "sft"),
        ("tuned", Use::Inherited, "student"),
    ];
    assert_eq!(runs, expected, "what only shares a tokenizer saw nothing");
    assert_eq!((receipt.evaluations.len(), &receipt.evaluations[0].item), (1, &None));
}

#[test]
fn a_row_of_the_source_leads_to_all_that_was_made_of_it() {
    let way = Way::new();
    let receipt = way.receipt("q1");
    let ids = |ids: Vec<&String>| ids.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(ids(receipt.prompts.iter().map(|one| &one.id).collect()), "q1-plain q1-kind");
    assert_eq!(ids(receipt.attempts.iter().map(|one| &one.id).collect()), "q1-plain-s0 q1-plain-s1 q1-kind");
    assert_eq!(receipt.attempts[2].outcome, "refused");
    let rejected = receipt.gates.iter().find(|one| !one.passed).unwrap();
    assert_eq!((rejected.gate.as_deref(), rejected.reason.as_deref()), (Some("truncation"), Some("cut off")));
    assert_eq!(rejected.scores["length"], 2.0);

    let held_out = way.receipt("q2");
    let uses: Vec<_> = held_out.runs.iter().map(|one| (one.artifact.name.as_str(), one.as_what)).collect();
    assert_eq!(uses, [("tokenizer", Use::HeldOut), ("student", Use::HeldOut)]);
    let item = held_out.evaluations[0].item.as_ref().unwrap();
    assert_eq!((item.correct, item.prediction.as_deref()), (Some(false), Some("3")));
    assert_eq!(way.receipt("q3").origins[0].line, Some(4), "lines count, also those without a row");
}

#[test]
fn a_source_that_has_changed_has_no_line_any_more() {
    let way = Way::new();
    way.0.write("raw/q.jsonl", "{\"id\":\"q2\"}\n{\"id\":\"q1\"}\n");
    let origin = way.receipt("q1").origins.remove(0);
    assert_eq!((origin.line, origin.changed), (None, true));
    std::fs::remove_file(way.0.path("raw/q.jsonl")).unwrap();
    let origin = way.receipt("q1").origins.remove(0);
    assert_eq!((origin.line, origin.changed, origin.is_gone), (None, false, true));
}

#[test]
fn a_row_of_a_raw_artifact_has_its_line_too() {
    let way = Way(TestLab::new());
    way.make(Kind::Raw, "raw", &[("jsonl", "{\"id\":\"a\"}\n{\"text\":\"no id\"}\n")], &[]);
    let inputs = Inputs::none().with("raw", way.artifact("raw"));
    way.0.execute(&Ingest::new(&way.0.lab, Config::default()).unwrap(), "rows", &inputs).unwrap();
    for (row, line) in [("a", 1), ("raw-2", 2)] {
        let origin = way.receipt(row).origins.remove(0);
        assert_eq!((origin.line, origin.source_file.as_deref()), (Some(line), Some("raw.jsonl")), "{row}");
        assert!(origin.path.unwrap().ends_with("raw_v1.jsonl"));
    }
}

#[test]
fn a_row_in_several_places_is_asked_for_by_its_artifact() {
    let way = Way::new();
    way.0.write("raw/q.jsonl", "{\"id\":\"q1\",\"n\":2}\n");
    way.ingest("rows");
    let receipt = way.receipt("q1");
    let others: Vec<_> = receipt.also_in.iter().map(ArtifactId::stem).collect();
    assert_eq!(
        (receipt.found_in.stem().as_str(), others.as_slice()),
        ("rows_v2", &["rows_v1".to_owned()][..])
    );
    assert_eq!(receipt.prompts, [], "nothing was made of the newer version yet");

    way.ingest("exam");
    let error = way.refused("q1", None);
    assert!(
        error.to_string().contains("tutor/exam_v1") && error.to_string().contains("tutor/rows_v2"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("nexa lineage q1 --in tutor/"), "{error}");
    let old = way.store().resolve("tutor", "rows@v1").unwrap();
    let asked = Asked { project: "tutor", row: "q1", within: Some(&old) };
    assert_eq!(super::receipt(&way.store(), &asked).unwrap().prompts.len(), 2);
}

#[test]
fn a_row_that_is_nowhere_says_where_it_was_looked_for() {
    let way = Way::new();
    let hint = way.refused("p9", None).hint().unwrap();
    assert!(
        hint.contains("tables of project tutor (filtered, inputs, outputs, report, rows, sft)"),
        "{hint}"
    );
    let error = way.refused("q1-plain-s7", None);
    assert!(error.hint().unwrap().contains("did you mean `q1-plain"), "{:?}", error.hint());
    let filtered = way.artifact("filtered");
    assert!(way.refused("q1", Some(&filtered)).to_string().contains("find row `q1`"));
}

#[test]
fn a_source_lists_what_it_reached() {
    let way = Way::new();
    let told = |source: &Source<'_>| -> Vec<(String, Option<u64>, u64)> {
        let reached = reached(&way.store(), source).unwrap();
        reached.artifacts.into_iter().map(|one| (one.id.name, one.rows, one.rejected)).collect()
    };
    let row = |name: &str, rows: u64, rejected: u64| (name.to_owned(), Some(rows), rejected);
    let model = |name: &str| (name.to_owned(), None, 0);
    let models = [model("tokenizer"), model("untrained"), model("student"), model("tuned")];

    let path = way.0.path("raw/q.jsonl");
    let from_file = told(&Source::File(&path));
    for expected in [
        row("rows", 3, 0),
        row("inputs", 3, 0),
        row("outputs", 3, 0),
        row("filtered", 2, 1),
        row("sft", 2, 0),
    ] {
        assert!(from_file.contains(&expected), "{expected:?} in {from_file:?}");
    }
    assert_eq!(from_file.len(), 10);

    let inputs = way.artifact("inputs");
    let from_inputs = told(&Source::Artifact(&inputs));
    assert!(!from_inputs.contains(&row("inputs", 3, 0)) && from_inputs.contains(&row("filtered", 2, 1)));

    let from_row = told(&Source::Row(Asked { project: "tutor", row: "q1", within: None }));
    for expected in
        [row("rows", 1, 0), row("inputs", 2, 0), row("filtered", 1, 1), row("sft", 1, 0), row("report", 0, 0)]
    {
        assert!(from_row.contains(&expected), "{expected:?} in {from_row:?}");
    }
    assert!(models.iter().all(|model| from_row.contains(model)), "{from_row:?}");
    let unused = told(&Source::Row(Asked { project: "tutor", row: "q3", within: None }));
    assert_eq!(unused, [row("rows", 1, 0)], "it led to nothing");

    way.0.write("raw/other.jsonl", "{}\n");
    let other = way.0.path("raw/other.jsonl");
    let error = reached(&way.store(), &Source::File(&other)).unwrap_err();
    assert!(error.to_string().contains("anything that was made of"), "{error}");
}
