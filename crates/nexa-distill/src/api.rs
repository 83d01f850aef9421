//! A model behind an API as something that can be evaluated: an artifact that names it, and the model that answers.
//!
//! The artifact holds a name and a place and never a key. Whoever asks the model does it by the means of a collection: the
//! same client, limits, log of answers, budget and ledger. What was answered once is not paid for again.

use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::env::Environment;
use nexa_core::files;
use nexa_core::lm::{
    self, AnswerForm, Calls, ChatModel, ChatReply, ChatRequest, Factor, LoadedModel, ModelInfo,
};
use nexa_core::stage::{Context, Stage, StageError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Request, Sampling};
use crate::collect::{self, Asked, Collect, Filtered, OnFailure, Truncated};
use crate::teacher::{Provider, Source, TeacherSpec};
use crate::{Error, Result};

/// The stage's word in records.
const STAGE: &str = "model.api";
/// The file of the artifact.
const FILE: &str = "api.json";
/// How many seeds there are; far fewer than a double holds exactly.
const SEEDS: u64 = 1 << 32;

/// Which model is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model, as a teacher is named: `openai:gpt-4o-mini`, `http://host:port/v1#model`, `embedded`, …
    pub model: String,
    /// Where answers must come from, as the record of a run states it. Default: wherever the name and `OPENAI_BASE_URL`
    /// lead.
    #[serde(default)]
    pub source: Option<Source>,
}

/// The stage `model.api`: names a model behind an API.
#[derive(Debug, Clone)]
pub struct ApiModel {
    named: Named,
}

/// What the artifact holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    model: String,
    source: Source,
}

impl ApiModel {
    /// Finds where the model is. The environment says so for some; keys are looked for when it is called.
    ///
    /// # Errors
    /// Fails where no model behind an API can be meant, or its answers would come from elsewhere than is recorded.
    pub fn new(config: Config, environment: &Environment) -> Result<Self> {
        let spec: TeacherSpec = config.model.parse()?;
        if spec.provider() == Provider::Local {
            return Err(Error::BadSetting {
                stage: STAGE,
                key: "model".to_owned(),
                value: config.model,
                message: "a checkpoint of the lab is evaluated as it is: `--checkpoint NAME`".to_owned(),
            });
        }
        let named = Named { model: spec.to_string(), source: spec.source(environment)? };
        collecting(&named, config.source, &Calls::default())
            .map(|config| Collect::new(config, environment))??;
        Ok(Self { named })
    }
}

impl Stage for ApiModel {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::ApiModel
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!(self.named)
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        files::write_json(&context.output.join(FILE), &self.named)?;
        context.state("model", &self.named.model)?;
        Ok(())
    }
}

/// Opens a model behind an API for a stage, in whose ledger its calls are entered.
///
/// # Errors
/// Fails where the artifact names none, or the lab would now ask elsewhere.
pub fn open<'a>(model: &Artifact, context: &'a Context<'a>, calls: &Calls) -> Result<LoadedModel<'a>> {
    model.expect_kind(Kind::ApiModel)?;
    let named: Named = files::read_json(&model.file(FILE)?)?;
    let config = collecting(&named, Some(named.source.clone()), calls)?;
    let collect = Collect::new(config, context.services.environment)?;
    let info = ModelInfo {
        name: named.model.clone(),
        architecture: "api".to_owned(),
        parameters: 0,
        context_length: usize::MAX,
        // The weights of what answers there are not known, and may change.
        weights_hash: String::new(),
        device: "api".to_owned(),
        format: "api".to_owned(),
        weight_bytes: 0,
    };
    let chat = Arc::new(ApiChat { name: named.model, collect, context });
    Ok(LoadedModel { info, chat, scorer: None, completer: None })
}

/// How a collection is set up that asks such a model. Answers are kept as they come: whoever evaluates grades them.
fn collecting(named: &Named, source: Option<Source>, calls: &Calls) -> Result<collect::Config> {
    let on_failure =
        OnFailure { truncated: Truncated::Keep, filtered: Filtered::Keep, ..OnFailure::default() };
    Ok(collect::Config {
        teacher: named.model.clone(),
        source,
        on_failure,
        max_cost_usd: calls.max_cost_usd,
        max_total_tokens: calls.max_total_tokens,
        max_concurrent_requests: calls.max_concurrent_requests,
        max_requests_per_minute: calls.max_requests_per_minute,
        max_tokens_per_minute: calls.max_tokens_per_minute,
        max_retries: calls.max_retries,
        timeout_s: calls.timeout_s,
        max_failed_share: calls.max_failed_share,
        ..collect::Config::default()
    })
}

/// Answers chats by calls.
struct ApiChat<'a> {
    name: String,
    collect: Collect,
    context: &'a Context<'a>,
}

