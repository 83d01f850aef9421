//! `nexa evaluate report`: one evaluation as one file of HTML.

use std::path::PathBuf;

use anyhow::Result;
use nexa_core::artifact::{Artifact, ArtifactId, Kind};
use nexa_core::{ExitCode, files};
use nexa_eval::calibration::calibration;
use nexa_eval::judge::{Report, Verdicts};
use nexa_eval::{Evaluation, statistics};
use nexa_ui::{Calibration, CalibrationBin, JudgedScore, ReportConfig};
use serde_json::json;

use crate::app::App;
use crate::args::{EvaluateReportArgs, Global};
use crate::render::{self, error::reported};
use crate::wire::estimate;

/// Writes the report on the evaluation that was named, or on the newest one.
pub(super) fn run(global: &Global, args: &EvaluateReportArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let artifact = match &args.evaluation {
        Some(name) => super::evaluation(&app, name)?,
        None => {
            let newest = app.store().latest(app.project()?.name(), Kind::Evaluation)?;
            render::note(&format!("using {}", newest.id()));
            newest
        }
    };
    let config = ReportConfig {
        samples: args.samples,
        seed: args.seed,
        calibrations: calibrations(&app, &artifact)?,
        judged: judged(&app, &artifact)?,
    };
    let page = nexa_ui::report(&app.lab, &app.tables, artifact.id(), &config).map_err(reported)?;
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.html", artifact.id().stem())));
    files::write_atomic(&std::path::absolute(&path)?, page.as_bytes())?;
    if global.json {
        render::json(&json!({"evaluation": artifact.id(), "path": path, "bytes": page.len()}))?;
    } else {
        let size = render::table::size(page.len() as u64);
        render::note(&format!("{}: {size}, nothing else is needed to open it", path.display()));
    }
    Ok(ExitCode::Success)
}

/// How sure the model was, for each task that tells.
fn calibrations(app: &App, artifact: &Artifact) -> Result<Vec<Calibration>> {
    let evaluation = Evaluation::read(artifact, &app.tables).map_err(reported)?;
    let tasks = evaluation.facts.questions.keys();
    let found = tasks.filter_map(|task| calibration(&evaluation, task));
    Ok(found.map(view).collect())
}

fn view(found: nexa_eval::calibration::Calibration) -> Calibration {
    let bin = |bin: &nexa_eval::calibration::Bin| CalibrationBin {
        confidence: bin.confidence,
        right: estimate(bin.right),
        n: bin.right.n as u64,
    };
    Calibration {
        task: found.task,
        n: found.n as u64,
        expected_error: found.expected_error,
        bins: found.bins.iter().map(bin).collect(),
    }
}

/// What verdicts on the evaluation come to: means of single answers, and win rates over other models.
fn judged(app: &App, artifact: &Artifact) -> Result<Vec<JudgedScore>> {
    let mut verdicts = app.store().of_kind(&artifact.id().project, Kind::Verdicts)?;
    verdicts.retain(|one| is_of(one, artifact.id()));
    if verdicts.is_empty() {
        return Ok(Vec::new());
    }
    let report = Report::of(&Verdicts::read(&verdicts, &app.tables).map_err(reported)?, None, 0);
    let score = |label: String, value: statistics::Estimate| JudgedScore {
        label,
        value: estimate(value),
        n: value.n as u64,
    };
    let means = report.means.iter().filter(|mean| mean.is_overall()).map(|mean| {
        let of = mean.model.as_ref().map(|model| format!(" of {model}")).unwrap_or_default();
        score(format!("{}{of}", mean.criterion.as_deref().unwrap_or("mean score")), mean.mean)
    });
    let rates = report
        .win_rates
        .iter()
        .map(|rate| score(format!("win rate of {} over {}", rate.model, rate.other_model), rate.win_rate));
    Ok(means.chain(rates).collect())
}

fn is_of(verdicts: &Artifact, evaluation: &ArtifactId) -> bool {
    let id = evaluation.to_string();
    verdicts.manifest.parents.iter().any(|parent| parent.id == id)
}
