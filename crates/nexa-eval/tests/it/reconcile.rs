//! Another tool's samples against ours: ours themselves, changed in known ways.

use std::path::PathBuf;
use std::sync::Arc;

use nexa_core::artifact::Kind;
use nexa_core::event::Cancel;
use nexa_core::stage::Inputs;
use nexa_core::table::{JsonLines, Row, Tables};
use nexa_eval::evaluate::Config;
use nexa_eval::reconcile::Cause;
use nexa_eval::{Evaluate, Evaluation, Reconciliation, reconcile};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::parrot::Parrot;

/// An evaluation of ten sums, right about the even ones, and of ten pairs.
fn ours(bench: &Bench) -> Evaluation {
    let write = |path: &str, rows: Vec<Value>| {
        let path = bench.root().join("data/raw/benchmarks").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    };
    let sum = |n: usize| json!({"question": format!("{n}?"), "answer": format!("#### {n}")});
    write("gsm8k/test.jsonl", (0..10).map(sum).collect());
    write("gsm8k/train.jsonl", (20..26).map(sum).collect());
    let question = |n: usize| {
        json!({"id": format!("q{n}"), "question": format!("Which {n}?"), "answerKey": "A",
            "choices": {"label": ["A", "B"], "text": ["this", "that one"]}})
    };
    write("arc_easy/test.jsonl", (0..10).map(question).collect());
    let model = Parrot::new(|prompt| {
        let last = prompt.rsplit("Question: ").next().unwrap().split('?').next().unwrap();
        if last.ends_with(['0', '2', '4', '6', '8']) { format!(" #### {last}") } else { " No.".to_owned() }
    });
    let config = Config { tasks: vec!["gsm8k".to_owned(), "arc_easy".to_owned()], ..Config::default() };
    let tokenizer = json!({"bos_token": "<s>", "add_bos_token": true}).to_string();
    let checkpoint = vec![
        ("name", "parrot".to_owned()),
        ("config.json", json!({"max_position_embeddings": 1000}).to_string()),
        ("tokenizer_config.json", tokenizer),
    ];
    let inputs = Inputs::none().with("checkpoint", bench.make(Kind::Checkpoint, "parrot", checkpoint));
    let stage = Evaluate::new(config, bench.root(), Arc::new(model)).unwrap();
    let made = bench.execute(&stage, "eval", &inputs, &Cancel::default(), false).unwrap();
    Evaluation::read(made.artifact(), &JsonLines).unwrap()
}

/// Writes what the other tool would have, after a change to each of our lines; lines that come back empty are left out.
fn theirs(bench: &Bench, ours: &Evaluation, task: &str, change: impl Fn(usize, &mut Row)) -> PathBuf {
    let rows = JsonLines.read(&ours.artifact.file(&format!("samples_{task}.jsonl")).unwrap()).unwrap();
    let path = bench.root().join(format!("samples_{task}_2026-01-02T03-04-05.678901.jsonl"));
    let changed = rows.into_iter().map(|mut row| {
        row.insert("doc_hash".to_owned(), json!("abc"));
        let id = row["doc_id"].as_u64().unwrap();
        change(usize::try_from(id).unwrap(), &mut row);
        row
    });
    JsonLines.write(&path, &changed.filter(|row| !row.is_empty()).collect::<Vec<_>>()).unwrap();
    path
}

fn causes(found: &Reconciliation) -> Vec<(Cause, usize)> {
    found.causes.iter().map(|cause| (cause.cause, cause.items)).collect()
}

/// What causes add to a metric is its difference, and nothing is left over.
fn assert_adds_up(found: &Reconciliation) {
    for metric in &found.metrics {
        let effects = found.causes.iter().flat_map(|cause| &cause.effects);
        let own = effects.filter(|one| one.metric == metric.metric && one.filter == metric.filter);
        let added: f64 = own.map(|one| one.adds).sum();
        assert!((added - metric.difference).abs() < 1e-12, "{metric:?}: {added}");
    }
}

