//! Runs side by side: curves over one another, and of the configurations only what differs.

use std::collections::BTreeMap;

use chrono::Utc;
use maud::{Markup, html};
use nexa_core::run::{Run, RunRecord};
use serde::Serialize;
use serde_json::Value;

use super::parts::{run_link, run_table};
use super::run::charts;
use super::{Page, Section};
use crate::format;
use crate::request::Params;
use crate::scan::RunRow;
use crate::server::Ui;
use crate::{Result, assets};

/// More curves in one chart cannot be told apart.
const MAX_RUNS: usize = 10;

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    runs: Vec<RunRow>,
    /// How many of the runs asked for are left out.
    left_out: usize,
    differences: Vec<Difference>,
    equal: usize,
}

/// A fact in which runs differ.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    key: String,
    /// One for each run, in their order; absent where the run has no such key.
    values: Vec<Option<Value>>,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, params: &Params) -> Result<Data> {
    let mut ids: Vec<&str> = Vec::new();
    for id in params.all("run") {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let left_out = ids.len().saturating_sub(MAX_RUNS);
    ids.truncate(MAX_RUNS);
    let runs = ids.iter().map(|id| Ok(Run::find(&ui.lab, &id.parse()?)?)).collect::<Result<Vec<_>>>()?;
    let facts: Vec<_> = runs.iter().map(|run| facts(&run.record)).collect();
    let (differences, equal) = differences(&facts);
    let now = Utc::now();
    Ok(Data { runs: runs.iter().map(|run| RunRow::new(run, now)).collect(), left_out, differences, equal })
}

/// What determines a run's result, as dotted keys.
fn facts(record: &RunRecord) -> BTreeMap<String, Value> {
    let mut facts = BTreeMap::new();
    flatten("config", &record.config, &mut facts);
    for input in &record.inputs {
        let content = format!("{} {}", input.id, input.content_hash.short());
        facts.insert(format!("input.{}", input.role), Value::from(content));
    }
    facts.insert("stage".to_owned(), Value::from(record.stage.as_str()));
    facts.insert("seed".to_owned(), Value::from(record.seed));
    facts.insert("device".to_owned(), Value::from(record.device.as_str()));
    facts.insert("threads".to_owned(), Value::from(record.host.threads));
    facts.insert("nexa".to_owned(), Value::from(record.nexa_version.as_str()));
    if let Some(git) = &record.git {
        let dirty = if git.dirty { " with changes" } else { "" };
        facts.insert("git".to_owned(), Value::from(format!("{}{dirty}", git.commit)));
    }
    facts
}

fn flatten(prefix: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                flatten(&format!("{prefix}.{key}"), value, out);
            }
        }
        other => {
            out.insert(prefix.to_owned(), other.clone());
        }
    }
}

/// The keys whose values differ, and how many do not.
fn differences(facts: &[BTreeMap<String, Value>]) -> (Vec<Difference>, usize) {
    let keys: std::collections::BTreeSet<&String> = facts.iter().flat_map(BTreeMap::keys).collect();
    let total = keys.len();
    let mut found = Vec::new();
    for key in keys {
        let values: Vec<_> = facts.iter().map(|facts| facts.get(key).cloned()).collect();
        if values.windows(2).any(|pair| pair[0] != pair[1]) {
            found.push(Difference { key: key.clone(), values });
        }
    }
    let equal = total - found.len();
    (found, equal)
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let ids: Vec<&str> = data.runs.iter().map(|run| run.id.as_str()).collect();
    let body = html! {
        p.crumbs { a href="/runs" { "runs" } }
        h1 { "Compare runs" }
        @if data.runs.len() < 2 {
            p { "Choose two or more runs on " a href="/runs" { "the page of runs" } "." }
        }
        @if data.left_out > 0 { p.muted { "Only the first " (MAX_RUNS) " are shown; " (data.left_out) " are left out." } }
        @if !data.runs.is_empty() {
            (run_table(&data.runs, false))
            (charts(&ids, false))
            (difference_table(data))
        }
    };
    Page {
        title: "Compare runs".to_owned(),
        section: Some(Section::Runs),
        body,
        extra_script: (!data.runs.is_empty()).then(assets::plotly),
    }
}

fn difference_table(data: &Data) -> Markup {
    html! {
        section {
            h2 { "What differs" }
            @if data.differences.is_empty() { p.muted { "Nothing: configuration, inputs and code are the same." } }
            @else {
                div.scroll { table {
                    thead { tr { th { "key" } @for run in &data.runs { th { (run_link(&run.id)) } } } }
                    tbody { @for difference in &data.differences { tr {
                        th.mono scope="row" { (difference.key) }
                        @for value in &difference.values { td.mono { @match value {
                            Some(value) => (format::shorten(&value_text(value), 200)),
                            None => span.muted { (format::UNKNOWN) },
                        } } }
                    } } }
                } }
            }
            p.muted { (data.equal) " other keys are equal" }
        }
    }
}

fn value_text(value: &Value) -> String {
    if value.is_null() { "null".to_owned() } else { format::text(value) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_differences_are_kept() {
        let flat = |value: Value| {
            let mut facts = BTreeMap::new();
            flatten("config", &value, &mut facts);
            facts
        };
        let one = flat(json!({"lr": 0.1, "model": {"layers": 2, "bias": false}, "gone": null}));
        let other = flat(json!({"lr": 0.2, "model": {"layers": 2, "bias": false}}));
        let (found, equal) = differences(&[one, other]);
        let difference = |key: &str, values| Difference { key: key.to_owned(), values };
        let expected = [
            difference("config.gone", vec![Some(Value::Null), None]),
            difference("config.lr", vec![Some(json!(0.1)), Some(json!(0.2))]),
        ];
        assert_eq!((found.as_slice(), equal), (expected.as_slice(), 2));
    }
}
