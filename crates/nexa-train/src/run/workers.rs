//! The micro-batches of a step, several at a time.
//!
//! Splitting every operation over all cores means waiting for the slowest of them a hundred times a step. Where a
//! step has several micro-batches and the model is small, each worker computes whole ones instead, on its share of the
//! cores, and waits once. Gradients are added in the order of the micro-batches, and none depends on who computed it,
//! so the number of workers and of cores changes no bit.

use nexa_model::{Buffer, Decoder, Gradients};

use super::batches::MicroBatch;
use crate::Error;
use crate::model::Model;
use crate::objective::Objective;

/// Bytes of gradients up to which micro-batches are computed side by side: beyond, their memory costs more than the
/// waiting, and the operations are large enough to be split well.
const SMALL: usize = 64 << 20;

/// Threads that compute gradients side by side.
#[derive(Debug)]
pub(crate) struct Workers {
    pools: Vec<rayon::ThreadPool>,
}

/// The loss and the gradients of a whole step.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) loss: f64,
    pub(crate) gradients: Vec<Buffer>,
    /// Preferences that the model shares.
    pub(crate) shared_preferences: u64,
}

impl Workers {
    /// Prepares as many workers as there are cores and micro-batches for, one for a model that is not small.
    pub(crate) fn new(model: &Model, micro_batches: usize) -> Result<Self, Error> {
        let gradient_bytes = model.trained_count() * size_of::<f32>();
        let cores = rayon::current_num_threads();
        // An accelerator is one, however many wait for it.
        let is_alone = gradient_bytes > SMALL || !model.placement().is_cpu();
        let count = if is_alone { 1 } else { cores.min(micro_batches).max(1) };
        let pool = |index: usize| {
            // The first workers take what is left over.
            let threads = cores / count + usize::from(index < cores % count);
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(Error::Threads)
        };
        Ok(Self { pools: (0..count).map(pool).collect::<Result<_, Error>>()? })
    }

    /// Counts the micro-batches that are computed side by side.
    pub(crate) fn count(&self) -> usize {
        self.pools.len()
    }

    /// Computes the micro-batches of a step and adds them up in their order. `after_each` is called when one is done.
    pub(crate) fn sums(
        &self,
        decoder: &Decoder,
        objective: &Objective,
        micro_batches: &[MicroBatch],
        after_each: &(dyn Fn() + Sync),
    ) -> Sums {
        let mut sums = Sums::default();
        for round in micro_batches.chunks(self.pools.len()) {
            let compute = |(pool, micro_batch): (&rayon::ThreadPool, &MicroBatch)| {
                let gradients = pool.install(|| objective.gradients(decoder, micro_batch));
                after_each();
                gradients
            };
            let mut results: Vec<Gradients> = match (self.pools.as_slice(), round) {
                ([pool, ..], [micro_batch]) => vec![compute((pool, micro_batch))],
                _ => std::thread::scope(|scope| {
                    let work = self.pools.iter().zip(round);
                    let handles: Vec<_> = work.map(|task| scope.spawn(move || compute(task))).collect();
                    handles
                        .into_iter()
                        .map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                        .collect()
                }),
            };
            for (Gradients { loss, token_losses, values }, micro_batch) in results.drain(..).zip(round) {
                sums.add(loss, values);
                sums.shared_preferences +=
                    objective.shared_preferences(micro_batch, &token_losses).unwrap_or(0);
            }
        }
        sums
    }
}

impl Sums {
    fn add(&mut self, loss: f64, gradients: Vec<Buffer>) {
        self.loss += loss;
        if self.gradients.is_empty() {
            self.gradients = gradients;
            return;
        }
        for (sums, gradients) in self.gradients.iter_mut().zip(gradients) {
            for (sum, gradient) in sums.iter_mut().zip(gradients.iter()) {
                *sum += gradient;
            }
        }
    }
}
