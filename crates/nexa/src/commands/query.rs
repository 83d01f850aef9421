//! `nexa data query`: SQL over the data sets of the lab and over files.

use std::io::{ErrorKind, IsTerminal};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use nexa_core::{Error as CoreError, ExitCode};
use nexa_data::Error;
use nexa_data::query::{Answer, DataQuery, Options, OutputFormat};
use nexa_data::tables::Compression;

use crate::app::App;
use crate::args::{Global, QueryArgs, QueryFormat};
use crate::commands::data::cell;
use crate::render::{self, error::reported, table};

/// Rows that are counted behind those of the table, so that a query over everything ends.
const COUNTED_ROWS: u64 = 1_000_000;

/// Runs a statement and prints its answer, or keeps it in a file.
pub(crate) fn run(global: &Global, args: &QueryArgs) -> Result<ExitCode> {
    let begun = Instant::now();
    let app = App::open(global)?;
    let options = Options {
        memory_limit: args.memory_limit,
        environment: app.environment.clone(),
        cancel: app.cancel.clone(),
    };
    let query = DataQuery::with_options(&app.lab, app.project()?.name(), options).map_err(reported)?;
    let answer = query.sql(&args.sql).map_err(reported)?;
    let rows = match (&args.output, output_format(global, args)) {
        (Some(path), format) => keep(answer, args, (path, format))?,
        (None, None) => print_table(answer, args.limit)?,
        (None, Some(format)) => print(answer, format)?,
    };
    render::note(&format!("{rows} in {:.3} s", begun.elapsed().as_secs_f64()));
    Ok(ExitCode::Success)
}

/// The format that was asked for, if it is not a table for people.
fn output_format(global: &Global, args: &QueryArgs) -> Option<OutputFormat> {
    let named = args.output.as_deref().and_then(OutputFormat::of);
    match args.format {
        // Of a file, the name tells how it is compressed.
        Some(QueryFormat::Csv) if matches!(named, Some(OutputFormat::Csv(_))) => named,
        Some(QueryFormat::Jsonl) if matches!(named, Some(OutputFormat::JsonLines(_))) => named,
        Some(QueryFormat::Csv) => Some(OutputFormat::Csv(Compression::None)),
        Some(QueryFormat::Jsonl) => Some(OutputFormat::JsonLines(Compression::None)),
        Some(QueryFormat::Json) => Some(OutputFormat::Json),
        Some(QueryFormat::Parquet) => Some(OutputFormat::Parquet),
        Some(QueryFormat::Table) => None,
        None if args.output.is_none() && global.json => Some(OutputFormat::Json),
        None => named,
    }
}

fn keep(answer: Answer, args: &QueryArgs, (path, format): (&Path, Option<OutputFormat>)) -> Result<String> {
    let Some(format) = format else {
        let message = "its name does not end like a table's: .csv, .json, .jsonl (these with .gz or .zst) or .parquet; \
                       `--format` says what it is";
        return Err(CoreError::config(path.display().to_string(), message).into());
    };
    let rows = answer.write_file(path, format, args.force).map_err(reported)?;
    Ok(format!("{}: {}", path.display(), counted(rows)))
}

fn print(answer: Answer, format: OutputFormat) -> Result<String> {
    let stdout = std::io::stdout();
    if format == OutputFormat::Parquet && stdout.is_terminal() {
        return Err(CoreError::config(
            "--format",
            "Parquet is nothing to read in a terminal; add `--output FILE`",
        )
        .into());
    }
    match answer.write(stdout, format, Path::new("stdout")) {
        Ok(rows) => Ok(counted(rows)),
        // Whoever reads has seen enough.
        Err(Error::Core(CoreError::Io { source, .. })) if source.kind() == ErrorKind::BrokenPipe => {
            std::process::exit(ExitCode::Success as i32)
        }
        Err(error) => Err(reported(error)),
    }
}

fn print_table(answer: Answer, limit: usize) -> Result<String> {
    let mut rows = answer.rows();
    let head: Vec<String> = rows.columns().into_iter().map(str::to_owned).collect();
    let mut cells = Vec::new();
    for row in rows.by_ref().take(limit) {
        let row = row.map_err(reported)?;
        cells.push(head.iter().map(|column| row.get(column).map_or_else(String::new, cell)).collect());
    }
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    render::out(&table::table(&head, &cells));
    let shown = cells.len() as u64;
    Ok(match rows.count_rest(COUNTED_ROWS).map_err(reported)? {
        (0, _) => counted(shown),
        (rest, true) => format!(
            "{}, of which {} are left out (`--limit N` shows more, `--format` and `--output` all)",
            counted(shown + rest),
            table::count(rest)
        ),
        (rest, false) => format!(
            "more than {}, of which the first {} are shown (`--limit N` shows more, `--format` and `--output` all)",
            counted(shown + rest),
            table::count(shown)
        ),
    })
}

fn counted(rows: u64) -> String {
    format!("{} {}", table::count(rows), if rows == 1 { "row" } else { "rows" })
}
