//! Which devices there are, and how one is opened.
//!
//! A configuration names a device by a word, [`DeviceName`]. What a binary can use is decided when it is built, by the
//! cargo features of [`Backend`]; what of that is there is asked when it is needed. Only [`open`] touches a device.

mod found;
mod name;
mod open;

pub use found::{Choice, Found, found, resolve};
pub use name::{Backend, DeviceName, UnknownDevice};
pub use open::{Error, has_bf16, is_cpu, open};