impl ChatModel for ApiChat<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(
        &self,
        requests: &[ChatRequest],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<ChatReply>, lm::Error> {
        let failed = |message| lm::Error::Failed { model: self.name.clone(), message };
        self.chat_each(requests, done)?.into_iter().map(|reply| reply.map_err(failed)).collect()
    }

    fn chat_each(
        &self,
        requests: &[ChatRequest],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<ChatReply, String>>, lm::Error> {
        let requests = requests.iter().map(request).collect::<Result<Vec<_>, _>>()?;
        let failed = |error: Error| lm::Error::Calls(Box::new(error));
        let asked = self.collect.ask_each(self.context, requests).map_err(failed)?;
        let reply = |(at, asked): (usize, Asked)| -> Result<ChatReply, String> {
            done(at);
            let answer = asked.answer.map_err(|(kind, message)| format!("{kind}: {message}"))?;
            Ok(ChatReply {
                text: answer.text,
                finish_reason: answer.finish_reason,
                prompt_tokens: tokens(answer.usage.prompt_tokens),
                completion_tokens: tokens(answer.usage.completion_tokens),
                cut_tokens: 0,
            })
        };
        Ok(asked.into_iter().enumerate().map(reply).collect())
    }
}

fn tokens(count: Option<u64>) -> usize {
    count.and_then(|count| usize::try_from(count).ok()).unwrap_or_default()
}

/// A request in the words of a collection.
fn request(asked: &ChatRequest) -> Result<Request, lm::Error> {
    let sampling = &asked.sampling;
    if let Some(name) = unknown_to_apis(sampling) {
        let message = format!("`{name}` is nothing that a model behind an API can be asked for");
        return Err(lm::Error::Invalid(message));
    }
    let response_schema = match &sampling.form {
        Some(AnswerForm::JsonSchema(schema)) => Some(schema.clone()),
        _ => None,
    };
    let sampling = Sampling {
        temperature: exact(sampling.temperature),
        top_p: (sampling.top_p < 1.0).then(|| exact(sampling.top_p)),
        top_k: (sampling.top_k > 0).then(|| u32::try_from(sampling.top_k).unwrap_or(u32::MAX)),
        frequency_penalty: (sampling.frequency_penalty != 0.0).then(|| exact(sampling.frequency_penalty)),
        presence_penalty: (sampling.presence_penalty != 0.0).then(|| exact(sampling.presence_penalty)),
        stop: sampling.stop.clone(),
        response_schema,
        ..Sampling::default()
    };
    Ok(Request {
        messages: asked.messages.clone(),
        sampling: Arc::new(sampling),
        max_tokens: asked.sampling.max_tokens as u64,
        seed: asked.sampling.seed % SEEDS,
        sample_index: 0,
        repeats: 0,
    })
}

/// What a request asks for that the API of OpenAI has no word for.
fn unknown_to_apis(sampling: &lm::Sampling) -> Option<&'static str> {
    let has_other_form =
        sampling.form.as_ref().is_some_and(|form| !matches!(form, AnswerForm::JsonSchema(_)));
    let asked = [
        ("min_p", sampling.min_p != 0.0),
        ("repetition_penalty", sampling.repetition_penalty != Factor::default()),
        ("logit_bias", !sampling.logit_bias.is_empty()),
        ("min_tokens", sampling.min_tokens > 0),
        ("ignore_eos", sampling.ignore_eos),
        ("logprobs", sampling.logprobs.is_some() || sampling.prompt_logprobs.is_some()),
        ("form", has_other_form),
    ];
    asked.into_iter().find(|(_, is_asked)| *is_asked).map(|(name, _)| name)
}

/// The number that was written, of which `value` is the nearest in single precision.
fn exact(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

#[cfg(test)]
mod tests {
    use nexa_core::lm::{ChatMessage, Role};

    use super::*;

    fn asked(sampling: lm::Sampling) -> Result<Request, lm::Error> {
        request(&ChatRequest { messages: vec![ChatMessage::new(Role::User, "Hello")], sampling })
    }

    #[test]
    fn a_request_says_what_was_asked_and_nothing_more() {
        let plain = asked(lm::Sampling::default()).unwrap();
        assert_eq!(*plain.sampling, Sampling::default());
        assert_eq!((plain.max_tokens, plain.seed), (256, 0));
        let drawn =
            lm::Sampling { temperature: 0.7, top_p: 0.9, seed: (1 << 40) + 3, ..lm::Sampling::default() };
        let drawn = asked(drawn).unwrap();
        assert_eq!((drawn.sampling.temperature, drawn.sampling.top_p, drawn.seed), (0.7, Some(0.9), 3));
        let error = asked(lm::Sampling { min_tokens: 2, ..lm::Sampling::default() }).unwrap_err();
        assert!(error.to_string().contains("`min_tokens`"), "{error}");
        let schema = json!({"type": "object"});
        let form = Some(AnswerForm::JsonSchema(schema.clone()));
        let held = asked(lm::Sampling { form, ..lm::Sampling::default() }).unwrap();
        assert_eq!(held.sampling.response_schema, Some(schema));
        assert!(
            asked(lm::Sampling { form: Some(AnswerForm::JsonObject), ..lm::Sampling::default() }).is_err()
        );
    }

    #[test]
    fn a_checkpoint_is_no_model_behind_an_api() {
        let of = |model: &str| {
            ApiModel::new(Config { model: model.to_owned(), source: None }, &Environment::of([]))
        };
        assert!(of("local").unwrap_err().to_string().contains("--checkpoint"));
        let made = of("openai:gpt-4o-mini").unwrap().config();
        assert_eq!(made["source"], json!({"base_url": "https://api.openai.com/v1"}));
    }
}
