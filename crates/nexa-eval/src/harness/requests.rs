//! From questions to requests.

use nexa_core::draw;
use nexa_core::lm::{ChatMessage, LoadedModel, Role, Sampling};

use crate::ask::{Asked, Request};
use crate::evaluate::Config;
use crate::harness::fields::Text;
use crate::harness::load::{Document, Loaded};
use crate::harness::metric::Kind;
use crate::harness::native::{Native, mt_bench};
use crate::harness::prompt::{Context, Prompter, Style};
use crate::harness::python;
use crate::harness::spec::OutputType;
use crate::{Error, Result};

/// The requests of a document: what it is asked, and what stands where in them.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    /// All of them, those with a context first.
    pub(crate) requests: Vec<Request>,
    /// How many of them have a context; the others are choices alone.
    pub(crate) with_context: usize,
}

/// How contexts are written for a model.
///
/// # Errors
/// Fails where a chat template is wanted of a model that takes no text.
pub(crate) fn style<'a>(config: &Config, model: &'a LoadedModel<'_>, output: OutputType) -> Style<'a> {
    let multiturn = config.fewshot_as_multiturn.unwrap_or(true);
    match &model.completer {
        Some(completer) if config.apply_chat_template => {
            Style::Template { completer: completer.as_ref(), multiturn }
        }
        None if output == OutputType::GenerateUntil => Style::Conversation { multiturn },
        _ => Style::Plain,
    }
}

impl Requests {
    /// What a document asks of a model.
    ///
    /// # Errors
    /// Fails with task and key where a field cannot be asked for.
    pub(crate) fn of(
        loaded: &Loaded<'_>,
        document: &Document,
        config: &Config,
        style: Style<'_>,
    ) -> Result<Self> {
        let spec = &loaded.task.spec;
        let question = &document.question;
        if spec.native == Some(Native::MtBench) {
            let first = conversation(loaded, document, config, &[])?;
            return Ok(Self { requests: vec![first], with_context: 1 });
        }
        let no_text = |key: &'static str| Error::Document {
            task: spec.task.clone(),
            key,
            document: document.id.clone(),
            message: format!("{} is no text", python::repr(&question.target)),
        };
        if spec.output_type == OutputType::LoglikelihoodRolling {
            let text = question.target.as_str().ok_or_else(|| no_text("doc_to_target"))?;
            return Ok(Self {
                requests: vec![Request::ScoreText { text: text.to_owned() }],
                with_context: 1,
            });
        }
        let system = config.system_instruction.as_deref().unwrap_or("");
        let prompter = Prompter::new(spec, system, style);
        let contexts = prompter.contexts(question, &loaded.examples(document))?;
        let mut requests = Vec::new();
        match spec.output_type {
            OutputType::GenerateUntil => {
                for repeat in 0..spec.repeats {
                    let sampling = sampling(loaded, document, config, repeat);
                    requests.extend(contexts.iter().map(|context| generate(context, &sampling)));
                }
            }
            OutputType::Loglikelihood => {
                let target = question.target.as_str().ok_or_else(|| no_text("doc_to_target"))?;
                requests.extend(contexts.iter().map(|context| continuation(context, target.to_owned())));
            }
            OutputType::MultipleChoice | OutputType::LoglikelihoodRolling => {
                let delimiter = prompter.continuation_delimiter();
                let choices = question.choices.as_deref().unwrap_or_default();
                if matches!(question.text, Text::Choice(_)) {
                    let rest = question.target.as_str().ok_or_else(|| no_text("doc_to_target"))?;
                    requests.extend(
                        contexts.iter().map(|context| continuation(context, format!("{delimiter}{rest}"))),
                    );
                } else if let Some(context) = contexts.first() {
                    requests.extend(
                        choices.iter().map(|choice| continuation(context, format!("{delimiter}{choice}"))),
                    );
                }
            }
        }
        let with_context = requests.len();
        if loaded.task.metrics.iter().any(|metric| metric.kind == Kind::AccMutualInfo) {
            let delimiter = prompter.continuation_delimiter();
            let alone = Context::Text(String::new());
            let choices = question.choices.iter().flatten();
            requests.extend(choices.map(|choice| continuation(&alone, format!("{delimiter}{choice}"))));
        }
        Ok(Self { requests, with_context })
    }
}

/// The next request of a conversation of several turns, after the answers so far.
///
/// # Errors
/// Fails where the document has no turns.
pub(crate) fn conversation(
    loaded: &Loaded<'_>,
    document: &Document,
    config: &Config,
    answers: &[String],
) -> Result<Request> {
    let turns = mt_bench::turns(&document.row).map_err(|message| Error::Document {
        task: loaded.task.spec.task.clone(),
        key: "native",
        document: document.id.clone(),
        message,
    })?;
    let system = config.system_instruction.iter().map(|text| ChatMessage::new(Role::System, text.as_str()));
    let mut messages: Vec<ChatMessage> = system.collect();
    for (at, turn) in turns.iter().take(answers.len() + 1).enumerate() {
        messages.push(ChatMessage::new(Role::User, turn.as_str()));
        messages.extend(answers.get(at).map(|answer| ChatMessage::new(Role::Assistant, answer.as_str())));
    }
    let mut sampling = sampling(loaded, document, config, answers.len());
    sampling.temperature = mt_bench::temperature(&document.row);
    sampling.seed =
        if sampling.temperature == 0.0 { 0 } else { seed(loaded, document, config, answers.len()) };
    Ok(Request::Chat { messages, sampling })
}

fn sampling(loaded: &Loaded<'_>, document: &Document, config: &Config, repeat: usize) -> Sampling {
    let seed = seed(loaded, document, config, repeat);
    loaded.task.generation.sampling(seed)
}

/// The seed of an answer, which depends on nothing but the evaluation's seed, the document and the answer's number.
fn seed(loaded: &Loaded<'_>, document: &Document, config: &Config, repeat: usize) -> u64 {
    draw::bits(config.seed, &[&loaded.task.spec.task, &document.id, &repeat.to_string()])
}

fn generate(context: &Context, sampling: &Sampling) -> Request {
    let sampling = sampling.clone();
    match context {
        Context::Text(prompt) => Request::Complete { prompt: prompt.clone(), sampling },
        Context::Messages(messages) => Request::Chat { messages: messages.clone(), sampling },
    }
}

fn continuation(context: &Context, continuation: String) -> Request {
    let context = match context {
        Context::Text(text) => text.clone(),
        // Probabilities are asked of texts alone: `style` sees to it.
        Context::Messages(_) => String::new(),
    };
    Request::ScoreContinuation { context, continuation }
}

/// Requests of one task, ready to be put.
pub(crate) fn asked(loaded: &Loaded<'_>, requests: &[Requests]) -> Vec<Asked> {
    let of_document = |(unit, (document, requests)): (usize, (&Document, &Requests))| {
        let item = document.id.clone();
        requests
            .requests
            .iter()
            .map(|request| Asked { request: request.clone(), item: item.clone(), unit })
            .collect::<Vec<_>>()
    };
    loaded.documents.iter().zip(requests).enumerate().flat_map(of_document).collect()
}
