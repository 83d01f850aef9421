//! The micro-batches of a step, several at a time.
//!
//! Splitting every operation over all cores means waiting for the slowest of them a hundred times a step. Where a
//! step has several micro-batches, each worker computes whole ones instead, on its share of the cores and with its own
//! copy of the weights, and waits once. The results are handed back in the order of the micro-batches, and none
//! depends on who computed it, so the number of workers and of cores changes no bit.

use burn::tensor::Device;
use nexa_model::{Batch, Decoder, Weights};

use crate::Error;

/// Loss and gradients of one micro-batch.
type Gradients = (f32, Vec<Vec<f32>>);

/// Decoders that compute gradients side by side.
#[derive(Debug)]
pub(super) struct Workers {
    workers: Vec<Worker>,
    device: Device,
}

#[derive(Debug)]
struct Worker {
    decoder: Decoder,
    threads: rayon::ThreadPool,
}

impl Workers {
    /// Prepares as many workers as there are cores and micro-batches for.
    pub(super) fn new(weights: &Weights, micro_batches: usize) -> Result<Self, Error> {
        let cores = rayon::current_num_threads();
        let count = cores.min(micro_batches).max(1);
        let device = Device::flex().autodiff();
        let worker = |index: usize| {
            // The first workers take what is left over.
            let threads = cores / count + usize::from(index < cores % count);
            let threads =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(Error::Threads)?;
            Ok(Worker { decoder: Decoder::new(weights, &device), threads })
        };
        Ok(Self { workers: (0..count).map(worker).collect::<Result<_, Error>>()?, device })
    }

    /// Gives every worker the weights of the next step.
    pub(super) fn set(&mut self, weights: &Weights) {
        for worker in &mut self.workers {
            worker.decoder.set(weights, &self.device);
        }
    }

    /// Computes summed losses and gradients, in the order of the micro-batches, and calls `after_each` when one is
    /// done.
    pub(super) fn loss_and_gradients(
        &self,
        batches: &[Batch],
        after_each: &(dyn Fn() + Sync),
    ) -> Vec<Gradients> {
        let count = self.workers.len();
        let work = |worker: &Worker, first: usize| -> Vec<Gradients> {
            let own = batches.iter().skip(first).step_by(count);
            let compute = |batch| {
                let gradients = worker.threads.install(|| worker.decoder.loss_and_gradients(batch));
                after_each();
                gradients
            };
            own.map(compute).collect()
        };
        let mut results: Vec<std::vec::IntoIter<Gradients>> = std::thread::scope(|scope| {
            let handles: Vec<_> = self
                .workers
                .iter()
                .enumerate()
                .map(|(index, worker)| scope.spawn(move || work(worker, index)))
                .collect();
            let join = |handle: std::thread::ScopedJoinHandle<'_, Vec<Gradients>>| match handle.join() {
                Ok(results) => results.into_iter(),
                Err(panic) => std::panic::resume_unwind(panic),
            };
            handles.into_iter().map(join).collect()
        });
        (0..batches.len()).filter_map(|index| results[index % count].next()).collect()
    }
}
