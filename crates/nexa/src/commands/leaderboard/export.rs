//! The leaderboard as one flat table: a row for each task and checkpoint, as CSV for programs and Markdown for pages.

use nexa_core::cost::Spend;
use nexa_eval::leaderboard::{Board, Entry, Origin};

/// The columns, in their order.
const COLUMNS: [&str; 24] = [
    "task",
    "metric",
    "filter",
    "higher_is_better",
    "documents",
    "num_fewshot",
    "version",
    "rank",
    "rank_best",
    "rank_worst",
    "checkpoint",
    "value",
    "standard_error",
    "ci_low",
    "ci_high",
    "difference_to_best",
    "p_value",
    "p_adjusted",
    "verdict",
    "evaluation",
    "evaluation_usd",
    "checkpoint_usd",
    "made_from",
    "questions",
];

/// The boards as CSV by RFC 4180. An amount that is not known in full is empty.
pub(super) fn csv(boards: &[Board]) -> String {
    let mut out = COLUMNS.join(",") + "\r\n";
    for (board, entry) in rows(boards) {
        let cells: Vec<String> = cells(board, entry).iter().map(|cell| quoted(cell)).collect();
        out.push_str(&cells.join(","));
        out.push_str("\r\n");
    }
    out
}

/// The boards as a table of Markdown each, under a heading.
pub(super) fn markdown(boards: &[Board]) -> String {
    let mut out = String::new();
    for board in boards {
        if !out.is_empty() {
            out.push('\n');
        }
        let head = super::HEAD.map(|name| name.replace('|', "\\|"));
        out.push_str(&format!("### {}\n\n", escaped(&super::title(board))));
        out.push_str(&format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len())));
        for entry in &board.entries {
            let cells: Vec<String> = super::cells(board, entry).iter().map(|cell| escaped(cell)).collect();
            out.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
    }
    out
}

fn rows(boards: &[Board]) -> impl Iterator<Item = (&Board, &Entry)> {
    boards.iter().flat_map(|board| board.entries.iter().map(move |entry| (board, entry)))
}

fn cells(board: &Board, entry: &Entry) -> [String; 24] {
    let number = |value: Option<f64>| value.map(in_full).unwrap_or_default();
    let test = entry.versus_best.as_ref();
    let version = board.asked.version.as_ref().map(|version| match version {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    [
        board.task.clone(),
        board.metric.metric.to_string(),
        board.metric.filter.to_string(),
        board.higher_is_better.to_string(),
        board.asked.documents.to_string(),
        board.asked.num_fewshot.map(|count| count.to_string()).unwrap_or_default(),
        version.unwrap_or_default(),
        entry.rank.to_string(),
        entry.rank_range.map(|range| range.best.to_string()).unwrap_or_default(),
        entry.rank_range.map(|range| range.worst.to_string()).unwrap_or_default(),
        entry.checkpoint.clone(),
        in_full(entry.value.value),
        number(entry.value.standard_error),
        number(entry.value.ci_low),
        number(entry.value.ci_high),
        number(test.map(|test| test.difference)),
        number(test.map(|test| test.p_value)),
        number(test.map(|test| test.p_adjusted)),
        test.map(|test| test.verdict.as_str().to_owned()).unwrap_or_default(),
        entry.evaluation.to_string(),
        number(usd(Some(&entry.spend))),
        number(usd(entry.checkpoint_spend.as_ref())),
        made_from(&entry.made_from),
        board.asked.hash.to_string(),
    ]
}

/// A number with all its digits, and no more zeros than digits.
fn in_full(value: f64) -> String {
    serde_json::Value::from(value).to_string()
}

/// What was spent, where all of it has a price.
fn usd(spend: Option<&Spend>) -> Option<f64> {
    spend.filter(|spend| spend.unknown.is_empty()).map(|spend| spend.usd)
}

/// What a checkpoint was made from, in words: `sft_dataset lab/sft_v1, base lab/small_v2`.
pub(super) fn made_from(origins: &[Origin]) -> String {
    let words: Vec<String> = origins.iter().map(|origin| format!("{} {}", origin.role, origin.id)).collect();
    words.join(", ")
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// A text that stays within its cell.
fn escaped(cell: &str) -> String {
    cell.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_cells() {
        assert_eq!(quoted("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(escaped("a|b\\c\n<d>"), "a\\|b\\\\c &lt;d>");
    }

    #[test]
    fn numbers_are_written_in_full_and_short() {
        assert_eq!(
            (in_full(0.1 + 0.2), in_full(4.5e-243)),
            ("0.30000000000000004".to_owned(), "4.5e-243".to_owned())
        );
    }

    #[test]
    fn an_unknown_amount_is_not_a_number() {
        let known = Spend { usd: 0.5, ..Spend::default() };
        let partly = Spend { unknown: vec!["machine time".to_owned()], ..known.clone() };
        assert_eq!((usd(Some(&known)), usd(Some(&partly)), usd(None)), (Some(0.5), None, None));
    }
}
