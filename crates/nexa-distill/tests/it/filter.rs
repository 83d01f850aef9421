//! Filtering: checks of one's own, judges, the student's tokens, and bounds that are moved afterwards.

use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::config;
use nexa_core::stage::Inputs;
use nexa_core::table::{JsonLines, Row};
use nexa_distill::filter::thresholds::{self, Change};
use nexa_distill::filter::{Config, Filter};
use serde_json::{Value, json};

use crate::support::{TestLab, Words, object, rows};

fn answer(id: &str, text: &str, more: Value) -> Row {
    let mut row = object(json!({
        "id": id, "user_prompt": format!("question {id}"), "teacher_output": text, "finish_reason": "stop",
    }));
    row.extend(object(more));
    row
}

fn read(yaml: &str) -> Config {
    config::from_value(config::parse_yaml(yaml, "test").unwrap(), "test").unwrap()
}

fn filter(lab: &TestLab, yaml: &str, inputs: &Inputs) -> Artifact {
    let stage = Filter::in_folder(read(yaml), lab.folder.path()).unwrap().with_tokenizers(Arc::new(Words));
    lab.execute(&stage, "filtered", inputs).unwrap()
}

fn outputs(lab: &TestLab, rows: Vec<Row>) -> Inputs {
    Inputs::none().with("outputs", lab.put(Kind::TeacherOutputs, "outputs", rows))
}

/// Each rejected row with its gate and reason.
fn rejected(artifact: &Artifact) -> Vec<(String, String, String)> {
    let text = |row: &Row, column: &str| row[column].as_str().unwrap().to_owned();
    rows(artifact, "rejected.parquet")
        .iter()
        .map(|row| (text(row, "id"), text(row, "rejection_gate"), text(row, "rejection_reason")))
        .collect()
}

fn triple(id: &str, gate: &str, reason: &str) -> (String, String, String) {
    (id.to_owned(), gate.to_owned(), reason.to_owned())
}

