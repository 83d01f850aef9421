//! `nexa judge report`: what verdicts come to, and how far judges can be trusted.

use std::collections::BTreeMap;

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::artifact::{Artifact, Kind};
use nexa_core::review;
use nexa_eval::judge::{Labels, Report, Verdicts};

use super::{hold, show};
use crate::app::App;
use crate::args::{Global, JudgeReportArgs};
use crate::commands::feedback::parent;
use crate::render::{self, error::reported};

/// The word that stands for the labels of reviewers.
const REVIEW: &str = "review";

/// Prints the report on the verdicts that were named, or on the newest, or on all.
pub(super) fn run(global: &Global, args: &JudgeReportArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let artifacts = named(&app, args)?;
    let labels = match args.labels.as_deref() {
        None => None,
        Some(word) if word.as_os_str() == REVIEW => Some(reviewed(&app, &artifacts)?),
        Some(file) => Some(Labels::read(file, &app.tables).map_err(reported)?),
    };
    let report = of(&app, &artifacts, labels.as_ref(), args.seed)?;
    if global.json {
        render::json(&report)?;
    } else {
        show::report(&report);
    }
    if let Some(labels) = labels.filter(|_| report.cards.is_empty()) {
        render::note(&format!(
            "no item that was judged has a label of {}: ids must be the same, and models and tasks where labels name them",
            labels.source
        ));
    }
    hold(&report, args.fail_below)
}

/// The report on some artifacts.
pub(super) fn of(app: &App, artifacts: &[Artifact], labels: Option<&Labels>, seed: u64) -> Result<Report> {
    let verdicts = Verdicts::read(artifacts, &app.tables).map_err(reported)?;
    let labels = labels.map(|labels| labels.on(&verdicts)).transpose().map_err(reported)?;
    Ok(Report::of(&verdicts, labels.as_ref(), seed))
}

fn named(app: &App, args: &JudgeReportArgs) -> Result<Vec<Artifact>> {
    let (store, project) = (app.store(), app.project()?);
    if args.all {
        return Ok(store.of_kind(project.name(), Kind::Verdicts)?);
    }
    if args.verdicts.is_empty() {
        let newest = store.latest(project.name(), Kind::Verdicts)?;
        render::note(&format!("using {}", newest.id()));
        return Ok(vec![newest]);
    }
    args.verdicts.iter().map(|named| Ok(store.resolve(project.name(), named)?)).collect()
}

/// What reviewers decided on the answers that were judged: on those themselves, and on what gates made of them.
fn reviewed(app: &App, artifacts: &[Artifact]) -> Result<Labels> {
    let (store, project) = (app.store(), app.project()?);
    let filtered = store.of_kind(project.name(), Kind::Filtered)?;
    let mut journals = BTreeMap::<String, review::Journal>::new();
    for verdicts in artifacts {
        let Some(outputs) = parent(&store, verdicts, "outputs")? else { continue };
        let id = outputs.id().to_string();
        let is_of_outputs =
            |filtered: &&Artifact| filtered.manifest.parents.iter().any(|parent| parent.id == id);
        for artifact in std::iter::once(&outputs).chain(filtered.iter().filter(is_of_outputs)) {
            for (reviewer, journal) in review::Labels::new(&app.lab, artifact.id()).read_all()? {
                // One reviewer may have decided on answers before the gates and behind them.
                journals.entry(format!("{reviewer}@{}", artifact.id())).or_insert(journal);
            }
        }
    }
    Ok(Labels::of_review(&journals))
}
