//! The low-rank correction of a product as one operation; see [`crate::kernels::lora`].

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::{dims, is_cpu, tensor, with_slice};
use crate::kernels::dropout::Dropout;
use crate::kernels::lora::{self as kernel, Correction, Operands};
use crate::plain;
use crate::profile::{Part, measure};

/// The operands of a correction: the input of the frozen weight, all `A`, all `B`.
#[derive(Debug, Clone)]
pub(crate) struct Adapter {
    /// `[inner, inputs]`.
    pub(crate) a: Tensor<2>,
    /// `[columns of all parts, rank]`.
    pub(crate) b: Tensor<2>,
    /// Which columns are corrected.
    pub(crate) correction: Arc<Correction>,
    /// What is dropped of the input, in training.
    pub(crate) dropout: Option<Dropout>,
}

impl Adapter {
    /// Drops of the input what the key says.
    pub(crate) fn dropping(self, key: u64) -> Self {
        Self { dropout: Dropout::new(self.correction.dropout, key), ..self }
    }
}

/// What an adapter does besides its numbers.
type Change = (Arc<Correction>, Option<Dropout>);

/// Adds a correction to `product`, which was computed from `x`; see [`plain::lora`].
pub(crate) fn lora(x: Tensor<2>, product: Tensor<2>, adapter: Adapter) -> Tensor<2> {
    if !is_cpu(&x) {
        return plain::lora(x, product, adapter);
    }
    let Adapter { a, b, correction, dropout } = adapter;
    Tensor::from_dispatch(<Dispatch as LoraOps>::lora(
        x.into_dispatch(),
        product.into_dispatch(),
        a.into_dispatch(),
        b.into_dispatch(),
        (correction, dropout),
    ))
}

/// The operation as backends see it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait LoraOps: Backend {
    /// See [`lora`].
    fn lora(
        x: FloatTensor<Self>,
        product: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        change: Change,
    ) -> FloatTensor<Self>;
}

/// Computes the corrected product and the inner activations.
fn forward([x, product, a, b]: [FlexTensor; 4], (correction, dropout): &Change) -> (FlexTensor, FlexTensor) {
    let dropout = *dropout;
    let (shape, rows) = (dims(&product), dims(&x)[0]);
    let mut output = if product.is_contiguous() { product } else { product.to_contiguous() };
    let h = with_slice(x, |x| {
        with_slice(a, |a| {
            with_slice(b, |b| {
                // The product belongs to nobody else, so that this changes it in place.
                let product = output.storage_mut::<f32>();
                let operands = Operands { x, a, b, dropout };
                measure(Part::Adapter, || kernel::forward(operands, correction, product))
            })
        })
    });
    debug_assert_eq!(dims(&output), shape);
    (output, tensor(h, [rows, correction.inner()]))
}

impl LoraOps for Flex {
    fn lora(x: FlexTensor, product: FlexTensor, a: FlexTensor, b: FlexTensor, change: Change) -> FlexTensor {
        forward([x, product, a, b], &change).0
    }
}

impl<C: CheckpointStrategy> LoraOps for Autodiff<Flex, C> {
    fn lora(
        x: FloatTensor<Self>,
        product: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        change: Change,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Step;
        impl Backward<Flex, 4> for Step {
            /// Input, all `A`, all `B`, inner activations.
            type State = ([FlexTensor; 4], Change);

            fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<Flex>(&ops.node);
                let ([x, a, b, h], (correction, dropout)) = ops.state;
                let shapes = [dims(&x), dims(&a), dims(&b)];
                let made = with_slice(x, |x| {
                    with_slice(a, |a| {
                        with_slice(b, |b| {
                            with_slice(h, |h| {
                                with_slice(gradient.clone(), |gradient| {
                                    let operands = Operands { x, a, b, dropout };
                                    measure(Part::Adapter, || {
                                        kernel::backward(operands, &correction, h, gradient)
                                    })
                                })
                            })
                        })
                    })
                });
                let [x_node, product_node, a_node, b_node] = ops.parents.map(|node| node.map(|node| node.id));
                if let Some(node) = product_node {
                    grads.register::<Flex>(node, gradient);
                }
                let made = [(x_node, made.x), (a_node, made.a), (b_node, made.b)];
                for ((node, values), shape) in made.into_iter().zip(shapes) {
                    if let Some(node) = node {
                        grads.register::<Flex>(node, tensor(values, shape));
                    }
                }
            }
        }
        let (x, x_node) = x.into_parts();
        let (product, product_node) = product.into_parts();
        let (a, a_node) = a.into_parts();
        let (b, b_node) = b.into_parts();
        let (output, h) = forward([x.clone(), product, a.clone(), b.clone()], &change);
        match Step.prepare::<C>([x_node, product_node, a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([x, a, b, h], change), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
