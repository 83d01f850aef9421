//! Where decoders compute, and in which numbers.
//!
//! Weights, moments and gradients are kept on the host in `f32`, whatever the device: a decoder is a copy of the
//! weights for one step, except on the CPU, where it shares them.

use burn::tensor::{DType, Device};
use nexa_model::{Decoder, Weights, device};

use crate::config::Bf16;
use crate::{Config, Error};

/// A device in use.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placement {
    device: Device,
    in_bf16: bool,
}

impl Placement {
    /// Opens the device of a configuration.
    ///
    /// # Errors
    /// Fails when the device cannot be used, or not in the numbers that are asked for.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let device = device::open(config.device).map_err(nexa_model::Error::from)?;
        let has_bf16 = device::has_bf16(&device);
        if config.bf16 == Bf16::On && !has_bf16 {
            let problem = format!("is true, but `{}` does not compute in such numbers", config.device);
            return Err(Error::Config { key: "bf16", problem });
        }
        Ok(Self { device, in_bf16: has_bf16 && config.bf16 != Bf16::Off })
    }

    /// Makes a decoder of weights.
    pub(crate) fn decoder(&self, weights: &Weights) -> Decoder {
        if self.in_bf16 {
            Decoder::in_bf16(weights, &self.device)
        } else {
            Decoder::new(weights, &self.device)
        }
    }

    /// The device.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// The numbers that products are computed in.
    pub(crate) fn dtype(&self) -> DType {
        if self.in_bf16 { DType::BF16 } else { DType::F32 }
    }

    /// The word for these numbers.
    pub(crate) fn precision(&self) -> &'static str {
        if self.in_bf16 { "bf16" } else { "f32" }
    }

    /// Whether this is the CPU.
    pub(crate) fn is_cpu(&self) -> bool {
        device::is_cpu(&self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_in_f32() {
        for bf16 in [Bf16::Auto, Bf16::Off] {
            let config = Config { bf16, ..Config::default() }.resolve().0;
            if config.device.is_cpu() {
                let placement = Placement::new(&config).expect("opens");
                assert_eq!((placement.is_cpu(), placement.precision()), (true, "f32"));
            }
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_with_its_name() {
        let config = Config { device: "cuda:99".parse().expect("a device"), ..Config::default() };
        let error = Placement::new(&config).expect_err("no machine has a hundred").to_string();
        assert!(error.starts_with("device `cuda:99`: "), "{error}");
    }
}
