//! Batches: handed in, left alone, collected by the same command, and never paid for twice.

use nexa_core::ExitCode;
use nexa_core::stage::Inputs;
use nexa_distill::collect::{Collect, Config};
use nexa_distill::embedded::{self, EmbeddedTeacher, Faults};

use crate::support::{TestLab, collect, numbered};

fn provider(faults: Faults) -> EmbeddedTeacher {
    EmbeddedTeacher::start(embedded::Config { faults, ..Default::default() }).unwrap()
}

fn stage(provider: &EmbeddedTeacher, change: impl FnOnce(&mut Config)) -> Collect {
    collect(&format!("{}#{}", provider.base_url(), embedded::MODEL), |config| {
        config.batch = true;
        change(config);
    })
}

/// Runs a stage while it says that its batches are with the provider; the last run makes the artifact.
fn collected(lab: &TestLab, stage: &Collect, inputs: &Inputs) -> (usize, nexa_core::artifact::Artifact) {
    for run in 1..10 {
        match lab.execute(stage, "answers", inputs) {
            Ok(made) => return (run, made),
            Err(error) => assert_eq!(error.exit_code(), ExitCode::Busy, "{error}"),
        }
    }
    panic!("the batches never end");
}

#[test]
fn a_batch_comes_to_the_same_bytes_as_single_calls() {
    let provider = provider(Faults::NONE);
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(20));
    let (runs, by_batch) = collected(&lab, &stage(&provider, |_| ()), &inputs);
    // Handed in, looked at, and collected.
    assert_eq!((runs, provider.seen().answered, provider.requests()), (3, 20, 0));
    assert_eq!(by_batch.manifest.spend.requests, 20);

    let other = TestLab::new();
    let inputs = other.put_prompts(&numbered(20));
    let by_call =
        other.execute(&stage(&provider, |config| config.batch = false), "answers", &inputs).unwrap();
    assert_eq!(by_batch.manifest.content_hash, by_call.manifest.content_hash);
    assert_eq!(by_batch.manifest.producer.key, by_call.manifest.producer.key);
}

#[test]
fn what_is_with_the_provider_is_not_asked_for_otherwise() {
    let provider = provider(Faults::NONE);
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(5));
    let batch = stage(&provider, |_| ());
    lab.execute(&batch, "answers", &inputs).unwrap_err();
    let single = stage(&provider, |config| config.batch = false);
    assert_eq!(lab.execute(&single, "answers", &inputs).unwrap_err().exit_code(), ExitCode::Busy);
    let made = lab.execute(&single, "answers", &inputs).unwrap();
    assert_eq!((made.manifest.counts.rows, provider.requests(), provider.seen().repeated), (Some(5), 0, 0));
}

#[test]
fn a_batch_whose_name_was_never_heard_is_found_by_its_file() {
    let provider = provider(Faults::NONE);
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(5));
    let stage = stage(&provider, |_| ());
    lab.execute(&stage, "answers", &inputs).unwrap_err();
    // As if the process had been killed before the name was written down.
    let log = lab.open_run_folder(&stage, &inputs).join("batches.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.contains("uploaded") && rest.contains("created"), "{text}");
    std::fs::write(&log, format!("{first}\n")).unwrap();
    let (_, made) = collected(&lab, &stage, &inputs);
    assert_eq!((made.manifest.counts.rows, provider.seen().answered), (Some(5), 5));
}

#[test]
fn a_batch_can_be_stopped_and_what_is_left_handed_in_again() {
    let provider = provider(Faults::NONE);
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(5));
    let stage = stage(&provider, |_| ());
    lab.execute(&stage, "answers", &inputs).unwrap_err();
    let run = lab.open_run_folder(&stage, &inputs);
    assert_eq!(stage.cancel_batches(&lab.environment, &run).unwrap(), ["batch_1"]);
    let (_, made) = collected(&lab, &stage, &inputs);
    assert_eq!((made.manifest.counts.rows, provider.seen().answered), (Some(5), 5));
}

#[test]
fn a_ceiling_bounds_what_is_handed_in() {
    let provider = provider(Faults::NONE);
    // A million tokens of prompt cost a dollar: each call is set aside 28 bytes and 100 tokens of answer.
    let prices = format!(
        "prices: {{models: {{\"{}\": {{input_usd_per_million: 1.0, output_usd_per_million: 1.0}}}}}}",
        embedded::MODEL
    );
    let lab = TestLab::with(&prices, &[]);
    let inputs = lab.put_prompts(&numbered(5));
    let stage = stage(&provider, |config| {
        config.max_tokens = 100;
        config.max_cost_usd = Some(0.0003);
    });
    let error = lab.execute(&stage, "answers", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy, "{error}");
    let (_, made) = collected(&lab, &stage, &inputs);
    assert_eq!((made.manifest.counts.rows, provider.seen().answered), (Some(5), 5));
    assert!(made.manifest.spend.usd <= 0.0003, "{}", made.manifest.spend);
}
