//! The words that say where metrics go; `report_to` is spelled as in TRL and Transformers.

use std::path::{Path, PathBuf};

use nexa_core::env::Environment;
use serde::{Deserialize, Deserializer, Serialize};

use super::RunFacts;
use super::mlflow::{self, Mlflow};
use super::tensorboard::TensorBoard;
use super::tracker::Tracker;
use super::wandb::Wandb;
use crate::Error;

/// Where metrics go besides the run's folder. Nothing here changes what is trained, so none of it belongs in a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tracking {
    /// The trackers, a list or a single name. None, because the run's folder and the dashboard need no service.
    #[serde(deserialize_with = "one_or_many")]
    pub report_to: Vec<TrackerKind>,
    /// How MLflow is reached.
    pub mlflow: MlflowConfig,
    /// Where TensorBoard's files lie.
    pub tensorboard: TensorBoardConfig,
    /// Where W&B's offline runs lie.
    pub wandb: WandbConfig,
}

/// A tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrackerKind {
    /// Event files.
    TensorBoard,
    /// A server.
    Mlflow,
    /// An offline run, which `wandb sync` uploads.
    Wandb,
}

/// How an MLflow server is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlflowConfig {
    /// Base URL of the server; `MLFLOW_TRACKING_URI` where absent. It holds no password: those are read from
    /// `MLFLOW_TRACKING_TOKEN`, or `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`.
    pub tracking_uri: Option<String>,
    /// The experiment, made where it does not exist; `MLFLOW_EXPERIMENT_NAME` or the project's name where absent.
    pub experiment_name: Option<String>,
}

/// Where TensorBoard's files lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TensorBoardConfig {
    /// A folder for the runs, each in a folder of its own; `tensorboard` in the run's folder where absent.
    #[serde(alias = "logging_dir")]
    pub log_dir: Option<PathBuf>,
}

/// Where W&B's offline runs lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WandbConfig {
    /// The folder that holds `wandb/`; the run's folder where absent.
    pub dir: Option<PathBuf>,
    /// The W&B project; the lab's project where absent.
    pub project: Option<String>,
    /// The W&B user or team; whoever syncs where absent.
    pub entity: Option<String>,
}

impl TrackerKind {
    /// The word for it in configurations, events and file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TensorBoard => "tensorboard",
            Self::Mlflow => "mlflow",
            Self::Wandb => "wandb",
        }
    }
}

impl Tracking {
    /// Checks what can be checked without the environment.
    ///
    /// # Errors
    /// Names the first key whose value cannot be used.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(uri) = &self.mlflow.tracking_uri {
            mlflow::check_uri(uri)
                .map_err(|problem| Error::Config { key: "mlflow.tracking_uri", problem })?;
        }
        Ok(())
    }

    /// Makes a tracker, without touching a disk or a service.
    pub(super) fn tracker(
        &self,
        kind: TrackerKind,
        run_folder: &Path,
        facts: &RunFacts,
        environment: &Environment,
    ) -> Result<Box<dyn Tracker>, String> {
        Ok(match kind {
            TrackerKind::TensorBoard => Box::new(TensorBoard::new(match &self.tensorboard.log_dir {
                Some(folder) => folder.join(&facts.id),
                None => run_folder.join("tensorboard"),
            })),
            TrackerKind::Mlflow => Box::new(Mlflow::new(&self.mlflow, facts, environment)?),
            TrackerKind::Wandb => Box::new(Wandb::new(&self.wandb, run_folder, facts)),
        })
    }
}

/// Takes a list without repetitions, a single name, or `none`.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TrackerKind>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        Many(Vec<String>),
    }
    let names = match Names::deserialize(deserializer)? {
        Names::One(name) if name == "none" => Vec::new(),
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    };
    let mut kinds = Vec::new();
    for name in names {
        let name = serde::de::value::StringDeserializer::<D::Error>::new(name);
        let kind = TrackerKind::deserialize(name)?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trackers_are_named_alone_or_in_a_list() {
        let check = |json: &str, expected: &[TrackerKind]| {
            let tracking: Tracking = serde_json::from_str(json).expect(json);
            assert_eq!(tracking.report_to, expected, "{json}");
        };
        use TrackerKind::{Mlflow, TensorBoard, Wandb};
        check("{}", &[]);
        check(r#"{"report_to": "none"}"#, &[]);
        check(r#"{"report_to": "wandb"}"#, &[Wandb]);
        check(r#"{"report_to": ["tensorboard", "mlflow", "tensorboard"]}"#, &[TensorBoard, Mlflow]);
        let error = serde_json::from_str::<Tracking>(r#"{"report_to": "comet"}"#).expect_err("no tracker");
        assert!(error.to_string().contains("unknown variant `comet`"), "{error}");
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_by_name() {
        let check = |uri: &str, expected: &str| {
            let mlflow = MlflowConfig { tracking_uri: Some(uri.to_owned()), ..MlflowConfig::default() };
            let error = Tracking { mlflow, ..Tracking::default() }.check().expect_err(uri).to_string();
            assert!(
                error.starts_with("config: `mlflow.tracking_uri`") && error.contains(expected),
                "{error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
        };
        check("sqlite:///mlflow.db", "http");
        check("http://ada:hunter2@127.0.0.1:5000", "MLFLOW_TRACKING_PASSWORD");
        check("http://", "no address");
    }
}
