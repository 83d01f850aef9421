//! Asking a task's questions, and grading what comes back.

use nexa_core::lm::{self, ChatMessage, ChatReply, Role, Score};
use serde_json::{Value, json};

use crate::ask::{Asked, Asker, Request, Sample};
use crate::evaluate::Config;
use crate::harness::filter::Chain;
use crate::harness::load::{Document, Loaded};
use crate::harness::metric::{Grade, Kind, Metric, grade_choices};
use crate::harness::native::{Native, mt_bench};
use crate::harness::python;
use crate::harness::requests::{self, Requests};
use crate::harness::spec::OutputType;
use crate::{Error, Result};

/// What came of a document.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// What was asked.
    pub(crate) requests: Requests,
    /// What the model said.
    pub(crate) said: Said,
    /// By each chain of filters what was found, and what each metric says of it.
    pub(crate) graded: Vec<Graded>,
}

/// What a model said.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    /// The probability of each request.
    Scores(Vec<Score>),
    /// What came of each: an answer, or none where the conversation is longer than the model's context or was not accepted.
    Replies(Vec<Sample<ChatReply>>),
}

/// What one chain of filters found.
#[derive(Debug, Clone)]
pub(crate) struct Graded {
    /// What it found; of probabilities they are themselves.
    pub(crate) found: Value,
    /// What each metric of the task says, in their order.
    pub(crate) grades: Vec<Grade>,
}

impl Said {
    /// The answers as texts; one that there is not is empty.
    pub(crate) fn texts(&self) -> Vec<String> {
        match self {
            Self::Scores(_) => Vec::new(),
            Self::Replies(replies) => {
                let text = |reply: &Sample<ChatReply>| reply.result().map(|reply| reply.text.clone());
                replies.iter().map(|reply| text(reply).unwrap_or_default()).collect()
            }
        }
    }

    /// What came of each request for an answer.
    pub(crate) fn replies(&self) -> &[Sample<ChatReply>] {
        match self {
            Self::Scores(_) => &[],
            Self::Replies(replies) => replies,
        }
    }

    /// Whether the question was longer than the model's context.
    pub(crate) fn is_too_long(&self) -> bool {
        let is_too_long = |reply: &Sample<ChatReply>| matches!(reply, Sample::TooLong { .. });
        matches!(self, Self::Replies(replies) if replies.iter().any(is_too_long))
    }
}

/// Asks a task's questions and grades the answers, in the order of the documents.
///
/// # Errors
/// Fails when the model does or has not the faculty that the task needs, and where an answer cannot be graded.
pub(crate) fn run(loaded: &Loaded<'_>, asker: &mut Asker<'_>, config: &Config) -> Result<Vec<Outcome>> {
    let spec = &loaded.task.spec;
    let style = requests::style(config, asker.model(), spec.output_type);
    if config.apply_chat_template
        && asker.model().completer.is_none()
        && spec.output_type != OutputType::GenerateUntil
    {
        return Err(Error::NoCompletions { task: spec.task.clone(), model: asker.model().info.name.clone() });
    }
    let mut requests = Vec::with_capacity(loaded.documents.len());
    for document in &loaded.documents {
        requests.push(Requests::of(loaded, document, config, style)?);
    }
    let said = if spec.output_type == OutputType::GenerateUntil {
        replies(loaded, asker, config, &mut requests)?
    } else {
        scores(loaded, asker, &requests)?
    };
    let outcomes = loaded.documents.iter().zip(requests).zip(said);
    outcomes
        .map(|((document, requests), said)| {
            let graded = loaded.task.chains.iter();
            let graded = graded
                .map(|chain| grade(loaded, document, (&requests, &said), chain))
                .collect::<Result<_>>()?;
            Ok(Outcome { requests, said, graded })
        })
        .collect()
}

fn scores(loaded: &Loaded<'_>, asker: &mut Asker<'_>, requests: &[Requests]) -> Result<Vec<Said>> {
    let samples = asker.scores(&loaded.task.spec.task, &requests::asked(loaded, requests))?;
    let mut samples = samples.into_iter();
    let mut said = Vec::new();
    for (document, requests) in loaded.documents.iter().zip(requests) {
        let mut scores = Vec::new();
        for sample in samples.by_ref().take(requests.requests.len()) {
            match sample {
                Sample::Result(score) => scores.push(score),
                Sample::TooLong { tokens, context_length } => {
                    let (task, document) = (loaded.task.spec.task.clone(), document.id.clone());
                    return Err(Error::DocumentTooLong { task, document, tokens, context_length });
                }
                Sample::Failed { reason } => {
                    let model = asker.model().info.name.clone();
                    return Err(lm::Error::Failed { model, message: reason }.into());
                }
            }
        }
        said.push(Said::Scores(scores));
    }
    Ok(said)
}

/// Asks for answers; where a conversation has several turns, for the next ones too.
fn replies(
    loaded: &Loaded<'_>,
    asker: &mut Asker<'_>,
    config: &Config,
    requests: &mut [Requests],
) -> Result<Vec<Said>> {
    let task = &loaded.task.spec.task;
    let mut samples = asker.replies(task, &requests::asked(loaded, requests))?.into_iter();
    let mut said: Vec<Vec<Sample<ChatReply>>> =
        requests.iter().map(|requests| samples.by_ref().take(requests.requests.len()).collect()).collect();
    while loaded.task.spec.native == Some(Native::MtBench) {
        let mut open = Vec::new();
        for (at, document) in loaded.documents.iter().enumerate() {
            let answers: Option<Vec<String>> =
                said[at].iter().map(|reply| reply.result().map(|reply| reply.text.clone())).collect();
            let turns = mt_bench::turns(&document.row).map_or(0, |turns| turns.len());
            if let Some(answers) = answers.filter(|answers| answers.len() < turns) {
                let request = requests::conversation(loaded, document, config, &answers)?;
                requests[at].requests.push(request.clone());
                open.push(Asked { request, item: document.id.clone(), unit: at });
            }
        }
        if open.is_empty() {
            break;
        }
        let further = asker.replies(task, &open)?;
        for (asked, reply) in open.iter().zip(further) {
            said[asked.unit].push(reply);
        }
    }
    Ok(said.into_iter().map(Said::Replies).collect())
}

