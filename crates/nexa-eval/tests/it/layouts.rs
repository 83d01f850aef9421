//! The built-in tasks ask what lm-evaluation-harness asks, to the last character.

use std::sync::Arc;

use nexa_core::event::Cancel;
use nexa_core::stage::Inputs;
use nexa_eval::Evaluate;
use nexa_eval::evaluate::Config;
use serde_json::Value;

use crate::bench::Bench;
use crate::parrot::Parrot;

/// Expected: `test-data/layouts.json`, which `bench/eval/layouts.py` has lm_eval 0.4.13 write.
#[test]
fn built_in_tasks_ask_what_the_harness_asks() {
    let vectors: Value = serde_json::from_str(include_str!("../../test-data/layouts.json")).unwrap();
    let cases = vectors["tasks"].as_array().unwrap();
    let bench = Bench::new();
    for case in cases {
        let folder = bench.root().join("data/raw/benchmarks").join(case["task"].as_str().unwrap());
        std::fs::create_dir_all(&folder).unwrap();
        for (split, rows) in case["documents"].as_object().unwrap() {
            let lines: String = rows.as_array().unwrap().iter().map(|row| format!("{row}\n")).collect();
            std::fs::write(folder.join(format!("{split}.jsonl")), lines).unwrap();
        }
    }
    let tasks: Vec<String> = cases.iter().map(|case| case["task"].as_str().unwrap().to_owned()).collect();
    for style in ["plain", "singleturn", "multiturn"] {
        let is_plain = style == "plain";
        let config = Config {
            tasks: tasks.clone(),
            num_fewshot: vectors["num_fewshot"].as_u64().map(|shots| usize::try_from(shots).unwrap()),
            apply_chat_template: !is_plain,
            fewshot_as_multiturn: Some(style == "multiturn"),
            system_instruction: (!is_plain).then(|| "Be brief.".to_owned()),
            bootstrap: 0,
            ..Config::default()
        };
        let inputs = Inputs::none().with("checkpoint", bench.checkpoint("parrot"));
        let model = Arc::new(Parrot::new(|_| "no".to_owned()));
        let stage = Evaluate::new(config, bench.root(), model).unwrap();
        let made = bench.execute(&stage, "layouts", &inputs, &Cancel::default(), false).unwrap();
        for case in cases {
            let task = case["task"].as_str().unwrap();
            let samples = bench.rows(made.artifact(), &format!("samples_{task}.jsonl"));
            let filter = samples[0]["filter"].clone();
            let texts = |arguments: &Value| {
                let parts = arguments.as_object().unwrap().values();
                parts.filter(|part| part.is_string()).cloned().collect::<Value>()
            };
            let of_document = |sample: &Value| {
                sample["arguments"].as_object().unwrap().values().map(texts).collect::<Vec<_>>()
            };
            let asked: Vec<Value> =
                samples.iter().filter(|sample| sample["filter"] == filter).flat_map(of_document).collect();
            assert_eq!(Value::Array(asked), case["requests"][style], "{task}, {style}");
        }
    }
}