#[test]
fn checks_are_gates_with_reasons() {
    let lab = TestLab::new();
    let schema = json!({"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]});
    std::fs::write(lab.folder.path().join("sum.json"), schema.to_string()).unwrap();
    let inputs = outputs(
        &lab,
        vec![
            answer("a", r#"{"sum": 4}"#, json!({"right": 4})),
            answer("b", r#"{"sum": "four"}"#, json!({"right": 4})),
            answer("c", r#"{"sum": 5}"#, json!({"right": 4})),
            answer("d", r#"{"sum": 4, "note": "TODO"}"#, json!({"right": 4})),
            answer("e", "sum: 4", json!({"right": 4})),
            answer("f", r#"{"sum": 7}"#, json!({"right": null})),
        ],
    );
    let checks = "checks: [{regex: '^\\{'}, {not_regex: TODO}, {json_schema: sum.json}, \
                  {numeric_answer: {column: right, tolerance: 0.5}}]";
    let made = filter(&lab, checks, &inputs);
    assert_eq!(
        rejected(&made),
        [
            triple("b", "json_schema", "at `/sum`: \"four\" is not of type \"integer\""),
            triple("c", "numeric_answer", "comes to 5, not 4, the bound is 0.5"),
            triple("d", "not_regex", "holds \"TODO\""),
            triple("e", "regex", "does not match `^\\{`"),
        ]
    );
    assert_eq!(rows(&made, "scores.parquet")[2]["numeric_answer"], 1.0);
}

#[cfg(unix)]
#[test]
fn a_command_checks_rows_and_its_file_belongs_to_the_key() {
    let lab = TestLab::with("", &[("OPENAI_API_KEY", "hunter2")]);
    let script = lab.folder.path().join("check.sh");
    let answers = || vec![answer("a", "good", json!({})), answer("b", "bad", json!({}))];
    let inputs = outputs(&lab, answers());
    let yaml = "checks: [{command: [sh, check.sh], name: shell}]";
    std::fs::write(&script, "grep -q good || { echo not good; exit 1; }").unwrap();
    let first = filter(&lab, yaml, &inputs);
    assert_eq!(rejected(&first), [triple("b", "shell", "not good")]);
    assert_eq!(filter(&lab, yaml, &inputs).id(), first.id());
    std::fs::write(&script, "grep -q bad || { echo \"${OPENAI_API_KEY:-no key}\"; exit 1; }").unwrap();
    assert_eq!(rejected(&filter(&lab, yaml, &inputs)), [triple("a", "shell", "no key")]);
}

#[test]
fn the_filters_of_scientific_answers_can_be_set() {
    let lab = TestLab::new();
    let filler = "It takes care, a clean bench and a steady hand, and every value is written down at once. ";
    let good = format!("Measure the mass before and after drying. {filler}The loss of mass is the water.");
    let inputs = outputs(
        &lab,
        vec![
            answer("a", &good, json!({})),
            answer("b", &good.replace("Measure", "Consider"), json!({})),
            answer("c", &good.replace("water.", "water [12]."), json!({})),
            answer("d", &good.replace("water.", "water, see doi:10.1/x."), json!({})),
            answer("e", "Measure it.", json!({})),
        ],
    );
    let yaml = "
length: {min_characters: 120}
checks:
  - name: action_verb
    regex: '(?i)\\b(?:analyze|assess|calibrate|compare|culture|evaluate|incubate|measure|mix|prepare|run|simulate|synthesize|test|validate)\\b'
  - {name: no_citations, not_regex: '(?i)\\[\\d+\\]|\\(ref\\)|doi:\\S+|arxiv:\\S+'}
";
    let gates: Vec<_> =
        rejected(&filter(&lab, yaml, &inputs)).into_iter().map(|(id, gate, _)| (id, gate)).collect();
    let expected = [("b", "action_verb"), ("c", "no_citations"), ("d", "no_citations"), ("e", "length")];
    assert_eq!(gates, expected.map(|(id, gate)| (id.to_owned(), gate.to_owned())));
}

#[test]
fn judges_and_the_students_tokens_decide_where_they_are_given() {
    let lab = TestLab::new();
    let inputs = outputs(
        &lab,
        vec![
            answer("a", "Four.", json!({})),
            answer("b", "Five.", json!({})),
            answer("c", "Six.", json!({})),
            answer("d", "Seven, which is a long answer for such a short question.", json!({})),
        ],
    );
    assert_eq!(rows(&filter(&lab, "{}", &inputs), "parquet").len(), 4);
    let verdicts = [("a", Some(4.5)), ("b", Some(2.0)), ("c", None), ("d", Some(5.0))];
    let verdicts = verdicts.map(|(id, score)| object(json!({"id": id, "score": score}))).to_vec();
    let inputs = inputs
        .with("verdicts", lab.put(Kind::Verdicts, "verdicts", verdicts))
        .with("tokenizer", lab.put(Kind::Tokenizer, "tokenizer", vec![object(json!({"a": 1}))]));
    let made = filter(&lab, "{tokens: {max: 10}, judge: {min_score: 3}}", &inputs);
    assert_eq!(
        rejected(&made),
        [
            triple("b", "judge", "judged 2, the bound is 3"),
            triple("c", "judge", "no readable verdict, the bound is 3"),
            triple("d", "tokens", "17 tokens, the bound is 10"),
        ]
    );
}

#[test]
fn bounds_can_be_moved_without_measuring_again() {
    let lab = TestLab::new();
    let loops = |times: usize| "one two three four\n".repeat(times);
    let inputs = outputs(
        &lab,
        vec![
            answer("a", "Four.", json!({})),
            answer("b", &loops(3), json!({})),
            answer("c", &loops(9), json!({})),
        ],
    );
    let made = filter(&lab, "loop: {max: 0.3}", &inputs);
    let explore = |changes: &[&str]| {
        let changes: Vec<Change> = changes.iter().map(|change| change.parse().unwrap()).collect();
        thresholds::explore(&made, &JsonLines, &changes)
    };
    let found = explore(&["loop=0.5"]).unwrap();
    assert_eq!((found.passed_before, found.passed_after), (1, 2));
    assert_eq!((found.flips.len(), found.flips[0].id.as_str(), found.flips[0].score), (1, "b", Some(0.3333)));
    // What the bounds would let through is what they let through.
    let again = filter(&lab, "loop: {max: 0.5}", &inputs);
    assert_eq!(rows(&again, "parquet").len(), found.passed_after);
    let error = explore(&["lop=1"]).unwrap_err();
    assert!(error.to_string().contains("no such gate was asked"), "{error}");
}
