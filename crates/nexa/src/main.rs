//! `nexa`: the whole lab in one binary. Arguments, wiring and rendering; the work is done in the other crates.

mod app;
mod args;
mod commands;
mod datasets;
mod legacy;
mod memory;
mod models;
mod pipeline;
mod render;
mod size;
mod stages;
mod wire;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    memory::keep();
    let args = args::Args::parse_from(legacy::rewrite(std::env::args_os().collect()));
    render::log::init();
    match commands::run(args) {
        Ok(code) => ExitCode::from(code as u8),
        Err(error) => {
            render::error::print(&error);
            ExitCode::from(render::error::exit_code(&error) as u8)
        }
    }
}
