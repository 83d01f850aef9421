//! Numbers on the host that tensors on the CPU share without a copy.

use std::fmt;
use std::ops::{Deref, DerefMut};

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;

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

    /// Copies the numbers to a device in 16 bits, rounded to the nearest.
    pub(crate) fn to_bf16(&self, device: &Device) -> Tensor<2> {
        let values: Vec<bf16> = self.par_iter().map(|&value| bf16::from_f32(value)).collect();
        let data = TensorData::new(values, self.tensor.shape());
        Tensor::from_data(data, (&device.clone().without_autodiff(), DType::BF16))
    }

    /// Takes the numbers of a tensor: shared from the CPU, copied from any other device or number format.
    pub(crate) fn from_tensor(tensor: Tensor<2>) -> Self {
        let (shape, tensor) = (tensor.dims(), tensor.cast(FloatDType::F32));
        match tensor.clone().try_into_primitive::<Flex>() {
            Ok(tensor) if tensor.is_contiguous() => Self { tensor },
            _ => {
                let values = tensor.into_data().try_to_vec::<f32>().expect("it was cast to f32");
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
