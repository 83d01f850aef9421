//! Numbers on the host that tensors on the CPU share without a copy.

use std::fmt;
use std::ops::{Deref, DerefMut};

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Device, Tensor, TensorData};

/// A matrix of `f32`, row by row. Cloning shares the numbers; whoever changes shared numbers gets a copy of their own.
#[derive(Clone)]
pub struct Buffer {
    tensor: FlexTensor,
}

impl Buffer {
    /// Takes the numbers of a matrix, without copying them.
    ///
    /// # Panics
    /// Panics when the count is not that of the shape.
    pub fn new(values: Vec<f32>, shape: [usize; 2]) -> Self {
        assert_eq!(values.len(), shape[0] * shape[1], "one number for each row and column");
        Self { tensor: FlexTensor::from_data(TensorData::new(values, shape)) }
    }

    /// Shows the numbers to tensor operations: shared on the CPU, copied to any other device.
    pub(crate) fn to_tensor(&self, device: &Device) -> Tensor<2> {
        let shared = Tensor::<2>::from_primitive::<Flex>(self.tensor.clone());
        let plain = device.clone().without_autodiff();
        if plain == shared.device() { shared } else { shared.to_device(&plain) }
    }

    /// Takes the numbers of a tensor: shared from the CPU, copied from any other device.
    pub(crate) fn from_tensor(tensor: Tensor<2>) -> Self {
        let shape = tensor.dims();
        match tensor.clone().try_into_primitive::<Flex>() {
            Ok(tensor) if tensor.is_contiguous() => Self { tensor },
            _ => {
                let values = tensor.into_data().try_to_vec::<f32>().expect("the decoder computes in f32");
                Self::new(values, shape)
            }
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.tensor.as_slice().expect("a buffer is contiguous and f32")
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.tensor.storage_mut()
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} numbers)", self.len())
    }
}
