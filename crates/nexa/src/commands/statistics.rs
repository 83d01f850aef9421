//! `nexa data stats`: how long the texts of a data set are, and its rows in the tokens of a student.

use std::path::Path;

use anyhow::Result;
use nexa_core::artifact::Artifact;
use nexa_core::{ExitCode, config};
use nexa_data::catalog;
use nexa_data::stats::{self, Bucket, Lengths, TableStatistics, histogram};
use nexa_train::{DataFile, Source, count_tokens, load_tokenizer};
use serde::Serialize;

use crate::app::App;
use crate::args::{Global, StatsArgs};
use crate::commands::inspect::tokenizer_folder;
use crate::models;
use crate::render::{self, error::reported, table};

/// The longest bar of the histogram.
const BAR: usize = 40;

/// What is said of a data set.
#[derive(Serialize)]
struct Statistics {
    #[serde(flatten)]
    table: TableStatistics,
    /// What its rows are for a student, where one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<TokenStatistics>,
}

/// The rows of a data set in the tokens of a student.
#[derive(Serialize)]
struct TokenStatistics {
    /// Sequences: one a row, two where rows are preferences.
    sequences: u64,
    /// Tokens of all of them.
    total: u64,
    /// Those that carry loss.
    trained: u64,
    /// Tokens of a sequence.
    tokens: Lengths,
    /// Tokens that the student can take.
    context: u64,
    /// Sequences that are longer.
    over_context: u64,
    /// Their share.
    over_context_share: f64,
    histogram: Vec<Bucket>,
}

/// Prints the statistics of a data set.
pub(crate) fn run(global: &Global, args: &StatsArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let artifact = app.store().resolve(app.project()?.name(), &args.artifact)?;
    let path = catalog::table_path(&artifact, args.file.as_deref()).map_err(reported)?;
    let table = stats::describe(&path).map_err(reported)?;
    let tokens = match &args.tokenizer {
        Some(named) => count(&app, args, named.as_deref(), (&artifact, &path))?,
        None => None,
    };
    let statistics = Statistics { table, tokens };
    if global.json {
        render::json(&statistics)?;
        return Ok(ExitCode::Success);
    }
    show_columns(&statistics.table);
    if let Some(tokens) = &statistics.tokens {
        show_tokens(tokens);
    }
    Ok(ExitCode::Success)
}

/// Counts the tokens of every row; `None` where there is no row.
fn count(
    app: &App,
    args: &StatsArgs,
    named: Option<&str>,
    (artifact, path): (&Artifact, &Path),
) -> Result<Option<TokenStatistics>> {
    let (value, place) = match &args.config {
        Some(path) => (config::read_yaml(path)?, path.display().to_string()),
        None => (serde_json::json!({}), "command line".to_owned()),
    };
    let (config, _) = models::training_config(value, &place)?;
    let folder = tokenizer_folder(app, named)?;
    let tokenizer = load_tokenizer(&config, &folder).map_err(reported)?;
    let file = DataFile { name: artifact.id().to_string(), path: path.to_owned(), split: None };
    let options = config.data_options(&file);
    let source = Source { path: &file.path, options: &options, tokenizer: &tokenizer, tables: &app.tables };
    let sequences = count_tokens(&source).map_err(reported)?;
    if sequences.is_empty() {
        return Ok(None);
    }
    let context = match args.context {
        Some(context) => context,
        None => context_of(&folder)?.unwrap_or(config.sequence_len() as u64),
    };
    let lengths: Vec<u64> = sequences.iter().map(|sequence| sequence.tokens).collect();
    let over_context = lengths.iter().filter(|&&length| length > context).count() as u64;
    Ok(Some(TokenStatistics {
        sequences: lengths.len() as u64,
        total: lengths.iter().sum(),
        trained: sequences.iter().map(|sequence| sequence.trained).sum(),
        context,
        over_context,
        over_context_share: over_context as f64 / lengths.len() as f64,
        histogram: histogram(&lengths),
        tokens: Lengths::of(lengths),
    }))
}

/// The context of the model in a folder; `None` where it holds a tokenizer alone.
fn context_of(folder: &Path) -> Result<Option<u64>> {
    let path = folder.join("config.json");
    if !path.is_file() {
        return Ok(None);
    }
    Ok(Some(nexa_model::DecoderConfig::load(&path).map_err(reported)?.context_length() as u64))
}

fn show_columns(statistics: &TableStatistics) {
    render::note(&format!("{} rows", table::count(statistics.rows)));
    let rows: Vec<Vec<String>> = statistics
        .columns
        .iter()
        .map(|column| {
            let lengths = &column.characters;
            vec![
                column.column.clone(),
                table::count(column.count),
                format!("{:.1}", lengths.mean),
                lengths.p50.to_string(),
                lengths.p95.to_string(),
                lengths.p99.to_string(),
                lengths.max.to_string(),
                format!("{:.1}", column.words.mean),
            ]
        })
        .collect();
    let head = ["column", "texts", "characters: mean", "median", "95 %", "99 %", "longest", "words: mean"];
    render::out(&table::table(&head, &rows));
}

fn show_tokens(tokens: &TokenStatistics) {
    render::note(&format!(
        "{} tokens in {} sequences, {} carry loss; {} sequences ({:.1} %) are longer than {} tokens",
        table::count(tokens.total),
        table::count(tokens.sequences),
        table::count(tokens.trained),
        table::count(tokens.over_context),
        100.0 * tokens.over_context_share,
        table::count(tokens.context),
    ));
    let Lengths { mean, p50, p95, p99, max } = tokens.tokens;
    let cells = [format!("{mean:.1}")].into_iter().chain([p50, p95, p99, max].map(table::count));
    let head = ["tokens: mean", "median", "95 %", "99 %", "longest"];
    render::out(&table::table(&head, &[cells.collect()]));
    let most = tokens.histogram.iter().map(|bucket| bucket.count).max().unwrap_or(0).max(1);
    let row = |bucket: &Bucket| {
        // What occurs is seen, however seldom it is.
        let length = (bucket.count as usize * BAR).div_ceil(most as usize);
        vec![
            table::count(bucket.from),
            table::count(bucket.to),
            table::count(bucket.count),
            "█".repeat(length),
        ]
    };
    let rows: Vec<Vec<String>> = tokens.histogram.iter().map(row).collect();
    render::out(&table::table(&["from", "to", "sequences", ""], &rows));
}
