//! Which side a row goes to.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use nexa_core::split::Split;

use super::Config;
use crate::{Error, Result, draw};

/// The sides of some rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    /// For each row, its side; `None` where its problem stands on a side that is held out more strictly.
    pub(super) splits: Vec<Option<Split>>,
    /// How many rows are left out for that.
    pub(super) leaked: usize,
}

/// Assigns every row, given its group and what the split column says of it.
pub(super) fn assign(
    config: &Config,
    groups: &[&str],
    asked: &[Option<&str>],
    place: &Path,
) -> Result<Assigned> {
    let wanted: Vec<Split> = match &config.split_column {
        // Rows may come from a data set that is split already.
        None => {
            let asked = asked.iter().map(|asked| asked.and_then(side));
            let groups = groups.iter().zip(asked.chain(std::iter::repeat(None)));
            groups.map(|(group, side)| side.unwrap_or_else(|| by_share(config, group))).collect()
        }
        Some(column) => {
            for value in config.test_values.iter().chain(&config.validation_values) {
                check_value(column, value, asked, place)?;
            }
            groups.iter().zip(asked).map(|(group, asked)| by_value(config, group, *asked)).collect()
        }
    };
    // By shares a group is on one side as a whole; by a column it may not be, and then the stricter side keeps it.
    let on = |split: Split| -> HashSet<&str> {
        groups.iter().zip(&wanted).filter(|(_, wanted)| **wanted == split).map(|(group, _)| *group).collect()
    };
    let (test, validation) = (on(Split::Test), on(Split::Validation));
    let splits: Vec<Option<Split>> = groups
        .iter()
        .zip(&wanted)
        .map(|(group, wanted)| {
            let leaks = match wanted {
                Split::Test => false,
                Split::Validation => test.contains(group),
                Split::Train => test.contains(group) || validation.contains(group),
            };
            (!leaks).then_some(*wanted)
        })
        .collect();
    let leaked = splits.iter().filter(|split| split.is_none()).count();
    Ok(Assigned { splits, leaked })
}

/// The side that a word names.
fn side(word: &str) -> Option<Split> {
    Split::ALL.into_iter().find(|side| side.as_str() == word)
}

fn by_share(config: &Config, group: &str) -> Split {
    let draw = draw::unit(config.seed, &["split", group]);
    if draw < config.test_share {
        Split::Test
    } else if draw < config.test_share + config.validation_share {
        Split::Validation
    } else {
        Split::Train
    }
}

fn by_value(config: &Config, group: &str, asked: Option<&str>) -> Split {
    let is_one_of =
        |values: &[String]| asked.is_some_and(|asked| values.iter().any(|value| names(asked, value)));
    // Where no value makes a validation row, a share of what is left does.
    let is_validation = if config.validation_values.is_empty() {
        draw::unit(config.seed, &["split", group]) < config.validation_share
    } else {
        is_one_of(&config.validation_values)
    };
    if is_one_of(&config.test_values) {
        Split::Test
    } else if is_validation {
        Split::Validation
    } else {
        Split::Train
    }
}

/// Whether a value is the one named, as it stands or as the last part of a path.
fn names(found: &str, named: &str) -> bool {
    found == named || found.strip_suffix(named).is_some_and(|before| before.ends_with('/'))
}

fn check_value(column: &str, value: &str, asked: &[Option<&str>], place: &Path) -> Result<()> {
    const SHOWN: usize = 8;
    if asked.iter().flatten().any(|found| names(found, value)) {
        return Ok(());
    }
    let found: BTreeSet<_> = asked.iter().flatten().copied().collect();
    Err(Error::NoSuchSplit {
        place: place.to_owned(),
        column: column.to_owned(),
        value: value.to_owned(),
        found: found.into_iter().take(SHOWN).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_a_group_stays_together() {
        let groups: Vec<String> = (0..10_000).map(|n| (n / 2).to_string()).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let config = Config { test_share: 0.2, validation_share: 0.1, ..Config::default() };
        let assigned = assign(&config, &groups, &[], Path::new("data")).unwrap();
        let share = |split| assigned.splits.iter().filter(|s| **s == Some(split)).count() as f64 / 10_000.0;
        assert!((share(Split::Test) - 0.2).abs() < 0.02, "{}", share(Split::Test));
        assert!((share(Split::Validation) - 0.1).abs() < 0.02, "{}", share(Split::Validation));
        assert!(assigned.splits.chunks(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(assigned.leaked, 0);
    }

    #[test]
    fn rows_that_were_split_before_stay_where_they_are_and_no_group_is_on_two_sides() {
        let groups = ["a", "b", "c", "c", "d"];
        let asked = [Some("test"), Some("train"), Some("train"), Some("test"), Some("validation")];
        let config = Config { test_share: 1.0, validation_share: 0.0, ..Config::default() };
        let assigned = assign(&config, &groups, &asked, Path::new("data")).unwrap();
        let expected =
            [Some(Split::Test), Some(Split::Train), None, Some(Split::Test), Some(Split::Validation)];
        assert_eq!((assigned.splits.as_slice(), assigned.leaked), (expected.as_slice(), 1));
        // A word of another kind names no side, so shares decide.
        let assigned = assign(&config, &groups[..1], &[Some("left")], Path::new("data")).unwrap();
        assert_eq!(assigned.splits, [Some(Split::Test)]);
    }

    fn by_column(test: &[&str], validation: &[&str], share: f64) -> Config {
        let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        Config {
            split_column: Some("source_file".to_owned()),
            test_values: owned(test),
            validation_values: owned(validation),
            validation_share: share,
            ..Config::default()
        }
    }

    #[test]
    fn a_column_decides_and_what_is_held_out_elsewhere_leaks() {
        use Split::{Test, Train, Validation};
        let groups = ["a", "b", "a", "c", "b", "d"];
        let files =
            ["train.jsonl", "train.jsonl", "x/test.jsonl", "dev.jsonl", "dev.jsonl", "train.jsonl"].map(Some);
        let check = |config: Config, expected: [Option<Split>; 6], leaked: usize| {
            let found = assign(&config, &groups, &files, Path::new("data")).unwrap();
            assert_eq!(found, Assigned { splits: expected.to_vec(), leaked });
        };
        check(
            by_column(&["test.jsonl"], &["dev.jsonl"], 0.0),
            [None, None, Some(Test), Some(Validation), Some(Validation), Some(Train)],
            2,
        );
        check(
            by_column(&["test.jsonl"], &[], 0.0),
            [None, Some(Train), Some(Test), Some(Train), Some(Train), Some(Train)],
            1,
        );
    }

    #[test]
    fn a_value_that_no_row_has_is_an_error() {
        let config = by_column(&["tset.jsonl"], &[], 0.0);
        let error = assign(&config, &["a"], &[Some("test.jsonl")], Path::new("data")).unwrap_err();
        assert_eq!(error.to_string(), "data: no row has `source_file` = `tset.jsonl`");
        assert_eq!(nexa_core::Diagnose::hint(&error).unwrap(), "there are: test.jsonl");
    }
}
