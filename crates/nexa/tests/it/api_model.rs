//! Models behind APIs under `nexa evaluate`, by the teacher inside the program, which is called as any other API is.

use serde_json::Value;

use crate::support::{PACKAGED, Ran, Shell, small_pipeline};

fn lab() -> Shell {
    let shell = Shell::in_lab();
    shell.write("projects/tutor/pipelines/small.yaml", &small_pipeline(PACKAGED));
    let ran = shell.run(&["run", "projects/tutor/pipelines/small.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    shell
}

fn evaluate(shell: &Shell, model: &str, task: &str, more: &[&str]) -> Ran {
    let named = ["evaluate", "--model", model, "--tasks", task, "--in", "sft_dataset=sft"];
    shell.run(&[&named[..], more].concat())
}

#[test]
fn a_model_behind_an_api_is_evaluated_within_its_budget() {
    let shell = lab();
    let poor = evaluate(&shell, "embedded", "exact_match", &["calls.max_total_tokens=10"]);
    assert_eq!(poor.code, 8, "{}", poor.stderr);

    let ran = evaluate(&shell, "embedded", "exact_match", &["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let manifest: Value = serde_json::from_str(&ran.stdout).unwrap();
    let right = &manifest["summary"]["exact_match"]["value"];
    assert!(right.as_f64().is_some_and(|right| right > 0.5), "{manifest}");
    assert!(ran.stderr.contains("training data unknown"), "{}", ran.stderr);
    let role = |parent: &&Value| parent["role"] == "checkpoint";
    let parent = manifest["parents"].as_array().unwrap().iter().find(role).unwrap();
    assert_eq!(parent["id"], "tutor/api_embedded_v1");

    // What was answered is not asked again, and stands on the leaderboard.
    let again = evaluate(&shell, "embedded", "exact_match", &["--force", "cache=false"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.contains("answers are there already"), "{}", again.stderr);
    let board = shell.run(&["leaderboard", "--format", "csv"]);
    assert!(board.stdout.contains("tutor/api_embedded_v1"), "{}", board.stdout);

    // Its evaluations are found by its name, as those of a checkpoint are.
    let compared = shell.run(&["evaluate", "--compare", "api_embedded", "tutor/api_embedded_v1", "--json"]);
    assert_eq!(compared.code, 0, "{}", compared.stderr);
    let report = shell.run(&["evaluate", "report", "api_embedded", "--output", "report.html"]);
    assert_eq!(report.code, 0, "{}", report.stderr);
}

#[test]
fn a_task_with_documents_of_its_own_needs_no_data_set() {
    let shell = Shell::in_lab();
    let ran = shell.run(&["evaluate", "--model", "embedded", "--tasks", "jailbreak_direct", "--limit", "2"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout, "tutor/api_embedded_evaluation_v1\n");
}

#[test]
fn what_no_api_tells_is_refused() {
    let shell = lab();
    let unknown = evaluate(&shell, "embedded", "perplexity", &[]);
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("perplexity"), "{}", unknown.stderr);
    let local = evaluate(&shell, "local", "exact_match", &[]);
    assert_eq!(local.code, 3, "{}", local.stderr);
    assert!(local.stderr.contains("--checkpoint"), "{}", local.stderr);
    let served = shell.run(&["inference", "tutor/api_embedded_v1"]);
    assert_eq!(served.code, 3, "{}", served.stderr);
    assert!(served.stderr.contains("api_model"), "{}", served.stderr);
}
