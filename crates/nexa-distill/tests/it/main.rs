//! The stages as the binary runs them: through `stage::execute`, in a lab of their own.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod batches;
mod collect;
mod failures;
mod filter;
mod judge;
mod money;
mod package;
mod pipeline;
mod policies;
mod regenerate;
mod review;
mod server;
mod support;
mod transport;
