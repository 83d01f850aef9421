//! `nexa ui`: the dashboards of the lab.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use nexa_core::ExitCode;

use crate::app::App;
use crate::args::{Global, UiArgs};
use crate::render::{self, error::reported};
use crate::wire::Leaderboards;

/// Serves the dashboards until the user stops them.
pub(crate) fn run(global: &Global, args: &UiArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let config =
        nexa_ui::Config { host: args.host.clone(), port: args.port, open_to_network: args.open_to_network };
    serve(&app, &config, &args.servers, |address| {
        render::note(&format!("dashboards: http://{address}/  (Ctrl-C stops)"));
    })
}

/// Serves them with a configuration, and a chat with the inference servers that are named; `on_ready` is told the address.
pub(crate) fn serve(
    app: &App,
    config: &nexa_ui::Config,
    servers: &[nexa_ui::ServerAddress],
    on_ready: impl FnOnce(SocketAddr),
) -> Result<ExitCode> {
    let tables: Arc<nexa_data::tables::FileTables> = Arc::new(app.tables);
    let leaderboards = Arc::new(Leaderboards::new(app.lab.clone(), tables.clone()));
    let chat = nexa_ui::Chat { servers: servers.to_vec(), api_key: app.environment.get("NEXA_API_KEY") };
    let site = nexa_ui::Site { lab: app.lab.clone(), tables, leaderboard: leaderboards, chat };
    nexa_ui::serve(site, config, on_ready, &app.cancel).map_err(reported)?;
    Ok(ExitCode::Success)
}
