//! Which samples a report shows.

use std::collections::BTreeMap;

use nexa_core::artifact::Artifact;
use nexa_core::table::Tables;

use super::ReportConfig;
use crate::Result;
use crate::evaluation::{Judged, graded};

/// The positions of the samples to show, in the order of the file, and how many there are in all.
pub(super) fn positions(
    artifact: &Artifact,
    tables: &dyn Tables,
    config: &ReportConfig,
) -> Result<(Vec<usize>, usize)> {
    let mut tasks: BTreeMap<String, Vec<(usize, Judged)>> = BTreeMap::new();
    let mut documents = 0;
    graded(artifact, tables, &mut |position, task, judged| {
        documents += 1;
        tasks.entry(task.to_owned()).or_default().push((position, judged));
    })?;
    let tasks = tasks.into_values().map(|documents| drawn(documents, config.seed)).collect::<Vec<_>>();
    let mut chosen = in_turn(&tasks, config.samples);
    chosen.sort_unstable();
    Ok((chosen, documents))
}

/// The documents of a task: wrong ones before ungraded and right ones, each in an order that the seed draws.
fn drawn(mut documents: Vec<(usize, Judged)>, seed: u64) -> Vec<usize> {
    let weight = |judged: Judged| match judged {
        Judged::Wrong => 0,
        Judged::Ungraded => 1,
        Judged::Right => 2,
    };
    documents.sort_by_cached_key(|(position, judged)| {
        let draw = blake3::hash(&[seed.to_le_bytes(), (*position as u64).to_le_bytes()].concat());
        (weight(*judged), *draw.as_bytes())
    });
    documents.into_iter().map(|(position, _)| position).collect()
}

/// One document of each task after the other, until there are enough.
fn in_turn(tasks: &[Vec<usize>], most: usize) -> Vec<usize> {
    let rounds = tasks.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..rounds).flat_map(|round| tasks.iter().filter_map(move |documents| documents.get(round)));
    turns.take(most).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_ones_come_first_and_the_seed_draws_among_them() {
        let judged = |at: usize| if at.is_multiple_of(2) { Judged::Wrong } else { Judged::Right };
        let documents: Vec<_> = (0..40).map(|at| (at, judged(at))).collect();
        let one = drawn(documents.clone(), 1);
        assert!(one[..20].iter().all(|at| at % 2 == 0) && one[20..].iter().all(|at| at % 2 == 1), "{one:?}");
        assert_eq!(one, drawn(documents.clone(), 1));
        assert_ne!(one, drawn(documents, 2));
    }

    #[test]
    fn every_task_has_its_turn() {
        let tasks = [vec![1, 2, 3, 4], vec![9], vec![7, 8]];
        assert_eq!(in_turn(&tasks, 5), [1, 9, 7, 2, 8]);
        assert_eq!(in_turn(&tasks, 99).len(), 7);
        assert!(in_turn(&tasks, 0).is_empty() && in_turn(&[], 3).is_empty());
    }
}
