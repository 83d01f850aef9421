//! The likeliest tokens of rows of logits, without ever holding the logits of all rows.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::linear;
use crate::kernels::head::rows_at_once;

/// Finds the `k` likeliest tokens of every row of `x weight^T` and their log-probabilities in nats: the likeliest
/// first, of equally likely ones the lower id.
///
/// # Shapes
/// `x` is `[rows, hidden]`, `weight` is `[vocab, hidden]`; both results are `[rows, k]`.
pub(crate) fn top(x: Tensor<2>, weight: Tensor<2>, k: usize) -> (Vec<u32>, Vec<f32>) {
    let (rows, vocab) = (x.dims()[0], weight.dims()[0]);
    let (mut ids, mut log_probs) = (vec![0; rows * k], vec![0.0; rows * k]);
    for first in (0..rows).step_by(rows_at_once(vocab)) {
        let count = rows_at_once(vocab).min(rows - first);
        let logits = linear(x.clone().narrow(0, first, count), weight.clone(), None).into_data();
        let logits = logits.try_to_vec::<f32>().expect("the decoder computes in f32");
        let places = first * k..(first + count) * k;
        let ids = ids[places.clone()].par_chunks_exact_mut(k);
        let places = ids.zip(log_probs[places].par_chunks_exact_mut(k));
        places.zip(logits.par_chunks_exact(vocab)).for_each(|((ids, log_probs), logits)| {
            top_of_row(logits, ids, log_probs);
        });
    }
    (ids, log_probs)
}

fn top_of_row(logits: &[f32], ids: &mut [u32], log_probs: &mut [f32]) {
    let k = ids.len();
    let likelier =
        |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then_with(|| a.cmp(b));
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    if k < order.len() {
        order.select_nth_unstable_by(k, likelier);
        order.truncate(k);
    }
    order.sort_unstable_by(likelier);
    ids.copy_from_slice(&order);
    let largest = f64::from(logits[order[0] as usize]);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    for (log_prob, id) in log_probs.iter_mut().zip(order) {
        *log_prob = (f64::from(logits[id as usize]) - largest - sum.ln()) as f32;
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn the_likeliest_come_first_with_their_log_probabilities() {
        let tensor = |values: &[f32], shape: [usize; 2]| {
            Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
        };
        // The logits are the weights, and twice them.
        let (x, weight) = (tensor(&[1.0, 2.0], [2, 1]), tensor(&[0.5, 2.0, -1.0, 2.0], [4, 1]));
        let log_softmax = |scale: f64, index: usize| {
            let logits = [0.5, 2.0, -1.0, 2.0].map(|logit| logit * scale);
            (logits[index] - logits.iter().map(|logit| logit.exp()).sum::<f64>().ln()) as f32
        };
        for k in [1, 3, 4] {
            let (ids, log_probs) = top(x.clone(), weight.clone(), k);
            let expected = [1, 3, 0, 2];
            assert_eq!(ids, [&expected[..k], &expected[..k]].concat());
            for (place, (&id, log_prob)) in ids.iter().zip(log_probs).enumerate() {
                let expected = log_softmax([1.0, 2.0][place / k], id as usize);
                assert!((log_prob - expected).abs() < 1e-6, "{log_prob} {expected}");
            }
        }
    }
}
