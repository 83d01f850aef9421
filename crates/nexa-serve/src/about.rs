//! What is known of a model besides its weights, and a model with that.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nexa_core::artifact::ArtifactId;
use nexa_core::lineage::Node;
use nexa_core::lm::Adapter;
use serde::Serialize;
use serde_json::Value;

use crate::Engine;

/// Where a model comes from and what it is worth, as far as the lab knows.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Where it lies.
    pub checkpoint_path: Option<PathBuf>,
    /// The artifact, whose manifest names data, settings and run. A model from outside the lab has none.
    pub manifest: Option<ArtifactId>,
    /// The model's `config.json`.
    pub config: Option<Value>,
    /// Everything that it descends from.
    pub lineage: Option<Node>,
    /// What it was measured at, newest first.
    pub evaluations: Vec<Evaluation>,
}

/// What a checkpoint was measured at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// The artifact that holds metrics and predictions.
    pub id: String,
    /// The data set that it was asked from.
    pub dataset: String,
    /// Items that were asked.
    pub items: usize,
    /// Values by the name of the metric.
    pub metrics: BTreeMap<String, f64>,
}

/// A model that is ready to be served.
pub struct Loaded {
    /// The engine that answers.
    pub engine: Engine,
    /// What is known of its model.
    pub about: About,
    /// Adapters that are served from the beginning, by their names.
    pub adapters: Vec<(String, Adapter)>,
}

impl From<Engine> for Loaded {
    fn from(engine: Engine) -> Self {
        Self { engine, about: About::default(), adapters: Vec::new() }
    }
}
