//! Checks answers by a JSON schema.

use std::path::Path;

use super::super::{Bounds, Gate, Measure, json};
use super::VERSION;
use crate::Result;
use crate::schema::Schema;

pub(super) fn gate(name: String, file: &Path) -> Result<Gate> {
    // YAML holds JSON.
    let schema = nexa_core::config::read_yaml(file)?;
    let schema = Schema::new(&schema).map_err(|(place, message)| {
        nexa_core::Error::malformed(file, format!("no JSON schema: `{place}`: {message}"))
    })?;
    Ok(Gate::of_each(name, VERSION, Bounds::at_most(0.0), move |answer| {
        Some(match json::read(answer.output) {
            Err(message) => Measure::new(1.0, message),
            Ok(found) => match schema.misfit(&found.value) {
                None => Measure::clean(),
                Some(misfit) => Measure::new(misfit.count as f64, misfit.first),
            },
        })
    }))
}
