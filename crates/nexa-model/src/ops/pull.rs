//! The entrance of a gradient that was computed elsewhere into a backward pass.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::{is_cpu, tensor};

/// Makes a number whose derivative with respect to `y` is `gradient`: `sum(y * gradient)`, of which only the
/// derivative is of use. On the CPU, the value is zero and costs nothing.
pub(crate) fn pull(y: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    if !is_cpu(&y) {
        return (y * gradient.autodiff()).sum();
    }
    let gradient = gradient.try_into_primitive::<Flex>().expect("a gradient lies where its tensor lies");
    Tensor::<2>::from_dispatch(<Dispatch as PullOps>::pull(y.into_dispatch(), gradient)).reshape([1])
}

/// The operation as backends see it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait PullOps: Backend {
    /// See [`pull`].
    fn pull(y: FloatTensor<Self>, gradient: FlexTensor) -> FloatTensor<Self>;
}

impl PullOps for Flex {
    fn pull(_: FlexTensor, _: FlexTensor) -> FlexTensor {
        tensor(vec![0.0], [1, 1])
    }
}

impl<C: CheckpointStrategy> PullOps for Autodiff<Flex, C> {
    fn pull(y: FloatTensor<Self>, gradient: FlexTensor) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Step;
        impl Backward<Flex, 1> for Step {
            type State = FlexTensor;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let _ = grads.consume::<Flex>(&ops.node);
                let [parent] = ops.parents;
                if let Some(node) = parent {
                    grads.register::<Flex>(node.id, ops.state);
                }
            }
        }
        let (_, node) = y.into_parts();
        let output = tensor(vec![0.0], [1, 1]);
        match Step.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gradient, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
