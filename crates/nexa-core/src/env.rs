//! The environment: which variables are read, `.env`, and values that must never be shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::{Error, Result};

/// Every variable that `nexa` reads, with what it is for. Nothing else is read from the environment.
pub const VARIABLES: &[(&str, &str)] = &[
    ("NEXA_LAB", "folder of the lab, where `--lab` is not given"),
    ("NEXA_LOG", "what the log shows on stderr, in the syntax of tracing's `EnvFilter`"),
    ("NO_COLOR", "turns colours off"),
    ("OPENAI_API_KEY", "key of `openai:` teachers"),
    ("OPENAI_BASE_URL", "base URL of `openai:` teachers"),
    ("OPENROUTER_API_KEY", "key of `openrouter:` teachers"),
    ("ANTHROPIC_API_KEY", "key of `anthropic:` teachers"),
    ("TOGETHER_API_KEY", "key of `together:` teachers"),
    ("GROQ_API_KEY", "key of `groq:` teachers"),
    ("DEEPSEEK_API_KEY", "key of `deepseek:` teachers"),
    ("MISTRAL_API_KEY", "key of `mistral:` teachers"),
    ("GEMINI_API_KEY", "key of `gemini:` teachers"),
    ("NVIDIA_API_KEY", "key of `nvidia:` teachers"),
    ("HF_TOKEN", "token of the Hugging Face hub"),
    ("HF_HOME", "folder of the Hugging Face cache"),
    ("HF_HUB_OFFLINE", "1 takes models of the Hugging Face hub from the cache alone"),
    ("HF_ENDPOINT", "URL of another hub than Hugging Face's"),
    ("MLFLOW_TRACKING_URI", "address of the MLflow server, where `mlflow.tracking_uri` is not given"),
    ("MLFLOW_EXPERIMENT_NAME", "MLflow experiment, where `mlflow.experiment_name` is not given"),
    ("MLFLOW_TRACKING_TOKEN", "token of the MLflow server"),
    ("MLFLOW_TRACKING_USERNAME", "user of the MLflow server"),
    ("MLFLOW_TRACKING_PASSWORD", "password of the MLflow server"),
    ("AWS_ACCESS_KEY_ID", "key id for `s3://` addresses"),
    ("AWS_SECRET_ACCESS_KEY", "secret key for `s3://` addresses"),
    ("AWS_SESSION_TOKEN", "token of a session, for `s3://` addresses"),
    ("AWS_REGION", "region of the buckets"),
    ("AWS_DEFAULT_REGION", "region of the buckets, where `AWS_REGION` is not set"),
    ("AWS_ENDPOINT_URL", "URL of another service of buckets than Amazon's"),
    ("AWS_ENDPOINT_URL_S3", "the same, over `AWS_ENDPOINT_URL`"),
    ("AWS_ALLOW_HTTP", "true lets that URL be one of http://"),
    ("AWS_SKIP_SIGNATURE", "true asks public buckets without a key"),
    (
        "NEXA_API_KEY",
        "key of a teacher given by URL, and the key that `nexa inference` asks for and `nexa ui` sends to it",
    ),
];

/// A value that is used but never shown: not by `Debug`, not by `Display`, not by serde.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one call that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The variables of the process, over those of the lab's `.env`.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    from_file: BTreeMap<String, Secret>,
    /// Whether the process's own variables do not count.
    is_closed: bool,
}

impl Environment {
    /// Makes an environment of some variables alone: those of the process do not count, whatever they are.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let from_file =
            variables.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value))).collect();
        Self { from_file, is_closed: true }
    }

    /// Reads `.env` of a folder, if there is one.
    ///
    /// # Errors
    /// Fails with path and line on a line that is no assignment. The line itself is not shown.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(".env");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        let mut from_file = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) =
                line.strip_prefix("export ").unwrap_or(line).split_once('=').ok_or_else(|| {
                    Error::malformed(&path, format!("line {}: not of the form NAME=value", number + 1))
                })?;
            from_file.insert(name.trim().to_owned(), Secret::new(unquote(value.trim())));
        }
        Ok(Self { from_file, is_closed: false })
    }

    /// A variable of the process or, failing that, of `.env`. An empty value counts as absent.
    pub fn get(&self, name: &str) -> Option<Secret> {
        let of_process = || std::env::var(name).ok().filter(|_| !self.is_closed).map(Secret::new);
        of_process()
            .filter(|value| !value.expose().is_empty())
            .or_else(|| self.from_file.get(name).filter(|value| !value.expose().is_empty()).cloned())
    }
}

/// Takes the quotes off a value, or the comment that follows a bare one.
fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote)
            && let Some(end) = rest.find(quote)
        {
            return &rest[..end];
        }
    }
    value.split_once(" #").map_or(value, |(bare, _)| bare.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotenv_file_is_read_and_its_values_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            "# keys\nexport NEXA_TEST_A=\"one two\" # quoted\nNEXA_TEST_B=three # bare\n\nNEXA_TEST_C=\n";
        std::fs::write(folder.path().join(".env"), text).unwrap();
        let environment = Environment::load(folder.path()).unwrap();
        assert_eq!(environment.get("NEXA_TEST_A").unwrap().expose(), "one two");
        assert_eq!(environment.get("NEXA_TEST_B").unwrap().expose(), "three");
        assert_eq!(environment.get("NEXA_TEST_C"), None);
        assert!(!format!("{environment:?}").contains("one two"));
    }

    #[test]
    fn a_closed_environment_holds_nothing_else() {
        let environment = Environment::of([("NEXA_TEST_A", "one"), ("NEXA_TEST_B", "")]);
        assert_eq!(environment.get("NEXA_TEST_A").unwrap().expose(), "one");
        assert_eq!(environment.get("NEXA_TEST_B"), None);
        assert!(std::env::var_os("PATH").is_some());
        assert_eq!(environment.get("PATH"), None);
    }

    #[test]
    fn a_bad_line_is_named_but_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), "A=1\nsk-secret-without-a-name\n").unwrap();
        let error = Environment::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("sk-secret"), "{error}");
    }
}
