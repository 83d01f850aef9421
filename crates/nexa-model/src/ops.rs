//! The decoder's fused operations on tensors, each with its own derivative.
//!
//! On the CPU (`Flex`) they run the kernels of [`crate::kernels`] on the tensor's storage; under autodiff one graph
//! node stands for the whole operation and keeps only its inputs. On other devices they fall back to
//! [`crate::plain`], whose derivative Burn finds by itself.

mod head;
mod lora;
mod pull;
mod top;

use std::sync::Arc;

pub(crate) use head::{HeadLoss, HeadResult, TeacherHidden, TeacherRows, head};
pub(crate) use lora::{Adapter, lora};
pub(crate) use pull::pull;
pub(crate) use top::top;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor, TensorData};

use crate::kernels::attention::{Attention, Forward, Heads, Saved};
use crate::kernels::head_norm::{self as head_norm_kernel, Norms};
use crate::kernels::linear as linear_kernel;
use crate::kernels::{attention as attention_kernel, bias as bias_kernel, gather as gather_kernel};
use crate::kernels::{rms_norm as norm_kernel, swiglu as swiglu_kernel};
use crate::plain;
use crate::profile::{Part, measure};

/// Multiplies rows with a weight and adds a residual; see [`plain::linear`].
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, residual: Option<Tensor<2>>) -> Tensor<2> {
    if !is_cpu(&x) {
        return plain::linear(x, weight, residual);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match residual {
        Some(residual) => <Dispatch as FusedOps>::linear_add(x, weight, residual.into_dispatch()),
        None => <Dispatch as FusedOps>::linear(x, weight),
    })
}

/// Adds a bias to every row; see [`plain::add_bias`].
pub(crate) fn add_bias(x: Tensor<2>, bias: Tensor<2>) -> Tensor<2> {
    if !is_cpu(&x) {
        return plain::add_bias(x, bias);
    }
    Tensor::from_dispatch(<Dispatch as FusedOps>::add_bias(x.into_dispatch(), bias.into_dispatch()))
}

/// Normalises rows by their root mean square; see [`plain::rms_norm`].
pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<2>, epsilon: f32) -> Tensor<2> {
    if !is_cpu(&x) {
        return plain::rms_norm(x, weight, epsilon);
    }
    Tensor::from_dispatch(<Dispatch as FusedOps>::rms_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        epsilon,
    ))
}

/// Normalises every query and every key on its own; see [`plain::head_norm`].
pub(crate) fn head_norm(
    qkv: Tensor<2>,
    query_weight: Tensor<2>,
    key_weight: Tensor<2>,
    heads: Heads,
    epsilon: f32,
) -> Tensor<2> {
    if !is_cpu(&qkv) {
        return plain::head_norm(qkv, query_weight, key_weight, heads, epsilon);
    }
    Tensor::from_dispatch(<Dispatch as FusedOps>::head_norm(
        qkv.into_dispatch(),
        query_weight.into_dispatch(),
        key_weight.into_dispatch(),
        heads,
        epsilon,
    ))
}

/// Applies the gate of the feed-forward block; see [`plain::swiglu`].
pub(crate) fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    if !is_cpu(&gate_up) {
        return plain::swiglu(gate_up);
    }
    Tensor::from_dispatch(<Dispatch as FusedOps>::swiglu(gate_up.into_dispatch()))
}

/// Attends within every sequence; see [`plain::attention`].
pub(crate) fn attention(qkv: Tensor<2>, attention: &Attention) -> Tensor<2> {
    if !is_cpu(&qkv) {
        return plain::attention(qkv, attention);
    }
    Tensor::from_dispatch(<Dispatch as FusedOps>::attention(qkv.into_dispatch(), attention.clone()))
}

/// Picks rows; see [`plain::gather`].
pub(crate) fn gather(matrix: Tensor<2>, indices: &Arc<[u32]>) -> Tensor<2> {
    if !is_cpu(&matrix) {
        return plain::gather(matrix, indices);
    }
    Tensor::from_dispatch(<Dispatch as FusedOps>::gather(matrix.into_dispatch(), indices.clone()))
}

