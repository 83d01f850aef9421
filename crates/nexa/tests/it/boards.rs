//! `nexa leaderboard` in all its forms, and `nexa evaluate report`, over an evaluation by a task of the harness.

use serde_json::Value;

use crate::support::{PACKAGED, Shell, small_pipeline};

const EVALUATED: &str = "  tokenizer: {uses: tokenizer.train, in: {sft_dataset: sft}, with: {vocab_size: 300}}
  student: {uses: train.init, in: {tokenizer: tokenizer}, with: {model: {hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1}}}
  exam: {uses: evaluate, in: {checkpoint: student, sft_dataset: sft}, with: {max_tokens: 4, tasks: [exact_match, perplexity, arc_easy]}}
";

fn ok(shell: &Shell, arguments: &[&str]) -> crate::support::Ran {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran
}

/// A lab in which one checkpoint was evaluated on the held-out split and by a task of choices.
fn lab() -> Shell {
    let shell = Shell::in_lab();
    let row = |n: usize| {
        let text = ["a stone", "a leaf", "a fish", "a bird"];
        serde_json::json!({
            "id": format!("q{n}"), "question": format!("What is number {n}?"),
            "choices": {"text": text, "label": ["A", "B", "C", "D"]}, "answerKey": (["A", "B", "C", "D"][n % 4]),
        })
    };
    let rows: String = (0..12).map(|n| format!("{}\n", row(n))).collect();
    shell.write("data/raw/benchmarks/arc_easy/test.jsonl", &rows);
    shell.write("small.yaml", &small_pipeline(&format!("{PACKAGED}{EVALUATED}")));
    ok(&shell, &["run", "small.yaml"]);
    shell
}

#[test]
fn a_leaderboard_has_every_task_in_every_form() {
    let shell = lab();
    let shown = ok(&shell, &["leaderboard"]);
    for text in ["exact match", "arc_easy by acc, 12 documents", "ranks left open"] {
        let all = format!("{}{}", shown.stdout, shown.stderr);
        assert!(all.contains(text), "`{text}` in {all}");
    }
    let csv = ok(&shell, &["leaderboard", "--format", "csv"]).stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 4, "a head and three tasks: {csv}");
    assert!(lines[0].starts_with("task,metric,filter,"), "{csv}");
    let columns = lines[0].split(',').count();
    assert!(lines[1..].iter().all(|line| line.split(',').count() >= columns), "{csv}");
    let tasks: Vec<&str> = lines[1..].iter().map(|line| line.split(',').next().unwrap()).collect();
    assert!(tasks.contains(&"arc_easy") && tasks.contains(&"perplexity"), "{csv}");

    let norm = ok(&shell, &["leaderboard", "--task", "arc_easy", "--metric", "acc_norm", "--json"]).stdout;
    let norm: Value = serde_json::from_str(&norm).unwrap();
    let entry = &norm["boards"][0]["entries"][0];
    assert_eq!((&norm["boards"][0]["metric"]["metric"], &entry["rank"]), (&"acc_norm".into(), &1.into()));
    assert!(entry["value"]["ci_low"].is_number() && entry["spend"].is_object(), "{entry}");
    assert_eq!(entry["made_from"][0]["role"], "tokenizer");

    let markdown = ok(&shell, &["leaderboard", "--task", "arc_easy", "--format", "markdown"]).stdout;
    assert!(
        markdown.starts_with("### arc_easy by acc") && markdown.contains("| 1 | 1 | tutor/student_v1 |"),
        "{markdown}"
    );

    let wrong = shell.run(&["leaderboard", "--task", "arc_eazy"]);
    assert_eq!(wrong.code, 4, "{}", wrong.stderr);
    assert!(wrong.stderr.contains("did you mean `arc_easy`?"), "{}", wrong.stderr);
}

#[test]
fn an_evaluation_becomes_one_file() {
    let shell = lab();
    let made = ok(&shell, &["evaluate", "report", "--output", "out/report.html", "--samples", "5"]);
    assert!(made.stderr.contains("using tutor/exam_v1"), "{}", made.stderr);
    let page = std::fs::read_to_string(shell.path("out/report.html")).unwrap();
    for text in ["Evaluation of tutor/student_v1", "arc_easy", "reliability diagram", "tokenizer_v1", "5 of "]
    {
        assert!(page.contains(text), "`{text}` in {page}");
    }
    for text in ["<script", "href=", "src=", "http"] {
        assert!(!page.replace("http-equiv", "").contains(text), "the report holds `{text}`");
    }
    let named = ok(&shell, &["evaluate", "report", "student", "--json"]).stdout;
    assert_eq!(serde_json::from_str::<Value>(&named).unwrap()["path"], "exam_v1.html");
    assert_ne!(shell.run(&["evaluate", "report", "tokenizer"]).code, 0);
}
