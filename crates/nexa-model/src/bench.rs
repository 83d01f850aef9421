//! How fast a model reads and writes, and how fast this machine reads memory: the limit of writing.

use std::hint::black_box;
use std::time::Instant;

use nexa_core::lm::{Error, Feed, LanguageModel};
use rayon::prelude::*;
use serde::Serialize;

use crate::LocalModel;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// Tokens of every prompt.
    pub prompt_tokens: usize,
    /// Tokens that are written after it.
    pub new_tokens: usize,
    /// Sequences that are written at the same time.
    pub streams: usize,
    /// How often all is measured; the medians count.
    pub repeats: usize,
}

/// What it came to. Rates are medians.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decoded {
    /// Tokens of prompts read in a second, all streams together.
    pub prefill_tokens_per_s: f64,
    /// Tokens written in a second, all streams together.
    pub decode_tokens_per_s: f64,
    /// Bytes that all cores together read from memory in a second.
    pub read_bytes_per_s: f64,
    /// Bytes of weights that a step reads.
    pub weight_bytes: u64,
    /// Steps of a second, as a share of those in which the weights could be read.
    pub share_of_memory_limit: f64,
}

/// Measures a model.
///
/// # Errors
/// Fails when the prompts with their answers are longer than the context, or there is no memory for them.
pub fn decoding(model: &mut LocalModel, bench: Decoding) -> Result<Decoded, Error> {
    let vocab = model.tokenizer().vocab_size();
    let (mut prefill, mut decode, mut read) = (Vec::new(), Vec::new(), Vec::new());
    // The first round pages weights in and counts for nothing.
    for round in 0..=bench.repeats {
        read.push(read_bytes_per_s());
        let token = |stream: usize, at: usize| ((stream * 31 + at * 7919 + round * 104_729) % vocab) as u32;
        let prompts: Vec<Vec<u32>> = (0..bench.streams)
            .map(|stream| (0..bench.prompt_tokens).map(|at| token(stream, at)).collect())
            .collect();
        let opened: Vec<_> = prompts.iter().map(|_| model.open(&[]).sequence).collect();
        let started = Instant::now();
        for (&sequence, prompt) in opened.iter().zip(&prompts) {
            model.step(&[Feed::new(sequence, prompt)])?;
        }
        let read_seconds = started.elapsed().as_secs_f64();
        let started = Instant::now();
        for at in 0..bench.new_tokens {
            let next: Vec<[u32; 1]> = (0..bench.streams).map(|stream| [token(stream, at)]).collect();
            let feeds: Vec<_> = opened.iter().zip(&next).map(|(&id, next)| Feed::new(id, next)).collect();
            model.step(&feeds)?;
        }
        let write_seconds = started.elapsed().as_secs_f64();
        opened.into_iter().for_each(|sequence| model.close(sequence));
        if round > 0 {
            prefill.push((bench.streams * bench.prompt_tokens) as f64 / read_seconds);
            decode.push((bench.streams * bench.new_tokens) as f64 / write_seconds);
        }
    }
    let weight_bytes = model.info().weight_bytes;
    let (decode_tokens_per_s, read_bytes_per_s) = (median(&mut decode), median(&mut read));
    let steps_per_s = decode_tokens_per_s / bench.streams as f64;
    Ok(Decoded {
        prefill_tokens_per_s: median(&mut prefill),
        decode_tokens_per_s,
        read_bytes_per_s,
        weight_bytes,
        share_of_memory_limit: steps_per_s * weight_bytes as f64 / read_bytes_per_s,
    })
}

/// Reads more memory than any cache holds, with all cores.
fn read_bytes_per_s() -> f64 {
    /// Numbers of 8 bytes: half a gigabyte.
    const COUNT: usize = 1 << 26;
    const PER_TASK: usize = 1 << 20;

    let numbers = vec![1_u64; COUNT];
    let started = Instant::now();
    let sum: u64 =
        numbers.par_chunks(PER_TASK).map(|part| part.iter().fold(0, |a: u64, &b| a.wrapping_add(b))).sum();
    black_box(sum);
    (COUNT * size_of::<u64>()) as f64 / started.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
