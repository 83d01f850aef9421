//! Between which ranks a checkpoint may lie.
//!
//! Every pair is tested, and the p-values are corrected together: with 95% confidence, all true ranks lie in their ranges
//! at once. A checkpoint ranks behind those that are shown to be better than it, and before those that are shown worse.
//!
//! # Source
//! D. Mohamad, J. Goeman and E. van Zwet, "Simultaneous confidence intervals for ranks", Statistics in Medicine 41 (2022):
//! ranges of ranks from tests of all pairs that keep the error of the family.

use serde::{Deserialize, Serialize};

use crate::compare::documents::Documents;
use crate::statistics::{CONFIDENCE, holm};

/// The best and the worst rank that tests leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankRange {
    /// 1 + the number of checkpoints that are shown to be better.
    pub best: usize,
    /// The number of checkpoints that are not shown to be worse, itself among them.
    pub worst: usize,
}

/// The ranges of checkpoints that are sorted, best first; none for one whose documents have no values of their own.
pub(super) fn ranges(sorted: &[Option<Documents>]) -> Vec<Option<RankRange>> {
    let mut pairs = Vec::new();
    for (above, a) in sorted.iter().enumerate() {
        for (below, b) in sorted.iter().enumerate().skip(above + 1) {
            if let Some(p) = a.as_ref().zip(b.as_ref()).and_then(|(a, b)| a.p_value(b)) {
                pairs.push((above, below, p));
            }
        }
    }
    let adjusted = holm(&pairs.iter().map(|(_, _, p)| *p).collect::<Vec<_>>());
    let mut ranges: Vec<_> = sorted
        .iter()
        .map(|one| one.is_some().then_some(RankRange { best: 1, worst: sorted.len() }))
        .collect();
    for ((above, below, _), p) in pairs.into_iter().zip(adjusted) {
        if p < 1.0 - CONFIDENCE {
            if let Some(range) = &mut ranges[below] {
                range.best += 1;
            }
            if let Some(range) = &mut ranges[above] {
                range.worst -= 1;
            }
        }
    }
    ranges
}
