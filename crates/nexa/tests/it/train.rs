//! `nexa train --verify-resume` and `nexa runs reproduce`: the same bits, and what is said when they are not.

use crate::support::{PACKAGED, Shell, small_pipeline};

const TOKENIZER: &str =
    "  tokenizer: {uses: tokenizer.train, in: {sft_dataset: sft}, with: {vocab_size: 300}}
";

const CONFIG: &str = "
model: {hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1}
micro_batch_size: 2
gradient_accumulation_steps: 2
max_steps: 4
logging_steps: 1
";

fn lab() -> Shell {
    let shell = Shell::in_lab();
    shell.write("projects/tutor/pipelines/small.yaml", &small_pipeline(&format!("{PACKAGED}{TOKENIZER}")));
    shell.write("student.yaml", CONFIG);
    let ran = shell.run(&["run", "projects/tutor/pipelines/small.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    shell
}

/// The id of the newest run of a stage.
fn run_of(shell: &Shell, stage: &str) -> String {
    let listed = shell.run(&["runs", "list", "--json"]);
    let runs: Vec<serde_json::Value> = serde_json::from_str(&listed.stdout).unwrap();
    let run = runs.iter().rfind(|run| run["stage"] == stage).unwrap();
    run["id"].as_str().unwrap().to_owned()
}

#[test]
fn resuming_is_verified_and_a_broken_restore_is_found() {
    let shell = lab();
    let ran = shell.run(&["train", "--config", "student.yaml", "--verify-resume"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "identical\n"), "{}", ran.stderr);
    assert!(!shell.path(".nexa/verify-resume").exists());
    let ran = shell.run(&["train", "--config", "student.yaml", "--verify-resume", "--break-restore"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("metrics.jsonl line "), "{}", ran.stderr);
    assert!(ran.stderr.contains("tensor `first."), "{}", ran.stderr);
    let listed = shell.run(&["runs", "list", "--json"]);
    assert!(!listed.stdout.contains("\"stage\": \"train\""), "a verification is no run of the lab");
}

#[test]
fn a_finished_run_is_reproduced_or_the_difference_is_named() {
    let shell = lab();
    let ran = shell.run(&["train", "--config", "student.yaml", "learning_rate=0.002"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for stage in ["train", "distill.collect", "distill.package", "data.ingest", "tokenizer.train"] {
        let ran = shell.run(&["runs", "reproduce", &run_of(&shell, stage)]);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "identical\n"), "{stage}: {}", ran.stderr);
    }
    assert_eq!(shell.run(&["runs", "reproduce", "nothing"]).code, 4);

    // A curve, and a model, that somebody has changed.
    let run = run_of(&shell, "train");
    let metrics = shell.path(&format!("runs/{run}/metrics.jsonl"));
    let text = std::fs::read_to_string(&metrics).unwrap();
    std::fs::write(&metrics, text.replacen("\"step\":1,", "\"step\":1,\"by\":2,", 1)).unwrap();
    let ran = shell.run(&["runs", "reproduce", &run]);
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains("metrics.jsonl line 1"), "{}", ran.stderr);
    std::fs::write(&metrics, text).unwrap();
    let model = shell.path("data/processed/tutor/training/checkpoints/student_v1/model.safetensors");
    let mut bytes = std::fs::read(&model).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&model, &bytes).unwrap();
    let ran = shell.run(&["runs", "reproduce", &run]);
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains("model.safetensors"), "{}", ran.stderr);
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&model, &bytes).unwrap();

    // A record that does not tell the truth.
    let record = shell.path(&format!("runs/{run}/run.json"));
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains("\"learning_rate\": 0.002"));
    std::fs::write(&record, text.replace("\"learning_rate\": 0.002", "\"learning_rate\": 0.003")).unwrap();
    let ran = shell.run(&["runs", "reproduce", &run]);
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains("model.safetensors: metrics.jsonl line 1 (step 1)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: the copy is kept in"), "{}", ran.stderr);
}

#[test]
fn several_data_sets_are_mixed_and_each_is_in_the_lineage() {
    let shell = lab();
    let row = |index: usize, sign: char| {
        let turn = |role: &str, content: String| serde_json::json!({"role": role, "content": content});
        let question = turn("user", format!("What is {index} {sign} 1?"));
        serde_json::json!({"messages": [question, turn("assistant", "Some number.".to_owned())]}).to_string()
    };
    for (name, sign, rows) in [("plus.jsonl", '+', 12), ("minus.jsonl", '-', 4)] {
        let text: Vec<String> = (0..rows).map(|index| row(index, sign)).collect();
        shell.write(name, &text.join("\n"));
    }
    let datasets = "datasets=[{path: plus.jsonl, weight: 1}, {name: minus.jsonl, weight: 3}]";
    let ran = shell.run(&["train", "--config", "student.yaml", datasets]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let manifest = shell.run(&["train", "--config", "student.yaml", "--json", datasets]);
    assert!(manifest.stderr.is_empty() || !manifest.stderr.contains("made:"), "{}", manifest.stderr);
    let manifest: serde_json::Value = serde_json::from_str(&manifest.stdout).unwrap();
    let counts: Vec<_> = manifest["summary"]["datasets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|set| (set["name"].as_str().unwrap(), set["samples"].as_u64(), set["in_an_epoch"].as_u64()))
        .collect();
    let expected = [("tutor/plus_v1", Some(12), Some(4)), ("tutor/minus_v1", Some(4), Some(12))];
    assert_eq!(counts, expected);
    let lineage = shell.run(&["lineage", ran.stdout.trim()]).stdout;
    assert!(lineage.contains("plus_v1") && lineage.contains("minus_v1"), "{lineage}");

    let planned = shell.run(&["plan", "--config", "student.yaml", datasets]);
    assert!(planned.stdout.contains("samples an epoch"), "{}{}", planned.stdout, planned.stderr);
    let named = ["--in", "sft_dataset=plus", "--in", "sft_dataset=minus"];
    let planned = shell.run(&[&["plan", "--config", "student.yaml"], &named[..]].concat());
    assert!(planned.stdout.contains("tutor/minus_v1"), "{}{}", planned.stdout, planned.stderr);
    // Ingested tables are no lines of JSON, and nothing has tokenised these for this length yet.
    let verified =
        ["train", "--config", "student.yaml", "--verify-resume", "sequence_len=100", "val_set_size=0"];
    let ran = shell.run(&[&verified[..], &named[..]].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "identical\n"), "{}", ran.stderr);
    // Found out before anything is trained.
    let runs = || std::fs::read_dir(shell.path("runs")).unwrap().count();
    let before = runs();
    for (name, told) in [("Not-A-Name", "only lowercase letters"), ("plus", "has a dataset of that name")] {
        let ran = shell.run(&[&["train", "--config", "student.yaml", "--output", name], &named[..]].concat());
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    }
    assert_eq!(runs(), before);
    let ran = shell.run(&["train", "--config", "student.yaml", "datasets=[{name: plsu, weight: 1}]"]);
    assert!(ran.stderr.contains("`datasets` names `plsu`, which is none of the data"), "{}", ran.stderr);
}
