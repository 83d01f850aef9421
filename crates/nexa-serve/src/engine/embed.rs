//! Texts as vectors: what the model holds after reading them.

use std::time::Instant;

use nexa_core::lm;
use tokio::sync::mpsc;

use super::Engine;
use super::answer::Sink;
use super::queue::EmbedJob;
use crate::Error;

impl Engine {
    /// Gives the mean of the last hidden states of every sequence, in their order. They are computed one by one, in parts
    /// between the steps of the answers being written; dropping the future takes back what is not done.
    ///
    /// # Errors
    /// Fails when the engine is full or shutting down, a sequence is empty or longer than the context, or the model gives
    /// no hidden states.
    pub async fn embed(&self, sequences: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, Error> {
        for token_ids in &sequences {
            self.check_embedded(token_ids)?;
        }
        let (sender, mut results) = mpsc::unbounded_channel();
        let mut vectors: Vec<Option<Vec<f32>>> = vec![None; sequences.len()];
        let arrived = Instant::now();
        let jobs = sequences.into_iter().enumerate().map(|(position, token_ids)| EmbedJob {
            token_ids,
            sink: Sink::new(position, &sender),
            arrived,
        });
        self.queue().push_embedding(jobs.collect())?;
        drop(sender);
        while let Some((position, result)) = results.recv().await {
            vectors[position] = Some(result?);
        }
        let vectors: Option<Vec<Vec<f32>>> = vectors.into_iter().collect();
        vectors.ok_or_else(|| self.queue().why_stopped().into())
    }

    fn check_embedded(&self, token_ids: &[u32]) -> Result<(), lm::Error> {
        let (tokens, context_length) = (token_ids.len(), self.info().context_length);
        if tokens == 0 {
            return Err(lm::Error::Invalid("nothing to embed: the text has no token".to_owned()));
        }
        self.check_ids(token_ids)?;
        if tokens > context_length { Err(lm::Error::TooLong { tokens, context_length }) } else { Ok(()) }
    }
}
