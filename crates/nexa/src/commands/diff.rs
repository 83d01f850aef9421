//! `nexa data diff`: which rows differ between two versions.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::table::Row;
use nexa_data::diff::{self, ChangedRow, Counts, Diff, Key, Options};

use crate::app::App;
use crate::args::{DiffArgs, Global};
use crate::commands::data::{cell, resolve};
use crate::render::{self, error::reported, table};

/// Prints what differs. The exit code tells it only where that is asked for.
pub(crate) fn run(global: &Global, args: &DiffArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let (before, after) = (resolve(&app, &args.before)?, resolve(&app, &args.after)?);
    let key = match (args.whole_rows, args.key.as_slice()) {
        (true, _) => Key::WholeRow,
        (false, []) => Key::Found,
        (false, named) => Key::Columns(named.to_vec()),
    };
    let options = Options { file: args.file.as_deref(), key, ignore: &args.ignore, limit: args.limit };
    let diff = diff::diff(&before, &after, &options).map_err(reported)?;
    if global.json {
        render::json(&diff)?;
    } else {
        show(&diff);
    }
    Ok(if args.exit_code && !diff.is_empty() { ExitCode::Failure } else { ExitCode::Success })
}

fn show(diff: &Diff) {
    let by =
        if diff.key.is_empty() { "as a whole".to_owned() } else { format!("by {}", diff.key.join(", ")) };
    render::note(&format!("{} → {}, rows {by}", diff.before, diff.after));
    let Counts { added, removed, changed, unchanged } = diff.rows;
    let counts = [added, removed, changed, unchanged].map(table::count).to_vec();
    render::out(&table::table(&["added", "removed", "changed", "unchanged"], &[counts]));
    let columns = columns(diff);
    if !columns.is_empty() {
        render::out("");
        render::out(&table::table(&["column", "what", "rows"], &columns));
    }
    let added_rows = diff.added.iter().map(|row| line('+', row));
    let removed_rows = diff.removed.iter().map(|row| line('-', row));
    let changed_rows = diff.changed.iter().map(changed_lines);
    let lines: Vec<String> = removed_rows.chain(added_rows).chain(changed_rows).collect();
    if !lines.is_empty() {
        render::out("");
        render::out(&lines.join("\n"));
    }
    let shown = (diff.added.len() + diff.removed.len() + diff.changed.len()) as u64;
    let all = added + removed + changed;
    if shown < all {
        let (shown, all) = (table::count(shown), table::count(all));
        render::note(&format!(
            "{shown} of {all} rows that differ are shown; `--limit N` shows more, `--json` whole cells"
        ));
    }
}

/// What differs in the columns: those that came or went, and those that differ in rows.
fn columns(diff: &Diff) -> Vec<Vec<String>> {
    let row = |name: &str, what: String, rows: Option<u64>| {
        vec![name.to_owned(), what, rows.map(table::count).unwrap_or_default()]
    };
    let schema = &diff.columns;
    let added =
        schema.added.iter().map(|column| row(&column.name, format!("added ({})", column.holds), None));
    let removed =
        schema.removed.iter().map(|column| row(&column.name, format!("removed ({})", column.holds), None));
    let retyped =
        schema.retyped.iter().map(|one| row(&one.column, format!("{} → {}", one.before, one.after), None));
    let changed =
        diff.changed_columns.iter().map(|one| row(&one.column, "changed".to_owned(), Some(one.rows)));
    added.chain(removed).chain(retyped).chain(changed).collect()
}

fn line(mark: char, row: &Row) -> String {
    let cells: Vec<String> = row.iter().filter(|(_, value)| !value.is_null()).map(named).collect();
    format!("{mark} {}", cells.join("  "))
}

fn changed_lines(row: &ChangedRow) -> String {
    let key: Vec<String> = row.key.iter().map(named).collect();
    let cells = row.cells.iter().map(|changed| {
        format!("\n    {}: {} → {}", changed.column, cell(&changed.before), cell(&changed.after))
    });
    format!("~ {}{}", key.join("  "), cells.collect::<String>())
}

fn named((name, value): (&String, &serde_json::Value)) -> String {
    format!("{name}={}", cell(value))
}
