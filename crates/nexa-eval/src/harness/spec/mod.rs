//! Task files: the part of lm-evaluation-harness's YAML that needs no Python.
//!
//! A file says where documents come from, how one becomes a prompt, what is asked of the model, and how what it says is
//! filtered, graded and summed up. Keys keep the meaning and the defaults that they have there. What would run Python is
//! refused by the name of the task and the key; [`Native`] stands in for the functions of the tasks that are built in.

mod field;
mod generation;
mod group;
mod load;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use field::Field;
pub(crate) use generation::Generation;
pub(crate) use group::{AggregateMetric, Child, Group};
pub(crate) use load::{Definition, parse, read};

use crate::harness::native::Native;
use crate::{Error, Result};

/// What one task is set to. Every key of the file, after `include`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Spec {
    /// Its name.
    pub task: String,
    /// The name that reports show.
    pub task_alias: Option<String>,
    /// Names under which several tasks are asked for together.
    pub tag: OneOrMany,
    /// Where the documents come from: `json`, `csv` or `parquet` with `dataset_kwargs.data_files`, a path, or the name of a
    /// data set that the user has.
    pub dataset_path: Option<String>,
    /// The part of the data set.
    pub dataset_name: Option<String>,
    /// `data_files`: a path, a list of them, or one of these by split. `data_dir`: a folder.
    pub dataset_kwargs: Option<DatasetKwargs>,
    /// The documents of the evaluated split themselves, where they come from no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<Vec<nexa_core::table::Row>>,
    /// The split that examples come from where nothing else is said.
    pub training_split: Option<String>,
    /// The split that is evaluated where there is no test split.
    pub validation_split: Option<String>,
    /// The split that is evaluated.
    pub test_split: Option<String>,
    /// The split that examples come from.
    pub fewshot_split: Option<String>,
    /// The prompt: a column, or a template; with choices it may give the index of the one that is right, and then the
    /// choices stand in the context.
    pub doc_to_text: Field,
    /// The right answer: a column, a template, or an index among the choices.
    pub doc_to_target: Field,
    /// The choices: a column, a template that prints a list, or a list.
    pub doc_to_choice: Option<Field>,
    /// Stands before everything, and may be a template.
    pub description: String,
    /// Stands between prompt and answer.
    pub target_delimiter: String,
    /// Stands between examples.
    pub fewshot_delimiter: String,
    /// How examples differ from the question.
    pub fewshot_config: Option<FewshotConfig>,
    /// How many examples stand before the question.
    pub num_fewshot: Option<usize>,
    /// What is asked of the model.
    pub output_type: OutputType,
    /// How answers are generated.
    pub generation_kwargs: Option<Value>,
    /// How many answers each document gets.
    pub repeats: usize,
    /// What is read out of an answer before it is graded.
    pub filter_list: Option<Vec<FilterList>>,
    /// How answers are graded; what belongs to the output type where nothing is said.
    pub metric_list: Option<Vec<MetricConfig>>,
    /// Begins the answer.
    pub gen_prefix: Option<String>,
    /// Whether overlap with training data is of interest.
    pub should_decontaminate: bool,
    /// The text whose overlap counts.
    pub doc_to_decontamination_query: Option<String>,
    /// `version`, and whatever else an author notes.
    pub metadata: Option<Value>,
    /// What this program does in the place of the Python functions of a task; see [`Native`].
    pub native: Option<Native>,
    /// The column that names the source which a document shares with others, for clustered standard errors.
    pub cluster: Option<String>,
    /// The column whose values divide the results.
    pub domain: Option<String>,
    #[serde(skip_serializing)]
    process_docs: Option<Value>,
    #[serde(skip_serializing)]
    process_results: Option<Value>,
    #[serde(skip_serializing)]
    custom_dataset: Option<Value>,
    #[serde(skip_serializing)]
    use_prompt: Option<Value>,
    #[serde(skip_serializing)]
    doc_to_image: Option<Value>,
    #[serde(skip_serializing)]
    doc_to_audio: Option<Value>,
    #[serde(skip_serializing)]
    unsafe_code: Option<Value>,
    #[serde(skip_serializing)]
    class: Option<Value>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            task: String::new(),
            task_alias: None,
            tag: OneOrMany::default(),
            dataset_path: None,
            dataset_name: None,
            dataset_kwargs: None,
            documents: None,
            training_split: None,
            validation_split: None,
            test_split: None,
            fewshot_split: None,
            doc_to_text: Field::default(),
            doc_to_target: Field::default(),
            doc_to_choice: None,
            description: String::new(),
            target_delimiter: " ".to_owned(),
            fewshot_delimiter: "\n\n".to_owned(),
            fewshot_config: None,
            num_fewshot: None,
            output_type: OutputType::default(),
            generation_kwargs: None,
            repeats: 1,
            filter_list: None,
            metric_list: None,
            gen_prefix: None,
            should_decontaminate: false,
            doc_to_decontamination_query: None,
            metadata: None,
            native: None,
            cluster: None,
            domain: None,
            process_docs: None,
            process_results: None,
            custom_dataset: None,
            use_prompt: None,
            doc_to_image: None,
            doc_to_audio: None,
            unsafe_code: None,
            class: None,
        }
    }
}

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputType {
    /// The probability of the target after the prompt.
    Loglikelihood,
    /// The probability of each choice after the prompt.
    MultipleChoice,
    /// The probability of a whole text.
    LoglikelihoodRolling,
    /// An answer.
    #[default]
    GenerateUntil,
}

