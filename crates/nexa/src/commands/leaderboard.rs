//! `nexa leaderboard`: the evaluated checkpoints of a project, best first, with intervals and paired tests.

mod export;

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_eval::Leaderboard;
use nexa_eval::leaderboard::{Board, Choice, Entry, RankRange, Row, VersusBest};
use nexa_eval::statistics::Estimate;

use crate::app::App;
use crate::args::{BoardFormat, Global, LeaderboardArgs};
use crate::render::{self, error::reported, table};

/// The columns of a task's table.
const HEAD: [&str; 9] = [
    "rank",
    "ranks left open",
    "checkpoint",
    "value",
    "95 % interval",
    "against the best",
    "cost of the evaluation",
    "cost of the checkpoint",
    "made from",
];

/// Prints the leaderboard of the project.
pub(crate) fn run(global: &Global, args: LeaderboardArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let format = if global.json { BoardFormat::Json } else { args.format };
    show(&app, &Choice { task: args.task, metric: args.metric }, format)?;
    Ok(ExitCode::Success)
}

/// Prints the leaderboard of the app's project, or that part of it which was chosen.
pub(crate) fn show(app: &App, choice: &Choice, format: BoardFormat) -> Result<()> {
    let project = app.project()?;
    let board = Leaderboard::choose(&app.store(), project.name(), &app.tables, choice).map_err(reported)?;
    match format {
        BoardFormat::Json => return render::json(&board),
        BoardFormat::Csv => render::out(&export::csv(&board.boards)),
        BoardFormat::Markdown if !board.boards.is_empty() => render::out(&export::markdown(&board.boards)),
        _ => {}
    }
    if board.boards.is_empty() {
        render::note(&format!("no evaluation in project {} yet: `nexa evaluate` makes one", project.name()));
    } else if format == BoardFormat::Table {
        tables(&board, choice);
    }
    Ok(())
}

/// Both metrics of a held-out split stand in one table, unless one of them was chosen.
fn tables(board: &Leaderboard, choice: &Choice) {
    for rows in board.by_test_set() {
        let Some(first) = rows.first() else { continue };
        let test_set = &first.test_set;
        render::note(&format!(
            "{}, split {}, {} items",
            first.dataset,
            test_set.split.as_str(),
            table::count(test_set.items as u64)
        ));
        let head = [
            "rank",
            "ranks left open",
            "checkpoint",
            "exact match",
            "95 % interval",
            "bits/byte",
            "95 % interval",
            "against the best",
            "cost of the checkpoint",
        ];
        render::out(&table::table(&head, &rows.iter().map(row).collect::<Vec<_>>()));
    }
    let is_shown = |board: &&Board| !choice.is_all() || board.metric.held_out_task().is_none();
    for board in board.boards.iter().filter(is_shown) {
        render::note(&title(board));
        let rows: Vec<Vec<String>> = board.entries.iter().map(|entry| cells(board, entry).to_vec()).collect();
        render::out(&table::table(&HEAD, &rows));
    }
}

/// What a board is of: `gsm8k by exact_match,strict-match, 50 documents, 5 examples before each`.
fn title(board: &Board) -> String {
    let asked = &board.asked;
    let filter = match board.metric.filter.as_ref() {
        nexa_eval::metric::NO_FILTER => String::new(),
        filter => format!(",{filter}"),
    };
    let direction = if board.higher_is_better { "" } else { " (lower is better)" };
    let dataset = asked.dataset.as_ref().map(|dataset| format!(" of {dataset}")).unwrap_or_default();
    let shots = asked.num_fewshot.map(|count| format!(", {count} examples before each")).unwrap_or_default();
    let tasks = match asked.subtasks.len() {
        0 => String::new(),
        tasks => format!(" of {} tasks", table::count(tasks as u64)),
    };
    format!(
        "{} by {}{filter}{direction}, {} documents{dataset}{tasks}{shots}",
        board.task,
        board.metric.metric,
        table::count(asked.documents as u64),
    )
}

fn cells(board: &Board, entry: &Entry) -> [String; 9] {
    let is_share = |value: f64| (0.0..=1.0).contains(&value);
    // Only what is better the larger it is can be a share of right answers.
    let all_shares = board.higher_is_better && board.entries.iter().all(|entry| is_share(entry.value.value));
    let format = if all_shares { percent } else { decimal };
    [
        entry.rank.to_string(),
        range(entry.rank_range),
        entry.checkpoint.clone(),
        format(entry.value.value),
        interval(&entry.value, format),
        against(entry.versus_best.as_ref()),
        entry.spend.to_string(),
        entry.checkpoint_spend.as_ref().map(ToString::to_string).unwrap_or_default(),
        export::made_from(&entry.made_from),
    ]
}

fn range(range: Option<RankRange>) -> String {
    match range {
        Some(RankRange { best, worst }) if best == worst => best.to_string(),
        Some(RankRange { best, worst }) => format!("{best} to {worst}"),
        None => "unknown".to_owned(),
    }
}

fn against(test: Option<&VersusBest>) -> String {
    test.map_or_else(String::new, |test| format!("{}, p {}", test.verdict.as_str(), p_value(test.p_adjusted)))
}

fn row(row: &Row) -> Vec<String> {
    vec![
        row.rank.map(|rank| rank.to_string()).unwrap_or_default(),
        if row.rank.is_some() { range(row.rank_range) } else { String::new() },
        row.checkpoint.clone(),
        row.exact_match.map(|e| percent(e.value)).unwrap_or_default(),
        row.exact_match.map(|e| interval(&e, percent)).unwrap_or_default(),
        row.bits_per_byte.map(|e| decimal(e.value)).unwrap_or_default(),
        row.bits_per_byte.map(|e| interval(&e, decimal)).unwrap_or_default(),
        against(row.versus_best.as_ref()),
        row.checkpoint_spend.as_ref().map(ToString::to_string).unwrap_or_default(),
    ]
}

/// A share in percent: `97.5%`.
pub(crate) fn percent(value: f64) -> String {
    format!("{:.1}%", value * 100.0)
}

/// A number with three decimals.
pub(crate) fn decimal(value: f64) -> String {
    format!("{value:.3}")
}

/// The ends of an interval: `95.1% to 99.0%`.
pub(crate) fn interval(estimate: &Estimate, format: fn(f64) -> String) -> String {
    match (estimate.ci_low, estimate.ci_high) {
        (Some(low), Some(high)) => format!("{} to {}", format(low), format(high)),
        _ => "unknown".to_owned(),
    }
}

/// A p-value to the precision that means something.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}
