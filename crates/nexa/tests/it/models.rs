//! Models from elsewhere, a training that goes on from one, adapters, a plan, and trackers.

use std::path::Path;

use serde_json::Value;

use crate::support::{PACKAGED, Shell, small_pipeline};

/// A lab with data, a tokenizer and an untrained model as large as the example's sequences need.
fn lab() -> Shell {
    let shell = Shell::in_lab();
    let trained = "  tokenizer: {uses: tokenizer.train, in: {sft_dataset: sft}, with: {vocab_size: 300}}
  untrained:
    uses: train.init
    in: {tokenizer: tokenizer}
    with:
      sequence_len: 192
      model:
        {hidden_size: 16, intermediate_size: 24, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1}
";
    shell.write("small.yaml", &small_pipeline(&format!("{PACKAGED}{trained}")));
    done(&shell, &["run", "small.yaml"]);
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projects/arithmetic_tutor/configs/lora.yaml");
    shell.write("lora.yaml", &std::fs::read_to_string(example).unwrap());
    shell
}

/// Runs a command that must succeed, and returns what it printed.
fn done(shell: &Shell, arguments: &[&str]) -> String {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran.stdout
}

/// Runs a command that must fail, with an exit code and a text on stderr.
fn refused(shell: &Shell, arguments: &[&str], code: i32, text: &str) {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
    assert!(ran.stderr.contains(text), "{arguments:?}: {}", ran.stderr);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The folder of a checkpoint.
fn folder(shell: &Shell, id: &str) -> std::path::PathBuf {
    let name = id.trim().strip_prefix("tutor/").unwrap();
    shell.path("data").join(
        walk(&shell.path("data")).into_iter().find(|path| path.ends_with(name) && path.is_dir()).unwrap(),
    )
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn adapters_are_trained_over_any_model_and_merged_into_it() {
    let shell = lab();
    let train = |extra: &[&str]| {
        let fixed = ["train", "--config", "lora.yaml", "max_steps=2", "--output", "tuned"];
        done(&shell, &[&fixed[..], extra].concat())
    };
    // A checkpoint of the lab; then the same model as a folder and as a file, imported once.
    assert_eq!(train(&["base_model=untrained"]), "tutor/tuned_v1\n");
    assert_eq!(
        train(&["--in", "base=untrained"]),
        "tutor/tuned_v1\n",
        "the role stands over the configuration"
    );
    done(&shell, &["model", "export", "untrained", "--format", "safetensors", "--output", "outside"]);
    done(&shell, &["model", "export", "untrained", "--format", "gguf", "--output", "outside.gguf"]);
    assert_eq!(train(&["base_model=outside"]), "tutor/tuned_v1\n", "the same content");
    assert_eq!(train(&["base_model=outside.gguf"]), "tutor/tuned_v2\n", "half precision is another content");
    assert_eq!(train(&["base_model=outside.gguf"]), "tutor/tuned_v2\n");
    let lineage = done(&shell, &["lineage", "tuned"]);
    assert!(lineage.contains("tutor/outside_v"), "{lineage}");
    refused(&shell, &["train", "--config", "lora.yaml", "base_model=nowhere"], 4, "nowhere");
    refused(&shell, &["train", "--config", "lora.yaml", "--in", "base=sft"], 3, "a checkpoint is wanted");

    // The adapters of the first training, merged by hand, are the model that the training itself merged.
    let tuned = folder(&shell, "tutor/tuned_v1");
    let adapter = tuned.join("adapter");
    let merge = ["model", "merge", "--base", "untrained", "--adapter", adapter.to_str().unwrap()];
    let merged = done(&shell, &merge);
    assert_eq!(merged, "tutor/merged_v1\n");
    let weights = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    assert!(weights(&folder(&shell, &merged)) == weights(&tuned));
    assert_eq!(done(&shell, &merge), merged, "up to date");
    let named = ["model", "merge", "--base", "untrained", "--adapter", "tuned_v1"];
    assert_eq!(done(&shell, &named), merged, "the artifact that holds them");
    assert_eq!(done(&shell, &[&named[..], &["--output", "again"]].concat()), "tutor/again_v1\n");
    assert_eq!(done(&shell, &[&named[..], &["--name", "again"]].concat()), "tutor/again_v1\n");

    // They say which model they correct; into another one they go only where that is asked for.
    let config = json(&std::fs::read_to_string(adapter.join("adapter_config.json")).unwrap());
    let base = config["base_model_name_or_path"].as_str().unwrap();
    assert_eq!(shell.path(base), folder(&shell, "tutor/untrained_v1"), "where it lies in the lab");
    let twice = ["model", "merge", "--base", "tuned_v1", "--adapter", "tuned_v1", "--output", "twice"];
    refused(&shell, &twice, 4, "`tutor/tuned_v1` is another model");
    done(&shell, &[&twice[..], &["--any-base"]].concat());
    std::fs::create_dir(shell.path("foreign")).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(adapter.join(file), shell.path("foreign").join(file)).unwrap();
    }
    let foreign = ["model", "merge", "--base", "tuned_v1", "--adapter", "foreign", "--output", "foreign"];
    done(&shell, &foreign);
    refused(
        &shell,
        &["model", "merge", "--base", "untrained", "--adapter", "untrained"],
        4,
        "adapter_config.json",
    );
    refused(
        &shell,
        &["model", "merge", "--base", "untrained", "--adapter", "outside"],
        4,
        "adapter_config.json",
    );
}

#[test]
fn a_model_of_the_hub_that_cannot_be_had_is_named() {
    let shell = lab();
    for arguments in [
        &["model", "import", "hf:tiny/model"][..],
        &["train", "--config", "lora.yaml", "base_model=hf:tiny/model"],
        &["model", "merge", "--base", "hf:tiny/model@v2", "--adapter", "."],
    ] {
        let output = shell.command(arguments).env("HF_HUB_OFFLINE", "1").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{stderr}");
        assert!(stderr.contains("hub: `tiny/model` is not in the cache"), "{stderr}");
    }
    let output = shell
        .command(&["model", "import", "hf:tiny/model"])
        .env("HF_ENDPOINT", "http://127.0.0.1:1")
        .env_remove("HF_HUB_OFFLINE")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    assert!(stderr.contains("cannot be reached"), "{stderr}");
    let pipeline = "
pipeline: p
project: tutor
stages: {tuned: {uses: train, in: {sft_dataset: sft}, with: {base_model: untrained}}}
";
    shell.write("p.yaml", pipeline);
    refused(&shell, &["run", "p.yaml"], 3, "say `in: {base: …}`");
}

#[test]
fn a_plan_says_what_the_run_then_does() {
    let shell = lab();
    let arguments = ["--config", "lora.yaml", "base_model=untrained", "max_steps=5"];
    let planned = json(&done(&shell, &[&["plan", "--json"][..], &arguments].concat()));
    let counts = &planned["plan"]["counts"];
    let id = done(&shell, &[&["train", "--output", "tuned"][..], &arguments].concat());
    let manifest = walk(&shell.path("data"))
        .into_iter()
        .find(|path| path.ends_with(format!("{}.manifest.json", id.trim().strip_prefix("tutor/").unwrap())))
        .unwrap();
    let summary = &json(&std::fs::read_to_string(manifest).unwrap())["summary"];
    for (planned, done) in [
        ("steps", "steps"),
        ("tokens", "tokens_read"),
        ("parameters", "parameters"),
        ("trained_parameters", "trained_parameters"),
        ("epochs", "epochs"),
    ] {
        assert_eq!(counts[planned], summary[done], "{planned}");
    }
    assert_eq!(planned["usd"], Value::Null, "no price is set");
    std::fs::write(shell.path("nexa.yaml"), "project: tutor\nprices: {machine_usd_per_hour: 3600}\n")
        .unwrap();
    let planned = json(&done(&shell, &[&["plan", "--json"][..], &arguments].concat()));
    let [dollars, seconds] =
        [&planned["usd"], &planned["plan"]["time"]["total"]].map(|value| value.as_f64().unwrap());
    assert!((dollars / seconds - 1.0).abs() < 1e-9, "a dollar a second: {dollars} {seconds}");
    let text = done(&shell, &[&["plan"][..], &arguments].concat());
    for line in ["parameters", "steps", "tokens", "memory", "time", "cost"] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
    }
}

