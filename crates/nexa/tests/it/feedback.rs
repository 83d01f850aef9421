//! `nexa feedback` and what follows: from an evaluation to new prompts, and from them to answers; and `nexa data stats`.

use serde_json::{Value, json};

use crate::support::{PACKAGED, Shell, small_pipeline};

const EVALUATED: &str = "  tokenizer: {uses: tokenizer.train, in: {sft_dataset: sft}, with: {vocab_size: 300}}
  student: {uses: train.init, in: {tokenizer: tokenizer}, with: {model: {hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1}}}
  exam: {uses: evaluate, in: {checkpoint: student, sft_dataset: sft}, with: {max_tokens: 4}}
";

fn ok(shell: &Shell, arguments: &[&str]) -> crate::support::Ran {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran
}

fn rows(shell: &Shell, artifact: &str, more: &[&str]) -> Vec<Value> {
    let arguments = [&["data", "show", artifact, "--limit", "1000", "--json"], more].concat();
    serde_json::from_str(&ok(shell, &arguments).stdout).unwrap()
}

#[test]
fn failures_become_prompts_that_a_teacher_can_be_asked() {
    let shell = Shell::in_lab();
    shell.write("projects/tutor/pipelines/small.yaml", &small_pipeline(&format!("{PACKAGED}{EVALUATED}")));
    ok(&shell, &["run", "projects/tutor/pipelines/small.yaml"]);

    // The tokens of the data that it is about.
    let stats =
        ok(&shell, &["data", "stats", "sft", "--tokenizer", "student", "--context", "60", "--json"]).stdout;
    let stats: Value = serde_json::from_str(&stats).unwrap();
    let tokens = &stats["tokens"];
    assert_eq!((&tokens["sequences"], &tokens["context"]), (&stats["rows"], &json!(60)));
    let counted: u64 =
        tokens["histogram"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
    assert_eq!(tokens["sequences"], json!(counted));
    assert!(tokens["tokens"]["p50"].as_u64() <= tokens["tokens"]["p99"].as_u64(), "{tokens}");
    assert!(tokens["over_context"].as_u64().unwrap() > 0, "{tokens}");
    let shown = ok(&shell, &["data", "stats", "sft", "--tokenizer"]);
    assert!(shown.stdout.contains("tokens: mean") && shown.stdout.contains("█"), "{}", shown.stdout);
    assert!(
        shown.stderr.contains("carry loss; 0 sequences (0.0 %) are longer than 512 tokens"),
        "{}",
        shown.stderr
    );

    // Everything was asked already: that is told, and the report is made all the same.
    let ran = ok(&shell, &["feedback"]);
    assert_eq!(ran.stdout, "tutor/feedback_v1\n", "{}", ran.stderr);
    assert!(ran.stderr.contains("using tutor/inputs_v1 as pool"), "{}", ran.stderr);
    assert!(ran.stderr.contains("no new teacher inputs: none of the 60 prompts"), "{}", ran.stderr);
    let report = shell.path("data/processed/tutor/evaluation/feedback/feedback_v1.report.md");
    let report = std::fs::read_to_string(report).unwrap();
    assert!(!report.contains("–"), "training rows are counted:\n{report}");

    ok(&shell, &["distill", "problems", "problems=300", "seed=5", "--output", "more"]);
    ok(&shell, &["data", "ingest", "--in", "raw=more", "--output", "more_rows"]);
    ok(&shell, &["distill", "inputs", "--in", "dataset=more_rows", "--output", "more_inputs"]);
    let exam = rows(&shell, "sft", &["--file", "test.jsonl"])[0]["messages"][0]["content"].clone();
    let pool = ["feedback", "--in", "pool=more_inputs", "inputs.match_groups=false", "inputs.max_inputs=40"];
    let ran = ok(&shell, &[&pool[..], &["--inputs-output", "inputs", "--json"]].concat());
    let made: Value = serde_json::from_str(&ran.stdout).unwrap();
    let inputs = &made["teacher_inputs"];
    assert_eq!((&inputs["id"], &inputs["counts"]["rows"]), (&json!("tutor/inputs_v2"), &json!(40)));
    assert_eq!(made["feedback"]["id"], "tutor/feedback_v1");
    let aimed = rows(&shell, "inputs", &[]);
    assert!(aimed.iter().all(|row| row["gap"].is_string() && row["user_prompt"] != exam), "{aimed:?}");

    ok(&shell, &["distill", "collect", "--teacher", "embedded"]);
    assert_eq!(rows(&shell, "teacher_outputs", &[]).len(), 40);
    let lineage = ok(&shell, &["lineage", "teacher_outputs"]).stdout;
    for ancestor in
        ["inputs: tutor/inputs_v2", "tutor/feedback_v1", "tutor/exam_v1", "pool: tutor/more_inputs_v1"]
    {
        assert!(lineage.contains(ancestor), "{ancestor} is missing in:\n{lineage}");
    }

    // What was asked in between is not asked again.
    let again = ok(&shell, &[&pool[..], &["--json"]].concat()).stdout;
    let again: Value = serde_json::from_str(&again).unwrap();
    let summary = &again["teacher_inputs"]["summary"];
    assert!(summary["asked_before"].as_u64().unwrap() >= 40, "{summary}");

    let refused = shell.run(&["feedback", "--in", "pool=inputs_v1"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: make further prompts"), "{}", refused.stderr);
    let unknown = shell.run(&["feedback", "inputs.max_input=3"]);
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("did you mean `max_inputs`"), "{}", unknown.stderr);
    assert_eq!(ok(&shell, &["feedback", "--report-only"]).stdout, "tutor/feedback_v1\n");
}
