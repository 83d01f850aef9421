//! What the stages that sift rows have in common: where rows come from, the text in them, its words, the two passes.
//!
//! A stage that sifts reads its table twice: first it judges ([`Pass`]), then it writes what is kept and what is not
//! ([`Partition`]). Neither pass holds more than some batches of rows.

mod document;
mod partition;
mod pass;
mod source;
mod union;

pub(crate) use document::{Document, require_column};
pub(crate) use nexa_core::words::Words;
pub(crate) use partition::{Partition, write_table};
pub(crate) use pass::Pass;
pub(crate) use source::{Source, id_of};
pub(crate) use union::Union;
