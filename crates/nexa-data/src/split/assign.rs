//! Which side a group goes to: a draw by its name and the seed, so that neither the order of rows nor that of groups
//! plays a part.

use std::collections::BTreeMap;

use nexa_core::draw;
use nexa_core::split::Split as Side;

use super::Config;

/// Rows that stand on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// What it is drawn by.
    pub(super) name: String,
    pub(super) rows: u64,
    /// The value by which it is spread, where that is asked for: the first of those of its rows.
    pub(super) stratum: Option<String>,
}

/// Assigns every group.
pub(super) fn assign(config: &Config, groups: &[Group]) -> Vec<Side> {
    let draws: Vec<f64> =
        groups.iter().map(|group| draw::unit(config.seed, &["split", &group.name])).collect();
    if config.stratify_column.is_none() {
        return draws.iter().map(|draw| side(config, *draw)).collect();
    }
    let mut strata: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (number, group) in groups.iter().enumerate() {
        strata.entry(group.stratum.as_deref()).or_default().push(number);
    }
    let mut sides = vec![Side::Train; groups.len()];
    for mut stratum in strata.into_values() {
        stratum.sort_by(|&a, &b| draws[a].total_cmp(&draws[b]).then(groups[a].name.cmp(&groups[b].name)));
        let rows = stratum.iter().map(|&group| groups[group].rows).sum::<u64>() as f64;
        let mut before = 0;
        for group in stratum {
            // The middle of a group decides: one that reaches over a border goes where most of it lies.
            let middle = (before as f64 + groups[group].rows as f64 / 2.0) / rows;
            sides[group] = side(config, middle);
            before += groups[group].rows;
        }
    }
    sides
}

/// The side of a place in `[0, 1)`.
fn side(config: &Config, place: f64) -> Side {
    if place < config.test_share {
        Side::Test
    } else if place < config.test_share + config.validation_share {
        Side::Validation
    } else {
        Side::Train
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(count: usize) -> Vec<Group> {
        let group = |n: usize| Group {
            name: format!("g{n}"),
            rows: 1 + n as u64 % 3,
            stratum: Some(if n.is_multiple_of(10) { "rare" } else { "common" }.to_owned()),
        };
        (0..count).map(group).collect()
    }

    fn share(groups: &[Group], sides: &[Side], side: Side, stratum: &str) -> f64 {
        let rows = |is: &dyn Fn(usize) -> bool| {
            let of = (0..groups.len()).filter(|&n| groups[n].stratum.as_deref() == Some(stratum) && is(n));
            of.map(|n| groups[n].rows).sum::<u64>() as f64
        };
        rows(&|n| sides[n] == side) / rows(&|_| true)
    }

    #[test]
    fn shares_are_kept_and_with_strata_in_each_of_them() {
        let groups = groups(2_000);
        let check = |stratify: bool, tolerance: f64| {
            let stratify_column = stratify.then(|| "s".to_owned());
            let config =
                Config { test_share: 0.2, validation_share: 0.1, stratify_column, ..Config::default() };
            let sides = assign(&config, &groups);
            for stratum in ["rare", "common"] {
                for (side, expected) in [(Side::Test, 0.2), (Side::Validation, 0.1), (Side::Train, 0.7)] {
                    let found = share(&groups, &sides, side, stratum);
                    assert!((found - expected).abs() < tolerance, "{side:?} of {stratum}: {found}");
                }
            }
        };
        check(false, 0.1);
        check(true, 0.01);
    }

    #[test]
    fn a_group_keeps_its_side_when_others_come_and_another_seed_moves_it() {
        let all = groups(1_000);
        let config = Config { test_share: 0.3, ..Config::default() };
        let sides = assign(&config, &all);
        assert_eq!(assign(&config, &all[500..]), sides[500..]);
        assert_ne!(assign(&Config { seed: 1, ..config }, &all), sides);
    }
}
