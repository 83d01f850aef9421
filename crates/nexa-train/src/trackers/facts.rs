//! What a tracker tells about a run besides its metrics.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use nexa_core::run::RunRecord;
use serde_json::Value;

/// The facts of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    /// The run.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The project.
    pub project: String,
    /// When its first attempt began; steps are timed from here.
    pub started_at: DateTime<Utc>,
    /// The configuration, its keys with dots.
    pub params: BTreeMap<String, String>,
    /// What else is known.
    pub tags: BTreeMap<String, String>,
}

impl RunFacts {
    /// The facts in a run's record.
    pub fn of(record: &RunRecord) -> Self {
        let mut params = BTreeMap::from([("seed".to_owned(), record.seed.to_string())]);
        flatten("", &record.config, &mut params);
        let mut tags: BTreeMap<String, String> = [
            ("nexa.run_id", record.id.as_str()),
            ("nexa.key", record.key.as_str()),
            ("nexa.stage", &record.stage),
            ("nexa.project", &record.project),
            ("nexa.version", &record.nexa_version),
            ("nexa.device", &record.device),
            ("nexa.host", &record.host.name),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        for input in &record.inputs {
            tags.insert(format!("nexa.input.{}", input.role), input.id.to_string());
        }
        if let Some(git) = &record.git {
            tags.insert("nexa.git.commit".to_owned(), git.commit.clone());
            tags.insert("nexa.git.dirty".to_owned(), git.dirty.to_string());
        }
        Self {
            id: record.id.to_string(),
            name: record.name.clone(),
            project: record.project.clone(),
            started_at: record.started_at,
            params,
            tags,
        }
    }
}

/// Writes the leaves of a configuration under dotted keys; a list is one leaf.
fn flatten(prefix: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(members) => {
            for (key, value) in members {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, leaves);
            }
            return;
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    leaves.insert(prefix.to_owned(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_becomes_flat() {
        let config = serde_json::json!({"a": 1, "b": {"c": "x", "d": [1, 2], "e": null}, "f": {}});
        let mut leaves = BTreeMap::new();
        flatten("", &config, &mut leaves);
        let expected = [("a", "1"), ("b.c", "x"), ("b.d", "[1,2]"), ("b.e", "null")];
        assert_eq!(leaves, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
}
