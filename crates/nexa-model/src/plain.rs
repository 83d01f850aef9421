//! The decoder's operations spelled out in ordinary tensor operations.
//!
//! They say what the fused ones must compute, and they run on every device that has no fused form. In 16 bits, what
//! sums over many numbers (norms, softmax and losses) is computed in `f32`, as is the rotation of heads.

use std::ops::Range;

use burn::tensor::{Bool, Device, FloatDType, Int, Tensor, TensorData, activation};

use crate::Buffer;
use crate::kernels::attention::{Attention, Heads};
use crate::kernels::distill::Kind;
use crate::kernels::head::Wanted;
use crate::ops::{Adapter, HeadLoss, HeadResult, TeacherHidden, TeacherRows};

/// What stands for a logarithm of zero. It is finite, because shading languages need not know infinities.
const NEVER: f32 = -1e30;
/// Logits that are computed at a time: few in tests, so that there are several times.
const LOGITS: usize = if cfg!(test) { 1000 } else { 1 << 24 };

/// `x weight^T`, plus `residual` where there is one.
///
/// # Shapes
/// `x` is `[tokens, inputs]`, `weight` is `[outputs, inputs]`; returns `[tokens, outputs]`.
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, residual: Option<Tensor<2>>) -> Tensor<2> {
    let product = x.matmul(weight.transpose());
    match residual {
        Some(residual) => residual + product,
        None => product,
    }
}

/// `product` with the columns of each part increased by `scale * x A^T B^T`, after dropout of `x` for each part.
///
/// # Shapes
/// `x` is `[tokens, inputs]`, `product` is `[tokens, outputs]`, as is the result.
pub(crate) fn lora(x: Tensor<2>, product: Tensor<2>, adapter: Adapter) -> Tensor<2> {
    let Adapter { a, b, correction, dropout } = adapter;
    let rank = correction.rank;
    let (mut output, mut first) = (product, 0);
    for (index, columns) in correction.parts.iter().enumerate() {
        let a = a.clone().narrow(0, index * rank, rank);
        let b = b.clone().narrow(0, first, columns.len());
        first += columns.len();
        let x = match dropout {
            Some(dropout) => {
                let factors = dropout.of(index).factors(x.dims()[0], x.dims()[1]);
                x.clone() * Tensor::from_data(TensorData::new(factors, x.dims()), &x.device())
            }
            None => x.clone(),
        };
        let change = linear(linear(x, a, None), b, None) * correction.scale;
        let corrected = output.clone().narrow(1, columns.start, columns.len()) + change;
        let tokens = 0..output.dims()[0];
        output = output.slice_assign([tokens, columns.clone()], corrected);
    }
    output
}

/// Adds a bias to every row.
///
/// # Shapes
/// `x` is `[tokens, outputs]`, `bias` is `[outputs, 1]`.
pub(crate) fn add_bias(x: Tensor<2>, bias: Tensor<2>) -> Tensor<2> {
    x + bias.transpose()
}

/// Root-mean-square normalisation.
///
/// # Shapes
/// `x` is `[tokens, hidden]`, `weight` is `[1, hidden]`.
pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<2>, epsilon: f32) -> Tensor<2> {
    let dtype = x.dtype();
    let (x, weight) = (x.cast(FloatDType::F32), weight.cast(FloatDType::F32));
    let mean_square = x.clone().square().mean_dim(1); // [tokens, 1]
    (x / (mean_square + epsilon).sqrt() * weight).cast(dtype)
}

/// Normalises every query and every key on its own.
///
/// # Shapes
/// `qkv` is `[tokens, qkv_width]`, as is the result; the weights are `[1, head_dim]`.
pub(crate) fn head_norm(
    qkv: Tensor<2>,
    query_weight: Tensor<2>,
    key_weight: Tensor<2>,
    heads: Heads,
    epsilon: f32,
) -> Tensor<2> {
    let tokens = qkv.dims()[0];
    let part = |columns: std::ops::Range<usize>| qkv.clone().narrow(1, columns.start, columns.len());
    let normalise = |columns: std::ops::Range<usize>, weight: Tensor<2>| {
        let (width, count) = (columns.len(), tokens * columns.len() / heads.head_dim);
        let rows = part(columns).reshape([count, heads.head_dim]);
        rms_norm(rows, weight, epsilon).reshape([tokens, width])
    };
    let queries = normalise(heads.queries(), query_weight);
    let keys = normalise(heads.keys(), key_weight);
    Tensor::cat(vec![queries, keys, part(heads.keys().end..heads.qkv_width())], 1)
}

