//! The words for devices.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A device as configurations name it: `auto`, `cpu`, or a backend with the number of its device, such as `cuda:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// The best of what this binary can use on this machine.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A device of a backend.
    Accelerator {
        /// Which backend.
        backend: Backend,
        /// Which of its devices, from 0.
        index: usize,
    },
}

/// What computes on a device besides the CPU. Each is a cargo feature of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// NVIDIA's.
    Cuda,
    /// AMD's.
    Rocm,
    /// Apple's.
    Metal,
    /// Vulkan, with shaders in SPIR-V.
    Vulkan,
    /// The graphics interface of the system (Vulkan, Metal, Direct3D 12), with shaders in WGSL.
    WebGpu,
}

/// A word that names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device (there are: auto, cpu, cuda:N, rocm:N, metal:N, vulkan:N, webgpu:N)")]
pub struct UnknownDevice(String);

impl DeviceName {
    /// Whether this is the CPU.
    pub fn is_cpu(self) -> bool {
        self == Self::Cpu
    }

    /// The backend, of a device that has one.
    pub fn backend(self) -> Option<Backend> {
        match self {
            Self::Accelerator { backend, .. } => Some(backend),
            Self::Auto | Self::Cpu => None,
        }
    }
}

impl Backend {
    /// All backends, the one that a device is best used through first.
    pub const ALL: [Self; 5] = [Self::Cuda, Self::Rocm, Self::Metal, Self::Vulkan, Self::WebGpu];

    /// The word for it, which is also its cargo feature.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
            Self::WebGpu => "webgpu",
        }
    }
}

impl FromStr for DeviceName {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(text.to_owned());
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            _ => {}
        }
        let (word, number) = text.split_once(':').unwrap_or((text, "0"));
        let backend = Backend::ALL.into_iter().find(|backend| backend.as_str() == word);
        // `usize` would take a sign too.
        let index = number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()));
        Ok(Self::Accelerator { backend: backend.ok_or_else(unknown)?, index: index.ok_or_else(unknown)? })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Accelerator { backend, index } => write!(f, "{}:{index}", backend.as_str()),
        }
    }
}

impl TryFrom<String> for DeviceName {
    type Error = UnknownDevice;

    fn try_from(text: String) -> Result<Self, UnknownDevice> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        let check = |text: &str, expected: &str| {
            let name: DeviceName = text.parse().expect(text);
            assert_eq!(name.to_string(), expected);
            let json = serde_json::to_string(&name).expect("a text");
            assert_eq!(json, format!("\"{expected}\""));
            assert_eq!(serde_json::from_str::<DeviceName>(&json).expect("reads"), name);
        };
        check("auto", "auto");
        check("cpu", "cpu");
        check("cuda", "cuda:0");
        check("cuda:3", "cuda:3");
        check("metal", "metal:0");
        check("webgpu:1", "webgpu:1");
        check("vulkan:0", "vulkan:0");
        check("rocm:12", "rocm:12");
    }

    #[test]
    fn other_words_are_refused_with_those_that_there_are() {
        for text in ["", "gpu", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:0:1", "tpu:0"]
        {
            let error = text.parse::<DeviceName>().expect_err(text).to_string();
            assert!(
                error.starts_with(&format!("`{text}` is no device (there are: auto, cpu, cuda:N")),
                "{error}"
            );
        }
    }
}
