//! How an error is shown: one line with the place, one with what to do, and an exit code.

use nexa_core::stage::StageError;
use nexa_core::{Diagnose, ExitCode};

/// A stage's error on its way through `anyhow`; it keeps hint and exit code.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Reported(pub(crate) StageError);

impl From<StageError> for Reported {
    fn from(error: StageError) -> Self {
        Self(error)
    }
}

/// Turns an error with a diagnosis into one that `?` carries.
pub(crate) fn reported(error: impl Diagnose) -> anyhow::Error {
    Reported(Box::new(error)).into()
}

/// The error of a library behind one that a command met, where it is of a type.
pub(crate) fn cause<T: std::error::Error + 'static>(error: &anyhow::Error) -> Option<&T> {
    let reported = error.downcast_ref::<Reported>()?;
    (reported.0.as_ref() as &dyn std::error::Error).downcast_ref()
}

/// Finds what an error says about itself, wherever it stands in the chain.
fn diagnosis(error: &anyhow::Error) -> Option<&dyn Diagnose> {
    error.chain().find_map(|cause| {
        if let Some(reported) = cause.downcast_ref::<Reported>() {
            return Some(reported.0.as_ref());
        }
        cause.downcast_ref::<nexa_core::Error>().map(|error| error as &dyn Diagnose)
    })
}

/// The exit code of an error.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    diagnosis(error).map_or(ExitCode::Failure, Diagnose::exit_code)
}

/// Shows an error on stderr.
pub(crate) fn print(error: &anyhow::Error) {
    // An error with a diagnosis names its cause itself; of any other, the whole chain is told.
    let text = if diagnosis(error).is_some() { error.to_string() } else { format!("{error:#}") };
    super::note(&format!("error: {}", one_line(&text)));
    if let Some(hint) = diagnosis(error).and_then(Diagnose::hint) {
        super::note(&format!("hint: {hint}"));
    }
}

/// An error is one line, whatever a library put into it.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