impl OutputType {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Loglikelihood => "loglikelihood",
            Self::MultipleChoice => "multiple_choice",
            Self::LoglikelihoodRolling => "loglikelihood_rolling",
            Self::GenerateUntil => "generate_until",
        }
    }
}

/// One text, or several.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self::default()),
            Value::String(one) => Ok(Self(vec![one])),
            many => serde_json::from_value(many).map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// How the data set is loaded.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DatasetKwargs {
    /// A path, a list of them, or one of these by split.
    pub data_files: Option<Value>,
    /// A folder.
    pub data_dir: Option<String>,
    /// Without meaning here; task files carry it along.
    pub trust_remote_code: Option<bool>,
    /// Without meaning here.
    pub streaming: Option<bool>,
    /// Without meaning here: files are named by `data_files`.
    pub name: Option<String>,
    /// Without meaning here.
    pub revision: Option<String>,
}

/// How the examples before a question are chosen and written, where that differs from the question.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FewshotConfig {
    /// How they are chosen.
    pub sampler: Sampler,
    /// The split that they come from.
    pub split: Option<String>,
    /// The examples themselves, where they come from no split.
    pub samples: Option<Vec<nexa_core::table::Row>>,
    /// Which documents of the split are there to choose from.
    pub fewshot_indices: Option<Vec<usize>>,
    /// In the place of the task's own.
    pub doc_to_text: Option<Field>,
    /// In the place of the task's own.
    pub doc_to_target: Option<Field>,
    /// In the place of the task's own.
    pub doc_to_choice: Option<Field>,
    /// In the place of the task's own.
    pub gen_prefix: Option<String>,
    /// In the place of the task's own.
    pub fewshot_delimiter: Option<String>,
    /// In the place of the task's own.
    pub target_delimiter: Option<String>,
    #[serde(skip_serializing)]
    process_docs: Option<Value>,
}

/// How examples are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sampler {
    /// At random, anew for every document.
    #[default]
    Default,
    /// The first ones.
    FirstN,
}

/// A chain of filters with a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterList {
    /// The name beside the metric: `strict-match`.
    pub name: String,
    /// The filters, each with its `function`, in the order in which they work.
    pub filter: Vec<Value>,
}

