//! What one training pass works on.

use std::sync::Arc;

/// Sequences to train on, end to end.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(super) token_ids: Arc<[u32]>,
    /// Where each sequence begins, and where the last one ends.
    pub(super) offsets: Arc<[usize]>,
    /// The rows after which a token is to be predicted.
    pub(super) rows: Arc<[u32]>,
    /// These tokens.
    pub(super) targets: Arc<[u32]>,
    pub(super) noise: u64,
}

impl Batch {
    /// Lays sequences end to end. Where `trained[i]` holds, token `i` is to be predicted from those before it.
    ///
    /// # Panics
    /// Panics when a sequence and its mask differ in length.
    pub fn new<'a>(sequences: impl IntoIterator<Item = (&'a [u32], &'a [bool])>) -> Self {
        let (mut token_ids, mut offsets, mut rows, mut targets) =
            (Vec::new(), vec![0], Vec::new(), Vec::new());
        for (tokens, trained) in sequences {
            assert_eq!(tokens.len(), trained.len(), "one mark for each token");
            for position in 1..tokens.len() {
                if trained[position] {
                    rows.push((token_ids.len() + position - 1) as u32);
                    targets.push(tokens[position]);
                }
            }
            token_ids.extend_from_slice(tokens);
            offsets.push(token_ids.len());
        }
        Self {
            token_ids: token_ids.into(),
            offsets: offsets.into(),
            rows: rows.into(),
            targets: targets.into(),
            noise: 0,
        }
    }

    /// Sets the key of what is random in a training pass over the batch: the same key gives the same bits.
    #[must_use]
    pub fn with_noise(self, key: u64) -> Self {
        Self { noise: key, ..self }
    }

    /// Counts the tokens.
    pub fn tokens(&self) -> usize {
        self.token_ids.len()
    }

    /// Counts the tokens that carry loss.
    pub fn trained_tokens(&self) -> usize {
        self.targets.len()
    }
}
