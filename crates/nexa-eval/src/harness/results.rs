//! `results.json` and `samples_<task>.jsonl`, in the shape that users of lm-evaluation-harness and their tools know.
//!
//! # Departures
//! What changes from run to run without changing the numbers is left out: dates, durations, paths, the machine.

use nexa_core::table::Row;
use serde_json::{Map, Value, json};

use crate::ask::Request;
use crate::evaluate::Config;
use crate::harness::load::{Document, Loaded};
use crate::harness::outcome::{Outcome, Said};
use crate::harness::plan::Plan;
use crate::harness::python;
use crate::harness::requests::Requests;
use crate::harness::summary::{Summary, Summed};

/// The name of the file with all numbers.
pub(crate) const RESULTS_FILE: &str = "results.json";

/// What stands for an error that is not known.
const UNKNOWN: &str = "N/A";

/// The name of the file with a task's samples.
pub(crate) fn samples_file(task: &str) -> String {
    let name: String = task
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' })
        .collect();
    format!("samples_{name}.jsonl")
}

/// What `results.json` is made of.
pub(crate) struct Results<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) model: &'a str,
    pub(crate) config: &'a Config,
    /// By task: its summary, and how many documents there are without a limit.
    pub(crate) tasks: &'a [(Summary, usize)],
    pub(crate) groups: &'a [Summary],
}

impl Results<'_> {
    /// The content of the file.
    pub(crate) fn to_json(&self) -> Value {
        let mut results = Map::new();
        for (planned, (summary, _)) in self.plan.tasks.iter().zip(self.tasks) {
            results.insert(summary.name.clone(), of_summary(summary, planned.spec.alias()));
        }
        let mut groups = Map::new();
        for (chosen, summary) in self.plan.groups.iter().zip(self.groups) {
            let mut entry = of_summary(summary, chosen.group.alias());
            if let Some(entry) = entry.as_object_mut().filter(|_| !summary.metrics.is_empty()) {
                let count = |summed: &Summed| {
                    (format!("{},{}", summed.metric, summed.filter), json!(summed.documents))
                };
                let counts: Row = summary.metrics.iter().map(count).collect();
                entry.insert("sample_count".to_owned(), Value::Object(counts));
            }
            if chosen.group.aggregate_metric_list.0.is_empty() {
                entry.as_object_mut().and_then(|entry| entry.shift_remove("sample_len"));
            } else {
                groups.insert(summary.name.clone(), entry.clone());
            }
            results.insert(summary.name.clone(), entry);
        }
        let mut file = json!({"results": results});
        if let Some(file) = file.as_object_mut() {
            if !groups.is_empty() {
                file.insert("groups".to_owned(), Value::Object(groups));
            }
            file.extend(self.facts());
        }
        file
    }

    /// What stands beside the numbers.
    fn facts(&self) -> Row {
        let plan = self.plan;
        let children = plan.groups.iter().map(|group| (group.group.group.clone(), json!(group.children)));
        let configs = sorted(plan.tasks.iter().map(|task| {
            let mut config = json!(task.spec);
            if let Some(config) = config.as_object_mut() {
                config.retain(|_, value| !value.is_null());
                config.insert("num_fewshot".to_owned(), task.shots.into());
            }
            (task.spec.task.clone(), config)
        }));
        let versions = plan.tasks.iter().map(|task| (task.spec.task.clone(), task.spec.version()));
        let versions = sorted(versions.chain(
            plan.groups.iter().map(|group| (group.group.group.clone(), group.group.version().into())),
        ));
        let shots = plan.tasks.iter().map(|task| (task.spec.task.clone(), json!(task.shots)));
        let shots = sorted(shots.chain(plan.groups.iter().filter_map(|group| {
            let tasks = plan.tasks.iter().filter(|task| group.children.contains(&task.spec.task));
            let mut inside = tasks.map(|task| task.shots);
            let first = inside.next()?;
            inside.all(|other| other == first).then(|| (group.group.group.clone(), json!(first)))
        })));
        let metrics = |summary: &Summary| {
            summary
                .metrics
                .iter()
                .map(|summed| (summed.metric.clone(), json!(summed.higher_is_better)))
                .collect::<Row>()
        };
        let tasks = self.tasks.iter().map(|(summary, _)| (summary.name.clone(), metrics(summary)));
        // Of a group, what the tasks that stand directly in it say; where they do not agree, nothing.
        let groups = plan.groups.iter().filter_map(|group| {
            let mut all = Row::new();
            for (summary, _) in
                self.tasks.iter().filter(|(summary, _)| group.children.contains(&summary.name))
            {
                for (metric, better) in metrics(summary) {
                    let known = all.entry(metric).or_insert_with(|| better.clone());
                    if *known != better {
                        *known = Value::Null;
                    }
                }
            }
            (!all.is_empty()).then(|| (group.group.group.clone(), all))
        });
        let better = sorted(tasks.chain(groups).map(|(name, metrics)| (name, Value::Object(metrics))));
        let sizes = self.tasks.iter().map(|(summary, total)| {
            (summary.name.clone(), json!({"original": total, "effective": summary.size}))
        });
        let mut facts = Map::new();
        facts.insert("group_subtasks".to_owned(), Value::Object(children.collect()));
        facts.insert("configs".to_owned(), configs);
        facts.insert("versions".to_owned(), versions);
        facts.insert("n-shot".to_owned(), shots);
        facts.insert("higher_is_better".to_owned(), better);
        facts.insert("n-samples".to_owned(), Value::Object(sizes.collect()));
        facts.insert("config".to_owned(), self.settings());
        facts
    }

    fn settings(&self) -> Value {
        let config = self.config;
        json!({
            "model": "nexa",
            "model_args": self.model,
            "limit": config.limit,
            "bootstrap_iters": config.bootstrap,
            "gen_kwargs": config.gen_kwargs,
            "fewshot_seed": config.fewshot_seed,
            "system_instruction": config.system_instruction,
            "apply_chat_template": config.apply_chat_template,
            "fewshot_as_multiturn": config.fewshot_as_multiturn.unwrap_or(config.apply_chat_template),
        })
    }
}

