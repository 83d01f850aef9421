//! The output layer with the loss behind it: losses and gradients in one go, without stored logits.
//!
//! It is the end of the network, so nothing lies above it whose gradient would have to be waited for, and it needs no
//! place in Burn's graph: its result is pulled into the graph below by [`super::pull`].

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::{is_cpu, with_slice};
use crate::Buffer;
use crate::kernels::cross_entropy::CrossEntropy;
use crate::kernels::distill::{Distill, Divergence, Teacher};
use crate::kernels::head::{self as kernel, RowLoss, Wanted};
use crate::plain;
use crate::profile::{Part, measure};

/// What a row of logits is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HeadLoss<'a> {
    /// The negative log-likelihood of targets, each multiplied with its weight, 1 where there are none.
    CrossEntropy {
        /// The token to be predicted by each row.
        targets: &'a [u32],
        /// A factor for each row.
        weights: Option<&'a [f32]>,
    },
    /// A mixture of the negative log-likelihood and a divergence from a teacher.
    Distill {
        /// The token to be predicted by each row.
        targets: &'a [u32],
        /// What the teacher thinks of each row.
        teacher: &'a TeacherRows,
        /// The divergence and its share.
        divergence: &'a Divergence,
    },
}

/// The last hidden states of a teacher, normalised, and its output layer.
#[derive(Debug)]
pub(crate) struct TeacherHidden {
    /// `[rows, hidden]`.
    pub(crate) x: Tensor<2>,
    /// `[vocab, hidden]`.
    pub(crate) weight: Tensor<2>,
}

/// What a teacher thinks of each row.
#[derive(Debug)]
pub(crate) enum TeacherRows {
    /// What makes its logits.
    Hidden(Box<TeacherHidden>),
    /// The log-probabilities, in nats, of its `k` likeliest tokens: `k` ids and numbers a row.
    Top { k: usize, token_ids: Vec<u32>, log_probs: Vec<f32> },
}

/// Losses and the gradients of their sum.
#[derive(Debug)]
pub(crate) struct HeadResult {
    /// One for each row.
    pub(crate) losses: Vec<f32>,
    /// That of the input, `[rows, hidden]`, where wanted.
    pub(crate) x_gradient: Option<Tensor<2>>,
    /// That of the weight, `[vocab, hidden]`, where wanted.
    pub(crate) weight_gradient: Option<Buffer>,
}

/// Computes the losses of rows of `x weight^T`.
///
/// # Shapes
/// `x` is `[rows, hidden]`, `weight` is `[vocab, hidden]`; neither is tracked.
pub(crate) fn head(x: Tensor<2>, weight: Tensor<2>, loss: HeadLoss<'_>, wanted: Wanted) -> HeadResult {
    if !is_cpu(&x) {
        return plain::head(x, weight, loss, wanted);
    }
    let (x, weight) = (on_host(x), on_host(weight));
    match loss {
        HeadLoss::CrossEntropy { targets, weights } => {
            run(x, weight, &mut CrossEntropy { targets, weights }, wanted)
        }
        HeadLoss::Distill { targets, teacher: TeacherRows::Top { k, token_ids, log_probs }, divergence } => {
            let teacher = Teacher::Top { k: *k, token_ids, log_probs };
            run(x, weight, &mut Distill::new(targets, teacher, divergence), wanted)
        }
        HeadLoss::Distill { targets, teacher: TeacherRows::Hidden(teacher), divergence } => {
            let TeacherHidden { x: theirs, weight: layer } = &**teacher;
            let hidden = theirs.dims()[1];
            with_slice(on_host(theirs.clone()), |theirs| {
                with_slice(on_host(layer.clone()), |layer| {
                    let teacher = Teacher::Hidden { x: theirs, weight: layer, hidden };
                    run(x, weight, &mut Distill::new(targets, teacher, divergence), wanted)
                })
            })
        }
    }
}

fn on_host(tensor: Tensor<2>) -> FlexTensor {
    tensor.try_into_primitive::<Flex>().expect("the tensor is on the CPU and untracked")
}

