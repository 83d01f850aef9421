//! The decoder's operations spelled out in ordinary tensor operations.
//!
//! They say what the fused ones must compute, and they run on every device that has no fused form.

use burn::tensor::{Bool, Int, Tensor, TensorData, activation};

use crate::Buffer;
use crate::kernels::attention::{Attention, Heads};
use crate::kernels::distill::Kind;
use crate::kernels::head::Wanted;
use crate::kernels::rope::RopeTable;
use crate::ops::{Adapter, HeadLoss, HeadResult, TeacherHidden, TeacherRows};

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
    let mean_square = x.clone().square().mean_dim(1); // [tokens, 1]
    x / (mean_square + epsilon).sqrt() * weight
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
    let indices: Vec<i64> = indices.iter().map(|&index| i64::from(index)).collect();
    let indices = Tensor::<1, Int>::from_data(TensorData::from(indices.as_slice()), &matrix.device());
    matrix.select(0, indices)
}

/// The losses of rows of `x weight^T` and the gradients of their sum, by Burn's own autodiff.
///
/// # Shapes
/// `x` is `[rows, hidden]`, `weight` is `[vocab, hidden]`.
pub(crate) fn head(x: Tensor<2>, weight: Tensor<2>, loss: HeadLoss<'_>, wanted: Wanted) -> HeadResult {
    let (x, weight) = (x.autodiff().require_grad(), weight.autodiff().require_grad());
    let logits = linear(x.clone(), weight.clone(), None);
    let losses = row_losses(logits, loss); // [rows]
    let mut gradients = losses.clone().sum().backward();
    let mut gradient = |of: &Tensor<2>| of.grad_remove(&mut gradients).expect("tracked");
    HeadResult {
        losses: losses.into_data().try_to_vec::<f32>().expect("the decoder computes in f32"),
        x_gradient: wanted.x.then(|| gradient(&x)),
        weight_gradient: wanted.weight.then(|| Buffer::from_tensor(gradient(&weight))),
    }
}

/// The loss of every row of logits.
fn row_losses(logits: Tensor<2>, loss: HeadLoss<'_>) -> Tensor<1> {
    let device = logits.device();
    let [rows, vocab] = logits.dims();
    let negative_log_likelihood = |targets: &[u32]| {
        let targets: Vec<i64> = targets.iter().map(|&target| i64::from(target)).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::from(targets.as_slice()), &device);
        let all = activation::log_softmax(logits.clone(), 1);
        all.gather(1, targets.reshape([rows, 1])).reshape([rows]).neg()
    };
    match loss {
        HeadLoss::CrossEntropy { targets, weights: None } => negative_log_likelihood(targets),
        HeadLoss::CrossEntropy { targets, weights: Some(weights) } => {
            negative_log_likelihood(targets) * Tensor::from_data(TensorData::from(weights), &device)
        }
        HeadLoss::Distill { targets, teacher, divergence } => {
            let t = divergence.temperature;
            let teacher = match teacher {
                TeacherRows::Hidden(teacher) => {
                    let TeacherHidden { x, weight } = &**teacher;
                    activation::log_softmax(linear(x.clone(), weight.clone(), None) / t, 1)
                }
                TeacherRows::Top { k, token_ids, log_probs } => {
                    let given = TensorData::new(log_probs.clone(), [rows, *k]);
                    let given = activation::log_softmax(Tensor::<2>::from_data(given, &device) / t, 1);
                    let mut all = vec![-1e30_f32; rows * vocab];
                    let given = given.into_data().try_to_vec::<f32>().expect("the decoder computes in f32");
                    let listed = token_ids.iter().zip(given).enumerate();
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
                + negative_log_likelihood(targets) * divergence.ce_alpha
        }
    }
}

/// Causal grouped-query attention with rotary positions, one sequence after another.
///
/// # Shapes
/// `qkv` is `[tokens, qkv_width]`; returns `[tokens, heads * head_dim]`.
pub(crate) fn attention(qkv: Tensor<2>, attention: &Attention) -> Tensor<2> {
    let heads = attention.heads;
    let outputs = attention.offsets.windows(2).zip(attention.rope.iter()).map(|(bounds, rope)| {
        let (first, tokens) = (bounds[0], bounds[1] - bounds[0]);
        let rows = qkv.clone().narrow(0, first, tokens);
        let part = |head: usize, count: usize| {
            let part = rows.clone().narrow(1, head * heads.head_dim, count * heads.head_dim);
            part.reshape([tokens, count, heads.head_dim]).swap_dims(0, 1) // [count, tokens, head_dim]
        };
        let share = |keys: Tensor<3>| {
            let shape = [heads.key_value, heads.group(), tokens, heads.head_dim];
            keys.unsqueeze_dim::<4>(1).expand(shape).reshape([heads.query, tokens, heads.head_dim])
        };
        let q = rotate(part(0, heads.query), rope) * heads.scale();
        let k = share(rotate(part(heads.query, heads.key_value), rope));
        let v = share(part(heads.query + heads.key_value, heads.key_value));

        let mut hidden = Tensor::<2, Bool>::tril_mask([tokens, tokens], 0, &qkv.device());
        if let Some(window) = attention.window {
            // Keys that lie `window` tokens or more before the query.
            let past = Tensor::<2, Bool>::triu_mask([tokens, tokens], 1 - window as i64, &qkv.device());
            hidden = hidden.bool_or(past);
        }
        let scores = q.matmul(k.swap_dims(1, 2)); // [heads, tokens, tokens]
        let scores = scores
            .mask_fill(hidden.unsqueeze::<3>().expand([heads.query, tokens, tokens]), f32::NEG_INFINITY);
        activation::softmax(scores, 2).matmul(v).swap_dims(0, 1).reshape([tokens, heads.output_width()])
    });
    Tensor::cat(outputs.collect(), 0)
}

/// Rotates heads to the positions `0..tokens`.
///
/// # Shapes
/// `x` is `[heads, tokens, head_dim]`.
fn rotate(x: Tensor<3>, rope: &RopeTable) -> Tensor<3> {
    let [_, tokens, head_dim] = x.dims();
    let half = head_dim / 2;
    let table =
        |values: Vec<f32>| Tensor::<3>::from_data(TensorData::new(values, [1, tokens, half]), &x.device());
    let cos = table((0..tokens).flat_map(|position| rope.at(position).0.to_vec()).collect());
    let sin = table((0..tokens).flat_map(|position| rope.at(position).1.to_vec()).collect());
    let (a, b) = (x.clone().narrow(2, 0, half), x.clone().narrow(2, half, half));
    let rotated_a = a.clone() * cos.clone() - b.clone() * sin.clone();
    let rotated_b = b * cos + a * sin;
    Tensor::cat(vec![rotated_a, rotated_b], 2)
}
