//! Groups: tasks that are asked for together, and whose metrics are summed up.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::harness::spec::OneOrMany;

/// A group of tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Group {
    /// Its name.
    pub group: String,
    /// The name that reports show.
    pub group_alias: Option<String>,
    /// What belongs to it: tasks, tags and groups.
    pub task: Children,
    /// The metrics that are summed up over its tasks.
    pub aggregate_metric_list: AggregateMetrics,
    /// `version`, and whatever else an author notes.
    pub metadata: Option<Value>,
    /// Without meaning here.
    pub tag: OneOrMany,
}

impl Group {
    /// The name that reports show.
    pub(crate) fn alias(&self) -> &str {
        self.group_alias.as_deref().unwrap_or(&self.group)
    }

    /// The version that its author gave it.
    pub(crate) fn version(&self) -> String {
        let version = self.metadata.as_ref().and_then(|metadata| metadata.get("version"));
        version.map_or_else(|| "N/A".to_owned(), crate::harness::python::text)
    }
}

/// What belongs to a group.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Children(pub Vec<Child>);

/// One thing that belongs to a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Child {
    /// A task, tag or group by name.
    Name(String),
    /// A task by name with other settings, or a task or group that is written out here.
    Inline(Value),
}

impl<'de> Deserialize<'de> for Children {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let child = |value| match value {
            Value::String(name) => Child::Name(name),
            other => Child::Inline(other),
        };
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::Null => Vec::new(),
            Value::Array(items) => items.into_iter().map(child).collect(),
            one => vec![child(one)],
        }))
    }
}

/// The metrics that a group sums up.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct AggregateMetrics(pub Vec<AggregateMetric>);

/// A metric that a group sums up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AggregateMetric {
    /// The metric.
    pub metric: String,
    /// The filters that count; all that its tasks have where nothing is said.
    #[serde(default)]
    pub filter_list: Option<OneOrMany>,
    /// How: by their mean.
    #[serde(default)]
    pub aggregation: Aggregation,
    /// Whether a task counts for as much as it has documents.
    #[serde(default = "yes")]
    pub weight_by_size: bool,
}

/// How a group sums up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aggregation {
    /// The mean.
    #[default]
    Mean,
}

fn yes() -> bool {
    true
}

impl<'de> Deserialize<'de> for AggregateMetrics {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let many = match Value::deserialize(deserializer)? {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            one => vec![one],
        };
        let read = |value| serde_json::from_value(value).map_err(serde::de::Error::custom);
        many.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}
