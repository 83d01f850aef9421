//! Where two runs that should be equal are not.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use nexa_core::event::NoEvents;
use serde_json::Value;

use crate::Error;
use crate::run::METRICS_FILE;
use crate::state::{Progress, generations};

/// Tensors by name.
type Tensors = BTreeMap<String, Vec<f32>>;

/// How two runs compare. What is absent is the same in both, bit for bit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The first row of metrics that differs.
    pub metrics: Option<String>,
    /// The first counter or sum that differs, which is where the run stands in its data.
    pub progress: Option<String>,
    /// The first tensor and number that differ, of the weights and the optimizer.
    pub tensor: Option<String>,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_identical(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_identical() {
            return f.write_str("identical");
        }
        let parts = [&self.metrics, &self.progress, &self.tensor];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        f.write_str(&parts.join("; "))
    }
}

/// Compares the metrics of two workspaces alone; names the first row that differs.
///
/// # Errors
/// Fails when the metrics cannot be read.
pub fn compare_metrics(left: &Path, right: &Path) -> Result<Option<String>, Error> {
    let metrics = |workspace: &Path| fs_err::read_to_string(workspace.join(METRICS_FILE));
    Ok(compare_rows(&metrics(left)?, &metrics(right)?))
}

/// Compares the metrics and the newest states of two workspaces.
///
/// # Errors
/// Fails when the metrics or a state cannot be read.
pub fn compare_runs(left: &Path, right: &Path) -> Result<Comparison, Error> {
    let state = |workspace: &Path| generations::newest(workspace, &NoEvents);
    let mut comparison = Comparison { metrics: compare_metrics(left, right)?, ..Comparison::default() };
    match (state(left)?, state(right)?) {
        (Some(left), Some(right)) => {
            comparison.progress = compare_progress(&left.progress, &right.progress)?;
            comparison.tensor = compare_tensors(&left.tensors()?.copied(), &right.tensors()?.copied());
        }
        (None, None) => {}
        (one, _) => {
            let without = if one.is_none() { left } else { right };
            comparison.progress = Some(format!("{} holds no state", without.display()));
        }
    }
    Ok(comparison)
}

fn compare_rows(left: &str, right: &str) -> Option<String> {
    if left == right {
        return None;
    }
    let (mut left, mut right) = (left.lines(), right.lines());
    for number in 1.. {
        let (a, b) = (left.next(), right.next());
        if a != b {
            let step = |row: Option<&str>| serde_json::from_str::<Value>(row?).ok()?["step"].as_u64();
            let step = step(a).or(step(b)).map_or_else(String::new, |step| format!(" (step {step})"));
            let (a, b) = (a.unwrap_or("nothing"), b.unwrap_or("nothing"));
            return Some(format!("{METRICS_FILE} line {number}{step}: {a} and {b}"));
        }
        if a.is_none() {
            break;
        }
    }
    Some(format!("{METRICS_FILE}: the ends of lines differ"))
}

fn compare_progress(left: &Progress, right: &Progress) -> Result<Option<String>, Error> {
    let json = |progress: &Progress| serde_json::to_value(progress).map_err(std::io::Error::from);
    let (a, b) = (json(left)?, json(right)?);
    let differs = a.as_object().into_iter().flatten().find(|(key, value)| b.get(key.as_str()) != Some(value));
    Ok(differs.map(|(key, value)| format!("`{key}` of the progress: {value} and {}", b[key.as_str()])))
}

fn compare_tensors(left: &Tensors, right: &Tensors) -> Option<String> {
    for (name, a) in left {
        let Some(b) = right.get(name) else {
            return Some(format!("tensor `{name}` is in one only"));
        };
        let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
        if let Some(at) = a.iter().zip(b).position(differs) {
            let count = a.iter().zip(b).filter(|&pair| differs(pair)).count();
            let (x, y) = (a[at], b[at]);
            return Some(format!(
                "tensor `{name}` from element {at} on: {x:e} and {y:e} ({count} of {} differ)",
                a.len()
            ));
        }
        if a.len() != b.len() {
            return Some(format!("tensor `{name}` has {} and {} numbers", a.len(), b.len()));
        }
    }
    let unknown = right.keys().find(|name| !left.contains_key(*name))?;
    Some(format!("tensor `{unknown}` is in one only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(tensors: &[(&str, &[f32])]) -> Tensors {
        tensors.iter().map(|&(name, values)| (name.to_owned(), values.to_vec())).collect()
    }

    #[test]
    fn the_first_number_that_differs_by_a_bit_is_named() {
        let check = |left: &[(&str, &[f32])], right: &[(&str, &[f32])], expected: Option<&str>| {
            assert_eq!(compare_tensors(&tensors(left), &tensors(right)).as_deref(), expected);
        };
        check(&[("a", &[1.0, f32::NAN])], &[("a", &[1.0, f32::NAN])], None);
        let expected = "tensor `b` from element 1 on: 0e0 and -0e0 (1 of 2 differ)";
        check(&[("a", &[1.0]), ("b", &[1.0, 0.0])], &[("a", &[1.0]), ("b", &[1.0, -0.0])], Some(expected));
        check(&[("a", &[1.0])], &[("a", &[1.0, 2.0])], Some("tensor `a` has 1 and 2 numbers"));
        check(&[("a", &[1.0])], &[("a", &[1.0]), ("b", &[])], Some("tensor `b` is in one only"));
        check(&[("a", &[1.0]), ("b", &[])], &[("a", &[1.0])], Some("tensor `b` is in one only"));
    }

    #[test]
    fn the_first_row_and_the_first_counter_that_differ_are_named() {
        let check = |left: &str, right: &str, expected: Option<&str>| {
            assert_eq!(compare_rows(left, right).as_deref(), expected);
        };
        check("{\"step\":1}\n", "{\"step\":1}\n", None);
        let expected = r#"metrics.jsonl line 2 (step 3): {"step":3,"loss":1} and {"step":3,"loss":2}"#;
        check(
            "{\"step\":1}\n{\"step\":3,\"loss\":1}\n",
            "{\"step\":1}\n{\"step\":3,\"loss\":2}\n",
            Some(expected),
        );
        check("", "{\"step\":7}\n", Some(r#"metrics.jsonl line 1 (step 7): nothing and {"step":7}"#));
        let after = |step| Progress { step, ..Progress::default() };
        let progress = compare_progress(&after(1), &after(2)).expect("numbers are JSON");
        assert_eq!(progress.as_deref(), Some("`step` of the progress: 1 and 2"));
        assert_eq!(compare_progress(&after(2), &after(2)).expect("numbers are JSON"), None);
    }
}
