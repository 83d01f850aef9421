//! `nexa data tag`: words for versions.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::artifact::{Artifact, ArtifactId, Change, RolledBack, TagChange, Tagged, Tags};
use nexa_eval::promotion;

use crate::app::{self, App};
use crate::args::{Global, TagArgs};
use crate::commands::data;
use crate::render::{self, error::reported, table};

/// Gives or takes a tag, or lists those that there are.
pub(crate) fn run(global: &Global, args: &TagArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let by = app::user().unwrap_or_else(|| "unknown".to_owned());
    match (&args.artifact, &args.tag) {
        (Some(name), Some(tag)) if args.delete => delete(&app, (name, tag), &by),
        (Some(name), Some(tag)) if args.rollback => roll_back(&app, (name, tag), &by),
        (Some(name), Some(tag)) => {
            let artifact = data::resolve(&app, name)?;
            match examine(global, &app, &artifact, tag)? {
                ExitCode::Success if !args.check => {
                    set(&app, &artifact, tag, Change { by: &by, moves: args.moves })
                }
                code => Ok(code),
            }
        }
        (named, _) => list(global, &app, named.as_deref(), args.history),
    }
}

/// Holds a version against what `promotion` of `nexa.yaml` asks of a tag, and tells what holds and what does not.
fn examine(global: &Global, app: &App, artifact: &Artifact, tag: &str) -> Result<ExitCode> {
    let Some(conditions) = app.lab.settings().promotion.get(tag) else { return Ok(ExitCode::Success) };
    let id = artifact.id();
    let mut standing = Tags::new(&app.lab, &id.project)?.all()?.into_iter();
    let holder = standing.find(|change| change.name == id.name && change.tag == tag);
    let holder = match holder.and_then(|change| change.version) {
        // A version that is no longer there keeps nobody from its tag.
        Some(version) => app.store().get(&ArtifactId { version, ..id.clone() }).ok(),
        None => None,
    };
    let checks = promotion::examine(artifact, holder.as_ref(), conditions, &app.store(), &app.tables)
        .map_err(reported)?;
    if global.json {
        render::json(&checks)?;
    } else {
        for check in &checks {
            let word = if check.holds { "holds" } else { "fails" };
            render::note(&format!("{word}: {}: {}", check.condition, check.found));
        }
    }
    if checks.iter().all(|check| check.holds) {
        return Ok(ExitCode::Success);
    }
    render::note(&format!(
        "{id} does not show what `promotion.{tag}` of nexa.yaml asks for, and is not tagged"
    ));
    Ok(ExitCode::Failure)
}

/// Gives a tag to a version.
fn set(app: &App, artifact: &Artifact, tag: &str, change: Change<'_>) -> Result<ExitCode> {
    let id = artifact.id();
    let tagged = Tags::new(&app.lab, &id.project)?.set(artifact, tag, change)?;
    render::note(&match tagged {
        Tagged::New => format!("{id} is {}:{tag}", id.name),
        Tagged::Already => format!("{id} is {}:{tag} already", id.name),
        Tagged::Moved { from } => format!("{id} is {}:{tag} now; it was v{from}", id.name),
    });
    Ok(ExitCode::Success)
}

/// Takes a tag away. The name may carry the version that has it, or not.
fn delete(app: &App, (name, tag): (&str, &str), by: &str) -> Result<ExitCode> {
    let id = app.store().resolve_id(app.project()?.name(), name)?;
    let version = Tags::new(&app.lab, &id.project)?.remove(&id.name, tag, by)?;
    render::note(&format!("{}:{tag} is no more; it was v{version}", id.name));
    Ok(ExitCode::Success)
}

/// Gives a tag back to the version that had it before. The name may carry a version, which says nothing.
fn roll_back(app: &App, (name, tag): (&str, &str), by: &str) -> Result<ExitCode> {
    let id = app.store().resolve_id(app.project()?.name(), name)?;
    let RolledBack { from, to } = Tags::new(&app.lab, &id.project)?.roll_back(&id.name, tag, by)?;
    render::note(&format!("{}:{tag} is v{to} again; it was v{from}", id.name));
    Ok(ExitCode::Success)
}

fn list(global: &Global, app: &App, named: Option<&str>, history: bool) -> Result<ExitCode> {
    let name = match named {
        Some(named) => Some(app.store().resolve_id(app.project()?.name(), named)?.name),
        None => None,
    };
    let tags = Tags::new(&app.lab, app.project()?.name())?;
    let mut changes = if history { tags.history()? } else { tags.all()? };
    changes.retain(|change| name.as_ref().is_none_or(|name| *name == change.name));
    if global.json {
        render::json(&changes)?;
        return Ok(ExitCode::Success);
    }
    let row = |change: &TagChange| {
        vec![
            format!("{}:{}", change.name, change.tag),
            change.version.map_or_else(|| "taken away".to_owned(), |version| format!("v{version}")),
            change.by.clone(),
            change.at.format("%Y-%m-%d %H:%M").to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = changes.iter().map(row).collect();
    render::out(&table::table(&["tag", "version", "by", "at"], &rows));
    Ok(ExitCode::Success)
}
