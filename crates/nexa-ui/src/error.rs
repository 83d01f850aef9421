//! What goes wrong in the dashboards: at start-up for the binary, afterwards for a page.

use std::io;

use axum::http::StatusCode;
use nexa_core::{Diagnose, ExitCode};

/// An error of the dashboards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading the lab failed.
    #[error(transparent)]
    Core(#[from] nexa_core::Error),
    /// Other machines could see the lab, and nothing would ask them who they are.
    #[error("listen on `{host}`: other machines could see the lab, and there is no login")]
    Exposed {
        /// The host.
        host: String,
    },
    /// The address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// Host and port.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server could not be started or ended abnormally.
    #[error("serve dashboards on {address}: {source}")]
    Serve {
        /// Host and port.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The leaderboard of a project could not be made.
    #[error("make the leaderboard of project `{project}`: {message}")]
    Leaderboard {
        /// The project.
        project: String,
        /// What its source said.
        message: String,
    },
    /// What a page of another process asked for, or nobody's.
    #[error("{doing}: the page is of an earlier start of `nexa ui`")]
    Stale {
        /// What was asked for.
        doing: &'static str,
    },
    /// The address of an inference server that cannot be one.
    #[error("server `{given}`: {message}")]
    BadServer {
        /// The address as it was given.
        given: String,
        /// What is wrong with it.
        message: &'static str,
    },
    /// A key that no request can carry. It is not shown.
    #[error("use the key of the inference server: it holds characters that no HTTP header can carry")]
    BadKey,
    /// An inference server that the user did not name.
    #[error("ask `{given}`: this is no server that `nexa ui` was started with")]
    NoServer {
        /// The address that a page asked for.
        given: String,
    },
    /// An inference server that does not answer.
    #[error("reach the inference server at {server}: {message}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What stood in the way.
        message: String,
    },
    /// A conversation that is too long to be passed on.
    #[error("send the conversation: {message}")]
    BadBody {
        /// What is wrong with it.
        message: String,
    },
    /// A path that leads nowhere.
    #[error("find page `{path}`")]
    NoPage {
        /// The path.
        path: String,
    },
    /// A request for a page could not be completed.
    #[error("render `{path}`: {message}")]
    Render {
        /// The path.
        path: String,
        /// What went wrong.
        message: String,
    },
}

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The HTTP status of a page that ends in this error.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoPage { .. }
            | Self::NoServer { .. }
            | Self::Core(nexa_core::Error::NotFound { .. } | nexa_core::Error::BadName { .. }) => {
                StatusCode::NOT_FOUND
            }
            Self::Stale { .. } => StatusCode::FORBIDDEN,
            Self::Unreachable { .. } => StatusCode::BAD_GATEWAY,
            Self::BadBody { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Core(nexa_core::Error::Review { .. }) => StatusCode::CONFLICT,
            Self::Core(error) if error.exit_code() == ExitCode::Storage => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Core(error) => error.hint(),
            Self::Exposed { .. } => Some(
                "listen on `127.0.0.1`, which only this machine reaches, or pass `--open-to-network`"
                    .to_owned(),
            ),
            Self::Listen { source, .. } => Some(listen_hint(source.kind()).to_owned()),
            Self::Leaderboard { .. } => Some("see whether `nexa leaderboard` says more".to_owned()),
            Self::Stale { .. } => {
                Some("load the page again; what was typed is kept in the browser".to_owned())
            }
            Self::BadServer { .. } => {
                Some("give host and port of `nexa inference`, as in `http://127.0.0.1:8000`".to_owned())
            }
            Self::BadKey => {
                Some("set `NEXA_API_KEY` to the key that the server knows, without blanks".to_owned())
            }
            Self::NoServer { given } => Some(format!("start `nexa ui --server http://{given}` to ask it")),
            Self::Unreachable { .. } => Some(
                "start it with `nexa inference CHECKPOINT`, or name another with `nexa ui --server URL`"
                    .to_owned(),
            ),
            Self::BadBody { .. } => Some("begin a new conversation".to_owned()),
            Self::NoPage { .. } => Some("the overview links to everything there is".to_owned()),
            Self::Serve { .. } | Self::Render { .. } => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Core(error) => error.exit_code(),
            Self::Exposed { .. } | Self::BadServer { .. } => ExitCode::Usage,
            Self::Listen { .. } | Self::Unreachable { .. } => ExitCode::Unavailable,
            Self::NoPage { .. }
            | Self::Stale { .. }
            | Self::BadKey
            | Self::NoServer { .. }
            | Self::BadBody { .. } => ExitCode::Input,
            Self::Serve { .. } | Self::Leaderboard { .. } | Self::Render { .. } => ExitCode::Failure,
        }
    }
}

fn listen_hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            "another program uses the port, perhaps an earlier `nexa ui`; stop it or pass `--port PORT`"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges; pass `--port PORT`",
        _ => "check the address given with `--host`; 127.0.0.1 always exists",
    }
}