/// Whether a tensor is one for the kernels: on the CPU, in `f32`.
fn is_cpu(tensor: &Tensor<2>) -> bool {
    #[cfg(test)]
    if tests::IS_PLAIN.get() {
        return false;
    }
    matches!(tensor.device().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
        && tensor.dtype() == DType::F32
}

/// The operations as backends see them.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    /// See [`linear`], without a residual.
    fn linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`linear`], with a residual.
    fn linear_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// See [`add_bias`].
    fn add_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`head_norm`].
    fn head_norm(
        qkv: FloatTensor<Self>,
        query_weight: FloatTensor<Self>,
        key_weight: FloatTensor<Self>,
        heads: Heads,
        epsilon: f32,
    ) -> FloatTensor<Self>;
    /// See [`rms_norm`].
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self>;
    /// See [`swiglu`].
    fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`attention`].
    fn attention(qkv: FloatTensor<Self>, attention: Attention) -> FloatTensor<Self>;
    /// See [`gather`].
    fn gather(matrix: FloatTensor<Self>, indices: Arc<[u32]>) -> FloatTensor<Self>;
}

impl FusedOps for Flex {
    fn linear(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let ([rows, inputs], [outputs, _]) = (dims(&x), dims(&weight));
        with_slice(x, |x| {
            with_slice(weight, |w| {
                tensor(measure(Part::Linear, || linear_kernel::forward(x, w, inputs, None)), [rows, outputs])
            })
        })
    }

    fn linear_add(x: FlexTensor, weight: FlexTensor, residual: FlexTensor) -> FlexTensor {
        let (inputs, shape) = (dims(&x)[1], dims(&residual));
        with_slice(x, |x| {
            with_slice(weight, |w| {
                with_slice(residual, |r| {
                    tensor(measure(Part::Linear, || linear_kernel::forward(x, w, inputs, Some(r))), shape)
                })
            })
        })
    }

    fn add_bias(x: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let shape = dims(&x);
        with_slice(x, |x| with_slice(bias, |bias| tensor(bias_kernel::forward(x, bias), shape)))
    }

    fn head_norm(
        qkv: FlexTensor,
        query_weight: FlexTensor,
        key_weight: FlexTensor,
        heads: Heads,
        epsilon: f32,
    ) -> FlexTensor {
        let shape = dims(&qkv);
        with_slice(qkv, |qkv| {
            with_slice(query_weight, |query| {
                with_slice(key_weight, |key| {
                    let norms = Norms { query, key, epsilon };
                    tensor(measure(Part::Norm, || head_norm_kernel::forward(qkv, heads, norms)), shape)
                })
            })
        })
    }

    fn rms_norm(x: FlexTensor, weight: FlexTensor, epsilon: f32) -> FlexTensor {
        let shape = dims(&x);
        with_slice(x, |x| {
            with_slice(weight, |weight| {
                tensor(measure(Part::Norm, || norm_kernel::forward(x, weight, epsilon)), shape)
            })
        })
    }

    fn swiglu(gate_up: FlexTensor) -> FlexTensor {
        let [rows, width] = dims(&gate_up);
        with_slice(gate_up, |gate_up| {
            tensor(
                measure(Part::Activation, || swiglu_kernel::forward(gate_up, width / 2)),
                [rows, width / 2],
            )
        })
    }

    fn attention(qkv: FlexTensor, attention: Attention) -> FlexTensor {
        let shape = [dims(&qkv)[0], attention.heads.output_width()];
        with_slice(qkv, |qkv| {
            let made = measure(Part::Attention, || attention_kernel::forward(qkv, &attention));
            tensor(made.output, shape)
        })
    }

    fn gather(matrix: FlexTensor, indices: Arc<[u32]>) -> FlexTensor {
        let [_, width] = dims(&matrix);
        with_slice(matrix, |matrix| {
            tensor(gather_kernel::forward(matrix, width, &indices), [indices.len(), width])
        })
    }
}

/// What a product keeps for its backward pass: the weight, and the input where the weight is trained.
#[derive(Debug, Clone)]
struct Product {
    x: Option<FlexTensor>,
    weight: FlexTensor,
}

