//! One text that is embedded: as much of it as the model has read.

use std::time::Instant;

use nexa_core::lm::SequenceId;

use super::Usage;
use super::metrics::{Metrics, Times};
use super::queue::EmbedJob;

/// A text on its way through the model, which reads it in parts.
#[derive(Debug)]
pub(super) struct Embedding {
    pub(super) job: EmbedJob,
    /// The model's name for it, while it holds memory.
    pub(super) sequence: Option<SequenceId>,
    pub(super) times: Times,
    /// Whether there was no memory for it.
    waits: bool,
    /// How many of the tokens the model has seen.
    read: usize,
    /// The hidden states so far, summed in double precision.
    sums: Vec<f64>,
}

impl Embedding {
    pub(super) fn new(job: EmbedJob) -> Self {
        let times = Times::new(job.arrived);
        Self { job, sequence: None, times, waits: false, read: 0, sums: Vec::new() }
    }

    /// The tokens that the model reads next, at most so many.
    pub(super) fn pending(&self, most: usize) -> &[u32] {
        let end = self.job.token_ids.len().min(self.read.saturating_add(most));
        &self.job.token_ids[self.read..end]
    }

    /// Whether it holds memory.
    pub(super) fn is_running(&self) -> bool {
        self.sequence.is_some()
    }

    /// Whether it waits for memory, and came before whoever arrived then.
    pub(super) fn waits_before(&self, arrived: Instant) -> bool {
        self.waits && self.job.arrived < arrived
    }

    /// Notes whether there is memory for it.
    pub(super) fn begin(&mut self, sequence: Option<SequenceId>, metrics: &Metrics) {
        self.sequence = sequence;
        self.waits = sequence.is_none();
        if self.is_running() {
            self.times.scheduled(metrics);
        }
    }

    /// Forgets what was read, and gives back its memory.
    pub(super) fn start_over(&mut self) -> Option<SequenceId> {
        self.read = 0;
        self.sums.clear();
        self.waits = true;
        self.sequence.take()
    }

    /// Notes that all is read.
    pub(super) fn end(&mut self) {
        let now = Some(Instant::now());
        (self.times.first_token, self.times.last_token) = (now, now);
    }

    /// Adds the hidden states after the next tokens, and gives the mean of all once the text is read.
    ///
    /// # Errors
    /// Says how many numbers the model returned where they are no rows of one width.
    pub(super) fn add(&mut self, tokens: usize, states: &[f32]) -> Result<Option<Vec<f32>>, String> {
        let width = states.len() / tokens.max(1);
        let fits = width > 0 && states.len() == width * tokens && [0, width].contains(&self.sums.len());
        if !fits {
            return Err(format!("returned {} numbers as the hidden states of {tokens} tokens", states.len()));
        }
        self.sums.resize(width, 0.0);
        for row in states.chunks_exact(width) {
            for (sum, &number) in self.sums.iter_mut().zip(row) {
                *sum += f64::from(number);
            }
        }
        self.read += tokens;
        let count = self.job.token_ids.len();
        let mean = || self.sums.iter().map(|sum| (sum / count as f64) as f32).collect();
        Ok((self.read >= count).then(mean))
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { prompt_tokens: self.job.token_ids.len(), ..Usage::default() }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::answer::Sink;
    use super::*;

    #[test]
    fn the_mean_does_not_depend_on_the_parts() {
        let (sender, _results) = mpsc::unbounded_channel();
        let states: Vec<f32> = (0..10).map(|at| at as f32 * 0.3).collect();
        let mean = |most: usize| {
            let sink = Sink::new(0, &sender);
            let job = EmbedJob { token_ids: vec![1, 2, 3, 4, 5], sink, arrived: Instant::now() };
            let mut embedding = Embedding::new(job);
            assert_eq!(embedding.add(1, &states[..2]).unwrap(), None);
            embedding.start_over();
            let mut rest = states.as_slice();
            loop {
                let tokens = embedding.pending(most).len();
                let (own, tail) = rest.split_at(2 * tokens);
                rest = tail;
                if let Some(mean) = embedding.add(tokens, own).unwrap() {
                    assert!(rest.is_empty());
                    return mean;
                }
            }
        };
        let whole = mean(5);
        assert!((whole[0] - 1.2).abs() < 1e-6 && (whole[1] - 1.5).abs() < 1e-6, "{whole:?}");
        assert_eq!([mean(1), mean(2), mean(usize::MAX)], [whole.clone(), whole.clone(), whole]);
    }

    #[test]
    fn rows_of_another_width_are_refused() {
        let (sender, _results) = mpsc::unbounded_channel();
        let sink = Sink::new(0, &sender);
        let job = EmbedJob { token_ids: vec![1, 2, 3, 4], sink, arrived: Instant::now() };
        let mut embedding = Embedding::new(job);
        assert!(embedding.add(2, &[]).is_err());
        assert!(embedding.add(2, &[0.0; 3]).is_err());
        assert_eq!(embedding.add(2, &[0.0; 4]).unwrap(), None);
        assert_eq!(
            embedding.add(1, &[0.0; 3]).unwrap_err(),
            "returned 3 numbers as the hidden states of 1 tokens"
        );
    }
}
