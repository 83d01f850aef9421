//! Which teacher is meant, where it is, and with which key it is called.
//!
//! `openrouter:openai/gpt-4o`, `openai:gpt-4o-mini`, `http://host:port/v1#model`, `local`, `embedded`. Only the first separator
//! separates: model names hold colons and slashes of their own.

mod vendor;

use std::fmt;
use std::str::FromStr;

use nexa_core::env::{Environment, Secret};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, embedded};

/// Whose API a teacher is behind. All of them speak the chat completions of OpenAI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The teacher inside the binary.
    Embedded,
    /// A URL of the user's own.
    Url,
    /// `openai:`, or whatever `OPENAI_BASE_URL` names.
    OpenAi,
    /// `openrouter:`.
    OpenRouter,
    /// `anthropic:`, by its compatibility with OpenAI.
    Anthropic,
    /// `together:`.
    Together,
    /// `groq:`.
    Groq,
    /// `deepseek:`.
    DeepSeek,
    /// `mistral:`.
    Mistral,
    /// `gemini:`, by its compatibility with OpenAI.
    Gemini,
    /// `nvidia:`.
    Nvidia,
    /// `local`: a checkpoint of the lab, on this machine.
    Local,
}

/// A teacher as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeacherSpec {
    provider: Provider,
    /// Set for [`Provider::Url`] alone.
    url: Option<String>,
    model: String,
}

/// Where a teacher's answers come from, beyond what its name says. Another source may give other answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// An API: its base, without a final slash; never holds a secret.
    BaseUrl(String),
    /// The teacher inside the binary, in this version of its answers.
    EmbeddedVersion(u32),
    /// The checkpoint that is the input of this role.
    Input(String),
}

/// The role of the checkpoint that is a local teacher.
pub const LOCAL_ROLE: &str = "teacher";

/// Where and how a teacher is called.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Whose API it is.
    pub provider: Provider,
    /// The API's base, without a final slash; never holds a secret.
    pub base_url: String,
    /// The model, as the provider names it.
    pub model: String,
    /// The key, where one is needed or set.
    pub key: Option<Secret>,
}

impl Provider {
    /// The providers that are named before a colon: word, base URL, variable of the key.
    const NAMED: [(&'static str, Self, &'static str, &'static str); 9] = [
        ("openai", Self::OpenAi, "https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("openrouter", Self::OpenRouter, "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        ("anthropic", Self::Anthropic, "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
        ("together", Self::Together, "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        ("groq", Self::Groq, "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        ("deepseek", Self::DeepSeek, "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
        ("mistral", Self::Mistral, "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        ("gemini", Self::Gemini, "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
        ("nvidia", Self::Nvidia, "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
    ];

    /// The words that may stand before the colon.
    pub fn names() -> Vec<&'static str> {
        Self::NAMED.iter().map(|(name, ..)| *name).chain([LOCAL, EMBEDDED]).collect()
    }

    /// The variable that holds the key.
    pub fn key_variable(self) -> Option<&'static str> {
        match self {
            Self::Embedded | Self::Local => None,
            Self::Url => Some("NEXA_API_KEY"),
            named => named.entry().map(|(.., variable)| *variable),
        }
    }

    /// Whether its answers are computed on this machine, and cost nothing but its time.
    pub fn is_here(self) -> bool {
        matches!(self, Self::Embedded | Self::Local)
    }

    /// Whether it takes `top_k`, which is no part of OpenAI's API.
    pub fn takes_top_k(self) -> bool {
        matches!(self, Self::Url | Self::OpenRouter | Self::Together | Self::Nvidia) || self.is_here()
    }

    /// Whether every model behind its API can be held to a JSON schema, or at least to JSON.
    pub fn takes_schema(self) -> bool {
        matches!(
            self,
            Self::OpenAi | Self::OpenRouter | Self::Together | Self::DeepSeek | Self::Mistral | Self::Gemini
        )
    }

    fn entry(self) -> Option<&'static (&'static str, Self, &'static str, &'static str)> {
        Self::NAMED.iter().find(|(_, provider, ..)| *provider == self)
    }
}

const EMBEDDED: &str = "embedded";
const LOCAL: &str = "local";
const FORMS: &str = "write `provider:model`, `http://host:port/v1#model`, `local` or `embedded`";

impl FromStr for TeacherSpec {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        let bad = |message: String, hint: &str| Error::BadTeacher { message, hint: hint.to_owned() };
        if spec == EMBEDDED {
            return Ok(Self { provider: Provider::Embedded, url: None, model: embedded::MODEL.to_owned() });
        }
        if spec == LOCAL {
            return Ok(Self { provider: Provider::Local, url: None, model: LOCAL.to_owned() });
        }
        if spec.starts_with("local:") {
            return Err(bad(
                format!("`{spec}` names a checkpoint, which is an input of the stage"),
                "write `teacher: local` and give the checkpoint the role `teacher`",
            ));
        }
        if spec.starts_with("http://") || spec.starts_with("https://") {
            let (url, model) =
                spec.split_once('#').filter(|(_, model)| !model.is_empty()).ok_or_else(|| {
                    bad(
                        "the URL names no model".to_owned(),
                        "write the model after `#`: `http://host:port/v1#model`",
                    )
                })?;
            let url = checked_url(url, "the teacher's URL")?;
            return Ok(Self { provider: Provider::Url, url: Some(url), model: model.to_owned() });
        }
        let (name, model) =
            spec.split_once(':').filter(|(_, model)| !model.is_empty()).ok_or_else(|| incomplete(spec))?;
        let Some((_, provider, ..)) = Provider::NAMED.iter().find(|(known, ..)| *known == name) else {
            return Err(Error::UnknownProvider {
                spec: spec.to_owned(),
                provider: name.to_owned(),
                nearest: nexa_core::config::nearest(name, Provider::names())
                    .and_then(|nearest| Provider::names().into_iter().find(|known| *known == nearest)),
            });
        };
        let model = if *provider == Provider::OpenRouter && !model.contains('/') {
            let vendor = vendor::of(model).ok_or_else(|| {
                bad(
                    format!("`{spec}` names no vendor"),
                    &format!("models of OpenRouter carry one: write `openrouter:vendor/{model}`, as openrouter.ai/models does"),
                )
            })?;
            format!("{vendor}/{model}")
        } else {
            model.to_owned()
        };
        Ok(Self { provider: *provider, url: None, model })
    }
}

/// Says what is missing of a teacher that is one word, with what may be meant.
fn incomplete(spec: &str) -> Error {
    let word = spec.trim_end_matches(':');
    if Provider::names().contains(&word) {
        let hint = format!("write the model after it: `{word}:MODEL`");
        return Error::BadTeacher { message: format!("`{spec}` names no model"), hint };
    }
    let hint = match vendor::of(word) {
        Some(vendor) => {
            let own = vendor::provider(vendor).map(|provider| format!("`{provider}:{word}` or "));
            format!("did you mean {}`openrouter:{vendor}/{word}`?", own.unwrap_or_default())
        }
        None => match nexa_core::config::nearest(word, Provider::names()) {
            Some(nearest) => format!("did you mean `{nearest}`? {FORMS}"),
            None => FORMS.to_owned(),
        },
    };
    Error::BadTeacher { message: format!("`{spec}` names no provider"), hint }
}

impl fmt::Display for TeacherSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.url, self.provider.entry()) {
            (Some(url), _) => write!(f, "{url}#{}", self.model),
            (None, Some((name, ..))) => write!(f, "{name}:{}", self.model),
            (None, None) => f.write_str(if self.provider == Provider::Local { LOCAL } else { EMBEDDED }),
        }
    }
}

