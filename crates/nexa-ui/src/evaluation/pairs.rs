//! Two models on the same documents of a task.

use std::collections::BTreeMap;

use nexa_core::table::Tables;
use serde::Serialize;
use serde_json::Value;

use super::samples::{file, is_of_task};
use super::{Evaluated, Judged, Sample, samples_at};
use crate::Result;

/// Which documents are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Show {
    /// Those on which the models differ: in the grade, or where there is none, in what was found.
    #[default]
    Differ,
    OnlyA,
    OnlyB,
    /// Wrong by both.
    BothWrong,
    All,
}

impl Show {
    /// All of them, with their words in addresses and on the page.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Differ, "differ", "differ"),
        (Self::OnlyA, "only_a", "only A right"),
        (Self::OnlyB, "only_b", "only B right"),
        (Self::BothWrong, "both_wrong", "both wrong"),
        (Self::All, "all", "all"),
    ];

    /// The choice of a word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known, _)| *known == word).map(|(show, _, _)| show)
    }

    fn holds(self, pair: &Position) -> bool {
        let grades = (pair.a_judged, pair.b_judged);
        match self {
            Self::All => true,
            Self::OnlyA => grades == (Judged::Right, Judged::Wrong),
            Self::OnlyB => grades == (Judged::Wrong, Judged::Right),
            Self::BothWrong => grades == (Judged::Wrong, Judged::Wrong),
            Self::Differ => grades.0 != grades.1 || (grades.0 == Judged::Ungraded && pair.said_differs),
        }
    }
}

/// Where a document stands in both evaluations.
#[derive(Debug, Clone, Copy)]
struct Position {
    a: usize,
    b: usize,
    a_judged: Judged,
    b_judged: Judged,
    said_differs: bool,
}

/// The documents that both evaluations have of a task, in the order of the first.
#[derive(Debug)]
pub(crate) struct Pairs(Vec<Position>);

/// A document and what both models made of it.
#[derive(Debug, Serialize)]
pub(crate) struct Pair {
    pub(crate) a: Sample,
    pub(crate) b: Sample,
}

/// What is held of a document of the first evaluation until the second has been read.
struct Kept {
    position: usize,
    judged: Judged,
    said: blake3::Hash,
}

/// What decides whether two models said the same, without the texts.
const COLUMNS: [&str; 5] = ["task", "id", "correct", "prediction", "output"];

impl Pairs {
    /// Puts the documents of two evaluations side by side.
    ///
    /// # Errors
    /// Fails when either has no predictions, or they cannot be read.
    pub(crate) fn of(a: &Evaluated, b: &Evaluated, tables: &dyn Tables, task: &str) -> Result<Self> {
        let first = kept(a, tables, task)?;
        let second = kept(b, tables, task)?;
        let mut pairs: Vec<Position> = first
            .iter()
            .filter_map(|(id, a)| {
                let b = second.get(id)?;
                let said_differs = a.said != b.said;
                Some(Position {
                    a: a.position,
                    b: b.position,
                    a_judged: a.judged,
                    b_judged: b.judged,
                    said_differs,
                })
            })
            .collect();
        pairs.sort_by_key(|pair| pair.a);
        Ok(Self(pairs))
    }

    /// How many there are to show.
    pub(crate) fn count(&self, show: Show) -> usize {
        self.0.iter().filter(|pair| show.holds(pair)).count()
    }

    /// Reads a page of those to show, from `skip` on.
    ///
    /// # Errors
    /// As [`Pairs::of`].
    pub(crate) fn read(
        &self,
        (a, b): (&Evaluated, &Evaluated),
        tables: &dyn Tables,
        show: Show,
        (skip, take): (usize, usize),
    ) -> Result<Vec<Pair>> {
        let page: Vec<&Position> =
            self.0.iter().filter(|pair| show.holds(pair)).skip(skip).take(take).collect();
        let a = samples_at(&a.artifact, tables, &page.iter().map(|pair| pair.a).collect::<Vec<_>>())?;
        let b = samples_at(&b.artifact, tables, &page.iter().map(|pair| pair.b).collect::<Vec<_>>())?;
        Ok(a.into_iter().zip(b).map(|(a, b)| Pair { a, b }).collect())
    }
}

fn kept(evaluated: &Evaluated, tables: &dyn Tables, task: &str) -> Result<BTreeMap<String, Kept>> {
    let mut found = BTreeMap::new();
    tables.scan(&file(&evaluated.artifact, tables)?, &COLUMNS, &mut |position, row| {
        if is_of_task(&row, Some(task)) {
            let text = |column: &str| row.get(column).and_then(Value::as_str).unwrap_or_default();
            let judged = Judged::of(row.get("correct").and_then(Value::as_bool));
            let said = blake3::hash(format!("{}\0{}", text("prediction"), text("output")).as_bytes());
            found.entry(text("id").to_owned()).or_insert(Kept { position, judged, said });
        }
        Ok(())
    })?;
    Ok(found)
}
