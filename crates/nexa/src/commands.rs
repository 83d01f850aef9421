//! One file per command. A command resolves what was typed, has the work done, and renders the result.

mod bench;
mod card;
mod checkout;
mod clean;
mod collect;
mod convention;
mod cost;
mod data;
mod demo;
mod diff;
mod doctor;
mod evaluate;
mod facts;
mod feedback;
mod gc;
mod guard;
mod inference;
mod init;
mod inspect;
mod judge;
mod leaderboard;
mod lineage;
mod model;
mod package;
mod plan;
mod query;
mod receipt;
mod regenerate;
mod reproduce;
mod review;
mod run;
mod runs;
pub(crate) mod stage;
mod statistics;
mod tag;
mod thresholds;
mod track;
mod train;
mod ui;

use anyhow::Result;
use nexa_core::ExitCode;

use crate::args::{Args, BenchCommand, Command, DistillCommand, TokenizerCommand};

/// Runs the command that was typed.
///
/// # Errors
/// Whatever the command meets; the caller prints it and chooses the exit code from it.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let global = &args.global;
    match args.command {
        Command::Init { folder } => init::run(global, folder.as_deref()),
        Command::Demo(args) => demo::run(global, &args),
        Command::Doctor { reindex, verify } => doctor::run(global, reindex, verify),
        Command::Run(args) => run::run(global, &args),
        Command::Data(command) => data::run(global, command),
        Command::PrepareData(args) => convention::ingest(global, &args),
        Command::Distill(command) => match command {
            DistillCommand::Problems(args) => stage::run(global, "distill.problems", &args, &[]),
            DistillCommand::Inputs(args) => convention::inputs(global, &args),
            DistillCommand::Collect(args) => collect::run(global, args),
            DistillCommand::Judge(args) => judge::of_outputs(global, &args),
            DistillCommand::Filter(args) => stage::run(global, "distill.filter", &args, &[]),
            DistillCommand::Thresholds(args) => thresholds::run(global, &args),
            DistillCommand::Regenerate(args) => regenerate::run(global, &args),
            DistillCommand::Review(args) => review::run(global, &args),
            DistillCommand::ApplyReview(args) => review::apply(global, args),
            DistillCommand::Package(args) => package::run(global, &args),
            DistillCommand::Card { artifact } => card::run(global, artifact.as_deref()),
        },
        Command::Tokenizer(TokenizerCommand::Train(args)) => {
            stage::run(global, "tokenizer.train", &args, &[])
        }
        Command::Train(args) => train::run(global, args),
        Command::Plan(args) => plan::run(global, args),
        Command::Bench(BenchCommand::Train(args)) => bench::train(global, &args),
        Command::Bench(BenchCommand::Sft(args)) => bench::sft(&args),
        Command::Bench(BenchCommand::Serve(args)) => bench::serve(global, &args),
        Command::Bench(BenchCommand::Clean { table }) => bench::clean(&table),
        Command::Bench(BenchCommand::Provider(args)) => bench::provider(&args),
        Command::Evaluate(args) => evaluate::run(global, *args),
        Command::Judge(args) => judge::run(global, &args),
        Command::Leaderboard(args) => leaderboard::run(global, args),
        Command::Feedback(args) => feedback::run(global, args),
        Command::Guard(args) => guard::run(global, &args),
        Command::Inference(args) => inference::run(global, *args),
        Command::Ui(args) => ui::run(global, &args),
        Command::Runs(command) => runs::run(global, command),
        Command::Lineage(args) => lineage::run(global, &args),
        Command::Model(command) => model::run(global, command),
        Command::Cost { teachers: false } => cost::run(global),
        Command::Cost { teachers: true } => cost::teachers(global),
        Command::Other(words) => {
            let word = words.first().map(String::as_str).unwrap_or_default();
            crate::render::note(&format!("error: {}", crate::legacy::answer(word)));
            Ok(ExitCode::Usage)
        }
    }
}
