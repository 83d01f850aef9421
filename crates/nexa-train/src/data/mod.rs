//! Rows of data sets as token ids with a mark on those that carry loss, and the order in which they are seen.
//!
//! [`format`](SampleType) tells what a row is, `encode` makes tokens of it, [`Samples`] keeps them in a file that is
//! mapped into memory, [`pack`] puts them together, and `order` says which comes when; `mix` how much of each data set.
//! Nothing is left out in silence: a [`Report`] counts what was, and why. `stored` and `top` are what a teacher thought
//! of the tokens, in rows and in files.

mod build;
mod count;
mod encode;
mod encoder;
mod file;
mod format;
mod inspect;
mod mix;
mod options;
mod order;
mod packing;
mod report;
mod rows;
mod sections;
mod set;
mod shards;
mod stored;
#[cfg(test)]
mod tests;
mod top;

pub use self::build::{Samples, Source};
pub use self::count::{SequenceTokens, count_tokens};
pub use self::file::{Mask, SampleRef};
pub use self::format::SampleType;
pub use self::inspect::{Inspection, Token, inspect};
#[cfg(test)]
pub(crate) use self::mix::Mix;
pub use self::options::{
    DataFile, DataOptions, DatasetConfig, ExcessLength, MessageProperties, load_tokenizer,
};
pub(crate) use self::order::Order;
pub use self::packing::{Packing, pack};
pub use self::report::Report;
pub use self::set::DatasetCounts;
pub(crate) use self::set::{Reading, Set};
pub(crate) use self::top::{TopRef, TopRows, TopWriter};
