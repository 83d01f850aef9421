//! Settings that leave no trace in prompts, or explain the trace that they leave: those of the other tool against ours.
//!
//! Theirs stand in `results_<date>.json` beside the samples, ours in the evaluation's own results and in the files of its
//! checkpoint. A setting that one side does not tell is not compared.
//!
//! # Source
//! lm-evaluation-harness 0.4.13, `EvaluationTracker`, `simple_evaluate` and `add_tokenizer_info`, for the keys.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use nexa_core::artifact::{Artifact, ArtifactId, Store};
use nexa_core::files;
use nexa_core::lab::Lab;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cause::{Cause, is_equal};
use crate::harness::{RESULTS_FILE, samples_file};
use crate::{Evaluation, Result};

/// Characters of a text that are shown.
const SHOWN: usize = 40;

/// A setting that both sides tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Whether the tokenizer puts a beginning-of-text token before every text.
    AddBosToken,
    /// The tokens that a text can have before it is cut.
    MaxLength,
    /// Whether the chat template was applied.
    ApplyChatTemplate,
    /// Whether examples were turns of their own in it.
    FewshotAsMultiturn,
    /// What the model was told before everything.
    SystemInstruction,
    /// The number of examples.
    NumFewshot,
    /// The seed of the choice of examples.
    FewshotSeed,
    /// How many documents were taken.
    Limit,
    /// The seed of answers that are drawn.
    TorchSeed,
}

/// A setting in which the two sides differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettingDifference {
    /// The setting.
    pub setting: Setting,
    /// Their value; null where nothing is set.
    pub theirs: Value,
    /// Our value.
    pub ours: Value,
}

impl Setting {
    const ALL: [Self; 9] = [
        Self::AddBosToken,
        Self::MaxLength,
        Self::ApplyChatTemplate,
        Self::FewshotAsMultiturn,
        Self::SystemInstruction,
        Self::NumFewshot,
        Self::FewshotSeed,
        Self::Limit,
        Self::TorchSeed,
    ];

    /// Its name, as the other tool writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddBosToken => "add_bos_token",
            Self::MaxLength => "max_length",
            Self::ApplyChatTemplate => "apply_chat_template",
            Self::FewshotAsMultiturn => "fewshot_as_multiturn",
            Self::SystemInstruction => "system_instruction",
            Self::NumFewshot => "num_fewshot",
            Self::FewshotSeed => "fewshot_seed",
            Self::Limit => "limit",
            Self::TorchSeed => "torch_seed",
        }
    }

    /// Whether a difference in it may be why items differ in this way.
    fn explains(self, cause: Cause) -> bool {
        use Cause::{
            Answers, BeginningOfText, Border, ChatTemplate, Description, Documents, ExampleCount,
            ExampleOrder, Examples, Length, Likelihoods, Truncated,
        };
        let causes: &[Cause] = match self {
            Self::AddBosToken => &[BeginningOfText, Likelihoods, Border, Answers, Length],
            Self::MaxLength => &[Truncated, Likelihoods, Border, Answers, Length],
            Self::ApplyChatTemplate => &[ChatTemplate, Description, Likelihoods, Border, Answers, Length],
            Self::FewshotAsMultiturn => &[ChatTemplate, ExampleCount, Examples],
            Self::SystemInstruction => &[ChatTemplate, Description, Likelihoods, Border, Answers, Length],
            Self::NumFewshot => &[ExampleCount, Examples],
            Self::FewshotSeed => &[Examples, ExampleOrder],
            Self::Limit => &[Documents],
            Self::TorchSeed => &[Answers, Length],
        };
        causes.contains(&cause)
    }
}

impl SettingDifference {
    /// Whether it may be why items differ in this way.
    pub(super) fn explains(&self, cause: Cause) -> bool {
        self.setting.explains(cause)
    }
}

impl Display for SettingDifference {
    /// The setting, their value, and ours.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let value = |value: &Value| match value {
            Value::Null => "none".to_owned(),
            Value::String(text) if text.chars().count() > SHOWN => {
                format!("{:?}…", text.chars().take(SHOWN).collect::<String>())
            }
            other => other.to_string(),
        };
        write!(f, "{} {} against {}", self.setting.as_str(), value(&self.theirs), value(&self.ours))
    }
}

