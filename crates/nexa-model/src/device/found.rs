//! What this binary can use on this machine.

use burn::tensor::Device;

use super::{Backend, DeviceName};

/// A device that this binary can use on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: DeviceName,
    /// Whether it is a graphics card that the CPU pretends to be.
    pub is_software: bool,
}

/// What `auto` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The device.
    pub name: DeviceName,
    /// Why it is the CPU although this binary has other backends.
    pub reason: Option<String>,
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

/// Lists the devices of a kind where the feature is on.
macro_rules! enumerate {
    ($feature:literal, $kind:ident) => {{
        #[cfg(feature = $feature)]
        let devices = Some(Device::enumerate(burn::tensor::DeviceType::$kind).into_vec());
        #[cfg(not(feature = $feature))]
        let devices = None;
        devices
    }};
}

impl Backend {
    /// Lists its devices, or nothing where this binary was built without it.
    pub(super) fn devices(self) -> Option<Vec<Device>> {
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
    pub(super) fn is_built(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Rocm => cfg!(feature = "rocm"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::WebGpu => cfg!(feature = "webgpu"),
        }
    }

    /// Says why it has no device.
    pub(super) fn absence(self) -> String {
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
    use crate::device::open;

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
