//! The stages as the binary runs them: through `stage::execute`, in a lab of their own.

mod collect;
mod failures;
mod package;
mod pipeline;
mod server;
mod support;
