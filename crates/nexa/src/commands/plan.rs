//! `nexa plan`: what a training would take, before it is begun.

use anyhow::{Context, Result};
use nexa_core::{ExitCode, config};
use nexa_train::plan::{self, Counts, Estimate, Memory, Time};
use nexa_train::{Config, DatasetCounts, Inputs};
use serde_json::json;

use super::stage;
use crate::app::App;
use crate::args::{Global, StageArgs};
use crate::datasets;
use crate::models;
use crate::render::{self, error::reported, table};
use crate::stages;

/// Prints counts, memory, time and cost. A base model that is not in the lab is imported first, as `nexa train` does.
pub(crate) fn run(global: &Global, mut args: StageArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let kind = stages::find("train").context("the stage of the command exists")?;
    let (mut value, place) = stage::settings(&args, &[])?;
    models::with_base(&app, &mut value, &place, &mut args)?;
    datasets::with_named(&app, &mut value, &mut args)?;
    let config: Config = config::from_value(value, &place)?;
    let inputs = stage::inputs(&app, kind, &args.inputs, true)?;
    for (_, artifact) in inputs.iter() {
        artifact.verify()?;
    }
    let inputs = Inputs::of(&config, &inputs, &app.lab)?;
    let sink = app.screen.sink("plan");
    let estimate = plan::estimate(&config, &inputs, &app.tables, &sink).map_err(reported)?;
    let price = app.lab.settings().prices.machine_usd_per_hour;
    let usd = price.map(|price| price * estimate.time.total / 3600.0);
    if global.json {
        render::json(&json!({ "plan": estimate, "usd": usd }))?;
    } else {
        show(&estimate, usd);
    }
    Ok(ExitCode::Success)
}

fn show(estimate: &Estimate, usd: Option<f64>) {
    let Estimate { counts, memory, time } = estimate;
    let facts = [of_counts(counts), of_memory(memory), of_time(time)].concat();
    let cost = usd.map_or_else(
        || "unknown: `prices.machine_usd_per_hour` is not set in nexa.yaml".to_owned(),
        |usd| format!("${usd:.4}"),
    );
    for (name, value) in facts.into_iter().chain([("cost", cost)]) {
        render::out(&format!("{name:<13} {value}"));
    }
    if counts.datasets.len() > 1 {
        let rows: Vec<Vec<String>> = counts.datasets.iter().map(of_dataset).collect();
        render::out(&table::table(&["data set", "samples", "tokens", "samples an epoch"], &rows));
    }
}

fn of_counts(counts: &Counts) -> Vec<(&'static str, String)> {
    let count = |number: usize| table::count(number as u64);
    let validation = match counts.validation_samples {
        0 => String::new(),
        samples => format!(", and {} for validation", count(samples)),
    };
    vec![
        ("parameters", format!("{}, {} trained", count(counts.parameters), count(counts.trained_parameters))),
        ("samples", format!("{}{validation}", count(counts.samples))),
        ("steps", format!("{} ({:.2} epochs)", table::count(counts.steps), counts.epochs)),
        (
            "tokens",
            format!("{}, {} carry loss", table::count(counts.tokens), table::count(counts.trained_tokens)),
        ),
        (
            "padding",
            format!(
                "{:.1} % of the room holds no token; nothing is computed for it",
                counts.padding_waste * 100.0
            ),
        ),
    ]
}

fn of_dataset(counts: &DatasetCounts) -> Vec<String> {
    let DatasetCounts { name, samples, tokens, in_an_epoch } = counts;
    let count = |number: usize| table::count(number as u64);
    vec![name.clone(), count(*samples), table::count(*tokens), count(*in_an_epoch)]
}

fn of_memory(memory: &Memory) -> Vec<(&'static str, String)> {
    let parts = [
        (memory.weights, "weights"),
        (memory.optimizer, "optimizer"),
        (memory.gradients, "gradients"),
        (memory.activations, "activations"),
        (memory.logits, "logits"),
        (memory.data, "data"),
        (memory.saving, "saving"),
        (memory.program.unwrap_or(0), "program"),
    ];
    let sum: u64 = parts.iter().map(|(bytes, _)| bytes).sum();
    let parts: Vec<String> = parts
        .iter()
        .chain(&[(memory.peak.saturating_sub(sum), "gaps between what is freed")])
        .filter(|(bytes, _)| *bytes > 0)
        .map(|(bytes, what)| format!("{what} {}", table::size(*bytes)))
        .collect();
    let elsewhere = memory.device.as_ref();
    let elsewhere = elsewhere.map_or_else(String::new, |device| format!("; that of {device} is unknown"));
    vec![("memory", format!("{} at most: {}{elsewhere}", table::size(memory.peak), parts.join(", ")))]
}

fn of_time(time: &Time) -> Vec<(&'static str, String)> {
    let Time { step, measured_steps, training, validation, saving, total } = *time;
    let parts = format!(
        "training {}, validation {}, saving {}; {step:.3} s a step, from {measured_steps} of them",
        table::duration(training),
        table::duration(validation),
        table::duration(saving),
    );
    vec![("time", format!("{}: {parts}", table::duration(total)))]
}
