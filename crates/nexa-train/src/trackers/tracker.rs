//! What every tracker can do.

use std::collections::BTreeMap;

use nexa_core::run::Status;

use super::RunFacts;

/// The metrics of a step, from one line of a log.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Steps done.
    pub(super) step: u64,
    /// When, in milliseconds since 1970. The same line always has the same time, so that sending it again is harmless.
    pub(super) time_ms: i64,
    /// The metrics and their finite values.
    pub(super) values: Vec<(String, f64)>,
}

/// A run that a tracker now knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Begun {
    /// The tracker's own name for the run, which it is given again after a kill.
    pub(super) remote: String,
    /// The last step of each metric that the place itself knows: a killed attempt may have sent more than its cursor
    /// says. Empty where the cursor is enough.
    pub(super) sent: BTreeMap<String, u64>,
    /// What a person should know, though metrics can be sent.
    pub(super) note: Option<String>,
}

/// Why something was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// It may work later, exactly the same.
    #[error("{0}")]
    Unavailable(String),
    /// It will never work.
    #[error("{0}")]
    Refused(String),
}

impl From<nexa_core::Error> for Failure {
    /// A disk that is full or gone may come back.
    fn from(error: nexa_core::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A place where the metrics of a run are shown. All calls come from one thread, which may wait in them; each is made
/// again after [`Failure::Unavailable`].
pub(super) trait Tracker: Send {
    /// The word for it in events and file names.
    fn name(&self) -> &'static str;

    /// Where rows go, without secrets. What was sent to another place is sent again here.
    fn destination(&self) -> String;

    /// Opens a run, or opens it again where it is known from an earlier attempt. Returning another name than the
    /// known one says that nothing of what was sent is there any more.
    ///
    /// # Errors
    /// Fails when the place cannot be reached or does not want the run.
    fn begin(&mut self, run: &RunFacts, known: Option<&str>) -> Result<Begun, Failure>;

    /// Takes back the steps from `step` on, and says from which step on rows have to be sent again: that one or an
    /// earlier one. `None` where what was sent stands.
    ///
    /// # Errors
    /// Fails when that cannot be written.
    fn rewind(&mut self, step: u64) -> Result<Option<u64>, Failure>;

    /// Delivers rows, durably, in their order.
    ///
    /// # Errors
    /// Fails when they were not, or perhaps not, delivered.
    fn rows(&mut self, rows: &[Row]) -> Result<(), Failure>;

    /// Says how the run ended.
    ///
    /// # Errors
    /// Fails when that was not, or perhaps not, delivered.
    fn end(&mut self, status: Status) -> Result<(), Failure>;
}
