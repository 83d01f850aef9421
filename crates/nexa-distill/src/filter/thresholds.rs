//! What other bounds would change, from the scores that are there: nothing is measured again.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::table::{Row, Tables};
use nexa_core::{columns, config, files};
use serde::Serialize;

use super::{Funnel, funnel, scores};
use crate::gates::Bounds;
use crate::{Error, Result, table};

/// A bound that is moved: `loop=0.3`, or `length.max=2000` where a gate has two.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    gate: String,
    end: Option<End>,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Min,
    Max,
}

/// What changes with other bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explored {
    /// Rows in all.
    pub rows: usize,
    /// Rows that pass with the bounds that were used.
    pub passed_before: usize,
    /// Rows that pass with the new ones.
    pub passed_after: usize,
    /// Each gate before and after, in order.
    pub gates: Vec<GateChange>,
    /// The rows whose fate changes, in their order.
    pub flips: Vec<Flip>,
}

/// A gate with both of its bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateChange {
    /// The gate.
    pub gate: String,
    /// Its bounds as they were.
    pub before: Bounds,
    /// Its bounds as they would be.
    pub after: Bounds,
    /// Rows that it rejected.
    pub rejected_before: usize,
    /// Rows that it would reject.
    pub rejected_after: usize,
}

/// A row whose fate changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flip {
    /// The row.
    pub id: String,
    /// The gate that rejected it; none where it passed.
    pub before: Option<String>,
    /// The gate that would.
    pub after: Option<String>,
    /// Its score at the gate that decides the difference.
    pub score: Option<f64>,
}

impl std::str::FromStr for Change {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadThreshold {
            text: text.to_owned(),
            message: "it is not of the form GATE=NUMBER or GATE.min=NUMBER".to_owned(),
            nearest: None,
        };
        let (key, bound) = text.split_once('=').ok_or_else(bad)?;
        let bound = bound.trim().parse().ok().filter(|bound: &f64| bound.is_finite()).ok_or_else(bad)?;
        let (gate, end) = match key.rsplit_once('.') {
            Some((gate, "min")) => (gate, Some(End::Min)),
            Some((gate, "max")) => (gate, Some(End::Max)),
            _ => (key, None),
        };
        Ok(Self { gate: gate.trim().to_owned(), end, bound })
    }
}

impl Change {
    fn apply(&self, bounds: &mut Bounds) -> Result<()> {
        let end = match (self.end, bounds.min, bounds.max) {
            (Some(end), ..) => end,
            (None, Some(_), None) => End::Min,
            (None, None, _) => End::Max,
            (None, Some(_), Some(_)) => {
                return Err(Error::BadThreshold {
                    text: self.gate.clone(),
                    message: "the gate has two bounds".to_owned(),
                    nearest: Some(format!("{}.max", self.gate)),
                });
            }
        };
        match end {
            End::Min => bounds.min = Some(self.bound),
            End::Max => bounds.max = Some(self.bound),
        }
        Ok(())
    }
}

/// Finds out what other bounds change in a filtered artifact.
///
/// # Errors
/// Fails when the artifact holds no scores, and on a gate that was not asked.
pub fn explore(artifact: &Artifact, tables: &dyn Tables, changes: &[Change]) -> Result<Explored> {
    artifact.expect_kind(Kind::Filtered)?;
    let funnel: Funnel = files::read_json(&artifact.file(funnel::FILE)?)?;
    let scores = tables.read(&artifact.file(scores::FILE)?)?;
    compare(&funnel, &scores, changes)
}