impl Product {
    fn new<C: CheckpointStrategy>(
        x: &FloatTensor<Autodiff<Flex, C>>,
        weight: &FloatTensor<Autodiff<Flex, C>>,
    ) -> Self {
        let is_trained = <Autodiff<Flex, C> as FloatTensorOps<_>>::float_is_require_grad(weight);
        Self { x: is_trained.then(|| x.primitive().clone()), weight: weight.primitive().clone() }
    }

    /// Hands the gradients of the operands on.
    fn backward(
        self,
        [x_node, weight_node]: [Option<NodeId>; 2],
        gradient: FlexTensor,
        grads: &mut Gradients,
    ) {
        let (rows, weight_shape) = (dims(&gradient)[0], dims(&self.weight));
        let inputs = weight_shape[1];
        with_slice(gradient, |g| {
            if let Some(node) = x_node {
                let dx = with_slice(self.weight, |weight| {
                    measure(Part::Linear, || linear_kernel::backward_x(g, weight, inputs))
                });
                grads.register::<Flex>(node, tensor(dx, [rows, inputs]));
            }
            if let (Some(node), Some(x)) = (weight_node, self.x) {
                let dw = with_slice(x, |x| {
                    measure(Part::Linear, || linear_kernel::backward_weight(g, x, inputs, weight_shape[0]))
                });
                grads.register::<Flex>(node, tensor(dw, weight_shape));
            }
        });
    }
}

