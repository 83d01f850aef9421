//! Which prompts of a pool are nearest to the gaps, and how many of each.

use std::collections::BTreeSet;

use nexa_core::draw;

/// A prompt that may be asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    /// Its row in the pool.
    pub(super) row: usize,
    /// The gap that it is nearest to.
    pub(super) gap: usize,
    /// How near, at most 1.
    pub(super) similarity: f64,
}

/// Chooses at most `most` candidates: for each gap the nearest ones, in shares of `failures`; what one gap has not enough
/// candidates for goes to the others. The seed decides between equally near ones, of which `ids` are the names. The
/// first few of what comes out are of all gaps.
pub(super) fn choose(
    mut candidates: Vec<Candidate>,
    ids: &dyn Fn(usize) -> String,
    failures: &[usize],
    (most, seed): (usize, u64),
) -> Vec<Candidate> {
    candidates.sort_by_cached_key(|candidate| {
        // Similarities lie between 0 and 1, where the bits of floats are in their order.
        let distance = (1.0 - candidate.similarity).max(0.0).to_bits();
        (distance, draw::bits(seed, &["gap", &ids(candidate.row)]), candidate.row)
    });
    let mut of_gap: Vec<Vec<Candidate>> = vec![Vec::new(); failures.len()];
    for candidate in candidates {
        of_gap[candidate.gap].push(candidate);
    }
    let available: Vec<usize> = of_gap.iter().map(Vec::len).collect();
    for (gap, count) in of_gap.iter_mut().zip(quotas(failures, &available, most)) {
        gap.truncate(count);
    }
    let rounds = of_gap.iter().map(Vec::len).max().unwrap_or(0);
    (0..rounds).flat_map(|rank| of_gap.iter().filter_map(move |gap| gap.get(rank).cloned())).collect()
}

/// Divides `most` among gaps in shares of their failures, none more than it has candidates.
fn quotas(failures: &[usize], available: &[usize], most: usize) -> Vec<usize> {
    let mut quotas = vec![0; failures.len()];
    let mut open: BTreeSet<usize> = (0..failures.len()).filter(|&gap| available[gap] > 0).collect();
    let mut left = most;
    while left > 0 && !open.is_empty() {
        let all: usize = open.iter().map(|&gap| failures[gap]).sum();
        // At least one, so that every round comes nearer to the end.
        let share = |gap: usize| (left * failures[gap] / all.max(1)).max(1);
        let shares: Vec<(usize, usize)> = open.iter().map(|&gap| (gap, share(gap))).collect();
        for (gap, share) in shares {
            let given = share.min(available[gap] - quotas[gap]).min(left);
            quotas[gap] += given;
            left -= given;
            if quotas[gap] == available[gap] {
                open.remove(&gap);
            }
        }
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_shares_of_failures_and_nothing_is_given_twice() {
        let check = |failures: &[usize], available: &[usize], most: usize, expected: &[usize]| {
            assert_eq!(quotas(failures, available, most), expected);
        };
        check(&[30, 10], &[100, 100], 40, &[30, 10]);
        check(&[30, 10], &[5, 100], 40, &[5, 35]);
        check(&[30, 10], &[5, 3], 40, &[5, 3]);
        check(&[1, 1, 1], &[9, 9, 9], 10, &[4, 3, 3]);
        check(&[1, 1, 1], &[9, 9, 9], 2, &[1, 1, 0]);
        check(&[3], &[9], 0, &[0]);
        check(&[], &[], 5, &[]);
    }

    #[test]
    fn the_nearest_come_first_and_the_seed_decides_between_equals() {
        let pool: Vec<Candidate> = (0..40)
            .map(|row| Candidate { row, gap: row % 2, similarity: if row < 4 { 0.9 } else { 0.5 } })
            .collect();
        let rows = |most, seed| -> Vec<usize> {
            let chosen = choose(pool.clone(), &|row| row.to_string(), &[1, 1], (most, seed));
            chosen.iter().map(|candidate| candidate.row).collect()
        };
        let mut first = rows(4, 0);
        assert_eq!(first.iter().map(|row| row % 2).collect::<Vec<_>>(), [0, 1, 0, 1], "every gap in turn");
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!(rows(12, 1), rows(12, 1));
        assert_ne!(rows(12, 1), rows(12, 2));
    }
}
