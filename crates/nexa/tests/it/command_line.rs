//! What a person sees: help, listings, and what bad input gets.

use crate::support::Shell;

/// Runs a command that must fail and compares the exit code and part of what stands on stderr.
fn check(shell: &Shell, arguments: &[&str], code: i32, message: &str) {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
    assert!(ran.stderr.contains(message), "{arguments:?} says:\n{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[test]
fn every_command_has_help() {
    let shell = Shell::new();
    for command in [
        "init",
        "demo",
        "doctor",
        "run",
        "data",
        "prepare-data",
        "distill",
        "tokenizer",
        "train",
        "plan",
        "evaluate",
        "judge",
        "leaderboard",
        "feedback",
        "inference",
        "ui",
        "runs",
        "lineage",
        "model",
        "cost",
    ] {
        let ran = shell.run(&[command, "--help"]);
        assert_eq!(ran.code, 0, "{command}");
        assert!(ran.stdout.contains("Usage:"), "{command}: {}", ran.stdout);
    }
}

#[test]
fn the_words_of_the_original_are_understood() {
    let shell = Shell::new();
    for words in [
        &["prepare_data", "--help"][..],
        &["nexa_distill.collect_teacher", "--help"],
        &["collect_teacher", "--help"],
        &["filter_pairs", "--help"],
        &["to_sft", "--help"],
        &["launch", "--help"],
        &["evaluate", "--help"],
        &["nexa_train.distill", "--help"],
        &["serve", "--help"],
        &["summary", "--help"],
    ] {
        assert_eq!(shell.run(words).code, 0, "{words:?}");
    }
    check(&shell, &["provision", "--bootstrap"], 2, "not part of this version");
    check(&shell, &["teardown"], 2, "not part of this version");
    check(&shell, &["evalute"], 2, "did you mean `nexa evaluate`?");
}

#[test]
fn tasks_are_listed_without_a_lab_and_refused_by_name() {
    let shell = Shell::new();
    let listed = shell.run(&["evaluate", "--list-tasks", "--json"]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let names: Vec<serde_json::Value> = serde_json::from_str(&listed.stdout).unwrap();
    assert!(names.contains(&serde_json::json!({"name": "gsm8k", "kind": "task"})), "{}", listed.stdout);
    assert_eq!(shell.run(&["init", "--project", "tutor"]).code, 0);
    check(&shell, &["evaluate", "--tasks", "gsm8"], 3, "there is no task `gsm8`");
}

#[test]
fn a_folder_without_a_lab_says_how_to_make_one() {
    let shell = Shell::new();
    check(&shell, &["runs", "list"], 4, "no `nexa.yaml` in `LAB` or above it");
    check(&shell, &["runs", "list"], 4, "hint: make one with `nexa init`");
    assert_eq!(shell.run(&["doctor"]).code, 0, "the machine can be looked at without a lab");
}

#[test]
fn a_device_that_cannot_be_used_says_why() {
    let shell = Shell::new();
    let train = |settings: &[&'static str]| [&["bench", "train"], settings].concat();
    check(&shell, &train(&["device=tpu:0"]), 3, "`tpu:0` is no device (there are: auto, cpu, cuda:N");
    check(&shell, &train(&["device=cpu", "bf16=true"]), 3, "`bf16` is true, but `device` is the CPU");
    check(&shell, &train(&["device=cuda:99"]), 6, "device `cuda:99`: ");
    let ran = shell.run(&["doctor"]);
    assert!(ran.stdout.contains("devices    cpu"), "{}", ran.stdout);
}

#[test]
fn bad_settings_name_their_place() {
    let shell = Shell::in_lab();
    let settings = shell.path("nexa.yaml");
    let with = |text: &str| std::fs::write(&settings, text).unwrap();
    with("lab_version: 99\n");
    check(&shell, &["runs", "list"], 10, "format version 99 is newer than 1");
    with("project: tutor\nbudjet: {max_usd_per_run: 1}\n");
    check(&shell, &["runs", "list"], 3, "unknown key `budjet`");
    check(&shell, &["runs", "list"], 3, "did you mean `budget`?");
    with("project: [tutor\n");
    check(&shell, &["runs", "list"], 3, "nexa.yaml");
    with("project: Tutor One\n");
    check(&shell, &["data", "list"], 3, "project `Tutor One`");
}

#[test]
fn a_teacher_that_cannot_be_asked_is_refused_before_anything_is_sent() {
    let shell = Shell::in_lab();
    shell.write("rows.jsonl", "{\"question\": \"1 + 1?\"}\n");
    assert_eq!(shell.run(&["data", "ingest", "paths=[rows.jsonl]"]).code, 0);
    assert_eq!(shell.run(&["distill", "inputs"]).code, 0);
    check(&shell, &["distill", "collect", "--teacher", "openrouter:openai/gpt-4o"], 7, "OPENROUTER_API_KEY");
    check(&shell, &["distill", "collect", "--teacher", "opnai:gpt-4o"], 3, "openai");
    check(
        &shell,
        &["distill", "collect", "--teacher", "http://127.0.0.1:9/v1#none", "max_retries=0"],
        6,
        "127.0.0.1:9",
    );
    let listed = shell.run(&["data", "list", "--json"]);
    assert!(!listed.stdout.contains("teacher_outputs"), "no artifact of a failed stage: {}", listed.stdout);
}

#[test]
fn keys_of_the_environment_file_are_seen_but_never_shown() {
    let shell = Shell::in_lab();
    shell.write(".env", "OPENAI_API_KEY=sk-very-secret-value\n");
    let ran = shell.run(&["doctor"]);
    assert!(ran.stdout.contains("keys       OPENAI_API_KEY"), "{}", ran.stdout);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("very-secret"));
}

#[test]
fn a_server_that_would_be_open_or_has_no_keys_is_refused_before_it_loads_anything() {
    let shell = Shell::in_lab();
    shell.write("model.gguf", "no model");
    shell.write("empty.keys", "# nobody\n");
    shell.write("bad.keys", "first\nvery secret\n");
    let serve = |more: &[&'static str]| [&["inference", "model.gguf", "--port", "0"], more].concat();
    check(&shell, &serve(&["--host", "0.0.0.0"]), 2, "listen on `0.0.0.0` without an API key");
    check(&shell, &serve(&["--host", "0.0.0.0"]), 2, "`--api-key-file`");
    check(&shell, &serve(&["--api-key-file", "gone.keys"]), 4, "gone.keys");
    check(&shell, &serve(&["--api-key-file", "empty.keys"]), 4, "holds no key");
    check(&shell, &serve(&["--api-key-file", "bad.keys"]), 4, "line 2");
    assert!(!shell.run(&serve(&["--api-key-file", "bad.keys"])).stderr.contains("very secret"));
    check(&shell, &serve(&["--cors-origin", "lab.example"]), 2, "`lab.example` is no origin");
    check(&shell, &serve(&["--max-queued-tokens", "0"]), 3, "`max_queued_tokens` must be at least 1");
    check(&shell, &["inference", "gone"], 4, "gone");
    // What vLLM would not be told of.
    for option in [
        &["--kv-cache", "1GiB"][..],
        &["--kv-cache-type", "f16"],
        &["--no-prefix-cache"],
        &["--prefill-chunk", "64"],
        &["--max-queued-tokens", "9"],
    ] {
        let ran = shell.run(&serve(&[&["--engine", "vllm"], option].concat()));
        let refused = format!("`{}` is for our own engine", option[0]);
        assert!(ran.code != 0 && ran.stderr.contains(&refused), "{}", ran.stderr);
    }
    // The port is open by then, and closed again.
    let ran = shell.run(&serve(&[]));
    assert!(ran.code != 0 && ran.stderr.contains("model.gguf"), "{}", ran.stderr);
    assert!(ran.stderr.contains("loading model, listening on 127.0.0.1:"), "{}", ran.stderr);
}

#[test]
fn bad_rows_are_named_kept_and_counted() {
    let shell = Shell::in_lab();
    shell.write("rows.jsonl", "{\"question\": \"a\"}\nnot json\n{\"question\": \"b\"}\n");
    check(&shell, &["data", "ingest", "paths=[rows.jsonl]"], 4, "rows.jsonl:2");
    let ran = shell.run(&["data", "ingest", "paths=[rows.jsonl]", "max_reject_share=0.5"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout, "tutor/dataset_v1\n");
    let shown = shell.run(&["data", "show", "dataset", "--json"]);
    assert!(shown.stdout.contains("\"b\"") && !shown.stdout.contains("not json"), "{}", shown.stdout);
    let rejected = shell.run(&["data", "show", "dataset", "--file", "rejected.jsonl", "--json"]);
    assert!(rejected.stdout.contains("not json"), "{}", rejected.stdout);
    check(&shell, &["data", "ingest", "paths=[gone.jsonl]"], 4, "gone.jsonl");
    check(&shell, &["data", "ingest", "paths=[rows.jsonl]", "max_rejects=1"], 3, "unknown key `max_rejects`");
    check(&shell, &["data", "ingest", "--config", "gone.yaml"], 4, "gone.yaml");
}

#[test]
fn changed_files_and_manifests_are_found() {
    let shell = Shell::in_lab();
    shell.write("rows.jsonl", "{\"question\": \"a\"}\n");
    assert_eq!(shell.run(&["data", "ingest", "paths=[rows.jsonl]"]).code, 0);
    assert_eq!(shell.run(&["data", "verify"]).code, 0);
    let table = shell.path("data/processed/tutor/datasets/dataset_v1.parquet");
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    check(&shell, &["data", "verify"], 5, "dataset_v1.parquet");
    check(&shell, &["distill", "inputs"], 5, "the manifest says");
    std::fs::write(shell.path("data/processed/tutor/datasets/dataset_v1.manifest.json"), "{").unwrap();
    check(&shell, &["data", "list"], 4, "dataset_v1.manifest.json");
}

#[test]
fn the_index_is_rebuilt_from_files() {
    let shell = Shell::in_lab();
    shell.write("rows.jsonl", "{\"question\": \"a\"}\n");
    assert_eq!(shell.run(&["data", "ingest", "paths=[rows.jsonl]"]).code, 0);
    std::fs::remove_dir_all(shell.path(".nexa")).unwrap();
    let ran = shell.run(&["doctor", "--reindex"]);
    assert!(ran.stdout.contains("index      1 artifacts, 1 runs, rebuilt"), "{}", ran.stdout);
}
