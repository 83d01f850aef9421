//! `nexa demo`: the whole lab, from generated problems to a served model, in a folder of its own.

use std::path::Path;

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::cost::Spend;
use nexa_core::lab::Lab;
use nexa_core::{files, lineage};
use nexa_eval::leaderboard::Choice;

use crate::app::App;
use crate::args::{BoardFormat, DemoArgs, Global};
use crate::commands::leaderboard;
use crate::commands::run::execute;
use crate::pipeline::{self, Options, StageReport};
use crate::render;

const PROJECT: &str = "arithmetic_tutor";

/// The finished example of the repository, which the binary carries along.
const PROJECT_FILES: &[(&str, &str)] = &[
    ("README.md", include_str!("../../../../projects/arithmetic_tutor/README.md")),
    ("configs/student.yaml", include_str!("../../../../projects/arithmetic_tutor/configs/student.yaml")),
    ("configs/tutoring.yaml", include_str!("../../../../projects/arithmetic_tutor/configs/tutoring.yaml")),
    ("pipelines/demo.yaml", include_str!("../../../../projects/arithmetic_tutor/pipelines/demo.yaml")),
];

/// Makes the lab where it is missing, runs the pipeline, and shows what came out.
pub(crate) fn run(global: &Global, args: &DemoArgs) -> Result<ExitCode> {
    if global.project.is_some() || (global.lab.is_some() && std::env::var_os("NEXA_LAB").is_none()) {
        let message =
            "the demo has a lab and a project of its own; its folder is an argument: `nexa demo FOLDER`";
        return Err(nexa_core::Error::config("command line", message).into());
    }
    let lab = Lab::init(&args.folder, Some(PROJECT))?;
    let folder = lab.project(PROJECT)?.folder();
    for (name, text) in PROJECT_FILES {
        // What a user changed in the demo's lab stays as it is.
        let path = folder.join(name);
        if !path.exists() {
            files::write_atomic(&path, text.as_bytes())?;
        }
    }
    let app = App::with_lab(lab, Some(PROJECT.to_owned()))?;
    render::note(&format!("lab: {}", app.show(app.lab.root())));
    let pipeline = pipeline::load(&folder.join("pipelines/demo.yaml"), &args.overrides)?;
    let reports = execute(&app, &pipeline, &Options { jobs: 2, ..Options::default() })?;
    let code = pipeline::exit_code(&reports);
    if code == ExitCode::Success {
        show(&app, global, &reports)?;
    }
    Ok(code)
}

/// The leaderboard, the lineage of the student, the spend, and where to go from here.
fn show(app: &App, global: &Global, reports: &[StageReport]) -> Result<()> {
    render::note("\nleaderboard, on held-out problems:");
    let format = if global.json { BoardFormat::Json } else { BoardFormat::Table };
    leaderboard::show(app, &Choice::default(), format)?;
    let Some(student) = artifact_of(reports, Kind::Checkpoint) else { return Ok(()) };
    if !global.json {
        render::out("\nwhere the student comes from:");
        render::out(&lineage::ancestors(&app.store(), student.id())?.render());
    }
    let mut spend = Spend::default();
    for report in reports {
        if let Some(artifact) = report.state.artifact() {
            spend.merge(&artifact.manifest.spend);
        }
    }
    render::note(&format!(
        "spent in all: {spend}; {} requests, {} tokens, {} of machine time",
        render::table::count(spend.requests),
        render::table::count(spend.prompt_tokens + spend.completion_tokens),
        render::table::duration(spend.machine_seconds),
    ));
    let here = app.show(app.lab.root());
    render::note(&format!(
        "\nnext:\n  nexa ui --lab {here}\n  nexa inference --lab {here} {}\n  nexa lineage --lab {here} {}\n  nexa judge report --lab {here}",
        student.id(),
        student.id(),
    ));
    if let Some(problem) = sample_problem(app, reports) {
        // Inside single quotes, a shell takes everything but a single quote as it is.
        let body =
            serde_json::json!({"prompt": problem, "max_tokens": 96}).to_string().replace('\'', r"'\''");
        render::note(&format!(
            "  curl -s localhost:8000/infer -H 'content-type: application/json' -d '{body}'"
        ));
    }
    Ok(())
}

/// The artifact of a kind that the last stage making one made.
fn artifact_of(reports: &[StageReport], kind: Kind) -> Option<&Artifact> {
    reports
        .iter()
        .filter_map(|report| report.state.artifact())
        .rfind(|artifact| artifact.manifest.kind == kind)
}

/// A held-out problem, to try the served student with.
fn sample_problem(app: &App, reports: &[StageReport]) -> Option<String> {
    let sft = artifact_of(reports, Kind::SftDataset)?;
    let path = sft.file("test.jsonl").ok()?;
    let rows = read(app, &path)?;
    let messages = rows.first()?.get(nexa_core::columns::MESSAGES)?.as_array()?;
    let asked = messages.iter().find(|message| message["role"] == "user")?;
    asked["content"].as_str().map(str::to_owned)
}

fn read(app: &App, path: &Path) -> Option<Vec<nexa_core::table::Row>> {
    nexa_core::table::Tables::read(&app.tables, path).ok()
}
