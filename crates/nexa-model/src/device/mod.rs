//! Which devices there are, and how one is opened.
//!
//! A configuration names a device by a word, [`DeviceName`]. What a binary can use is decided when it is built, by the
//! cargo features of [`Backend`]; what of that is there is asked when it is needed. Only [`open`] touches a device.

mod name;

use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(any(
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "webgpu"
))]
use burn::tensor::DeviceType;
use burn::tensor::{Device, FloatDType, Tensor};

use nexa_core::{Diagnose, ExitCode};

pub use name::{Backend, DeviceName, UnknownDevice};

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

/// What `auto` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The device.
    pub name: DeviceName,
    /// Why it is the CPU although this binary has other backends.
    pub reason: Option<String>,
}

/// A device that this binary can use on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: DeviceName,
    /// Whether it is a graphics card that the CPU pretends to be.
    pub is_software: bool,
}

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

/// Finds out what a name stands for: `auto` is the first device, in the order of [`Backend::ALL`], that is real.
pub fn resolve(name: DeviceName) -> Choice {
    if name != DeviceName::Auto {
        return Choice { name, reason: None };
    }
    let found = found();
    if let Some(best) = found.iter().find(|found| !found.is_software && !found.name.is_cpu()) {
        return Choice { name: best.name, reason: None };
    }
    let built = Backend::ALL.into_iter().filter(|backend| backend.is_built());
    let reasons = built.map(|backend| {
        let is_there = found.iter().any(|found| found.name.backend() == Some(backend));
        let problem = if is_there { "only a software renderer".to_owned() } else { backend.absence() };
        format!("{}: {problem}", backend.as_str())
    });
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    Choice { name: DeviceName::Cpu, reason: (!reasons.is_empty()).then_some(reasons) }
}

/// Lists the devices that this binary can use on this machine, without opening any.
pub fn found() -> Vec<Found> {
    let mut list = vec![Found { name: DeviceName::Cpu, is_software: false }];
    for backend in Backend::ALL {
        let devices = backend.devices().unwrap_or_default();
        list.extend(devices.iter().enumerate().map(|(index, device)| Found {
            name: DeviceName::Accelerator { backend, index },
            is_software: is_software(device),
        }));
    }
    list
}

/// Whether a device computes with 16-bit floats of the range of `f32`. The CPU does not gain by them.
pub fn has_bf16(device: &Device) -> bool {
    !is_cpu(device) && device.supports_dtype(FloatDType::BF16)
}

/// Whether a device is the CPU, for which this crate has kernels of its own.
pub fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// Lists the devices of a kind where the feature is on.
macro_rules! enumerate {
    ($feature:literal, $kind:ident) => {{
        #[cfg(feature = $feature)]
        let devices = Some(Device::enumerate(DeviceType::$kind).into_vec());
        #[cfg(not(feature = $feature))]
        let devices = None;
        devices
    }};
}

impl Backend {
    /// Lists its devices, or nothing where this binary was built without it.
    fn devices(self) -> Option<Vec<Device>> {
        match self {
            Self::Cuda => enumerate!("cuda", Cuda),
            Self::Rocm => enumerate!("rocm", Rocm),
            Self::Metal => enumerate!("metal", Metal),
            Self::Vulkan => enumerate!("vulkan", Vulkan),
            // What Burn calls `WebGpu` is a browser's.
            Self::WebGpu => enumerate!("webgpu", Wgpu),
        }
    }

    /// Whether this binary was built with it.
    fn is_built(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Rocm => cfg!(feature = "rocm"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::WebGpu => cfg!(feature = "webgpu"),
        }
    }

    /// Says why it has no device.
    fn absence(self) -> String {
        let is_missing = |driver: &str| cfg!(target_os = "linux") && !std::path::Path::new(driver).exists();
        match self {
            Self::Cuda if is_missing("/proc/driver/nvidia/version") => {
                "no NVIDIA driver is loaded (there is no /proc/driver/nvidia/version)"
            }
            Self::Cuda => "the NVIDIA driver shows no device (libcuda.so.1 is missing, or hides them)",
            Self::Rocm if is_missing("/dev/kfd") => "no AMD compute driver is loaded (there is no /dev/kfd)",
            Self::Rocm => "the AMD driver shows no device (ROCm's libamdhip64.so is missing, or hides them)",
            Self::Metal => "Metal shows no device",
            Self::Vulkan | Self::WebGpu => {
                "Vulkan shows no device (its loader, libvulkan.so.1, or the card's driver is missing)"
            }
        }
        .to_owned()
    }
}

/// Whether a graphics card is one that the CPU pretends to be.
fn is_software(device: &Device) -> bool {
    #[cfg(any(feature = "metal", feature = "vulkan", feature = "webgpu"))]
    {
        use burn::backend::{CubeDevice, DispatchDevice, WgpuDeviceKind};
        matches!(device.as_dispatch(), DispatchDevice::Cube(CubeDevice::Wgpu(device)) if device.kind == WgpuDeviceKind::Cpu)
    }
    #[cfg(not(any(feature = "metal", feature = "vulkan", feature = "webgpu")))]
    {
        let _ = device;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn auto_is_a_device_that_opens() {
        let Choice { name, reason } = resolve(DeviceName::Auto);
        assert_ne!(name, DeviceName::Auto);
        assert!(open(name).is_ok());
        let is_plain = Backend::ALL.into_iter().all(|backend| !backend.is_built());
        assert_eq!(reason.is_some(), name.is_cpu() && !is_plain, "{reason:?}");
        let named = DeviceName::Accelerator { backend: Backend::Cuda, index: 9 };
        assert_eq!(resolve(named), Choice { name: named, reason: None });
    }
}
