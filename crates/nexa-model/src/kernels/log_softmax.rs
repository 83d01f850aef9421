//! The output layer together with the softmax behind it, for when the probabilities of a few tokens are all that is
//! wanted: logits exist for a few rows and columns at a time and never leave the nearest cache.
//!
//! The softmax of a row is put together from pieces of [`COLUMNS`] columns, always in the same order, so it does not
//! depend on which rows are computed together or by whom.
//!
//! Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, for the pieces.

use super::panel::{LeftStrip, PackedLinear, ROWS, RightPanel, multiply_strips};
use super::simd::{self, Features, LANES, vectorised};
use super::team;

/// Columns of a piece, a multiple of the width of two panels.
const COLUMNS: usize = 256;

/// What turns a row of logits into probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LogSoftmax {
    largest: f32,
    /// The logarithm of the sum of `e^(x - largest)`.
    log_total: f64,
}

impl LogSoftmax {
    /// Sums a row.
    pub(crate) fn of(logits: &[f32]) -> Self {
        let pieces: Vec<Piece> = logits.chunks(COLUMNS).map(piece).collect();
        Self::of_pieces(pieces.iter().copied())
    }

    fn of_pieces(pieces: impl Iterator<Item = Piece> + Clone) -> Self {
        let largest = pieces.clone().map(|piece| piece.largest).fold(f32::NEG_INFINITY, f32::max);
        let scaled = |piece: Piece| f64::from(piece.total) * f64::from(piece.largest - largest).exp();
        Self { largest, log_total: pieces.map(scaled).sum::<f64>().ln() }
    }

    /// The logarithm of the probability of a token with such a logit, in nats.
    pub(crate) fn logprob_nats(&self, logit: f32) -> f32 {
        (f64::from(logit - self.largest) - self.log_total) as f32
    }

    /// Whether no token is more probable than one with such a logit.
    pub(crate) fn is_largest(&self, logit: f32) -> bool {
        logit >= self.largest
    }
}

/// The softmax of a row with the logits that were asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RatedRow {
    pub(crate) softmax: LogSoftmax,
    /// One for each column that was asked for.
    pub(crate) logits: Vec<f32>,
}

/// Some columns of a row.
#[derive(Debug, Clone, Copy)]
struct Piece {
    largest: f32,
    /// The sum of `e^(x - largest)`.
    total: f32,
}

vectorised! {
    fn piece(logits: &[f32]) -> Piece {
        piece_of(logits)
    }
}

#[inline(always)]
fn piece_of(logits: &[f32]) -> Piece {
    let largest = simd::max(logits);
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += simd::exp(chunk[lane] - largest);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += simd::exp(value - largest);
    }
    Piece { largest, total: simd::sum_lanes(lanes) }
}

/// A logit that is asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    row: usize,
    column: usize,
    /// Which of the row's.
    place: usize,
}

/// The same columns of all rows.
#[derive(Debug, Default)]
struct Part {
    /// One for each row.
    pieces: Vec<Piece>,
    logits: Vec<(Asked, f32)>,
}

/// Columns to be computed.
struct Columns<'a> {
    strips: &'a [LeftStrip],
    rows: usize,
    panels: &'a [RightPanel],
    inputs: usize,
    first: usize,
    count: usize,
    /// By row.
    asked: Vec<Asked>,
}

/// Computes the softmax of every row of `rows x weight^T`, and the logits of the columns that are asked for in each.
///
/// # Shapes
/// `rows` is `[n, inputs]`, `asked` has `n` lists of columns.
pub(crate) fn rate(weight: &PackedLinear, rows: &[f32], asked: &[Vec<u32>]) -> Vec<RatedRow> {
    let [outputs, inputs] = weight.shape();
    let strips = weight.strips(rows);
    let of_row = |(row, columns): (usize, &Vec<u32>)| {
        let column = move |(place, &column): (usize, &u32)| Asked { row, column: column as usize, place };
        columns.iter().enumerate().map(column).collect::<Vec<_>>()
    };
    let all: Vec<Asked> = asked.iter().enumerate().flat_map(of_row).collect();
    let mut parts: Vec<Part> = Vec::new();
    parts.resize_with(outputs.div_ceil(COLUMNS), Part::default);
    team::tasks(parts.iter_mut(), |index, part| {
        let first = index * COLUMNS;
        let count = COLUMNS.min(outputs - first);
        let panels = &weight.panels()[first / LANES * inputs..][..count.div_ceil(LANES) * inputs];
        let is_own = |asked: &&Asked| (first..first + count).contains(&asked.column);
        let asked = all.iter().filter(is_own).copied().collect();
        let columns =
            Columns { strips: &strips, rows: rows.len() / inputs, panels, inputs, first, count, asked };
        columns.run(part);
    });
    let rated = |(row, asked): (usize, &Vec<u32>)| RatedRow {
        softmax: LogSoftmax::of_pieces(parts.iter().map(|part| part.pieces[row])),
        logits: vec![0.0; asked.len()],
    };
    let mut found: Vec<RatedRow> = asked.iter().enumerate().map(rated).collect();
    for (asked, logit) in parts.iter().flat_map(|part| &part.logits) {
        found[asked.row].logits[asked.place] = *logit;
    }
    found
}

