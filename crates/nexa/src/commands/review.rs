//! `nexa distill review` and `apply-review`: people decide on what teachers answered, and data is made of that.

mod desk;
mod editor;
mod keys;
mod screen;

use std::io::IsTerminal;

use anyhow::{Context, Result};
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::lab::check_name;
use nexa_core::review::{Deck, Labels, Session};
use nexa_core::{Error, ExitCode};

use crate::app::{self, App};
use crate::args::{Global, ReviewArgs, StageArgs};
use crate::commands::data::newest_not_by;
use crate::commands::{stage, ui};
use crate::{render, stages};

const APPLY: &str = "distill.review";

/// Opens the page of a review, or reviews in the terminal.
pub(crate) fn run(global: &Global, args: &ReviewArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let named = args.artifact.as_deref().or(args.source.as_deref());
    let artifact = match named {
        Some(name) => app.store().resolve(app.project()?.name(), name)?,
        None => newest(&app)?,
    };
    let reviewer = reviewer(args.reviewer.as_deref())?;
    if args.terminal {
        return in_terminal(&app, &artifact, &reviewer);
    }
    // What cannot be reviewed is told here rather than on a page.
    Deck::open(&artifact, &app.tables)?;
    let id = artifact.id();
    let path = format!("review/{}/{}?reviewer={reviewer}", id.project, id.stem());
    let config = nexa_ui::Config { port: args.port, ..nexa_ui::Config::default() };
    ui::serve(&app, &config, &[nexa_ui::ServerAddress::default()], |address| {
        let url = format!("http://{address}/{path}");
        render::note(&format!("review: {url}  (Ctrl-C stops)"));
        if !args.no_browser && has_browser() {
            // A browser that does not start is no failure: the address stands above.
            let _ = webbrowser::open(&url);
        }
    })
}

/// Makes data of the decisions on an artifact: the named one, else the newest that could have been reviewed.
pub(crate) fn apply(global: &Global, mut args: StageArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    if args.inputs.is_empty() {
        let artifact = newest(&app)?;
        let role = if artifact.manifest.kind == Kind::Filtered { "filtered" } else { "outputs" };
        args.inputs.push(format!("{role}={}", artifact.id()));
    }
    let kind = stages::find(APPLY).context("the command names a stage that exists")?;
    let (value, place) = stage::settings(&args, &[])?;
    let outcome = stage::execute(&app, kind, value, &place, &args)?;
    stage::show(&app, global, &outcome)
}

fn in_terminal(app: &App, artifact: &Artifact, reviewer: &str) -> Result<ExitCode> {
    let deck = Deck::open(artifact, &app.tables)?;
    let session = Session::open(Labels::new(&app.lab, artifact.id()), &deck, reviewer)?;
    for line in session.cut_lines() {
        render::note(&format!("warning: {line}"));
    }
    let texts = app.lab.state_folder().join("review").join(format!("{}.{reviewer}", artifact.id().stem()));
    let mut desk = desk::Desk::new(&deck, session, texts);
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if is_terminal {
        screen::by_key(app, &mut desk)?
    } else {
        screen::by_line(&mut desk)?
    }
    render::note(&desk.summary());
    Ok(ExitCode::Success)
}

/// The newest answers behind gates that are not the result of a review themselves, else the newest answers.
fn newest(app: &App) -> Result<Artifact> {
    let artifact = match newest_not_by(app, Kind::Filtered, APPLY)? {
        Some(artifact) => artifact,
        None => app.store().latest(app.project()?.name(), Kind::TeacherOutputs)?,
    };
    render::note(&format!("using {}", artifact.id()));
    Ok(artifact)
}

/// The name that was given, else that of the user, in the letters that names may have.
fn reviewer(named: Option<&str>) -> Result<String> {
    if let Some(name) = named {
        check_name("reviewer", name)?;
        return Ok(name.to_owned());
    }
    let user = app::user().unwrap_or_default();
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let name = user.to_lowercase().replace(|letter| !is_plain(letter), "_");
    let name = name.trim_start_matches('_');
    check_name("reviewer", name).map_err(|_| Error::NotFound {
        what: "reviewer",
        name: user,
        hint: Some("say who reviews with `--reviewer NAME`".to_owned()),
    })?;
    Ok(name.to_owned())
}

/// Whether a browser could be shown: not over SSH, and on Unix only with a display.
fn has_browser() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let has_display =
        cfg!(any(windows, target_os = "macos")) || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY");
    has_display && !is_set("SSH_CONNECTION")
}
