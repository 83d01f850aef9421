//! The documents of a task: files that the user has. Nothing is fetched.

mod find;
mod read;

pub(crate) use find::{Finder, Owner};
pub(crate) use read::read;
