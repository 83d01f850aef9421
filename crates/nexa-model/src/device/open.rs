//! The opening of a device, and what can go wrong with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device, FloatDType, Tensor};
use nexa_core::{Diagnose, ExitCode};

use super::{DeviceName, found, resolve};

/// Opens a device, and sees that it computes.
///
/// # Errors
/// Fails when this binary or this machine lacks what the device needs.
pub fn open(name: DeviceName) -> Result<Device, Error> {
    let DeviceName::Accelerator { backend, index } = resolve(name).name else {
        return Ok(Device::flex());
    };
    let name = DeviceName::Accelerator { backend, index };
    let devices = backend.devices().ok_or(Error::NotBuilt { name, feature: backend.as_str() })?;
    if devices.is_empty() {
        return Err(Error::NoDriver { name, problem: backend.absence() });
    }
    let count = devices.len();
    let device = devices.into_iter().nth(index).ok_or(Error::NoSuchIndex { name, count })?;
    // Backends panic where a driver is there and refuses; a number that came back proves that it does not.
    match catch_unwind(AssertUnwindSafe(|| Tensor::<1>::ones([2], &device).sum().into_scalar::<f32>())) {
        Ok(2.0) => Ok(device),
        Ok(sum) => Err(Error::Broken { name, problem: format!("1 + 1 is {sum} there") }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(Error::Broken { name, problem: text.lines().next().unwrap_or_default().to_owned() })
        }
    }
}

/// Whether a device computes with 16-bit floats of the range of `f32`. The CPU does not gain by them.
pub fn has_bf16(device: &Device) -> bool {
    !is_cpu(device) && device.supports_dtype(FloatDType::BF16)
}

/// Whether a device is the CPU, for which this crate has kernels of its own.
pub fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary lacks the backend.
    #[error("device `{name}`: this binary was built without `{feature}`")]
    NotBuilt {
        /// Which device.
        name: DeviceName,
        /// The cargo feature that it needs.
        feature: &'static str,
    },
    /// The machine has no device of the backend.
    #[error("device `{name}`: {problem}")]
    NoDriver {
        /// Which device.
        name: DeviceName,
        /// What is missing.
        problem: String,
    },
    /// The machine has fewer devices of the backend.
    #[error("device `{name}`: this machine has {count} of its kind, numbered from 0")]
    NoSuchIndex {
        /// Which device.
        name: DeviceName,
        /// How many there are.
        count: usize,
    },
    /// The device is there and does not compute.
    #[error("device `{name}` does not start: {problem}")]
    Broken {
        /// Which device.
        name: DeviceName,
        /// What it said.
        problem: String,
    },
}

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        let found = || found().iter().map(|found| found.name.to_string()).collect::<Vec<_>>().join(", ");
        Some(match self {
            Self::NotBuilt { feature, .. } => {
                format!("build one with `cargo build --release --features {feature}`")
            }
            Self::NoDriver { .. } | Self::NoSuchIndex { .. } => format!("there are: {}", found()),
            Self::Broken { .. } => "update its driver, or train with `device=cpu`".to_owned(),
        })
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Backend, Found};

    #[test]
    fn the_cpu_is_always_there() {
        assert!(is_cpu(&open(DeviceName::Cpu).expect("opens")));
        assert_eq!(found()[0], Found { name: DeviceName::Cpu, is_software: false });
        assert!(!has_bf16(&Device::flex()));
    }

    #[test]
    fn what_a_binary_was_not_built_with_is_named() {
        for backend in Backend::ALL.into_iter().filter(|backend| !backend.is_built()) {
            let error = open(DeviceName::Accelerator { backend, index: 1 }).expect_err("not built");
            let word = backend.as_str();
            let expected = format!("device `{word}:1`: this binary was built without `{word}`");
            assert_eq!(error.to_string(), expected);
            assert!(matches!(error, Error::NotBuilt { feature, .. } if feature == word));
        }
    }
}
