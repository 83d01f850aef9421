//! How fast the gates are: the texts of a table, held in memory, through the whole chain on one thread.

use std::path::Path;
use std::time::Instant;

use nexa_core::table::Row;
use serde::Serialize;

use super::chain::{Chain, Config};
use super::gates::Scratch;
use super::normalise::Normalise;
use super::rows;
use super::thresholds::{Judge, Thresholds};
use crate::Result;
use crate::tables::Records;

/// What a measurement came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// Bytes of all texts.
    pub bytes: u64,
    /// Seconds of the thread's processor for measuring and judging all of them, the median of the rounds; of the clock
    /// where the system does not tell.
    pub seconds: f64,
    /// Why each text was rejected, `gate.rule`; null where it is kept.
    pub verdicts: Vec<Option<String>>,
}

/// Rounds of which the median is taken.
const ROUNDS: usize = 3;

/// Measures `gopher@1`, `c4@1` and `fineweb@1`, at the published thresholds and without normalisation, on the texts of a
/// table.
///
/// # Errors
/// Fails with the place when the table cannot be read or has no texts.
pub fn bench(table: &Path) -> Result<Measurement> {
    let config = Config { normalise: Normalise::NOTHING, detect_language: false, ..Config::default() };
    let chain = Chain::new(&config, "bench")?;
    let judge = Judge::new(&chain, &Thresholds::default(), "bench")?;
    let texts =
        Records::open(table)?.rows().map(|row| text(&row?, table)).collect::<Result<Vec<String>>>()?;
    let mut scratch = Scratch::default();
    let mut verdicts = Vec::new();
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        verdicts.clear();
        let started = (Instant::now(), processor_seconds());
        for text in &texts {
            let measured = chain.measure(text, &mut scratch);
            let rejection = judge.verdict(None, &measured.scores);
            verdicts.push(rejection.map(|found| format!("{}.{}", found.gate, found.rule)));
        }
        seconds.push(match (started.1, processor_seconds()) {
            (Some(before), Some(after)) => after - before,
            _ => started.0.elapsed().as_secs_f64(),
        });
    }
    seconds.sort_by(f64::total_cmp);
    let bytes = texts.iter().map(|text| text.len() as u64).sum();
    Ok(Measurement { bytes, seconds: seconds[ROUNDS / 2], verdicts })
}

fn text(row: &Row, table: &Path) -> Result<String> {
    let column = rows::text_column(row, None, table)?;
    Ok(rows::text(row, column, table)?.into_owned())
}

/// What the thread has used of its processor, which others on the machine do not add to.
fn processor_seconds() -> Option<f64> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = told.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}
