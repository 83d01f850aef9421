//! Rows of data sets as token ids with a mark on those that carry loss, and the order in which they are seen.
//!
//! [`format`](SampleType) tells what a row is, `encode` makes tokens of it, [`Samples`] keeps them in a file that is
//! mapped into memory, [`pack`] puts them together, and `order` says which comes when. Nothing is left out in silence:
//! a [`Report`] counts what was, and why.

mod build;
mod encode;
mod file;
mod format;
mod inspect;
mod options;
mod order;
mod packing;
mod report;
mod rows;
mod set;
#[cfg(test)]
mod tests;

pub use self::build::{Samples, Source};
pub use self::file::{Mask, SampleRef};
pub use self::format::SampleType;
pub use self::inspect::{Inspection, Token, inspect};
pub use self::options::{DataOptions, DatasetConfig, ExcessLength, MessageProperties, load_tokenizer};
pub(crate) use self::order::Order;
pub use self::packing::{Packing, pack};
pub use self::report::Report;
pub(crate) use self::set::Set;
