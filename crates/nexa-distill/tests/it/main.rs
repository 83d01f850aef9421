//! The stages as the binary runs them: through `stage::execute`, in a lab of their own.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod collect;
mod failures;
mod filter;
mod judge;
mod money;
mod package;
mod pipeline;
mod regenerate;
mod server;
mod support;
