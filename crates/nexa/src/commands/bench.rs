//! `nexa bench`: how fast this machine trains, and where the time goes; and a provider to measure collecting against.

use std::path::Path;

use anyhow::Result;
use nexa_core::lm::LanguageModel;
use nexa_core::{ExitCode, config, format};
use nexa_data::tables::FileTables;
use nexa_distill::embedded::{self, Conduct, EmbeddedTeacher, Faults};
use nexa_model::DecoderConfig;
use nexa_model::bench::Decoding;
use nexa_train::Inputs;
use nexa_train::bench::{self, Bench, Fit, Measured};
use serde::Deserialize;

use crate::app::App;
use crate::args::{BenchProviderArgs, BenchServeArgs, BenchSftArgs, BenchTrainArgs, Global};
use crate::commands::inference;
use crate::render::error::reported;
use crate::render::{self, table};

/// Measures training steps and prints what they came to.
pub(crate) fn train(global: &Global, args: &BenchTrainArgs) -> Result<ExitCode> {
    let decoder = match &args.model {
        Some(folder) => DecoderConfig::load(&folder.join("config.json")).map_err(reported)?,
        None => bench::smollm2_135m(),
    };
    let mut value = serde_json::json!({});
    config::apply_overrides(&mut value, &args.overrides)?;
    let config = config::from_value(value, "command line")?;
    let bench = Bench { decoder, config, tokens: args.tokens, samples: args.samples, steps: args.steps };
    let measured = bench::run(&bench).map_err(reported)?;
    if global.json {
        render::json(&measured)?;
    } else {
        show(&measured);
    }
    Ok(ExitCode::Success)
}

/// Measures how fast a model reads and writes.
pub(crate) fn serve(global: &Global, args: &BenchServeArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let mut model = inference::find(&app, &args.model)?.load(&args.model)?;
    let BenchServeArgs { prompt_tokens, new_tokens, streams, repeats, .. } = *args;
    let bench = Decoding { prompt_tokens, new_tokens, streams, repeats };
    let measured = nexa_model::bench::decoding(&mut model, bench)?;
    if global.json {
        render::json(&measured)?;
        return Ok(ExitCode::Success);
    }
    let info = model.info();
    render::out(&format!(
        "{} in {}: {:.1} tokens/s read, {:.1} tokens/s written by {streams} {}, {:.0} % of what memory allows \
         ({} of weights a step at {:.1} GB/s)",
        info.name,
        info.format,
        measured.prefill_tokens_per_s,
        measured.decode_tokens_per_s,
        if streams == 1 { "stream" } else { "streams" },
        100.0 * measured.share_of_memory_limit,
        format::size(measured.weight_bytes),
        measured.read_bytes_per_s / 1e9,
    ));
    Ok(ExitCode::Success)
}

/// Measures the gates on the texts of a table and prints speed and verdicts as JSON.
pub(crate) fn clean(table: &Path) -> Result<ExitCode> {
    render::json(&nexa_data::clean::bench(table).map_err(reported)?)?;
    Ok(ExitCode::Success)
}

/// Trains on data for some steps and prints what they came to.
pub(crate) fn sft(args: &BenchSftArgs) -> Result<ExitCode> {
    let mut value = serde_json::json!({"micro_batch_size": args.batch, "learning_rate": 1e-4});
    config::apply_overrides(&mut value, &args.overrides)?;
    let config: nexa_train::Config = config::from_value(value, "command line")?;
    let inputs = Inputs {
        train: vec![args.data.clone().into()],
        validation: Vec::new(),
        tokenizer: None,
        base: Some(args.model.clone()),
        base_name: None,
        teacher: None,
        cache: args.folder.join("cache"),
    };
    let (folder, steps) = (args.folder.as_path(), args.steps);
    let fit = Fit { config: &config, inputs: &inputs, tables: &FileTables, folder, steps };
    render::json(&bench::fit(&fit).map_err(reported)?)?;
    Ok(ExitCode::Success)
}

/// How the imitated provider behaves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    faults: Faults,
    #[serde(default)]
    latency_ms: u64,
    #[serde(default)]
    requests_per_second: Option<f64>,
    #[serde(default)]
    tells_limits: bool,
}

/// Serves an imitation of a provider until it is stopped.
pub(crate) fn provider(args: &BenchProviderArgs) -> Result<ExitCode> {
    let mut value = serde_json::json!({"faults": Faults::NONE});
    config::apply_overrides(&mut value, &args.overrides)?;
    let Provider { faults, latency_ms, requests_per_second, tells_limits } =
        config::from_value(value, "command line")?;
    let conduct = Conduct { latency_ms, requests_per_second, tells_limits };
    let config = embedded::Config { seed: 0, faults, conduct, port: args.port };
    let teacher = EmbeddedTeacher::start(config).map_err(reported)?;
    render::out(&teacher.base_url());
    let (stop, stopped) = std::sync::mpsc::channel();
    ctrlc::set_handler(move || {
        // Whoever no longer waits has stopped already.
        let _ = stop.send(());
    })?;
    stopped.recv()?;
    render::json(&teacher.seen())?;
    Ok(ExitCode::Success)
}

fn show(measured: &Measured) {
    let mean = measured.step_seconds.iter().sum::<f64>() / measured.step_seconds.len() as f64;
    let rows: Vec<Vec<String>> = measured
        .seconds
        .iter()
        .map(|(part, seconds)| {
            vec![(*part).to_owned(), format!("{seconds:.3} s"), format!("{:.1} %", 100.0 * seconds / mean)]
        })
        .collect();
    render::out(&table::table(&["part of a step", "time", "share"], &rows));
    render::out(&format!(
        "{:.0} tokens/s on {} in {} with {} parameters, {} of them trained: {:.1} % of its {:.0} GFLOP/s",
        measured.tokens_per_s,
        measured.device,
        measured.precision,
        format::count(measured.parameters as u64),
        format::count(measured.trained_parameters as u64),
        100.0 * measured.mfu,
        measured.peak_flops / 1e9,
    ));
    if let Some(bytes) = measured.peak_memory_bytes {
        render::out(&format!("peak memory {}", format::size(bytes)));
    }
}
