//! Checks answers by a pattern that they must, or must not, hold.

use regex::Regex;

use super::super::{Bounds, Gate, Measure};
use super::VERSION;

pub(super) fn must(name: String, pattern: &str) -> Result<Gate, String> {
    let regex = compiled(pattern)?;
    let missing = format!("does not match `{pattern}`");
    Ok(Gate::of_each(name, VERSION, Bounds::at_most(0.0), move |answer| {
        Some(Measure::fault((!regex.is_match(answer.output)).then(|| missing.clone())))
    }))
}

pub(super) fn must_not(name: String, pattern: &str) -> Result<Gate, String> {
    let regex = compiled(pattern)?;
    Ok(Gate::of_each(name, VERSION, Bounds::at_most(0.0), move |answer| {
        let found = regex.find(answer.output);
        Some(Measure::fault(found.map(|found| format!("holds \"{}\"", found.as_str()))))
    }))
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    // The message of the library shows the place in several lines; the last one says what is wrong.
    Regex::new(pattern).map_err(|error| {
        let message = error.to_string();
        format!(
            "pattern `{pattern}`: {}",
            message.lines().next_back().unwrap_or_default().trim_start_matches("error: ")
        )
    })
}