/// Grades what was said of a document, after one chain of filters.
fn grade(
    loaded: &Loaded<'_>,
    document: &Document,
    (requests, said): (&Requests, &Said),
    chain: &Chain,
) -> Result<Graded> {
    let spec = &loaded.task.spec;
    let failed = |message: String| Error::Document {
        task: spec.task.clone(),
        key: "metric_list",
        document: document.id.clone(),
        message,
    };
    let metrics = loaded.task.metrics.iter();
    match said {
        Said::Scores(scores) => {
            let (with_context, alone) = scores.split_at(requests.with_context.min(scores.len()));
            let grades = metrics.map(|metric| grade_scores(loaded, document, metric, (with_context, alone)));
            let pair = |score: &Score| json!([score.logprob_nats, score.is_greedy]);
            let found = match spec.output_type {
                OutputType::LoglikelihoodRolling => {
                    scores.iter().map(|score| json!(score.logprob_nats)).collect()
                }
                _ => scores.iter().map(pair).collect(),
            };
            Ok(Graded {
                found: Value::Array(found),
                grades: grades.collect::<Result<_, _>>().map_err(failed)?,
            })
        }
        Said::Replies(_) => {
            let texts = said.texts();
            let found = chain.apply(&texts, &document.row).map_err(failed)?;
            let is_missing = spec.native.is_some_and(Native::needs_answer)
                && texts.iter().all(|text| text.trim().is_empty());
            let grades = metrics.map(|metric| match is_missing {
                true => Ok(Grade::Missing),
                false => grade_text(loaded, document, metric, &found),
            });
            let grades = grades.collect::<Result<_, _>>().map_err(failed)?;
            Ok(Graded { found, grades })
        }
    }
}

fn grade_scores(
    loaded: &Loaded<'_>,
    document: &Document,
    metric: &Metric,
    (scores, alone): (&[Score], &[Score]),
) -> Result<Grade, String> {
    let spec = &loaded.task.spec;
    let first = scores.first().ok_or_else(|| "the model said nothing".to_owned())?;
    let weighted =
        |weight: usize| Grade::Weighted { logprob_nats: first.logprob_nats, weight: weight as f64 };
    let counted = || {
        let native = spec.native.and_then(|native| native.counted_text(&document.row));
        native.unwrap_or_else(|| python::text(&document.question.target))
    };
    match (spec.output_type, metric.kind) {
        (_, Kind::Bypass) => Ok(Grade::Nothing),
        (OutputType::Loglikelihood, Kind::Perplexity) => Ok(Grade::Number(first.logprob_nats)),
        (OutputType::Loglikelihood, _) => Ok(Grade::of(first.is_greedy)),
        (OutputType::LoglikelihoodRolling, Kind::WordPerplexity) => Ok(weighted(python::words(&counted()))),
        (OutputType::LoglikelihoodRolling, _) => Ok(weighted(counted().len())),
        (_, kind) => match spec.native {
            Some(native) => {
                let own = native.grade_choices(&document.row, scores)?;
                Ok(own.unwrap_or_else(|| grade_choices(kind, &document.question, scores, alone)))
            }
            None => Ok(grade_choices(kind, &document.question, scores, alone)),
        },
    }
}

fn grade_text(
    loaded: &Loaded<'_>,
    document: &Document,
    metric: &Metric,
    found: &Value,
) -> Result<Grade, String> {
    let question = &document.question;
    match (metric.kind, loaded.task.spec.native) {
        (Kind::Bypass, _) => Ok(Grade::Nothing),
        (Kind::ExactMatch, _) => {
            let found = python::text(found);
            let references: Vec<String> = match (&question.choices, &question.target) {
                (Some(_), _) => vec![question.answer().map(str::to_owned).ok_or("the target is no choice")?],
                (None, Value::Array(many)) if loaded.has_many_targets => {
                    many.iter().map(python::text).collect()
                }
                (None, one) => vec![python::text(one)],
            };
            let mut is_right = false;
            for reference in references {
                is_right |= metric.exact_match.is_match(&found, &reference)?;
            }
            Ok(Grade::of(is_right))
        }
        (kind @ (Kind::Bleu | Kind::Chrf | Kind::Ter), _) => {
            let reference = question.answer().map_or_else(|| python::text(&question.target), str::to_owned);
            let prediction = python::text(found);
            Ok(if kind == Kind::Ter {
                Grade::edits(reference, prediction)
            } else {
                Grade::Texts { reference, prediction }
            })
        }
        (kind, Some(native)) => native.grade_answer(kind, &document.row, &python::text(found)),
        (kind, None) => Err(format!("`{}` grades no text", kind.as_str())),
    }
}

/// The conversation that came of a document with several turns.
pub(crate) fn conversation(outcome: &Outcome) -> Option<Vec<ChatMessage>> {
    let Some(Request::Chat { messages, .. }) = outcome.requests.requests.last() else { return None };
    let mut messages = messages.clone();
    messages.extend(outcome.said.texts().pop().map(|text| ChatMessage::new(Role::Assistant, text)));
    Some(messages)
}
