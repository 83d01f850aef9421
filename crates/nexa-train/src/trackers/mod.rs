//! Followers that carry the rows of a run's logs to TensorBoard, to an MLflow server and to W&B.
//!
//! `metrics.jsonl` and `timing.jsonl` in the run's folder are the truth, and the spool. A tracker reads them from a
//! cursor, `trackers/<name>.cursor.json`, which moves on only after what lies before it has been delivered. So a
//! service that is away loses nothing, a killed run goes on where it was, and [`deliver`] sends the rest at any later
//! time. Training never waits: each tracker has a thread of its own that reads what the loop has already written, and
//! [`Trackers::finish`] waits no longer than it is told.
//!
//! A resumed run cuts its logs back to the saved state and writes the lost rows again. What a tracker does then
//! depends on whether it can take something back (`Tracker::rewind`): TensorBoard is told to forget the steps from
//! there on and W&B's file is begun anew, both then hold what the logs hold. MLflow only adds; there the first delivery
//! of a metric's step stands, which is the same value, as training is reproducible.

mod config;
mod cursor;
mod facts;
mod follower;
mod mlflow;
mod protobuf;
mod spool;
mod tensorboard;
mod tracker;
mod wandb;
mod worker;

#[cfg(test)]
mod tests;

pub(crate) use config::one_or_many;
pub use config::{MlflowConfig, TensorBoardConfig, TrackerKind, Tracking, WandbConfig};
pub use facts::RunFacts;
pub use worker::{Delivery, FINISH_TIMEOUT, Trackers, deliver};

use tracker::{Begun, Failure, Row, Tracker};
