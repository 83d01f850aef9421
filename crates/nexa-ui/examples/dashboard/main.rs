//! Serves the dashboards of a lab without the rest of `nexa`; a folder without a lab gets a made-up one.
//!
//! `cargo run --example dashboard -- FOLDER [PORT] [SERVER]…`; the chat asks the servers, with `NEXA_API_KEY`.

mod lab;

use std::path::PathBuf;
use std::sync::Arc;

use nexa_core::artifact::{Kind, Store};
use nexa_core::env::Environment;
use nexa_core::event::Cancel;
use nexa_core::lab::Lab;
use nexa_core::stage::StageError;
use nexa_core::table::JsonLines;
use nexa_ui::{Chat, Config, Estimate, Group, LeaderboardSource, LeaderboardView, Site, Standing, serve};

/// Lists evaluations without measuring anything.
struct Invented(Lab);

impl LeaderboardSource for Invented {
    fn leaderboard(&self, project: &str) -> Result<LeaderboardView, String> {
        let evaluations =
            Store::new(&self.0).of_kind(project, Kind::Evaluation).map_err(|e| e.to_string())?;
        let rows: Vec<_> = evaluations
            .iter()
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
        Ok(LeaderboardView {
            groups: if rows.is_empty() {
                Vec::new()
            } else {
                vec![Group { dataset, split: "test".to_owned(), n: 90, rows }]
            },
        })
    }
}

#[expect(clippy::print_stderr, reason = "an example has no other way to say where it listens")]
fn main() -> Result<(), StageError> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| ".".to_owned()));
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(Config::default().port);
    let servers = arguments.map(|server| server.parse()).collect::<Result<Vec<_>, _>>()?;
    let lab = if folder.join("nexa.yaml").is_file() { Lab::open(&folder)? } else { lab::fabricate(&folder)? };
    let config = Config { port, ..Config::default() };
    let leaderboard = Arc::new(Invented(lab.clone()));
    let api_key = Environment::load(&folder)?.get("NEXA_API_KEY");
    let chat =
        if servers.is_empty() { Chat { api_key, ..Chat::default() } } else { Chat { servers, api_key } };
    let site = Site { lab, tables: Arc::new(JsonLines), leaderboard, chat };
    serve(site, &config, |at| eprintln!("http://{at}"), &Cancel::default())?;
    Ok(())
}