impl TeacherSpec {
    /// Whose API the teacher is behind.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The model, as the provider names it and as `nexa.yaml` gives its price.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Finds out where answers come from; needs no key, as nothing is called.
    ///
    /// # Errors
    /// Fails when `OPENAI_BASE_URL` cannot be used.
    pub fn source(&self, environment: &Environment) -> Result<Source> {
        let base_url = match (&self.url, self.provider.entry()) {
            (Some(url), _) => url.clone(),
            (None, Some((.., base_url, _))) => {
                match environment.get("OPENAI_BASE_URL").filter(|_| self.provider == Provider::OpenAi) {
                    Some(own) => checked_url(own.expose(), "`OPENAI_BASE_URL`")?,
                    None => (*base_url).to_owned(),
                }
            }
            (None, None) if self.provider == Provider::Local => {
                return Ok(Source::Input(LOCAL_ROLE.to_owned()));
            }
            (None, None) => return Ok(Source::EmbeddedVersion(embedded::ANSWER_VERSION)),
        };
        Ok(Source::BaseUrl(base_url))
    }

    /// Finds out how the teacher is called at a base URL.
    ///
    /// # Errors
    /// Fails when the key is not set, naming the variable.
    pub fn endpoint(&self, environment: &Environment, base_url: &str) -> Result<Endpoint> {
        let key = self.provider.key_variable().and_then(|variable| environment.get(variable));
        if let (None, Some((.., variable))) = (&key, self.provider.entry()) {
            return Err(Error::MissingKey { teacher: self.to_string(), variable });
        }
        let base_url = base_url.to_owned();
        Ok(Endpoint { provider: self.provider, base_url, model: self.model.clone(), key })
    }
}

