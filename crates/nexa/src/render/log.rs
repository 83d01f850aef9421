//! The log on stderr: quiet unless `NEXA_LOG` asks for it.

use tracing_subscriber::EnvFilter;

/// Sets the log up for this process.
pub(crate) fn init() {
    let filter = EnvFilter::try_from_env("NEXA_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    let colour = std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
}
