//! Where the time of the decoder goes: seconds of each kind of operation since the process began.
//!
//! Operations of one thread follow each other, so for a decoder that is used by one thread the parts add up to nearly
//! its time; where several threads use it, each adds its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A kind of operation, forward and backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Products with the weights of blocks.
    Linear,
    /// Attention.
    Attention,
    /// Normalisations.
    Norm,
    /// The gated activation.
    Activation,
    /// The output layer with the loss.
    Head,
    /// Corrections by adapters.
    Adapter,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 6] =
        [Self::Linear, Self::Attention, Self::Norm, Self::Activation, Self::Head, Self::Adapter];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Attention => "attention",
            Self::Norm => "norm",
            Self::Activation => "activation",
            Self::Head => "head",
            Self::Adapter => "adapter",
        }
    }
}

/// Nanoseconds, in the order of [`Part::ALL`].
static SPENT: [AtomicU64; Part::ALL.len()] = [const { AtomicU64::new(0) }; Part::ALL.len()];

/// Returns the seconds of every part, in the order of [`Part::ALL`].
pub fn seconds() -> [f64; Part::ALL.len()] {
    SPENT.each_ref().map(|spent| spent.load(Ordering::Relaxed) as f64 / 1e9)
}

/// Adds the time of some work to a part.
pub(crate) fn measure<R>(part: Part, work: impl FnOnce() -> R) -> R {
    let started = Instant::now();
    let result = work();
    let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    SPENT[part as usize].fetch_add(nanoseconds, Ordering::Relaxed);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_added_to_its_part_alone() {
        let before = seconds();
        let spin = || {
            let started = Instant::now();
            while started.elapsed().as_micros() < 200 {}
        };
        measure(Part::Adapter, spin);
        let after = seconds();
        assert!(after[Part::Adapter as usize] - before[Part::Adapter as usize] >= 2e-4);
    }
}