/// The settings in which the run that made some samples of a task differs from our evaluation; none where no file of results
/// stands beside them.
///
/// # Errors
/// Fails with the path where a file of results is malformed.
pub(super) fn differences(samples: &Path, ours: &Evaluation, task: &str) -> Result<Vec<SettingDifference>> {
    let Some(path) = results_file(samples, task) else { return Ok(Vec::new()) };
    let theirs = Theirs { results: files::read_json(&path)?, task };
    let ours = Ours::read(ours, task)?;
    let mut found = Vec::new();
    for setting in Setting::ALL {
        let Some((theirs, ours)) = theirs.get(setting).zip(ours.get(setting)) else { continue };
        if !is_equal(&theirs, &ours) {
            found.push(SettingDifference { setting, theirs, ours });
        }
    }
    // Whether examples are turns means nothing without a template.
    let has_templates = [theirs.get(Setting::ApplyChatTemplate), ours.get(Setting::ApplyChatTemplate)]
        .iter()
        .all(|applied| *applied == Some(Value::Bool(true)));
    found.retain(|one| has_templates || one.setting != Setting::FewshotAsMultiturn);
    Ok(found)
}

/// The results of the run that wrote some samples: those of the same date, or where a name has none the only ones beside it.
fn results_file(samples: &Path, task: &str) -> Option<PathBuf> {
    let folder = samples.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let stem = samples.file_stem()?.to_str()?;
    let name = samples_file(task);
    let date = stem.strip_prefix(name.trim_end_matches(".jsonl")).and_then(|rest| rest.strip_prefix('_'));
    if let Some(date) = date {
        return Some(folder.join(format!("results_{date}.json"))).filter(|path| path.is_file());
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
    let is_results = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("results") && name.ends_with(".json"))
    };
    let mut found = entries.map(|entry| entry.path()).filter(is_results);
    found.next().filter(|_| found.next().is_none())
}

/// The settings of the other tool.
struct Theirs<'a> {
    results: Value,
    task: &'a str,
}

impl Theirs<'_> {
    /// The value of a setting; none where it is not told.
    fn get(&self, setting: Setting) -> Option<Value> {
        let config = &self.results["config"];
        let arguments = &config["model_args"];
        let told = |value: &Value| Some(value.clone()).filter(|value| !value.is_null());
        match setting {
            Setting::AddBosToken => argument(arguments, "add_bos_token").filter(Value::is_boolean),
            Setting::MaxLength => told(&self.results["max_length"])
                .or_else(|| argument(arguments, "max_length"))
                .or_else(|| argument(arguments, "max_model_len"))
                .filter(Value::is_number),
            // There stands the template itself, where one was applied.
            Setting::ApplyChatTemplate => match self.results.get("chat_template")? {
                Value::Null | Value::Bool(false) => Some(Value::Bool(false)),
                Value::String(template) => Some(Value::Bool(!template.is_empty())),
                _ => Some(Value::Bool(true)),
            },
            Setting::FewshotAsMultiturn => told(&self.results["fewshot_as_multiturn"]),
            Setting::SystemInstruction => self.results.get("system_instruction").map(text_or_nothing),
            Setting::NumFewshot => told(&self.results["n-shot"][self.task]),
            Setting::FewshotSeed => told(&config["fewshot_seed"]),
            Setting::Limit => config.get("limit").cloned(),
            Setting::TorchSeed => {
                let kwargs = &self.results["configs"][self.task]["generation_kwargs"];
                let is_drawn = kwargs["do_sample"] == true
                    || kwargs["temperature"].as_f64().is_some_and(|temperature| temperature > 0.0);
                told(&config["torch_seed"]).filter(|_| is_drawn)
            }
        }
    }
}

/// Our settings.
struct Ours<'a> {
    results: Value,
    checkpoint: Option<Artifact>,
    seed: u64,
    task: &'a str,
}

impl<'a> Ours<'a> {
    fn read(evaluation: &Evaluation, task: &'a str) -> Result<Self> {
        let artifact = &evaluation.artifact;
        Ok(Self {
            results: files::read_json(&artifact.file(RESULTS_FILE)?)?,
            checkpoint: checkpoint(evaluation),
            seed: artifact.manifest.producer.seed,
            task,
        })
    }

    /// The value of a setting; none where it is not known.
    fn get(&self, setting: Setting) -> Option<Value> {
        let config = &self.results["config"];
        match setting {
            Setting::AddBosToken => adds_bos(self.checkpoint.as_ref()?).map(Value::Bool),
            Setting::MaxLength => {
                let keys = json_file(self.checkpoint.as_ref()?, "config.json")?;
                keys.get("max_position_embeddings").filter(|value| value.is_number()).cloned()
            }
            Setting::ApplyChatTemplate | Setting::FewshotAsMultiturn | Setting::FewshotSeed => {
                config.get(setting.as_str()).cloned()
            }
            Setting::SystemInstruction => config.get(setting.as_str()).map(text_or_nothing),
            Setting::NumFewshot => self.results["n-shot"].get(self.task).cloned(),
            Setting::Limit => config.get("limit").cloned(),
            Setting::TorchSeed => Some(self.seed.into()),
        }
    }
}

