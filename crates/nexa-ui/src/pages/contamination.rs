//! How much of what was asked stands in training data, and what the metrics are without that.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::interval::{ends, percent};
use crate::format;
use crate::leaderboard::Estimate;

/// What was found, as the file of an evaluation tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Contamination {
    /// Whether it is known what the checkpoint was trained on.
    is_known: bool,
    tasks: Vec<Task>,
}

impl Default for Contamination {
    fn default() -> Self {
        Self { is_known: true, tasks: Vec::new() }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Task {
    task: String,
    documents: u64,
    rules: Vec<Rule>,
}

/// When a document counts as found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Rule {
    /// Words in a row that both have.
    words: u64,
    /// The least share of the document's words that lie in such rows.
    min_share: f64,
    overlapping: u64,
    share: f64,
    metrics: Vec<Parts>,
}

/// A metric over all documents, those that were found, and the others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Parts {
    metric: String,
    all: Option<Estimate>,
    overlapping: Option<Estimate>,
    clean: Option<Estimate>,
}

/// Shows it: of each task, or of one, what each rule finds.
pub(crate) fn section(found: &Contamination, task: Option<&str>) -> Markup {
    let tasks = found.tasks.iter().filter(|own| task.is_none_or(|task| own.task == task));
    html! {
        section {
            h2 { "Found in training data" }
            @if !found.is_known { p.muted { "What the checkpoint was trained on is not known in full, so there may be more." } }
            div.scroll { table {
                thead { tr {
                    th { "task" } th { "found where" } th.number { "documents" } th { "metric" } th { "all" } th { "found ones" } th { "others" }
                } }
                tbody { @for task in tasks { @for rule in &task.rules { tr {
                    td { (task.task) }
                    td { (rule_text(rule)) }
                    td.number { (format::count(rule.overlapping)) " of " (format::count(task.documents)) ", " (percent(rule.share)) }
                    @match rule.metrics.first() {
                        Some(parts) => {
                            td { (parts.metric) }
                            @for part in [parts.all, parts.overlapping, parts.clean] { td.nowrap { (estimate(part)) } }
                        },
                        None => { td { (format::UNKNOWN) } td {} td {} td {} },
                    }
                } } } }
            } }
        }
    }
}

fn rule_text(rule: &Rule) -> String {
    if rule.min_share > 0.0 {
        format!("{} words in a row are the same, {} of all", rule.words, percent(rule.min_share))
    } else {
        format!("{} words in a row are the same", rule.words)
    }
}

fn estimate(part: Option<Estimate>) -> Markup {
    let Some(part) = part else { return html! { (format::UNKNOWN) } };
    html! { strong { (format::number(part.value)) } " " span.muted { (ends(&part, &format::number)) } }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_found_and_what_is_not_told_are_told_apart() {
        let found: Contamination = serde_json::from_value(json!({
            "is_known": false, "later": 1, "tasks": [
                {"task": "<a>", "documents": 200, "rules": [
                    {"words": 13, "min_share": 0.0, "overlapping": 50, "share": 0.25, "metrics": [
                        {"metric": "acc", "all": {"value": 0.5}, "overlapping": {"value": 0.9}, "clean": null},
                    ]},
                ]},
                {"task": "b", "documents": 3, "rules": [{"words": 8, "min_share": 0.7}]},
            ],
        }))
        .unwrap();
        let page = section(&found, None).into_string();
        for text in [
            "&lt;a&gt;",
            "50 of 200, 25.0 %",
            "0.9000",
            "not known in full",
            "8 words in a row are the same, 70.0 % of all",
        ] {
            assert!(page.contains(text), "`{text}` in {page}");
        }
        assert!(!section(&found, Some("b")).into_string().contains("&lt;a&gt;"));
    }
}