/// Takes a base URL that holds no secret; errors never show one that does.
fn checked_url(url: &str, what: &str) -> Result<String> {
    let bad = |message: String, hint: &str| Error::BadTeacher { message, hint: hint.to_owned() };
    let parsed = reqwest::Url::parse(url).map_err(|e| bad(format!("{what} is no URL: {e}"), FORMS))?;
    let holds_more = parsed.query().is_some() || parsed.fragment().is_some();
    if !parsed.username().is_empty() || parsed.password().is_some() || holds_more {
        return Err(bad(
            format!("{what} holds a user, a password, parameters or a fragment"),
            "leave them out, and put the key into its variable",
        ));
    }
    if !parsed.has_host() {
        return Err(bad(format!("{what} names no host"), FORMS));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use nexa_core::{Diagnose, ExitCode};

    use super::*;

    #[test]
    fn only_the_first_separator_separates() {
        let check = |spec: &str, provider: Provider, model: &str| {
            let parsed: TeacherSpec = spec.parse().unwrap();
            assert_eq!((parsed.provider(), parsed.model()), (provider, model));
            assert_eq!(parsed.to_string(), spec);
        };
        check("openrouter:openai/gpt-4o", Provider::OpenRouter, "openai/gpt-4o");
        check(
            "openrouter:meta-llama/llama-3.1-8b:free",
            Provider::OpenRouter,
            "meta-llama/llama-3.1-8b:free",
        );
        check("openai:gpt-4o-mini", Provider::OpenAi, "gpt-4o-mini");
        check("http://127.0.0.1:8000/v1#llama3.1:8b", Provider::Url, "llama3.1:8b");
        check("embedded", Provider::Embedded, "nexa/arithmetic-teacher");
        check("gemini:gemini-2.5-flash", Provider::Gemini, "gemini-2.5-flash");
        check("local", Provider::Local, "local");
    }

    #[test]
    fn a_model_of_openrouter_gets_the_vendor_that_its_name_tells() {
        let parsed: TeacherSpec = "openrouter:gpt-4o".parse().unwrap();
        assert_eq!(parsed.to_string(), "openrouter:openai/gpt-4o");
        assert_eq!(parsed.model(), "openai/gpt-4o");
    }

    #[test]
    fn what_cannot_be_used_gets_a_hint_and_no_secret_is_shown() {
        let check = |spec: &str, expected: &str, hint: &str| {
            let error = spec.parse::<TeacherSpec>().unwrap_err();
            let found = error.hint().unwrap();
            assert!(error.to_string().contains(expected) && found.contains(hint), "{error} {found}");
            assert!(!format!("{error}{found}{error:?}").contains("hunter2"));
            assert_eq!(error.exit_code(), ExitCode::Config);
        };
        check("opnrouter:openai/gpt-4o", "unknown provider `opnrouter`", "`openrouter`");
        check("zzz:model", "unknown provider `zzz`", "deepseek");
        check("openrouter:hermes-3", "no vendor", "openrouter:vendor/hermes-3");
        check("gpt-4o", "no provider", "`openai:gpt-4o` or `openrouter:openai/gpt-4o`");
        check("claude-3-opus", "no provider", "anthropic:claude-3-opus");
        check("llama-3.1-8b", "no provider", "did you mean `openrouter:meta-llama/llama-3.1-8b`");
        check("embeded", "no provider", "did you mean `embedded`");
        check("something", "no provider", "provider:model");
        check("openai:", "no model", "openai:MODEL");
        check("http://host/v1", "no model", "#");
        check("http://me:hunter2@host/v1#m", "a user, a password", "variable");
        check("http://host/v1?key=hunter2#m", "parameters", "variable");
    }

    #[test]
    fn a_missing_key_is_named_before_anything_is_sent() {
        let spec: TeacherSpec = "groq:llama".parse().unwrap();
        let error = spec.endpoint(&Environment::of([]), "http://localhost:1/v1").unwrap_err();
        assert_eq!(error.to_string(), "teacher `groq:llama`: `GROQ_API_KEY` is not set");
        assert_eq!(error.exit_code(), ExitCode::Credentials);
    }

    #[test]
    fn an_endpoint_has_its_key_and_does_not_show_it() {
        let environment = Environment::of([("OPENAI_API_KEY", "hunter2")]);
        let spec: TeacherSpec = "openai:m".parse().unwrap();
        let endpoint = spec.endpoint(&environment, "http://localhost:1/v1").unwrap();
        assert_eq!(endpoint.key.as_ref().unwrap().expose(), "hunter2");
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }

    #[test]
    fn a_source_is_where_answers_come_from() {
        let check = |spec: &str, own: &str, expected: &str| {
            let environment = Environment::of([("OPENAI_BASE_URL", own)]);
            let source = spec.parse::<TeacherSpec>().unwrap().source(&environment);
            let found = match source {
                Ok(source) => serde_json::to_string(&source).unwrap(),
                Err(error) => {
                    assert!(!format!("{error}{error:?}").contains("hunter2"));
                    error.to_string()
                }
            };
            assert!(found.contains(expected), "{found}");
        };
        check("openai:m", "", r#"{"base_url":"https://api.openai.com/v1"}"#);
        check("openai:m", "http://localhost:1/v1/", r#"{"base_url":"http://localhost:1/v1"}"#);
        check("groq:m", "http://localhost:1/v1", r#"{"base_url":"https://api.groq.com/openai/v1"}"#);
        check("http://host/v1/#m", "http://localhost:1/v1", r#"{"base_url":"http://host/v1"}"#);
        check("embedded", "http://localhost:1/v1", r#"{"embedded_version":1}"#);
        check("openai:m", "http://me:hunter2@host/v1", "`OPENAI_BASE_URL` holds a user, a password");
        check("openai:m", "http://host/v1?key=hunter2", "`OPENAI_BASE_URL` holds");
        check("openai:m", "http://host/v1#hunter2", "`OPENAI_BASE_URL` holds");
    }
}