/// A metric with its settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricConfig {
    /// Its name.
    pub metric: String,
    /// How the values of documents become one; the metric's own way where nothing is said.
    pub aggregation: Option<String>,
    /// Whether a larger value is better; the metric's own answer where nothing is said.
    pub higher_is_better: Option<bool>,
    /// `exact_match`: upper and lower case are the same.
    pub ignore_case: bool,
    /// `exact_match`: punctuation of ASCII counts for nothing.
    pub ignore_punctuation: bool,
    /// `exact_match`: digits count for nothing.
    pub ignore_numbers: bool,
    /// `exact_match`: what is deleted first, in this order.
    pub regexes_to_ignore: Option<Vec<String>>,
    /// Whether the metric is one of the `evaluate` library, which is Python.
    pub hf_evaluate: bool,
}

impl Spec {
    /// Refuses what only Python could do, and settings that contradict each other.
    pub(crate) fn check(&self) -> Result<()> {
        let hooks = [
            ("process_docs", &self.process_docs),
            ("process_results", &self.process_results),
            ("custom_dataset", &self.custom_dataset),
            ("use_prompt", &self.use_prompt),
            ("doc_to_image", &self.doc_to_image),
            ("doc_to_audio", &self.doc_to_audio),
            ("class", &self.class),
        ];
        let fewshot = self.fewshot_config.as_ref().and_then(|config| config.process_docs.as_ref());
        let set = hooks.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        if let Some((key, _)) = set.chain(fewshot.map(|hook| ("fewshot_config.process_docs", hook))).next() {
            return Err(Error::PythonHook { task: self.task.clone(), key: key.to_owned() });
        }
        if self.unsafe_code.as_ref().is_some_and(|value| value != &Value::Bool(false)) {
            return Err(Error::PythonHook { task: self.task.clone(), key: "unsafe_code".to_owned() });
        }
        if self.eval_split().is_none() {
            return Err(
                self.error("test_split", "neither this nor `validation_split` names what is evaluated")
            );
        }
        if self.documents.as_ref().is_some_and(Vec::is_empty) {
            return Err(self.error("documents", "there is none"));
        }
        if self.output_type == OutputType::MultipleChoice && self.doc_to_choice.is_none() {
            return Err(self.error("doc_to_choice", "a task of multiple choice needs it"));
        }
        if self.repeats == 0 {
            return Err(self.error("repeats", "every document is asked at least once"));
        }
        Ok(())
    }

    /// An error in one of this task's keys.
    pub(crate) fn error(&self, key: &str, message: impl Into<String>) -> Error {
        Error::TaskFile { task: self.task.clone(), key: key.to_owned(), message: message.into() }
    }

    /// The split whose documents are evaluated.
    pub(crate) fn eval_split(&self) -> Option<&str> {
        self.test_split.as_deref().or(self.validation_split.as_deref())
    }

    /// The split that examples come from; none where they stand in the file.
    pub(crate) fn examples_split(&self) -> Option<&str> {
        let fewshot = self.stated_examples_split();
        if fewshot.is_none() && self.samples().is_some() {
            return None;
        }
        fewshot.or(self.training_split.as_deref()).or(self.validation_split.as_deref()).or(self.eval_split())
    }

    /// The split that the file names for examples.
    pub(crate) fn stated_examples_split(&self) -> Option<&str> {
        let config = self.fewshot_config.as_ref();
        config.and_then(|config| config.split.as_deref()).or(self.fewshot_split.as_deref())
    }

    /// Examples that stand in the file.
    pub(crate) fn samples(&self) -> Option<&[nexa_core::table::Row]> {
        self.fewshot_config.as_ref()?.samples.as_deref()
    }

    /// The version that its author gave it.
    pub(crate) fn version(&self) -> Value {
        let version = self.metadata.as_ref().and_then(|metadata| metadata.get("version"));
        version.cloned().unwrap_or_else(|| "Yaml".into())
    }

    /// The name that reports show.
    pub(crate) fn alias(&self) -> &str {
        self.task_alias.as_deref().unwrap_or(&self.task)
    }
}