fn compare(funnel: &Funnel, scores: &[Row], changes: &[Change]) -> Result<Explored> {
    let names: Vec<&str> = funnel.gates.iter().map(|gate| gate.gate.as_str()).collect();
    let before: Vec<Bounds> = funnel.gates.iter().map(|gate| gate.bounds).collect();
    let mut after = before.clone();
    for change in changes {
        let Some(at) = names.iter().position(|name| *name == change.gate) else {
            return Err(Error::BadThreshold {
                text: change.gate.clone(),
                message: format!("no such gate was asked; there are: {}", names.join(", ")),
                nearest: config::nearest(&change.gate, names.iter().copied()).map(str::to_owned),
            });
        };
        change.apply(&mut after[at])?;
    }
    // The gate that rejects a row under some bounds: the first, as when it was filtered.
    let rejects = |row: &Row, bounds: &[Bounds]| {
        names.iter().zip(bounds).position(|(name, bounds)| {
            row.get(*name).and_then(serde_json::Value::as_f64).is_some_and(|score| !bounds.hold(score))
        })
    };
    let mut counts = vec![[0; 2]; names.len()];
    let mut passed = [0; 2];
    let mut flips = Vec::new();
    for row in scores {
        let fates = [rejects(row, &before), rejects(row, &after)];
        for (side, fate) in fates.into_iter().enumerate() {
            match fate {
                Some(gate) => counts[gate][side] += 1,
                None => passed[side] += 1,
            }
        }
        if let [was, is] = fates
            && was.is_some() != is.is_some()
        {
            let name = |gate: Option<usize>| gate.map(|gate| names[gate].to_owned());
            let deciding = name(was.or(is)).unwrap_or_default();
            flips.push(Flip {
                id: table::cell(row, columns::ID).unwrap_or_default(),
                before: name(was),
                after: name(is),
                score: row.get(&deciding).and_then(serde_json::Value::as_f64),
            });
        }
    }
    let gates = names.iter().enumerate().map(|(at, name)| GateChange {
        gate: (*name).to_owned(),
        before: before[at],
        after: after[at],
        rejected_before: counts[at][0],
        rejected_after: counts[at][1],
    });
    Ok(Explored {
        rows: scores.len(),
        passed_before: passed[0],
        passed_after: passed[1],
        gates: gates.collect(),
        flips,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::filter::GateCount;

    fn gate(name: &str, bounds: Bounds) -> GateCount {
        GateCount { gate: name.to_owned(), version: 1, bounds, rows_in: 0, rejected: 0, rows_out: 0 }
    }

    fn explored(changes: &[&str]) -> Result<Explored> {
        let length = Bounds { min: Some(1.0), max: Some(10.0) };
        let funnel = Funnel {
            rows_in: 3,
            rows_out: 1,
            gates: vec![
                gate("length", length),
                gate("loop", Bounds::at_most(0.3)),
                gate("judge", Bounds::at_least(3.5)),
            ],
        };
        let row = |id: &str, length: f64, share: f64, judge: Option<f64>| {
            json!({"id": id, "length": length, "loop": share, "judge": judge}).as_object().unwrap().clone()
        };
        let scores =
            [row("a", 5.0, 0.2, None), row("b", 5.0, 0.4, Some(4.0)), row("c", 12.0, 0.5, Some(3.0))];
        let changes: Vec<Change> = changes.iter().map(|change| change.parse()).collect::<Result<_>>()?;
        compare(&funnel, &scores, &changes)
    }

    #[test]
    fn other_bounds_tell_which_rows_flip() {
        let check = |changes: &[&str], passed: [usize; 2], flips: &[(&str, Option<&str>, Option<&str>)]| {
            let found = explored(changes).unwrap();
            assert_eq!([found.passed_before, found.passed_after], passed, "{changes:?}");
            let found: Vec<_> = found
                .flips
                .iter()
                .map(|flip| (flip.id.as_str(), flip.before.as_deref(), flip.after.as_deref()))
                .collect();
            assert_eq!(found, flips, "{changes:?}");
        };
        check(&[], [1, 1], &[]);
        check(&["loop=0.4"], [1, 2], &[("b", Some("loop"), None)]);
        check(&["loop=0.1"], [1, 0], &[("a", None, Some("loop"))]);
        check(&["length.max=20"], [1, 1], &[]);
        check(
            &["length.max=20", "loop=1", "judge=3"],
            [1, 3],
            &[("b", Some("loop"), None), ("c", Some("length"), None)],
        );
        check(&["length.min=6"], [1, 0], &[("a", None, Some("length"))]);
        let gates = explored(&["length.max=20"]).unwrap().gates;
        assert_eq!([gates[1].rejected_before, gates[1].rejected_after], [1, 2]);
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        let check = |change: &str, expected: &str| {
            let error = explored(&[change]).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check("lop=0.3", "`lop`: no such gate was asked; there are: length, loop, judge");
        check("length=3", "two bounds");
        check("loop", "GATE=NUMBER");
        check("loop=high", "GATE=NUMBER");
    }
}
