//! `nexa distill package`: packages the newest answers; where they were asked for again, together with the first ones.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::artifact::Kind;

use super::{regenerate, stage};
use crate::app::App;
use crate::args::{Global, StageArgs};
use crate::render;

/// Runs the command.
pub(crate) fn run(global: &Global, args: &StageArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let mut args = args.clone();
    // Who names a source knows what else it is to be packaged with.
    let is_typed =
        |input: &String| ["filtered=", "dataset=", "regenerated"].iter().any(|role| input.starts_with(role));
    if !args.inputs.iter().any(is_typed) {
        let newest = app.store().latest(app.project()?.name(), Kind::Filtered)?;
        let chain = regenerate::chain(&app, &newest)?;
        if let [first, again @ ..] = chain.as_slice()
            && !again.is_empty()
        {
            render::note(&format!("using {} as filtered", first.id()));
            args.inputs.push(format!("filtered={}", first.id()));
            for again in again {
                render::note(&format!("using {} as regenerated", again.id()));
                args.inputs.push(format!("regenerated={}", again.id()));
            }
        }
    }
    stage::run_in(&app, global, "distill.package", (&args, &[]))
}
