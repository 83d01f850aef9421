//! Serves the dashboards of a lab without the rest of `nexa`; a folder without a lab gets a made-up one.
//!
//! `cargo run --example dashboard -- FOLDER [PORT] [SERVER]…`; the chat asks the servers, with `NEXA_API_KEY`.

mod evaluations;
mod lab;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind, Store};
use nexa_core::env::Environment;
use nexa_core::event::Cancel;
use nexa_core::lab::Lab;
use nexa_core::stage::StageError;
use nexa_core::table::JsonLines;
use nexa_ui::{
    Board, Chat, Config, Estimate, Group, LeaderboardSource, LeaderboardView, Place, Site, Standing, serve,
};

/// Lists evaluations without measuring anything.
struct Invented(Lab);

impl LeaderboardSource for Invented {
    fn leaderboard(&self, project: &str, _: Option<&str>) -> Result<LeaderboardView, String> {
        let evaluations =
            Store::new(&self.0).of_kind(project, Kind::Evaluation).map_err(|e| e.to_string())?;
        let rows: Vec<_> = evaluations
            .iter()
            .filter(|evaluation| evaluation.id().name == "evaluation")
            .rev()
            .zip(1..)
            .map(|(evaluation, rank)| {
                let value = 0.95 - 0.2 * f64::from(rank - 1);
                Standing {
                    rank: Some(rank),
                    model: format!("{project}/student_v{}", 3 - rank.min(2)),
                    evaluation: evaluation.id().to_string(),
                    exact_match: Some(Estimate {
                        value,
                        ci_low: Some(value - 0.07),
                        ci_high: Some(value + 0.04),
                    }),
                    bits_per_byte: Some(Estimate {
                        value: 1.2 - value / 2.0,
                        ci_low: Some(1.1 - value / 2.0),
                        ci_high: Some(1.3 - value / 2.0),
                    }),
                    p_value: (rank > 1).then_some(0.0004),
                    verdict: (rank > 1).then(|| "worse than the first".to_owned()),
                    model_spend: Some(evaluation.manifest.spend.clone()),
                    created_at: Some(evaluation.manifest.created_at),
                }
            })
            .collect();
        let dataset = format!("{project}/problems_v1");
        let by_tasks: Vec<&Artifact> =
            evaluations.iter().filter(|evaluation| evaluation.id().name == "tasks").collect();
        let boards = if by_tasks.is_empty() {
            Vec::new()
        } else {
            vec![board("sums", &by_tasks), board("capitals", &by_tasks)]
        };
        Ok(LeaderboardView {
            boards,
            groups: if rows.is_empty() {
                Vec::new()
            } else {
                vec![Group { dataset, split: "test".to_owned(), n: 90, rows }]
            },
        })
    }
}

/// Makes up a lab, with evaluations by tasks beside those on the data.
fn fabricate(folder: &Path) -> Result<Lab, StageError> {
    let lab = lab::fabricate(folder)?;
    let checkpoints = Store::new(&lab).of_kind(lab::PROJECT, Kind::Checkpoint)?;
    if let Ok(checkpoints) = <[Artifact; 2]>::try_from(checkpoints) {
        evaluations::add(&lab, checkpoints)?;
    }
    Ok(lab)
}

/// Ranks evaluations in their order.
fn board(task: &str, evaluations: &[&Artifact]) -> Board {
    let place = |(evaluation, rank): (&&Artifact, u32)| {
        let value = 0.85 - 0.1 * f64::from(rank);
        let parents = &evaluation.manifest.parents;
        Place {
            rank,
            ranks: Some((1, 2)),
            model: parents.first().map(|parent| parent.id.clone()).unwrap_or_default(),
            evaluation: evaluation.id().to_string(),
            value: Estimate { value, ci_low: Some(value - 0.11), ci_high: Some(value + 0.09) },
            p_value: (rank > 1).then_some(0.212),
            verdict: (rank > 1).then(|| "no difference to the first shown".to_owned()),
            spend: evaluation.manifest.spend.clone(),
            model_spend: Some(evaluation.manifest.spend.clone()),
            made_from: vec![("sft_dataset".to_owned(), format!("{}/filtered_v1", evaluation.id().project))],
            created_at: Some(evaluation.manifest.created_at),
        }
    };
    Board {
        task: task.to_owned(),
        metric: "exact_match,strict-match".to_owned(),
        metrics: vec!["exact_match,strict-match".to_owned()],
        higher_is_better: true,
        documents: 60,
        num_fewshot: Some(2),
        subtasks: 0,
        dataset: None,
        places: evaluations.iter().zip(1..).map(place).collect(),
    }
}

#[expect(clippy::print_stderr, reason = "an example has no other way to say where it listens")]
fn main() -> Result<(), StageError> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| ".".to_owned()));
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(Config::default().port);
    let servers = arguments.map(|server| server.parse()).collect::<Result<Vec<_>, _>>()?;
    let lab = if folder.join("nexa.yaml").is_file() { Lab::open(&folder)? } else { fabricate(&folder)? };
    let config = Config { port, ..Config::default() };
    let leaderboard = Arc::new(Invented(lab.clone()));
    let api_key = Environment::load(&folder)?.get("NEXA_API_KEY");
    let chat =
        if servers.is_empty() { Chat { api_key, ..Chat::default() } } else { Chat { servers, api_key } };
    let site = Site { lab, tables: Arc::new(JsonLines), leaderboard, chat };
    serve(site, &config, |at| eprintln!("http://{at}"), &Cancel::default())?;
    Ok(())
}