/// `silu(gate) * up`.
///
/// # Shapes
/// `gate_up` is `[tokens, 2 * intermediate]`; returns `[tokens, intermediate]`.
pub(crate) fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    let width = gate_up.dims()[1] / 2;
    let gate = gate_up.clone().narrow(1, 0, width);
    activation::silu(gate) * gate_up.narrow(1, width, width)
}

/// Picks rows.
///
/// # Shapes
/// `matrix` is `[rows, width]`; returns `[indices.len(), width]`.
pub(crate) fn gather(matrix: Tensor<2>, indices: &[u32]) -> Tensor<2> {
    let indices = integers(indices, &matrix.device());
    matrix.select(0, indices)
}

fn integers(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|&value| i64::from(value)).collect();
    Tensor::from_data(TensorData::from(values.as_slice()), device)
}

/// The losses of rows of `x weight^T` and the gradients of their sum, by Burn's own autodiff, some rows at a time.
///
/// # Shapes
/// `x` is `[rows, hidden]`, `weight` is `[vocab, hidden]`.
pub(crate) fn head(x: Tensor<2>, weight: Tensor<2>, loss: HeadLoss<'_>, wanted: Wanted) -> HeadResult {
    let rows = x.dims()[0];
    let at_once = (LOGITS / weight.dims()[0]).max(1);
    let mut losses = Vec::with_capacity(rows);
    let mut x_gradients = Vec::new();
    let mut weight_gradient: Option<Tensor<2>> = None;
    for first in (0..rows).step_by(at_once) {
        let part = first..rows.min(first + at_once);
        let x = x.clone().narrow(0, first, part.len()).autodiff();
        let x = if wanted.x { x.require_grad() } else { x };
        let weight = weight.clone().autodiff();
        let weight = if wanted.weight { weight.require_grad() } else { weight };
        let of_part = row_losses(linear(x.clone(), weight.clone(), None), loss, part); // [part]
        losses.extend(numbers(of_part.clone()));
        if !(wanted.x || wanted.weight) {
            continue;
        }
        let mut gradients = of_part.sum().backward();
        x_gradients.extend(x.grad_remove(&mut gradients));
        if let Some(gradient) = weight.grad_remove(&mut gradients) {
            let gradient = gradient.cast(FloatDType::F32);
            weight_gradient = Some(match weight_gradient {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
    }
    HeadResult {
        losses,
        x_gradient: wanted.x.then(|| Tensor::cat(x_gradients, 0)),
        weight_gradient: weight_gradient.map(Buffer::from_tensor),
    }
}

fn numbers(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("losses are computed in f32")
}

/// The losses of some rows, from their logits.
fn row_losses(logits: Tensor<2>, loss: HeadLoss<'_>, part: Range<usize>) -> Tensor<1> {
    let logits = logits.cast(FloatDType::F32);
    let device = logits.device();
    let [rows, vocab] = logits.dims();
    let negative_log_likelihood = |targets: &[u32]| {
        let targets = integers(targets, &device).reshape([rows, 1]);
        let ids = Tensor::<1, Int>::arange(0..vocab as i64, &device).reshape([1, vocab]);
        // The backward pass of a selection is a race of additions on some devices; that of a mask is none.
        let others = ids.expand([rows, vocab]).not_equal(targets.expand([rows, vocab]));
        let all = activation::log_softmax(logits.clone(), 1);
        all.mask_fill(others, 0.0).sum_dim(1).reshape([rows]).neg()
    };
    match loss {
        HeadLoss::CrossEntropy { targets, weights: None } => negative_log_likelihood(&targets[part]),
        HeadLoss::CrossEntropy { targets, weights: Some(weights) } => {
            let weights = Tensor::from_data(TensorData::from(&weights[part.clone()]), &device);
            negative_log_likelihood(&targets[part]) * weights
        }
        HeadLoss::Distill { targets, teacher, divergence } => {
            let t = divergence.temperature;
            let teacher = match teacher {
                TeacherRows::Hidden(teacher) => {
                    let TeacherHidden { x, weight } = &**teacher;
                    let theirs = linear(x.clone().narrow(0, part.start, rows), weight.clone(), None);
                    activation::log_softmax(theirs.cast(FloatDType::F32) / t, 1)
                }
                TeacherRows::Top { k, token_ids, log_probs } => {
                    let stored = part.start * k..part.end * k;
                    let given = TensorData::new(log_probs[stored.clone()].to_vec(), [rows, *k]);
                    let given = activation::log_softmax(Tensor::<2>::from_data(given, &device) / t, 1);
                    let mut all = vec![NEVER; rows * vocab];
                    let given = numbers(given.reshape([rows * k]));
                    let listed = token_ids[stored].iter().zip(given).enumerate();
                    for (index, (id, value)) in listed.filter(|(_, (_, value))| value.is_finite()) {
                        all[index / k * vocab + *id as usize] = value;
                    }
                    Tensor::from_data(TensorData::new(all, [rows, vocab]), &device)
                }
            };
            let student = activation::log_softmax(logits.clone() / t, 1);
            let kl = |log_p: Tensor<2>, log_q: Tensor<2>| (log_p.clone().exp() * (log_p - log_q)).sum_dim(1);
            let value = match divergence.kind {
                Kind::ForwardKl => kl(teacher, student),
                Kind::ReverseKl => kl(student, teacher),
                Kind::JensenShannon { beta } => {
                    let mixture = (teacher.clone().exp() * beta + student.clone().exp() * (1.0 - beta)).log();
                    kl(teacher, mixture.clone()) * beta + kl(student, mixture) * (1.0 - beta)
                }
            };
            value.reshape([rows]) * (divergence.alpha * t * t)
                + negative_log_likelihood(&targets[part]) * divergence.ce_alpha
        }
    }
}

/// Causal grouped-query attention with rotary positions, one sequence after another.
///
/// # Shapes
/// `qkv` is `[tokens, qkv_width]`; returns `[tokens, heads * head_dim]`.
pub(crate) fn attention(qkv: Tensor<2>, attention: &Attention) -> Tensor<2> {
    let (heads, tokens) = (attention.heads, qkv.dims()[0]);
    let part = |head: usize, count: usize| {
        let part = qkv.clone().narrow(1, head * heads.head_dim, count * heads.head_dim);
        part.reshape([tokens, count, heads.head_dim]).swap_dims(0, 1) // [count, tokens, head_dim]
    };
    let rotation = Rotation::new(attention, &qkv.device());
    let q = rotation.apply(part(0, heads.query));
    let k = rotation.apply(part(heads.query, heads.key_value));
    let v = part(heads.query + heads.key_value, heads.key_value);

    let outputs = attention.offsets.windows(2).map(|bounds| {
        let (first, tokens) = (bounds[0], bounds[1] - bounds[0]);
        let share = |keys: &Tensor<3>| {
            let shape = [heads.key_value, heads.group(), tokens, heads.head_dim];
            let keys = keys.clone().narrow(1, first, tokens).unsqueeze_dim::<4>(1);
            keys.expand(shape).reshape([heads.query, tokens, heads.head_dim])
        };
        let (q, k, v) = (q.clone().narrow(1, first, tokens), share(&k), share(&v));
        let mut hidden = Tensor::<2, Bool>::tril_mask([tokens, tokens], 0, &qkv.device());
        if let Some(window) = attention.window {
            // Keys that lie `window` tokens or more before the query.
            let past = Tensor::<2, Bool>::triu_mask([tokens, tokens], 1 - window as i64, &qkv.device());
            hidden = hidden.bool_or(past);
        }
        let hidden = hidden.unsqueeze::<3>().expand([heads.query, tokens, tokens]);
        let scores = q.matmul(k.swap_dims(1, 2)).cast(FloatDType::F32) * heads.scale(); // [heads, tokens, tokens]
        let shares = activation::softmax(scores.mask_fill(hidden, NEVER), 2).cast(v.dtype());
        shares.matmul(v).swap_dims(0, 1).reshape([tokens, heads.output_width()])
    });
    Tensor::cat(outputs.collect(), 0)
}

/// The rotations of all tokens.
struct Rotation {
    /// `[1, tokens, head_dim / 2]`, as is the other.
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotation {
    fn new(attention: &Attention, device: &Device) -> Self {
        let half = attention.heads.head_dim / 2;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for (bounds, rope) in attention.offsets.windows(2).zip(attention.rope.iter()) {
            for position in 0..bounds[1] - bounds[0] {
                let (cosines, sines) = rope.at(position);
                cos.extend_from_slice(cosines);
                sin.extend_from_slice(sines);
            }
        }
        let table = |values: Vec<f32>| {
            let tokens = values.len() / half;
            Tensor::<3>::from_data(TensorData::new(values, [1, tokens, half]), device)
        };
        Self { cos: table(cos), sin: table(sin) }
    }

    /// Rotates heads to the positions of their tokens.
    ///
    /// # Shapes
    /// `x` is `[heads, tokens, head_dim]`, as is the result.
    fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        let (dtype, half) = (x.dtype(), x.dims()[2] / 2);
        let x = x.cast(FloatDType::F32);
        let (a, b) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
        let rotated_a = a.clone() * self.cos.clone() - b.clone() * self.sin.clone();
        let rotated_b = b * self.cos.clone() + a * self.sin.clone();
        Tensor::cat(vec![rotated_a, rotated_b], 2).cast(dtype)
    }
}
