//! `nexa evaluate` beyond a single evaluation: what was trained on, gates, stopping when it is decided, other tools.

use serde_json::Value;

use crate::support::{PACKAGED, Ran, Shell, small_pipeline};

const EVALUATED: &str = "  tokenizer: {uses: tokenizer.train, in: {sft_dataset: sft}, with: {vocab_size: 300}}
  untrained: {uses: train.init, in: {tokenizer: tokenizer}, with: {model: {hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1}}}
  student: {uses: train, in: {sft_dataset: sft, base: untrained}, with: {max_steps: 2, device: cpu}}
  exam: {uses: evaluate, in: {checkpoint: student, sft_dataset: sft}, with: {max_tokens: 4}}
";

fn ok(shell: &Shell, arguments: &[&str]) -> Ran {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran
}

fn fails(shell: &Shell, arguments: &[&str], code: i32, message: &str) {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
    assert!(ran.stderr.contains(message), "{arguments:?} says:\n{}", ran.stderr);
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn what_cannot_be_held_against_anything_is_refused() {
    let shell = Shell::in_lab();
    fails(&shell, &["evaluate", "--fail-if-worse", "base"], 4, "base");
    fails(&shell, &["evaluate", "--versus", "base"], 2, "--stop-when-decided");
    fails(&shell, &["evaluate", "--stop-when-decided"], 2, "--versus");
    fails(&shell, &["evaluate", "--evaluation", "exam"], 2, "--fail-if-worse");
    fails(&shell, &["evaluate", "reconcile", "samples_gsm8k.jsonl"], 4, "evaluation");
    fails(&shell, &["evaluate", "stop_when_decided=0.05"], 4, "checkpoint");
}

#[test]
fn an_evaluation_is_held_against_others_and_their_training_data() {
    let shell = Shell::in_lab();
    // After so many steps a model knows how often each token comes, and finds every text of the split more probable than one
    // does that was never trained and takes all tokens as equally probable.
    let packaged = PACKAGED.replace("test_share: 0.2", "test_share: 0.5");
    let trained = EVALUATED.replace("max_steps: 2", "max_steps: 60, learning_rate: 0.01, warmup_steps: 5");
    shell.write("projects/tutor/pipelines/small.yaml", &small_pipeline(&format!("{packaged}{trained}")));
    let ran = ok(&shell, &["run", "projects/tutor/pipelines/small.yaml"]);
    assert!(ran.stderr.contains("rows of training data: tutor/sft_v1"), "{}", ran.stderr);
    assert!(ran.stderr.contains("exact_match: of "), "{}", ran.stderr);

    let evaluated = ["evaluate", "--checkpoint", "untrained", "--in", "sft_dataset=sft", "max_tokens=4"];
    let ran = shell.run(&[&evaluated[..], &["--fail-if-worse", "student"]].concat());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert_eq!(ran.stdout, "tutor/untrained_evaluation_v1\n");
    for text in ["failed: bits_per_byte is ", "could show"] {
        assert!(ran.stderr.contains(text), "`{text}` in {}", ran.stderr);
    }
    // The other way round, nothing is worse.
    let ran = ok(&shell, &["evaluate", "--evaluation", "exam", "--fail-if-worse", "untrained"]);
    let passed = "passed: 2 tests show nothing worse than tutor/untrained_evaluation_v1";
    assert!(ran.stderr.contains(passed) && !ran.stderr.contains("failed: "), "{}", ran.stderr);

    let ran = ok(&shell, &["evaluate", "--evaluation", "exam", "--fail-if-worse", "exam", "--json"]);
    assert_eq!(
        (&json(&ran)["passed"], &json(&ran)["against"]["tests"]),
        (&Value::Bool(true), &Value::from(2))
    );
    let ran = ok(&shell, &["evaluate", "--compare", "exam", "untrained", "exam"]);
    assert_eq!(ran.stdout.lines().count(), 5, "{}", ran.stdout);

    // Another number of tokens is another question.
    let other = ["evaluate", "--checkpoint", "untrained", "--in", "sft_dataset=sft", "max_tokens=5"];
    let ran = shell.run(&[&other[..], &["--fail-if-worse", "student"]].concat());
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("answers had up to 5 and 4 tokens"), "{}", ran.stderr);

    let stopping =
        ["--tasks", "exact_match", "--versus", "student", "--stop-when-decided", "--output", "early"];
    let ran = ok(&shell, &[&evaluated[..], &stopping].concat());
    assert!(ran.stderr.contains("decided after"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "tutor/early_v1\n");
    // What stopped when it was decided is nothing to decide against.
    let against = ["--tasks", "exact_match", "--versus", "early", "--stop-when-decided"];
    fails(
        &shell,
        &[&evaluated[..], &against].concat(),
        4,
        "find evaluation `of early that asked all documents`",
    );
}

#[test]
fn numbers_of_another_tool_are_explained() {
    let shell = Shell::in_lab();
    let pipeline = format!(
        "{PACKAGED}{}",
        EVALUATED.replace(
            "sft_dataset: sft}, with: {max_tokens: 4}",
            "sft_dataset: sft}, with: {tasks: [arc_easy]}"
        )
    );
    let question = |n: usize| {
        format!(
            "{{\"id\": \"q{n}\", \"question\": \"Which {n}?\", \"answerKey\": \"A\", \"choices\": {{\"label\": [\"A\", \"B\"], \"text\": [\"this\", \"that one\"]}}}}\n"
        )
    };
    shell.write("data/raw/benchmarks/arc_easy/test.jsonl", &(0..6).map(question).collect::<String>());
    shell.write("projects/tutor/pipelines/small.yaml", &small_pipeline(&pipeline));
    ok(&shell, &["run", "projects/tutor/pipelines/small.yaml"]);
    let ours = shell.path("data/processed/tutor/evaluation/reports/exam_v1.samples_arc_easy.jsonl");
    let theirs = std::fs::read_to_string(ours).unwrap().replace("\"Question: ", "\"<s>Question: ");
    shell.write("samples_arc_easy_2026-01-02T03-04-05.678901.jsonl", &theirs);
    let arguments = ["evaluate", "reconcile", "samples_arc_easy_2026-01-02T03-04-05.678901.jsonl"];
    let ran = ok(&shell, &arguments);
    assert!(ran.stdout.contains("a beginning-of-text token in the prompt"), "{}", ran.stdout);
    assert!(ran.stdout.contains("theirs \"<s>Question: Which 0?\\nAnswer:¦ this\""), "{}", ran.stdout);
    let found = json(&ok(&shell, &[&arguments[..], &["--json"]].concat()));
    assert_eq!(
        (&found["matched"], &found["causes"][0]["cause"]),
        (&Value::from(6), &Value::from("beginning_of_text"))
    );
    shell.write("samples_arc_easy.jsonl", "{\"results\": {}}");
    fails(&shell, &["evaluate", "reconcile", "samples_arc_easy.jsonl"], 4, "line 1: these are results");
}
