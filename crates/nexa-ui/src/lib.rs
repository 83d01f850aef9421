//! Dashboards: runs, curves, leaderboard, data sets, lineage and cost, rendered on the server.
//!
//! Every page is a pure function from gathered data to markup; the same data is the page's JSON twin, at the same path
//! with `.json` behind it. Everything that a browser loads comes out of the binary, so the pages work offline, under a
//! strict content security policy. The pages only read. One thing can be written from here: the lines in which reviewers decide on rows,
//! by forms that carry a token of this process and come from its own pages. The chat keeps nothing: its page asks the
//! inference servers that the user named, through this process, which knows the key.
//!
//! ```text
//! server      listens, stops
//! ├─ guard, transport     who may ask and write; twins, compression, security headers
//! ├─ router               path → gather → page
//! │  ├─ scan, metrics, tables, leaderboard     what is gathered
//! │  ├─ evaluation                             samples, pairs and verdicts, a page of a file at a time
//! │  ├─ desk                                   what reviewers see and write
//! │  ├─ chat                                   inference servers: what they serve, and what they answer
//! │  └─ pages                                  how it looks
//! └─ follow               server-sent events of a run at work
//! ```
//!
//! [`report()`] puts one evaluation into one file of the same form.

mod assets;
mod chat;
mod desk;
mod error;
mod evaluation;
mod follow;
mod format;
mod guard;
mod leaderboard;
mod logs;
mod marks;
mod metrics;
mod pages;
mod report;
mod request;
mod router;
mod scan;
mod server;
mod tables;
mod transport;

pub use chat::{Chat, ServerAddress};
pub use error::{Error, Result};
pub use leaderboard::{
    Board, Calibration, CalibrationBin, Estimate, Group, JudgedScore, LeaderboardSource, LeaderboardView,
    Place, Standing,
};
pub use report::{ReportConfig, report};
pub use server::{Config, Site, serve};
