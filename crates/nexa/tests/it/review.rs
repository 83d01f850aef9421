//! A review in the terminal, fed line by line, and what becomes of the data.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Shell, small_pipeline};

fn lab() -> Shell {
    let shell = Shell::in_lab();
    let pipeline = shell.write("small.yaml", &small_pipeline(""));
    let ran = shell.run(&["run", pipeline.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    shell
}

/// Reviews in the terminal with some lines; returns the exit code, stdout and stderr.
fn review(shell: &Shell, reviewer: &str, lines: &str) -> (i32, String, String) {
    let mut child = shell
        .command(&["distill", "review", "--terminal", "--reviewer", reviewer])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What stops at a mistake reads no further.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn labels(shell: &Shell, reviewer: &str) -> Vec<Value> {
    let path = format!("data/processed/tutor/distillation/labels/filtered_v1.{reviewer}.jsonl");
    let text = std::fs::read_to_string(shell.path(&path)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_review_line_by_line_changes_the_data() {
    let shell = lab();
    let (code, shown, said) = review(&shell, "ana", "a\nr wrong sum\ne Better.\\nMuch.\nx\nu\nq\n");
    assert_eq!(code, 0, "{said}");
    assert!(
        shown.contains("prompt:") && shown.contains("completion:") && shown.contains("[pending]"),
        "{shown}"
    );
    assert!(said.contains("3 of 60 rows decided by ana: 1 accepted, 1 rejected, 1 edited"), "{said}");
    let lines = labels(&shell, "ana");
    let actions: Vec<_> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["accept", "reject", "edit", "regenerate", "undo"]);
    assert_eq!((&lines[1]["reason"], &lines[2]["text"]), (&"wrong sum".into(), &"Better.\nMuch.".into()));

    // Going on, the review begins at the row whose decision was taken back.
    let (_, shown, _) = review(&shell, "ana", "<\n");
    assert!(
        shown.contains(lines[3]["row_id"].as_str().unwrap()) && shown.contains("-]{+Better.+}\n"),
        "{shown}"
    );

    let applied = shell.run(&["distill", "apply-review"]);
    assert_eq!(applied.stdout.trim(), "tutor/reviewed_v1", "{}", applied.stderr);
    let again = shell.run(&["distill", "apply-review"]);
    assert!(again.stderr.contains("up to date"), "its own result is not what is reviewed: {}", again.stderr);
    let runs = shell.run(&["runs", "list", "--json"]);
    let runs: Vec<Value> = serde_json::from_str(&runs.stdout).unwrap();
    let run = runs.iter().find(|run| run["stage"] == "distill.review").unwrap()["id"].as_str().unwrap();
    let reproduced = shell.run(&["runs", "reproduce", run]);
    assert_eq!(reproduced.stdout.trim(), "identical", "{}", reproduced.stderr);
    assert_eq!(review(&shell, "ben", "r\n").0, 0);
    let refused = shell.run(&["runs", "reproduce", run]);
    assert!(
        refused.code == 3 && refused.stderr.contains("ben.jsonl is new or has changed"),
        "{}",
        refused.stderr
    );
    let shown = shell.run(&["data", "show", "reviewed", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&shown.stdout).unwrap();
    let edited = rows.iter().find(|row| row["edited_by"] == "ana").unwrap();
    assert_eq!(edited["teacher_output"], "Better.\nMuch.");
}

#[test]
fn many_rows_need_their_number_and_mistakes_say_so() {
    let shell = lab();
    let (code, _, said) = review(&shell, "ben", "g refusal\nall reject 1000\n");
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("1000 rows were to be decided, but the filter finds"), "{said}");
    let (code, _, said) = review(&shell, "ben", "dance\n");
    assert!(code == 1 && said.contains("`dance` is not understood"), "{code}: {said}");
    let ran = shell.run(&["distill", "review", "problems", "--terminal", "--reviewer", "ben"]);
    assert!(ran.code == 4 && ran.stderr.contains("it is a raw; what teachers answered"), "{}", ran.stderr);
    let ran = shell.run(&["distill", "review", "--terminal", "--reviewer", "Ben!"]);
    assert!(ran.code == 3 && ran.stderr.contains("reviewer `Ben!`"), "{}", ran.stderr);
}