#[test]
fn the_same_samples_do_not_differ() {
    let bench = Bench::new();
    let ours = ours(&bench);
    for task in ["gsm8k", "arc_easy"] {
        let found = reconcile(&theirs(&bench, &ours, task, |_, _| {}), &ours, None).unwrap();
        assert_eq!((found.task.as_str(), found.matched, found.equal), (task, 10, 10));
        assert_eq!((found.causes.len(), found.metrics.len()), (0, 2));
        assert!(found.metrics.iter().all(|metric| metric.difference == 0.0));
    }
}

#[test]
fn answers_are_explained_item_by_item() {
    let bench = Bench::new();
    let ours = ours(&bench);
    let file = theirs(&bench, &ours, "gsm8k", |id, row| {
        let strict = row["filter"] == "strict-match";
        let mut answer = |text: &str, found: &str, right: f64| {
            row["resps"] = json!([[text]]);
            row["filtered_resps"] = json!([found]);
            row["exact_match"] = json!(right);
        };
        match id {
            // Another answer, which is right by both filters.
            1 => answer(" #### 1", "1", 1.0),
            // The answer ended earlier.
            2 => answer(" ####", "[invalid]", 0.0),
            // The same answer, of which a filter finds something else.
            4 if strict => answer(" #### 4", "[invalid]", 0.0),
            6 => row["exact_match"] = json!(0.0),
            3 => {
                let prompt = row["arguments"]["gen_args_0"]["arg_0"].as_str().unwrap().to_owned();
                let (_, fewer) = prompt.split_once("\n\n").unwrap();
                row["arguments"]["gen_args_0"]["arg_0"] = json!(fewer);
                row["exact_match"] = json!(1.0);
            }
            5 => row["arguments"]["gen_args_0"]["arg_1"]["until"] = json!(["\n"]),
            9 => row.clear(),
            _ => {}
        }
    });
    let found = reconcile(&file, &ours, None).unwrap();
    assert_eq!((found.their_documents, found.our_documents, found.matched, found.equal), (9, 10, 9, 3));
    let expected = [Cause::Documents, Cause::ExampleCount, Cause::Settings, Cause::Length, Cause::Answers];
    let expected: Vec<_> =
        expected.into_iter().chain([Cause::Filter, Cause::Metric]).map(|cause| (cause, 1)).collect();
    assert_eq!(causes(&found), expected);
    assert_adds_up(&found);
    let of = |cause: Cause| found.causes.iter().find(|found| found.cause == cause).unwrap();
    let length = of(Cause::Length);
    assert!((length.effects[0].adds + 1.0 / 9.0).abs() < 1e-12, "{length:?}");
    assert_eq!((length.examples[0].at, length.examples[0].theirs.as_str()), (5, " ####"));
    let documents = of(Cause::Documents);
    assert!(
        documents.examples[0].ours.contains("9?") && documents.examples[0].theirs.is_empty(),
        "{documents:?}"
    );
}

#[test]
fn probabilities_are_explained_item_by_item() {
    let bench = Bench::new();
    let ours = ours(&bench);
    let file = theirs(&bench, &ours, "arc_easy", |id, row| {
        match id {
            // The blank stands in the context, and that costs the right choice.
            0 | 1 => {
                for request in row["arguments"].as_object_mut().unwrap().values_mut() {
                    let [context, continuation] =
                        ["arg_0", "arg_1"].map(|key| request[key].as_str().unwrap().to_owned());
                    *request = json!({"arg_0": format!("{context} "), "arg_1": continuation.trim_start()});
                }
                row["acc"] = json!(0.0);
            }
            2 => row["resps"][0] = json!([["-5.05", "False"]]),
            3 => row["resps"][0] = json!([["-15.0", "False"]]),
            // Older versions: lists, and no name of a filter.
            4 => {
                let lists: Vec<Value> = row["arguments"]
                    .as_object()
                    .unwrap()
                    .values()
                    .map(|request| json!([request["arg_0"], request["arg_1"]]))
                    .collect();
                row["arguments"] = json!(lists);
                row.shift_remove("filter");
                row.shift_remove("metrics");
            }
            5 => {
                row["arguments"]["gen_args_0"]["arg_0"] =
                    json!(format!("<s>{}", row["arguments"]["gen_args_0"]["arg_0"].as_str().unwrap()))
            }
            _ => {}
        }
    });
    let found = reconcile(&file, &ours, Some("arc_easy")).unwrap();
    let expected =
        [(Cause::Delimiter, 2), (Cause::BeginningOfText, 1), (Cause::Noise, 1), (Cause::Likelihoods, 1)];
    assert_eq!(causes(&found), expected);
    assert_adds_up(&found);
    let delimiter = &found.causes[0];
    let acc = delimiter.effects.iter().find(|one| one.metric == "acc").unwrap();
    assert!((acc.adds + 0.2).abs() < 1e-12 && acc.items == 2, "{acc:?}");
    let example = &delimiter.examples[0];
    assert!(
        example.theirs.ends_with("Answer: ¦this") && example.ours.ends_with("Answer:¦ this"),
        "{example:?}"
    );
}