fn run(x: FlexTensor, weight: FlexTensor, loss: &mut impl RowLoss, wanted: Wanted) -> HeadResult {
    let (x_shape, weight_shape) = (super::dims(&x), super::dims(&weight));
    let made = with_slice(x, |x| {
        with_slice(weight, |weight| {
            measure(Part::Head, || kernel::losses(x, weight, weight_shape[1], loss, wanted))
        })
    });
    HeadResult {
        losses: made.rows,
        x_gradient: wanted.x.then(|| Tensor::from_primitive::<Flex>(super::tensor(made.x_gradient, x_shape))),
        weight_gradient: wanted.weight.then(|| Buffer::new(made.weight_gradient, weight_shape)),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    fn input(shape: [usize; 2], salt: usize) -> Tensor<2> {
        let values =
            (0..shape[0] * shape[1]).map(|i| ((i * (2 * salt + 7919) % 1009) as f32 / 1009.0 - 0.5) * 2.0);
        Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), &Device::flex())
    }

    /// Holds the fused head against plain tensor operations under Burn's own autodiff.
    fn check(loss: HeadLoss<'_>, rows: usize) {
        let (x, weight) = (input([rows, 12], 3), input([50, 12], 4) * 3.0);
        let wanted = Wanted { x: true, weight: true };
        let fused = head(x.clone(), weight.clone(), loss, wanted);
        let expected = plain::head(x.clone(), weight.clone(), loss, wanted);
        let tolerance = Tolerance::<f32>::absolute(5e-5);
        let losses = |result: &HeadResult| TensorData::new(result.losses.clone(), [rows]);
        losses(&fused).assert_approx_eq(&losses(&expected), tolerance);
        let data = |result: HeadResult| {
            (
                result.x_gradient.expect("wanted").into_data(),
                result.weight_gradient.expect("wanted").to_tensor(&Device::flex()).into_data(),
            )
        };
        let ((x_fused, w_fused), (x_plain, w_plain)) = (data(fused), data(expected));
        x_fused.assert_approx_eq(&x_plain, tolerance);
        w_fused.assert_approx_eq(&w_plain, tolerance);
        let nothing = head(x, weight, loss, Wanted { x: false, weight: false });
        assert!(nothing.x_gradient.is_none() && nothing.weight_gradient.is_none());
    }

    fn targets(rows: usize) -> Vec<u32> {
        (0..rows as u32).map(|i| i * 7 % 50).collect()
    }

    #[test]
    fn cross_entropy_is_the_plain_one() {
        for rows in [1, 9, 70] {
            let targets = targets(rows);
            check(HeadLoss::CrossEntropy { targets: &targets, weights: None }, rows);
            let weights: Vec<f32> = (0..rows).map(|i| (i % 5) as f32 / 2.0 - 1.0).collect();
            check(HeadLoss::CrossEntropy { targets: &targets, weights: Some(&weights) }, rows);
        }
    }

    #[test]
    fn distillation_is_the_plain_one() {
        let rows = 19;
        let targets = targets(rows);
        let hidden = TeacherHidden { x: input([rows, 8], 5), weight: input([50, 8], 6) * 2.0 };
        let hidden = TeacherRows::Hidden(Box::new(hidden));
        for kind in [
            crate::kernels::distill::Kind::ForwardKl,
            crate::kernels::distill::Kind::ReverseKl,
            crate::kernels::distill::Kind::JensenShannon { beta: 0.3 },
        ] {
            for (alpha, ce_alpha, temperature) in [(1.0, 0.0, 1.0), (0.7, 0.4, 2.0)] {
                let divergence = Divergence { kind, alpha, ce_alpha, temperature };
                check(
                    HeadLoss::Distill { targets: &targets, teacher: &hidden, divergence: &divergence },
                    rows,
                );
            }
        }
        let top = TeacherRows::Top {
            k: 3,
            token_ids: (0..rows as u32 * 3).map(|i| i * 11 % 50).collect(),
            log_probs: (0..rows * 3).map(|i| -0.3 - (i % 3) as f32).collect(),
        };
        let divergence = Divergence {
            kind: crate::kernels::distill::Kind::ForwardKl,
            alpha: 0.5,
            ce_alpha: 0.5,
            temperature: 1.0,
        };
        check(HeadLoss::Distill { targets: &targets, teacher: &top, divergence: &divergence }, rows);
    }
}