/// As [`rate`], of logits that are there.
///
/// # Shapes
/// `logits` is `[n, outputs]`.
pub(crate) fn rate_logits(logits: &[f32], asked: &[Vec<u32>]) -> Vec<RatedRow> {
    let outputs = logits.len() / asked.len().max(1);
    let mut found: Vec<Option<RatedRow>> = vec![None; asked.len()];
    let rows = logits.chunks_exact(outputs.max(1)).zip(asked).zip(&mut found);
    team::tasks(rows, |_, ((logits, asked), found)| {
        let own = asked.iter().map(|&column| logits[column as usize]).collect();
        *found = Some(RatedRow { softmax: LogSoftmax::of(logits), logits: own });
    });
    found.into_iter().flatten().collect()
}

impl Columns<'_> {
    fn run(&self, part: &mut Part) {
        if Features::detect() == Features::Avx512 {
            columns_in_pairs(self, part);
        } else {
            columns(self, part);
        }
    }

    #[inline(always)]
    fn run_by<const IN_PAIRS: bool>(&self, part: &mut Part) {
        let mut logits = [0.0; ROWS * COLUMNS];
        let logits = &mut logits[..ROWS * self.count];
        let mut asked = self.asked.iter().peekable();
        for (strip, first) in self.strips.chunks_exact(self.inputs).zip((0..).step_by(ROWS)) {
            multiply_strips::<ROWS, IN_PAIRS>(strip, self.panels, self.inputs, self.count, logits);
            // A loop, and no closure: that would be compiled apart, for the baseline alone.
            for row in logits.chunks_exact(self.count).take(self.rows - first) {
                part.pieces.push(piece_of(row));
            }
            while let Some(&asked) = asked.next_if(|asked| asked.row < first + ROWS) {
                let place = (asked.row - first) * self.count + asked.column - self.first;
                part.logits.push((asked, logits[place]));
            }
        }
    }
}

vectorised! {
    fn columns(columns: &Columns<'_>, part: &mut Part) {
        columns.run_by::<false>(part);
    }
}

vectorised! {
    fn columns_in_pairs(columns: &Columns<'_>, part: &mut Part) {
        columns.run_by::<true>(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rating_is_the_logarithm_of_the_softmax() {
        let logits: Vec<f32> = (0..5000).map(|at| ((at * 37) % 101) as f32 / 7.0).collect();
        let exact = |at: usize| {
            let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            f64::from(logits[at]) - total.ln()
        };
        let softmax = LogSoftmax::of(&logits);
        for at in [0, 100, 4999] {
            let found = f64::from(softmax.logprob_nats(logits[at]));
            assert!((found - exact(at)).abs() < 2e-6, "{found} for {}", exact(at));
        }
        assert!(softmax.is_largest(100.0 / 7.0) && !softmax.is_largest(logits[0]));
    }

    #[test]
    fn it_is_that_of_the_stored_logits_whatever_is_computed_together() {
        let numbers = |count: usize, step: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * step % 97) as f32 - 48.0) / 20.0).collect()
        };
        let (inputs, count) = (24, 15);
        for outputs in [5, 256, 300, 555] {
            let weight = PackedLinear::new(&numbers(outputs * inputs, 31), outputs, inputs);
            let rows = numbers(count * inputs, 17);
            let asked: Vec<Vec<u32>> = (0..count)
                .map(|row| (0..row % 4).map(|place| ((row * 71 + place * 263) % outputs) as u32).collect())
                .collect();
            let expected = rate_logits(&weight.forward(&rows), &asked);
            assert_eq!(rate(&weight, &rows, &asked), expected);
            for (row, expected) in expected.iter().enumerate() {
                let alone = rate(&weight, &rows[row * inputs..][..inputs], &asked[row..=row]);
                assert_eq!(alone, std::slice::from_ref(expected));
            }
        }
    }
}
