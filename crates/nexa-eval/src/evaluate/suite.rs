//! The tasks of the harness: asked, summed up, and written in our shape and in that of the reference.

use std::collections::BTreeMap;

use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::hash::ContentHash;
use nexa_core::stage::Context;
use nexa_core::table::{JsonLines, Tables};
use serde_json::{Value, json};

use crate::Result;
use crate::ask::{Asker, Request, Sample};
use crate::contamination::{Measured, Overlaps, TaskOverlap};
use crate::evaluate::Config;
use crate::evaluate::versus::{Decision, Versus};
use crate::facts::Questions;
use crate::harness::{
    self, ChosenGroup, Grade, Loaded, Outcome, Plan, PlannedTask, RESULTS_FILE, Results, Said, Summary,
};
use crate::metric::{Metric, NO_FILTER};
use crate::predictions::{Choice, FAILED, Prediction, TOO_LONG};
use crate::statistics::CONFIDENCE;

/// What everything that was asked came to.
#[derive(Default)]
pub(super) struct Found {
    pub(super) metrics: Vec<Metric>,
    pub(super) predictions: Vec<Prediction>,
    pub(super) questions: BTreeMap<String, Questions>,
    /// What each task has in common with training data, where that was looked for.
    pub(super) overlaps: Vec<TaskOverlap>,
    /// What was decided against another evaluation.
    pub(super) decision: Option<Decision>,
}