fn sorted(entries: impl Iterator<Item = (String, Value)>) -> Value {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Object(entries.into_iter().collect())
}

fn of_summary(summary: &Summary, alias: &str) -> Value {
    let mut entry = Map::new();
    entry.insert("name".to_owned(), summary.name.clone().into());
    entry.insert("alias".to_owned(), alias.into());
    entry.insert("sample_len".to_owned(), summary.size.into());
    for summed in &summary.metrics {
        let (metric, filter) = (&summed.metric, &summed.filter);
        entry.insert(format!("{metric},{filter}"), json!(summed.value));
        let error = summed.standard_error.map_or_else(|| UNKNOWN.into(), Value::from);
        entry.insert(format!("{metric}_stderr,{filter}"), error);
    }
    Value::Object(entry)
}

/// The lines of a task's samples: one for each document and chain of filters.
pub(crate) fn samples(loaded: &Loaded<'_>, outcomes: &[Outcome]) -> Vec<Row> {
    let chains = loaded.task.chains.iter().enumerate();
    let of_chain = |(at, chain): (usize, &super::filter::Chain)| {
        let documents = loaded.documents.iter().zip(outcomes).enumerate();
        documents
            .map(|(number, (document, outcome))| {
                sample(loaded, (number, document), outcome, (at, &chain.name))
            })
            .collect::<Vec<_>>()
    };
    chains.flat_map(of_chain).collect()
}

fn sample(
    loaded: &Loaded<'_>,
    (number, document): (usize, &Document),
    outcome: &Outcome,
    (at, filter): (usize, &str),
) -> Row {
    let graded = &outcome.graded[at];
    let kwargs = &loaded.task.generation.kwargs;
    // Several answers to one question are one request there; turns of a conversation are several.
    let Requests { requests, with_context } = &outcome.requests;
    let is_repeated = matches!(outcome.said, Said::Replies(_)) && requests.len() == *with_context;
    let shown = if is_repeated { 1 } else { requests.len() };
    let arguments = requests.iter().take(shown).map(|request| arguments(request, kwargs)).enumerate();
    let arguments: Row = arguments.map(|(at, arguments)| (format!("gen_args_{at}"), arguments)).collect();
    let found = match &outcome.said {
        Said::Scores(_) => printed(&graded.found),
        Said::Replies(_) => printed(&json!([graded.found])),
    };
    let names = loaded.task.metrics.iter().map(|metric| metric.kind.as_str());
    let mut line = Map::new();
    line.insert("doc_id".to_owned(), number.into());
    line.insert("doc".to_owned(), Value::Object(document.row.clone()));
    line.insert("target".to_owned(), python::text(&document.question.target).into());
    line.insert("arguments".to_owned(), Value::Object(arguments));
    line.insert("resps".to_owned(), responses(outcome));
    line.insert("filtered_resps".to_owned(), found);
    line.insert("filter".to_owned(), filter.into());
    line.insert("metrics".to_owned(), names.clone().collect());
    line.extend(names.zip(&graded.grades).map(|(name, grade)| (name.to_owned(), grade.to_json())));
    line
}

/// What a model was asked, by its place in the arguments of the reference.
fn arguments(request: &Request, kwargs: &Value) -> Value {
    match request {
        Request::ScoreContinuation { context, continuation } => {
            json!({"arg_0": context, "arg_1": continuation})
        }
        Request::ScoreText { text } => json!({"arg_0": text}),
        Request::ScoreChat { messages } => json!({"arg_0": messages}),
        Request::Complete { prompt, .. } => json!({"arg_0": prompt, "arg_1": kwargs}),
        Request::Chat { messages, .. } => json!({"arg_0": messages, "arg_1": kwargs}),
    }
}

/// Everything that a model said: for each request a list, which holds several answers where a task repeats.
fn responses(outcome: &Outcome) -> Value {
    match &outcome.said {
        Said::Scores(_) => {
            let all = outcome.graded.first().and_then(|graded| graded.found.as_array());
            all.into_iter().flatten().map(|one| printed(&json!([one]))).collect()
        }
        Said::Replies(_) => json!([outcome.said.texts()]),
    }
}

/// Values as texts, inside lists: so the reference writes them, for readers that want one type in a column.
fn printed(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(printed).collect(),
        other => python::text(other).into(),
    }
}