#[test]
fn settings_explain_what_the_text_does_not() {
    let bench = Bench::new();
    let ours = ours(&bench);
    let results = |changes: &[(&str, Value)]| {
        let mut results = json!({
            "n-shot": {"arc_easy": 0}, "max_length": 1000, "chat_template": null, "fewshot_as_multiturn": true,
            "system_instruction": null,
            "config": {"model": "hf", "model_args": "pretrained=x", "limit": null, "fewshot_seed": 1234, "torch_seed": 1234},
        });
        for (pointer, value) in changes {
            *results.pointer_mut(pointer).unwrap() = value.clone();
        }
        let path = bench.root().join("results_2026-01-02T03-04-05.678901.json");
        std::fs::write(path, results.to_string()).unwrap();
    };
    let file = theirs(&bench, &ours, "arc_easy", |id, row| match id {
        0 => row["resps"][0] = json!([["-15.0", "False"]]),
        9 => row.clear(),
        _ => {}
    });
    let likely = |changes: &[(&str, Value)]| -> Vec<(Cause, Vec<String>)> {
        results(changes);
        let found = reconcile(&file, &ours, None).unwrap();
        assert_eq!(found.settings.len(), changes.len(), "{:?}", found.settings);
        found.causes.into_iter().map(|cause| (cause.cause, cause.likely)).collect()
    };
    let expected = |documents: &[&str], likelihoods: &[&str]| {
        let words = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        vec![(Cause::Documents, words(documents)), (Cause::Likelihoods, words(likelihoods))]
    };
    assert_eq!(likely(&[]), expected(&[], &[]));
    let bos = ("/config/model_args", json!("pretrained=x,add_bos_token=False"));
    assert_eq!(likely(std::slice::from_ref(&bos)), expected(&[], &["add_bos_token false against true"]));
    let shorter = ("/max_length", json!(512));
    assert_eq!(
        likely(&[bos, shorter]),
        expected(&[], &["add_bos_token false against true", "max_length 512 against 1000"])
    );
    let fewer = ("/config/limit", json!(9.0));
    assert_eq!(likely(&[fewer]), expected(&["limit 9.0 against none"], &[]));
    let seed = ("/config/fewshot_seed", json!(7));
    assert_eq!(likely(&[seed]), expected(&[], &[]), "there are no examples to choose");

    std::fs::write(bench.root().join("results_2026-01-02T03-04-05.678901.json"), "{").unwrap();
    let error = reconcile(&file, &ours, None).unwrap_err().to_string();
    assert!(error.contains("results_2026-01-02T03-04-05.678901.json"), "{error}");
}

#[test]
fn what_cannot_be_held_against_ours_is_named() {
    let bench = Bench::new();
    let ours = ours(&bench);
    let check = |path: PathBuf, task: Option<&str>, expected: &str| {
        let error = reconcile(&path, &ours, task).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let file = theirs(&bench, &ours, "gsm8k", |_, row| row["doc"] = json!({"question": "other"}));
    check(file.clone(), None, "none of its 10 items is one of sums/eval_v1 of task `gsm8k`");
    check(file.clone(), Some("mmlu"), "did not evaluate `mmlu`; it did: arc_easy, gsm8k");
    let renamed = bench.root().join("mine.jsonl");
    std::fs::copy(&file, &renamed).unwrap();
    check(renamed, None, "its name tells no task");
    let results = bench.root().join("samples_gsm8k.jsonl");
    std::fs::write(&results, "{\n  \"results\": {}\n}").unwrap();
    check(results, None, "line 1: these are results; the samples stand beside them");
}