/// The checkpoint of an evaluation, where it is still in the lab as it was.
fn checkpoint(evaluation: &Evaluation) -> Option<Artifact> {
    let lab = Lab::discover(&evaluation.artifact.path()).ok()?;
    let id: ArtifactId = evaluation.checkpoint.id.parse().ok()?;
    let found = Store::new(&lab).get(&id).ok()?;
    (found.manifest.content_hash == evaluation.checkpoint.content_hash).then_some(found)
}

/// Whether a checkpoint's tokenizer puts a beginning-of-text token before every text: it says so, or its post-processor does.
fn adds_bos(checkpoint: &Artifact) -> Option<bool> {
    let config = json_file(checkpoint, "tokenizer_config.json")?;
    if let Some(adds) = config.get("add_bos_token").and_then(Value::as_bool) {
        return Some(adds);
    }
    let bos = &config["bos_token"];
    let Some(bos) = bos.as_str().or_else(|| bos["content"].as_str()) else { return Some(false) };
    let tokenizer = json_file(checkpoint, "tokenizer.json")?;
    Some(names(&tokenizer["post_processor"], bos))
}

/// Whether a post-processor writes a special token before or after a text.
fn names(processor: &Value, token: &str) -> bool {
    match processor {
        Value::Object(keys) => {
            keys.get("SpecialToken").is_some_and(|special| special["id"] == token)
                || keys.iter().any(|(key, value)| key != "pair" && names(value, token))
        }
        Value::Array(items) => items.iter().any(|item| names(item, token)),
        _ => false,
    }
}

fn json_file(checkpoint: &Artifact, name: &str) -> Option<Value> {
    files::read_json(&checkpoint.file(name).ok()?).ok()
}

/// An argument of a model: of an object, or of `key=value` between commas.
fn argument(arguments: &Value, key: &str) -> Option<Value> {
    let text = match arguments {
        Value::Object(arguments) => return arguments.get(key).cloned(),
        other => other.as_str()?,
    };
    let mut pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim() == key)?;
    let value = value.trim();
    Some(match value.to_lowercase().as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        number => number.parse::<u64>().map_or_else(|_| value.into(), Value::from),
    })
}

/// An instruction; an empty one is none.
fn text_or_nothing(value: &Value) -> Value {
    if value == "" { Value::Null } else { value.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_of_models_are_read() {
        let check = |arguments: Value, key: &str, expected: Option<Value>| {
            assert_eq!(argument(&arguments, key), expected, "{arguments}");
        };
        let text = json!("pretrained=org/model, add_bos_token=False,max_length=2048,dtype=float32");
        check(text.clone(), "add_bos_token", Some(json!(false)));
        check(text.clone(), "max_length", Some(json!(2048)));
        check(text.clone(), "dtype", Some(json!("float32")));
        check(text, "revision", None);
        check(json!({"add_bos_token": true}), "add_bos_token", Some(json!(true)));
        check(json!(null), "add_bos_token", None);
    }

    #[test]
    fn a_post_processor_tells_the_token_before_texts() {
        let special = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let of = |single: Value, pair: Value| json!({"type": "TemplateProcessing", "single": single, "pair": pair});
        assert!(names(&of(json!([special, text]), json!([])), "<s>"));
        assert!(!names(&of(json!([text]), json!([special])), "<s>"), "a pair is no text");
        assert!(!names(&of(json!([special, text]), json!([])), "<bos>"));
        let nested = json!({"type": "Sequence", "processors": [of(json!([special, text]), json!([]))]});
        assert!(names(&nested, "<s>"));
        assert!(!names(&Value::Null, "<s>"));
    }

    #[test]
    fn the_results_of_the_same_run_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let write = |name: &str| std::fs::write(place(name), "{}").unwrap();
        write("results_2026-01-02.json");
        let check = |samples: &str, expected: Option<&str>| {
            assert_eq!(results_file(&place(samples), "gsm8k"), expected.map(place), "{samples}");
        };
        check("samples_gsm8k_2026-01-02.jsonl", Some("results_2026-01-02.json"));
        check("samples_gsm8k_2026-01-03.jsonl", None);
        check("mine.jsonl", Some("results_2026-01-02.json"));
        write("results_2026-01-04.json");
        check("mine.jsonl", None);
    }

    #[test]
    fn a_difference_is_told_in_words() {
        let check = |theirs: Value, ours: Value, expected: &str| {
            let one = SettingDifference { setting: Setting::SystemInstruction, theirs, ours };
            assert_eq!(one.to_string(), format!("system_instruction {expected}"));
        };
        check(json!("Add."), Value::Null, "\"Add.\" against none");
        check(json!("x".repeat(50)), json!(1), &format!("\"{}\"… against 1", "x".repeat(40)));
    }
}