/// Runs the tasks of a plan, one after the other, adds what they come to, and writes the files of the reference into the draft.
pub(super) fn run(
    context: &Context<'_>,
    asker: &mut Asker<'_>,
    (plan, loaded): (&Plan, Vec<Loaded<'_>>),
    (config, versus): (&Config, Option<&Versus>),
    (mut overlaps, found): (Option<&mut Overlaps>, &mut Found),
) -> Result<()> {
    let (mut summaries, mut too_long) = (Vec::new(), BTreeMap::new());
    let mut doubts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut doubt = |name: &str, doubt: String| {
        context.emit(Event::warning(format!("{name}: {doubt}")));
        doubts.entry(name.to_owned()).or_default().push(doubt);
    };
    for mut task in loaded {
        let outcomes = match versus {
            None => harness::run(&task, asker, config)?,
            Some(versus) => {
                let (places, outcomes, decision) = versus.run(&mut task, asker, config)?;
                if let Some(overlaps) = overlaps.as_deref_mut() {
                    overlaps.keep(&task.task.spec.task, &places);
                }
                found.decision = Some(decision);
                outcomes
            }
        };
        let task = &task;
        let name = &task.task.spec.task;
        asker.tell_failed(name, outcomes.iter().flat_map(|outcome| outcome.said.replies()))?;
        task.doubts().into_iter().for_each(|words| doubt(name, words));
        let count = outcomes.iter().filter(|outcome| outcome.said.is_too_long()).count();
        if count > 0 {
            let is_left_out = task.task.spec.native.is_some_and(|native| native.needs_answer());
            let fate = if is_left_out { "are not graded" } else { "count as empty answers" };
            context.emit(Event::warning(format!(
                "{name}: {count} of {} documents are longer than the model's context and {fate}",
                outcomes.len()
            )));
        }
        too_long.insert(name.clone(), count);
        summaries.push((Summary::of_task(task, &outcomes, config)?, task.total));
        let summary = summaries.last().map(|(summary, _)| summary);
        for summed in summary.iter().flat_map(|summary| &summary.metrics) {
            if summed.documents < outcomes.len() {
                context.emit(Event::warning(format!(
                    "{name}: `{}` is over {} of {} documents: the answers to the others are missing or empty",
                    summed.metric,
                    summed.documents,
                    outcomes.len()
                )));
            }
            if !summed.value.is_finite() {
                // JSON has no infinity.
                doubt(name, format!("`{}` is no finite number and is left out", summed.metric));
            }
        }
        found.overlaps.extend(
            overlaps
                .as_deref()
                .zip(summary)
                .map(|(overlaps, summary)| overlap(overlaps, task, (summary, &outcomes), config)),
        );
        JsonLines
            .write(&context.output.join(harness::samples_file(name)), &harness::samples(task, &outcomes))?;
        found.questions.insert(name.clone(), questions(task, config));
        found.predictions.extend(
            task.documents
                .iter()
                .zip(&outcomes)
                .map(|(document, outcome)| prediction(task.task, document, outcome, &names(task))),
        );
    }
    let tasks: Vec<Summary> = summaries.iter().map(|(summary, _)| summary.clone()).collect();
    let groups = harness::groups(plan, &tasks);
    for (summary, planned) in tasks.iter().zip(&plan.tasks) {
        let count = too_long.get(&summary.name).copied().unwrap_or(0);
        found.metrics.extend(metrics(summary, count, |metric| {
            metric.num_fewshot = Some(planned.shots);
            metric.version = Some(planned.spec.version());
        }));
    }
    for (summary, chosen) in groups.iter().zip(&plan.groups) {
        let count = chosen.tasks.iter().filter_map(|name| too_long.get(name)).sum();
        found.metrics.extend(metrics(summary, count, |metric| {
            metric.version = Some(chosen.group.version().into());
            metric.subtasks.clone_from(&chosen.tasks);
        }));
    }
    if let Some(overlaps) = overlaps.as_deref() {
        let of_group = |chosen: &ChosenGroup| group_overlap(overlaps, chosen, &found.overlaps);
        let groups: Vec<TaskOverlap> = plan.groups.iter().map(of_group).collect();
        found.overlaps.splice(..0, groups);
    }
    if !doubts.is_empty() {
        context.state("doubts", doubts)?;
    }
    let model = &asker.model().info.name;
    let results = Results { plan, model, config, tasks: &summaries, groups: &groups };
    files::write_json(&context.output.join(RESULTS_FILE), &results.to_json())?;
    Ok(())
}

/// What a task has in common with training data, with its metrics over some of its documents.
fn overlap(
    overlaps: &Overlaps,
    task: &Loaded<'_>,
    (summary, outcomes): (&Summary, &[Outcome]),
    config: &Config,
) -> TaskOverlap {
    let measured = |summed: &harness::Summed| Measured {
        metric: summed.metric.clone(),
        filter: summed.filter.clone(),
        estimate: summed.estimate,
    };
    let all: Vec<Measured> = summary.metrics.iter().map(measured).collect();
    TaskOverlap::of(overlaps, &task.task.spec.task, &all, |marks| {
        harness::measure(task, outcomes, marks, config)
    })
}

/// What the tasks of a group have in common with training data.
fn group_overlap(overlaps: &Overlaps, chosen: &ChosenGroup, tasks: &[TaskOverlap]) -> TaskOverlap {
    let inside: Vec<&TaskOverlap> = tasks.iter().filter(|task| chosen.tasks.contains(&task.task)).collect();
    TaskOverlap::of_group(overlaps, &chosen.group.group, &inside, |measured| {
        harness::measure_group(chosen, measured)
    })
}

/// The names of a task's metrics after each chain of filters, as keys of the reference, chain by chain.
fn names(task: &Loaded<'_>) -> Vec<Vec<String>> {
    let of_chain = |filter: &str| {
        let names = task.task.metrics.iter().map(|metric| format!("{},{filter}", metric.kind.as_str()));
        names.collect::<Vec<_>>()
    };
    task.task.chains.iter().map(|chain| of_chain(&chain.name)).collect()
}

fn metrics(summary: &Summary, too_long: usize, complete: impl Fn(&mut Metric)) -> Vec<Metric> {
    let metric = |summed: &crate::harness::Summed| {
        let estimate = summed.estimate?;
        let mut metric = Metric {
            task: summary.name.clone(),
            metric: summed.metric.clone(),
            filter: summed.filter.clone(),
            value: estimate.value,
            standard_error: estimate.standard_error,
            ci_low: estimate.ci_low,
            ci_high: estimate.ci_high,
            confidence: CONFIDENCE,
            clustered_standard_error: summed.clustered.map(|(error, _)| error),
            clusters: summed.clustered.map(|(_, clusters)| clusters),
            n: summed.documents,
            too_long,
            higher_is_better: summed.higher_is_better,
            num_fewshot: None,
            version: None,
            subtasks: Vec::new(),
            by_domain: summed.by_domain.clone(),
        };
        complete(&mut metric);
        Some(metric)
    };
    summary.metrics.iter().filter_map(metric).collect()
}

/// What a task asked: two evaluations whose hashes are equal asked the same, each in the words of its model's template.
pub(super) fn questions(task: &Loaded<'_>, config: &Config) -> Questions {
    let documents: Vec<_> = task.documents.iter().map(|document| &document.row).collect();
    let examples: Vec<_> =
        task.documents.iter().flat_map(|document| task.examples(document)).map(|one| &one.target).collect();
    let hash = ContentHash::of_json(&json!({
        "spec": task.task.spec, "generation": task.task.generation.kwargs, "documents": documents, "examples": examples,
        "apply_chat_template": config.apply_chat_template, "fewshot_as_multiturn": config.fewshot_as_multiturn,
        "system_instruction": config.system_instruction,
    }));
    Questions { documents: documents.len(), num_fewshot: task.task.shots, hash }
}

fn prediction(
    task: &PlannedTask,
    document: &harness::Document,
    outcome: &Outcome,
    names: &[Vec<String>],
) -> Prediction {
    let spec = &task.spec;
    let column = |name: &Option<String>| name.as_deref().and_then(|name| document.field(name));
    let prompt = outcome.requests.requests.first().map(prompt).unwrap_or_default();
    let mut row = Prediction {
        task: spec.task.clone(),
        id: document.id.clone(),
        domain: column(&spec.domain),
        group: column(&spec.cluster),
        question: Some(document.question.in_words()).filter(|question| *question != prompt),
        prompt,
        reference: document.reference(),
        ..Prediction::default()
    };
    for (graded, names) in outcome.graded.iter().zip(names) {
        let numbers = graded.grades.iter().map(Grade::number);
        row.metrics
            .extend(names.iter().cloned().zip(numbers).filter_map(|(name, number)| Some((name, number?))));
    }
    let first = outcome.graded.first().and_then(|graded| graded.grades.first()).and_then(Grade::number);
    // Of an attack or a refusal it is the absence that is right.
    let right = task.metrics.first().map_or(1.0, |metric| f64::from(u8::from(metric.higher_is_better)));
    row.correct = first.filter(|value| *value == 0.0 || *value == 1.0).map(|value| value == right);
    match &outcome.said {
        Said::Scores(scores) => {
            let scores = &scores[..outcome.requests.with_context.min(scores.len())];
            if let Some(choices) = &document.question.choices {
                let choice = |(text, score): (&String, _)| Choice { text: text.clone(), score };
                row.choices = choices.iter().zip(scores.iter().copied()).map(choice).collect();
                row.prediction = most_probable(&row.choices).map(|choice| choice.text.clone());
            } else {
                row.score = scores.first().copied();
            }
        }
        Said::Replies(replies) => {
            row.output = outcome.said.texts().into_iter().next();
            row.finish_reason = match replies.first() {
                Some(Sample::Result(reply)) => Some(reply.finish_reason.as_str().to_owned()),
                Some(Sample::Failed { .. }) => Some(FAILED.to_owned()),
                _ => Some(TOO_LONG.to_owned()),
            };
            for (graded, names) in outcome.graded.iter().zip(names) {
                let filter = names
                    .first()
                    .and_then(|name| name.split_once(','))
                    .map_or(NO_FILTER, |(_, filter)| filter);
                row.answers.insert(filter.to_owned(), graded.found.clone());
            }
            let first = outcome.graded.first().map(|graded| &graded.found);
            row.prediction = first.and_then(Value::as_str).map(str::to_owned);
            if outcome.requests.requests.len() > outcome.requests.with_context {
                row.messages = harness::conversation(outcome).unwrap_or_default();
            }
        }
    }
    row
}

/// The first of the most probable choices.
fn most_probable(choices: &[Choice]) -> Option<&Choice> {
    choices
        .iter()
        .reduce(|best, one| if one.score.logprob_nats > best.score.logprob_nats { one } else { best })
}

/// What was asked, as text.
fn prompt(request: &Request) -> String {
    match request {
        Request::Complete { prompt, .. } => prompt.clone(),
        Request::ScoreContinuation { context, .. } => context.clone(),
        Request::ScoreText { text } => text.clone(),
        Request::Chat { messages, .. } | Request::ScoreChat { messages } => match messages.as_slice() {
            [only] => only.content.clone(),
            turns => {
                let turn =
                    |turn: &nexa_core::lm::ChatMessage| format!("{}: {}", turn.role.as_str(), turn.content);
                turns.iter().map(turn).collect::<Vec<_>>().join("\n\n")
            }
        },
    }
}
