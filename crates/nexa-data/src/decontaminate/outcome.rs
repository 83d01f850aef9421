//! What was found, as tables and in numbers.

use std::path::Path;

use nexa_core::columns::{ID, REJECTION_GATE, REJECTION_REASON};
use nexa_core::decontamination::CheckedSet;
use nexa_core::stage::Context;
use nexa_core::table::Row;
use serde::Serialize;
use serde_json::json;

use super::items::Items;
use super::judge::{Match, Reason};
use super::{EVALUATION_ID, EVALUATION_SET, METHOD};
use crate::Result;
use crate::rows::{Partition, Pass, Source, write_table};
use crate::tables::Schema;

/// Words of a span that a reason cites; `matches.parquet` has all.
const CITED_WORDS: usize = 16;

/// A row that holds evaluation items.
pub(super) struct Contaminated {
    /// Its number in the table.
    pub(super) row: u64,
    pub(super) id: String,
    /// The worst first; there is at least one.
    pub(super) matches: Vec<Match>,
}

/// What the first pass found.
pub(super) struct Judged {
    pub(super) schema: Schema,
    /// The columns that were looked through.
    pub(super) columns: Vec<String>,
    pub(super) rows: u64,
    /// Rows that models are judged by themselves.
    pub(super) held_out: u64,
    /// In the order of the rows.
    pub(super) contaminated: Vec<Contaminated>,
}

/// What was found, in numbers.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    method: &'static str,
    columns: &'a [String],
    rows: u64,
    held_out: u64,
    contaminated: u64,
    /// Rows by the reason of their worst match.
    border: usize,
    question: usize,
    answer: usize,
    sets: Vec<SetReport<'a>>,
}

/// What was found of one evaluation set.
#[derive(Debug, Serialize)]
struct SetReport<'a> {
    name: &'a str,
    items: u64,
    too_short: u64,
    /// Items that some row holds.
    matched: usize,
    /// Rows that hold some item.
    rows: usize,
}

impl Judged {
    /// Writes every pair of a row and an item that was found.
    pub(super) fn write_matches(&self, items: &Items, path: &Path) -> Result<()> {
        let of_row = |row: &Contaminated| {
            row.matches
                .iter()
                .map(|found| {
                    let item = &items.all[found.item as usize];
                    match_row((&row.id, &items.sets[item.set].name, &item.id), found)
                })
                .collect::<Vec<_>>()
        };
        let rows: Vec<Row> = self.contaminated.iter().flat_map(of_row).collect();
        let example = Match {
            item: 0,
            reason: Reason::Border,
            question_overlap: 0.5,
            answer_overlap: 0.5,
            span: String::new(),
            span_start: 0,
        };
        write_table(path, &match_row(("", "", ""), &example), rows)
    }

    /// The second pass: every row to its table.
    pub(super) fn write_rows(
        &self,
        context: &Context<'_>,
        source: &Source,
        items: &Items,
    ) -> Result<(u64, u64)> {
        let example = Row::from_iter(
            [EVALUATION_SET, EVALUATION_ID, REJECTION_GATE, REJECTION_REASON]
                .map(|name| (name.to_owned(), json!(""))),
        );
        let mut partition = Partition::create(context, &self.schema, &Row::new(), &example)?;
        let mut contaminated = self.contaminated.iter().peekable();
        Pass { context, source, note: "writing" }.run(|first, batch| {
            for (number, row) in (first..).zip(batch) {
                match contaminated
                    .next_if(|found| found.row == number)
                    .and_then(|found| found.matches.first())
                {
                    Some(worst) => partition.reject(row, rejection(items, worst))?,
                    None => partition.keep(row)?,
                }
            }
            Ok(())
        })?;
        partition.finish()
    }
}

/// A pair of a row and an item, whose ids are given with the name of the item's set between them.
fn match_row((id, set, item): (&str, &str, &str), found: &Match) -> Row {
    Row::from_iter([
        (ID.to_owned(), json!(id)),
        (EVALUATION_SET.to_owned(), json!(set)),
        (EVALUATION_ID.to_owned(), json!(item)),
        ("reason".to_owned(), json!(found.reason.as_str())),
        ("question_overlap".to_owned(), json!(found.question_overlap)),
        ("answer_overlap".to_owned(), json!(found.answer_overlap)),
        ("span".to_owned(), json!(found.span)),
        ("span_start".to_owned(), json!(found.span_start)),
        ("span_words".to_owned(), json!(found.span.split(' ').count())),
    ])
}

/// What is added to a row that is taken out.
fn rejection(items: &Items, worst: &Match) -> Row {
    let item = &items.all[worst.item as usize];
    let set = &items.sets[item.set].name;
    let words: Vec<&str> = worst.span.split(' ').take(CITED_WORDS + 1).collect();
    let more = if words.len() > CITED_WORDS { " …" } else { "" };
    let cited = words[..words.len().min(CITED_WORDS)].join(" ");
    let what = match worst.reason {
        Reason::Border => "the end of the question with the beginning of the answer".to_owned(),
        Reason::Question => format!("{:.0} % of the question", 100.0 * worst.question_overlap),
        Reason::Answer => format!("{:.0} % of the answer", 100.0 * worst.answer_overlap),
    };
    let reason = format!("{what} of item `{}` of {set}: \"{cited}{more}\"", item.id);
    Row::from_iter([
        (EVALUATION_SET.to_owned(), json!(set)),
        (EVALUATION_ID.to_owned(), json!(item.id)),
        (REJECTION_GATE.to_owned(), json!(METHOD)),
        (REJECTION_REASON.to_owned(), json!(reason)),
    ])
}

impl<'a> Report<'a> {
    /// Counts what was found.
    pub(super) fn of(judged: &'a Judged, items: &Items, sets: &'a [CheckedSet]) -> Self {
        let worst = |reason| judged.contaminated.iter().filter(|row| row.matches[0].reason == reason).count();
        let set_of = |found: &Match| items.all[found.item as usize].set;
        let of_set = |(number, set): (usize, &'a CheckedSet)| {
            let mut matched: Vec<u32> = judged
                .contaminated
                .iter()
                .flat_map(|row| &row.matches)
                .filter(|found| set_of(found) == number)
                .map(|found| found.item)
                .collect();
            matched.sort_unstable();
            matched.dedup();
            let holds = |row: &&Contaminated| row.matches.iter().any(|found| set_of(found) == number);
            SetReport {
                name: &set.name,
                items: set.items,
                too_short: set.too_short,
                matched: matched.len(),
                rows: judged.contaminated.iter().filter(holds).count(),
            }
        };
        Self {
            method: METHOD,
            columns: &judged.columns,
            rows: judged.rows,
            held_out: judged.held_out,
            contaminated: judged.contaminated.len() as u64,
            border: worst(Reason::Border),
            question: worst(Reason::Question),
            answer: worst(Reason::Answer),
            sets: sets.iter().enumerate().map(of_set).collect(),
        }
    }
}