#[test]
fn trackers_follow_a_run_and_what_is_left_is_sent_later() {
    let shell = lab();
    let train = |report_to: &str| {
        let settings = ["max_steps=4", "logging_steps=1", "base_model=untrained", report_to];
        let ran = shell.run(&[&["train", "--config", "lora.yaml"][..], &settings].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stderr
    };
    train("report_to=tensorboard");
    let run = {
        let runs = json(&done(&shell, &["runs", "list", "--json"]));
        let runs = runs.as_array().unwrap().clone();
        let run = runs.iter().find(|run| run["stage"] == "train").unwrap();
        assert!(!run["config"].as_object().unwrap().contains_key("report_to"));
        run["id"].as_str().unwrap().to_owned()
    };
    let events = |path: &Path| walk(path).iter().any(|path| path.to_string_lossy().contains("tfevents"));
    assert!(events(&shell.path(&format!("runs/{run}/tensorboard"))));
    assert!(train("report_to=wandb").contains("up to date"), "who is told decides no result");

    // To the tracker that followed it there is nothing left to send; another one gets everything.
    let sent = json(&done(&shell, &["runs", "track", &run, "--json"]));
    assert_eq!((&sent[0]["tracker"], &sent[0]["delivered"]), (&"tensorboard".into(), &0.into()));
    let sent = json(&done(&shell, &["runs", "track", &run, "report_to=wandb", "--json"]));
    assert_eq!((&sent[0]["tracker"], &sent[0]["waiting"]), (&"wandb".into(), &0.into()));
    assert!(sent[0]["delivered"].as_u64().unwrap() >= 4, "{sent}");
    refused(&shell, &["runs", "track", &run, "report_to=comet"], 3, "comet");
    refused(
        &shell,
        &["runs", "track", &run, "report_to=mlflow", "mlflow.tracking_uri=sqlite:///a.db"],
        3,
        "mlflow.tracking_uri",
    );
}

#[test]
fn a_model_is_described_by_what_its_family_adds() {
    let shell = lab();
    let text = done(&shell, &["model", "info", "untrained"]);
    for line in
        ["layers        2 of 16 wide, feed-forward 24", "biases        none", "output layer  the embedding"]
    {
        assert!(text.contains(line), "{text}");
    }
    let facts = json(&done(&shell, &["model", "info", "untrained", "--json"]));
    assert_eq!(facts["config"]["num_hidden_layers"], 2);
}

#[test]
fn a_model_is_exported_in_files_of_a_size() {
    let shell = lab();
    let export = ["model", "export", "untrained", "--format", "safetensors"];
    done(&shell, &[&export[..], &["--max-shard-size", "8KB", "--output", "split"]].concat());
    assert!(shell.path("split/model.safetensors.index.json").exists());
    assert_eq!(done(&shell, &["model", "import", "split", "--output", "same"]), "tutor/same_v1\n");
    let weights = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    assert!(weights(&folder(&shell, "tutor/same_v1")) == weights(&folder(&shell, "tutor/untrained_v1")));
    refused(&shell, &[&export[..], &["--output", "split"]].concat(), 2, "the folder is not empty");
    refused(&shell, &[&export[..], &["--max-shard-size", "5XB", "--output", "x"]].concat(), 2, "no unit");

    // A folder that does not fit together makes no checkpoint.
    std::fs::remove_file(shell.path("split/model-00001-of-00002.safetensors")).ok();
    let files = walk(&shell.path("split"));
    let shard = files.iter().find(|path| path.to_string_lossy().contains("model-00002")).unwrap();
    std::fs::remove_file(shard).unwrap();
    refused(&shell, &["model", "import", "split"], 4, "safetensors");
}

#[test]
fn a_tokenizer_is_trained_on_every_form_of_data() {
    let shell = Shell::in_lab();
    let train = |rows: &str, settings: &[&str]| {
        shell.write("rows.jsonl", rows);
        done(&shell, &["data", "ingest", "paths=[rows.jsonl]", "--output", "rows"]);
        let fixed = ["tokenizer", "train", "--in", "sft_dataset=rows", "vocab_size=276"];
        shell.run(&[&fixed[..], settings].concat())
    };
    // The names of the roles alone, which every tokenizer knows, make two ids less.
    for (rows, settings) in [
        (
            r#"{"id": "1", "instruction": "Ava has 12 apples.", "input": "", "output": "She has 12 apples."}"#,
            &[][..],
        ),
        (
            r#"{"id": "1", "conversations": [{"from": "human", "value": "Ava has 12 apples, she has 12."}]}"#,
            &[],
        ),
        (r#"{"id": "1", "prompt": "Ava has 12 apples.", "completion": "She has 12 apples."}"#, &[]),
        (
            r#"{"id": "1", "prompt": "Ava has 12?", "chosen": "She has 12.", "rejected": "She has apples."}"#,
            &[],
        ),
        (
            r#"{"id": "1", "question": "Ava has 12 apples.", "answer": "She has 12 apples."}"#,
            &["datasets=[{name: rows, type: alpaca, field_instruction: question, field_output: answer}]"],
        ),
    ] {
        let ran = train(rows, settings);
        assert_eq!(ran.code, 0, "{rows}: {}", ran.stderr);
        assert!(!ran.stderr.contains("vocab_size"), "{}", ran.stderr);
    }
    let ran = train(r#"{"id": "1", "question": "a", "answer": "b"}"#, &[]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("line 1: no texts are found by its columns"), "{}", ran.stderr);
    let ran = train(r#"{"id": "1", "text": "a"}"#, &["vocab_size=600"]);
    assert!(ran.stderr.contains("`vocab_size` is 600, but"), "{}", ran.stderr);
}