/// What attention keeps for its backward pass. The result is shared with the operation that reads it.
#[derive(Debug, Clone)]
struct Attended {
    qkv: FlexTensor,
    attention: Attention,
    output: FlexTensor,
    log_sums: Arc<[f32]>,
}

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Step;
        impl Backward<Flex, 2> for Step {
            type State = Product;

            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<Flex>(&ops.node);
                ops.state.backward(ops.parents.map(|node| node.map(|node| node.id)), gradient, grads);
            }
        }
        let nodes = [x.node(), weight.node()];
        let state = Product::new::<C>(&x, &weight);
        let output = Flex::linear(x.into_primitive(), weight.into_primitive());
        match Step.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn linear_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Step;
        impl Backward<Flex, 3> for Step {
            type State = Product;

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<Flex>(&ops.node);
                let [x_node, weight_node, residual_node] = ops.parents.map(|node| node.map(|node| node.id));
                ops.state.backward([x_node, weight_node], gradient.clone(), grads);
                if let Some(node) = residual_node {
                    grads.register::<Flex>(node, gradient);
                }
            }
        }
        let nodes = [x.node(), weight.node(), residual.node()];
        let state = Product::new::<C>(&x, &weight);
        let output = Flex::linear_add(x.into_primitive(), weight.into_primitive(), residual.into_primitive());
        match Step.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn add_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Step;
        impl Backward<Flex, 2> for Step {
            /// The shape of the bias.
            type State = [usize; 2];

            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [x_node, bias_node] = ops.parents;
                let (gradient, shape) = (grads.consume::<Flex>(&ops.node), ops.state);
                if let Some(node) = bias_node {
                    let sums = with_slice(gradient.clone(), |g| bias_kernel::backward(g, shape[0]));
                    grads.register::<Flex>(node.id, tensor(sums, shape));
                }
                if let Some(node) = x_node {
                    grads.register::<Flex>(node.id, gradient);
                }
            }
        }
        let nodes = [x.node(), bias.node()];
        let shape = dims(bias.primitive());
        let output = Flex::add_bias(x.primitive().clone(), bias.primitive().clone());
        match Step.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(shape, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn head_norm(
        qkv: FloatTensor<Self>,
        query_weight: FloatTensor<Self>,
        key_weight: FloatTensor<Self>,
        heads: Heads,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Step;
        impl Backward<Flex, 3> for Step {
            type State = ([FlexTensor; 3], Heads, f32);

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let ([qkv, query, key], heads, epsilon) = ops.state;
                let gradient = grads.consume::<Flex>(&ops.node);
                let shapes = [dims(&qkv), dims(&query), dims(&key)];
                let head_norm_kernel::Gradients { qkv, query, key } = with_slice(qkv, |qkv| {
                    with_slice(query, |query| {
                        with_slice(key, |key| {
                            let norms = Norms { query, key, epsilon };
                            with_slice(gradient, |g| {
                                measure(Part::Norm, || head_norm_kernel::backward(qkv, heads, norms, g))
                            })
                        })
                    })
                });
                for ((node, values), shape) in ops.parents.into_iter().zip([qkv, query, key]).zip(shapes) {
                    if let Some(node) = node {
                        grads.register::<Flex>(node.id, tensor(values, shape));
                    }
                }
            }
        }
        let nodes = [qkv.node(), query_weight.node(), key_weight.node()];
        let inputs = [qkv, query_weight, key_weight].map(|input| input.primitive().clone());
        let [qkv, query, key] = inputs.clone();
        let output = Flex::head_norm(qkv, query, key, heads, epsilon);
        match Step.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, heads, epsilon), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Step;
        impl Backward<Flex, 2> for Step {
            type State = (FlexTensor, FlexTensor, f32);

            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [x_node, weight_node] = ops.parents;
                let (x, weight, epsilon) = ops.state;
                let gradient = grads.consume::<Flex>(&ops.node);
                let (x_shape, weight_shape) = (dims(&x), dims(&weight));
                let (dx, dw) = with_slice(x, |x| {
                    with_slice(weight, |weight| {
                        with_slice(gradient, |g| {
                            measure(Part::Norm, || norm_kernel::backward(x, weight, epsilon, g))
                        })
                    })
                });
                if let Some(node) = x_node {
                    grads.register::<Flex>(node.id, tensor(dx, x_shape));
                }
                if let Some(node) = weight_node {
                    grads.register::<Flex>(node.id, tensor(dw, weight_shape));
                }
            }
        }
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (x.primitive().clone(), weight.primitive().clone());
        let output = Flex::rms_norm(x.clone(), weight.clone(), epsilon);
        match Step.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight, epsilon), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Step;
        impl Backward<Flex, 1> for Step {
            type State = FlexTensor;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gate_up = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| {
                    let shape = dims(&gate_up);
                    with_slice(gate_up, |gate_up| {
                        with_slice(gradient, |g| {
                            tensor(
                                measure(Part::Activation, || {
                                    swiglu_kernel::backward(gate_up, shape[1] / 2, g)
                                }),
                                shape,
                            )
                        })
                    })
                });
            }
        }
        let (gate_up, node) = gate_up.into_parts();
        let output = Flex::swiglu(gate_up.clone());
        match Step.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gate_up, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn attention(qkv: FloatTensor<Self>, attention: Attention) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Step;
        impl Backward<Flex, 1> for Step {
            type State = Attended;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let Attended { qkv, attention, output, log_sums } = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| {
                    let shape = dims(&qkv);
                    with_slice(qkv, |qkv| {
                        with_slice(output, |output| {
                            let saved = Saved { output, log_sums: &log_sums };
                            with_slice(gradient, |g| {
                                let made = measure(Part::Attention, || {
                                    attention_kernel::backward(qkv, &attention, saved, g)
                                });
                                tensor(made, shape)
                            })
                        })
                    })
                });
            }
        }
        let (qkv, node) = qkv.into_parts();
        match Step.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let shape = [dims(&qkv)[0], attention.heads.output_width()];
                let Forward { output, log_sums } = with_slice(qkv.clone(), |qkv| {
                    measure(Part::Attention, || attention_kernel::forward(qkv, &attention))
                });
                let output = tensor(output, shape);
                prep.finish(
                    Attended { qkv, attention, output: output.clone(), log_sums: log_sums.into() },
                    output,
                )
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::attention(qkv, attention)),
        }
    }

    fn gather(matrix: FloatTensor<Self>, indices: Arc<[u32]>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Step;
        impl Backward<Flex, 1> for Step {
            type State = ([usize; 2], Arc<[u32]>);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let ([rows, width], indices) = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| {
                    with_slice(gradient, |g| {
                        tensor(gather_kernel::backward(rows, width, &indices, g), [rows, width])
                    })
                });
            }
        }
        let (matrix, node) = matrix.into_parts();
        let shape = dims(&matrix);
        let output = Flex::gather(matrix, indices.clone());
        match Step.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((shape, indices), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

fn dims(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.shape();
    [shape[0], shape[1]]
}

fn tensor(values: Vec<f32>, shape: [usize; 2]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Shows a tensor's numbers in row-major order, copying only where they do not lie so.
fn with_slice<R>(tensor: FlexTensor, read: impl FnOnce(&[f32]) -> R) -> R {
    let tensor = if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() };
    read(tensor.as_slice::<f32>().expect("the decoder's tensors are f32, and this one is contiguous"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::DecoderConfig;
    use crate::config::tests::small;
    use crate::rope::Rope;
    use burn::tensor::{Device, Tolerance};

    use crate::kernels::attention::BLOCK;
    use crate::kernels::lora::Correction;

    thread_local! {
        /// Whether this thread is to do without the kernels.
        pub(super) static IS_PLAIN: Cell<bool> = const { Cell::new(false) };
    }

    /// Does some work as any device without kernels would.
    pub(crate) fn without_kernels<R>(work: impl FnOnce() -> R) -> R {
        IS_PLAIN.set(true);
        let result = work();
        IS_PLAIN.set(false);
        result
    }

    /// Numbers without a pattern, the same on every run.
    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + 1) * (2 * salt + 7919) % 10_007) as f32 / 10_007.0 - 0.5) * 2.0).collect()
    }

    fn input<const D: usize>(shape: [usize; D], salt: usize) -> Tensor<D> {
        let data = TensorData::new(numbers(shape.iter().product(), salt), shape);
        Tensor::from_data(data, &Device::flex().autodiff()).require_grad()
    }

    /// Holds value and gradients of a fused operation against the plain one under Burn's own autodiff.
    fn check<const N: usize>(
        shapes: [[usize; 2]; N],
        fused: impl Fn([Tensor<2>; N]) -> Tensor<2>,
        plain: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    ) {
        let inputs = || std::array::from_fn(|index| input(shapes[index], index));
        let run = |operation: &dyn Fn([Tensor<2>; N]) -> Tensor<2>| {
            let inputs: [Tensor<2>; N] = inputs();
            let output = operation(inputs.clone());
            // Weighting the result makes every incoming gradient a different number.
            let weights = Tensor::from_data(
                TensorData::new(numbers(output.dims().iter().product(), 99), output.dims()),
                &Device::flex().autodiff(),
            );
            let gradients = (output.clone() * weights).sum().backward();
            let gradients = inputs.map(|input| input.grad(&gradients).expect("tracked").into_data());
            (output.into_data(), gradients)
        };
        let (fused_output, fused_gradients) = run(&fused);
        let (plain_output, plain_gradients) = run(&plain);
        let tolerance = Tolerance::<f32>::absolute(2e-5);
        fused_output.assert_approx_eq(&plain_output, tolerance);
        for (fused, plain) in fused_gradients.iter().zip(&plain_gradients) {
            fused.assert_approx_eq(plain, tolerance);
        }
        // Untracked inputs give the same value.
        let untracked = inputs().map(|input| input.without_autodiff());
        untracked_value(fused(untracked)).assert_eq(&fused_output, true);
    }

    fn untracked_value(tensor: Tensor<2>) -> TensorData {
        assert!(!tensor.is_tracked());
        tensor.into_data()
    }

    #[test]
    fn rms_norm_is_the_plain_one() {
        for rows in [1, 3, 64, 130] {
            let shapes = [[rows, 24], [1, 24]];
            check(shapes, |[x, w]| rms_norm(x, w, 1e-5), |[x, w]| plain::rms_norm(x, w, 1e-5));
        }
    }

    #[test]
    fn linear_is_the_plain_one() {
        for rows in [1, 7, 300] {
            let shapes = [[rows, 24], [40, 24]];
            check(shapes, |[x, w]| linear(x, w, None) / 8.0, |[x, w]| plain::linear(x, w, None) / 8.0);
            check(
                [[rows, 24], [40, 24], [rows, 40]],
                |[x, w, r]| linear(x, w, Some(r)) / 8.0,
                |[x, w, r]| plain::linear(x, w, Some(r)) / 8.0,
            );
        }
    }

    #[test]
    fn add_bias_is_the_plain_one() {
        for rows in [1, 7, 130] {
            check([[rows, 24], [24, 1]], |[x, b]| add_bias(x, b), |[x, b]| plain::add_bias(x, b));
        }
    }

    #[test]
    fn head_norm_is_the_plain_one() {
        for (query, key_value, head_dim) in [(4, 2, 6), (3, 1, 20), (2, 2, 16)] {
            let heads = Heads { query, key_value, head_dim };
            for rows in [1, 9, 130] {
                check(
                    [[rows, heads.qkv_width()], [1, head_dim], [1, head_dim]],
                    |[x, q, k]| head_norm(x, q, k, heads, 1e-5) / 4.0,
                    |[x, q, k]| plain::head_norm(x, q, k, heads, 1e-5) / 4.0,
                );
            }
        }
    }

    #[test]
    fn swiglu_is_the_plain_one() {
        for rows in [1, 33, 70] {
            check([[rows, 38]], |[x]| swiglu(x), |[x]| plain::swiglu(x));
        }
    }

    #[test]
    fn gather_is_the_plain_one() {
        let indices: Arc<[u32]> = [3, 0, 3, 4, 3].into();
        check([[6, 10]], |[x]| gather(x, &indices), |[x]| plain::gather(x, &indices));
    }

    #[test]
    fn a_low_rank_correction_is_the_plain_one() {
        for (rows, dropout) in [(1, 0.0), (9, 0.0), (1, 0.4), (9, 0.4)] {
            let correction =
                Arc::new(Correction { parts: vec![0..10, 14..20], rank: 3, scale: 0.5, dropout });
            let adapter = |a, b| Adapter { a, b, correction: correction.clone(), dropout: None }.dropping(5);
            check(
                [[rows, 12], [rows, 24], [6, 12], [16, 3]],
                |[x, y, a, b]| lora(x, y, adapter(a, b)),
                |[x, y, a, b]| plain::lora(x, y, adapter(a, b)),
            );
        }
    }

    #[test]
    fn a_gradient_from_elsewhere_is_passed_on() {
        let (x, gradient) = (input([3, 4], 1), input([3, 4], 2).without_autodiff());
        let grads = pull(x.clone() * 2.0, gradient.clone()).backward();
        x.grad(&grads).expect("tracked").into_data().assert_eq(&(gradient * 2.0).into_data(), true);
    }

    fn settings(heads: Heads, lengths: &[usize]) -> (usize, Attention) {
        let mut offsets = vec![0];
        for length in lengths {
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        let tokens = offsets[lengths.len()];
        let rope = Rope::new(&DecoderConfig { head_dim: heads.head_dim, ..small() });
        let rope = lengths.iter().map(|&length| rope.table(0..length)).collect();
        (tokens, Attention { heads, offsets: offsets.into(), rope, window: None })
    }

    #[test]
    fn attention_is_the_plain_one_for_every_length_grouping_and_window() {
        for (query, key_value, head_dim) in [(4, 4, 6), (4, 2, 16), (6, 2, 20), (3, 1, 32)] {
            let heads = Heads { query, key_value, head_dim };
            let lengths = [vec![1], vec![5, 1, 6, 7], vec![16, 17, 40, 2]];
            let windows = [None, Some(1), Some(5), Some(6), Some(16), Some(23), Some(1000)];
            for (lengths, window) in lengths.iter().flat_map(|lengths| windows.map(|w| (lengths, w))) {
                let (tokens, settings) = settings(heads, lengths);
                let settings = Attention { window, ..settings };
                check(
                    [[tokens, heads.qkv_width()]],
                    |[x]| attention(x * 3.0, &settings),
                    |[x]| plain::attention(x * 3.0, &settings),
                );
            }
        }
    }

    #[test]
    fn attention_is_the_plain_one_around_the_edges_of_blocks() {
        let heads = Heads { query: 2, key_value: 1, head_dim: 10 };
        for length in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            for window in [None, Some(2), Some(BLOCK), Some(BLOCK + 1), Some(BLOCK + 20), Some(3 * BLOCK)] {
                let (tokens, settings) = settings(heads, &[length, 5]);
                let settings = Attention { window, ..settings };
                check(
                    [[tokens, heads.qkv_width()]],
                    |[x]| attention(x * 3.0, &settings),
                    |[x]| plain::attention(x * 3.0, &settings),
                );
            }
        }
    }

    /// Value and gradient of attention.
    fn attend(qkv: Tensor<2>, settings: &Attention) -> [TensorData; 2] {
        let output = attention(qkv.clone(), settings);
        let gradients = (output.clone() * output.clone().detach()).sum().backward();
        [output.into_data(), qkv.grad(&gradients).expect("tracked").into_data()]
    }

    #[test]
    fn attention_does_not_cross_sequences() {
        let heads = Heads { query: 4, key_value: 2, head_dim: 8 };
        for window in [None, Some(30)] {
            let lengths = [7, 20, 2 * BLOCK + 5, 3];
            let (tokens, packed) = settings(heads, &lengths);
            let qkv = input([tokens, heads.qkv_width()], 5);
            let together = attend(qkv.clone(), &Attention { window, ..packed.clone() });
            for (first, length) in packed.offsets.iter().zip(lengths) {
                let (_, alone) = settings(heads, &[length]);
                let part = |data: &TensorData| {
                    Tensor::<2>::from_data(data.clone(), &Device::flex())
                        .narrow(0, *first, length)
                        .into_data()
                };
                let qkv = Tensor::from_data(part(&qkv.to_data()), &Device::flex().autodiff()).require_grad();
                let alone = attend(qkv, &Attention { window, ..alone });
                for (together, alone) in together.iter().zip(alone) {
                    part(together).assert_eq(&alone, true);
                }
            }
        }
    }

    #[test]
    fn attention_does_not_depend_on_the_number_of_threads() {
        let heads = Heads { query: 6, key_value: 2, head_dim: 8 };
        for window in [None, Some(BLOCK / 2), Some(2 * BLOCK)] {
            let (tokens, settings) = settings(heads, &[5 * BLOCK + 3, 9, 2 * BLOCK]);
            let settings = Attention { window, ..settings };
            let results = [1, 2, 5].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                pool.install(|| attend(input([tokens, heads.qkv_width()], 5), &settings))
            });
            for other in &results[1..] {
                for (one, other) in results[0].iter().zip(other) {
                    one.assert_eq(other, true);
                }
            }
        }
    }

    #[test]
    fn derivatives_agree_with_finite_differences() {
        let heads = Heads { query: 2, key_value: 1, head_dim: 4 };
        let (tokens, settings) = settings(heads, &[3, 8]);
        let targets: Vec<i64> = (0..tokens as i64).map(|i| i % 4).collect();
        let targets =
            burn::tensor::Tensor::<1, burn::tensor::Int>::from_data(targets.as_slice(), &Device::flex());
        let targets = targets.reshape([tokens, 1]);
        let weight = input([1, 8], 3);
        // All fused operations in one chain.
        let bias = input([heads.qkv_width(), 1], 4);
        let norms = [5, 6].map(|salt| input([1, heads.head_dim], salt));
        let loss = |x: Tensor<2>| {
            let [query, key] = norms.clone();
            let x = head_norm(add_bias(x, bias.clone()), query, key, heads, 1e-2);
            let mixed = attention(x, &settings); // [tokens, 8]
            let gated = swiglu(rms_norm(mixed, weight.clone(), 1e-5)); // [tokens, 4]
            let logs = burn::tensor::activation::log_softmax(gated * 4.0, 1);
            logs.gather(1, targets.clone()).sum()
        };
        let x = input([tokens, heads.qkv_width()], 11);
        let gradient: Vec<f32> =
            x.grad(&loss(x.clone()).backward()).expect("tracked").into_data().iter::<f32>().collect();
        let values: Vec<f32> = x.into_data().iter::<f32>().collect();
        let at = |index: usize, step: f32| {
            let mut moved = values.clone();
            moved[index] += step;
            let data = TensorData::new(moved, [tokens, heads.qkv_width()]);
            f64::from(loss(Tensor::from_data(data, &Device::flex())).into_scalar::<f32>())
        };
        for index in (0..values.len()).step_by(3) {
            let step = 3e-3;
            let estimate = (at(index, step) - at(index, -step)) / (2.0 * f64::from(step));
            let error = (estimate - f64::from(gradient[index])).abs();
            assert!(error < 4e-3 + 0.01 * estimate.abs(), "{index}: {estimate} and {}", gradient[index]);
        }
    }
}
