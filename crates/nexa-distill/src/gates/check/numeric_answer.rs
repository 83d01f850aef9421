//! Checks the number that answers come to against a column.
//!
//! The number of an answer is the one after `#### `, else that in the last `\boxed{…}`, else the last one in the text.

use std::sync::OnceLock;

use nexa_core::answer::final_answer;
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::super::{Bounds, Gate, Measure};
use super::VERSION;
use crate::table;

/// Where the right number stands, and how near an answer must come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumericAnswer {
    /// The column of the right number. Default `reference`; rows without one pass.
    #[serde(default = "reference")]
    pub column: String,
    /// The greatest difference. Default 1e-6.
    #[serde(default = "tolerance")]
    pub tolerance: f64,
}

fn reference() -> String {
    nexa_core::columns::REFERENCE.to_owned()
}

fn tolerance() -> f64 {
    1e-6
}

/// No number is further from the right one than any.
const NO_NUMBER: f64 = f64::MAX;

pub(super) fn gate(name: String, settings: &NumericAnswer) -> Result<Gate, String> {
    let NumericAnswer { column, tolerance } = settings.clone();
    if tolerance.is_nan() || tolerance < 0.0 {
        return Err(format!("`tolerance` is {tolerance}, but a difference is not negative"));
    }
    Ok(Gate::of_each(name, VERSION, Bounds::at_most(tolerance), move |answer| {
        let wanted = read(&table::cell(answer.row, &column)?)?;
        Some(match found(answer.output) {
            None => Measure::new(NO_NUMBER, "no number"),
            Some(found) => Measure::new((found - wanted).abs(), format!("comes to {found}, not {wanted}")),
        })
    }))
}

fn found(output: &str) -> Option<f64> {
    static NUMBER: OnceLock<Regex> = OnceLock::new();
    static BOXED: OnceLock<Regex> = OnceLock::new();
    if let Some(number) = final_answer(output).and_then(|text| read(&text)) {
        return Some(number);
    }
    let boxed = BOXED.get_or_init(|| Regex::new(r"\\boxed\{([^{}]*)\}").expect("the literal is a pattern"));
    if let Some(found) = boxed.captures_iter(output).last() {
        return read(&found[1]);
    }
    let number = NUMBER.get_or_init(|| {
        Regex::new(r"[-−]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?").expect("the literal is a pattern")
    });
    number.find_iter(output).last().and_then(|found| read(found.as_str()))
}

/// Reads a number as people write it.
fn read(text: &str) -> Option<f64> {
    let plain: String =
        text.trim().trim_end_matches(['.', '%']).chars().filter(|c| !",$€£ ".contains(*c)).collect();
    plain.replace('−', "-").parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_answer_is_found() {
        let check = |output: &str, expected: Option<f64>| assert_eq!(found(output), expected, "{output:?}");
        check("2 + 2 = 4\n#### 4", Some(4.0));
        check("So \\boxed{1,234.5} of 9.", Some(1234.5));
        check("There are 3, so −7.", Some(-7.0));
        check("It costs $1,200.", Some(1200.0));
        check("About 1.5e3", Some(1500.0));
        check("None.", None);
    }
}
