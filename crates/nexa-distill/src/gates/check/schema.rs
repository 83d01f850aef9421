//! Checks answers by a JSON schema.

use std::path::Path;

use super::super::{Bounds, Gate, Measure, json};
use super::VERSION;
use crate::Result;

pub(super) fn gate(name: String, file: &Path) -> Result<Gate> {
    // YAML holds JSON.
    let schema = nexa_core::config::read_yaml(file)?;
    let validator = jsonschema::validator_for(&schema)
        .map_err(|error| nexa_core::Error::malformed(file, format!("no JSON schema: {error}")))?;
    Ok(Gate::of_each(name, VERSION, Bounds::at_most(0.0), move |answer| {
        Some(match json::read(answer.output) {
            Err(message) => Measure::new(1.0, message),
            Ok(found) => {
                let mut errors = validator.iter_errors(&found.value);
                match errors.next() {
                    None => Measure::clean(),
                    Some(first) => {
                        let place = first.instance_path().to_string();
                        let place = if place.is_empty() { "the whole".to_owned() } else { place };
                        Measure::new((1 + errors.count()) as f64, format!("{place}: {first}"))
                    }
                }
            }
        })
    }))
}
