//! The binary as a person uses it, and the shape of the workspace.

mod architecture;
mod command_line;
mod pipeline;
mod support;
