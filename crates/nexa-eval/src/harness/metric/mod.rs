//! Metrics: what a document's answer is worth, and how the values of all documents become one number.

mod aggregation;
mod choice;
mod estimate;
mod exact_match;
mod grade;
mod labels;
mod ter;
mod translation;

use crate::Result;
use crate::harness::native::Native;
use crate::harness::python::PythonRegex;
use crate::harness::spec::{MetricConfig, OutputType, Spec};

pub(crate) use aggregation::{Aggregation, pooled_standard_error, standard_error};
pub(crate) use choice::grade_choices;
pub(crate) use estimate::estimate;
pub(crate) use exact_match::ExactMatch;
pub(crate) use grade::Grade;

/// A metric of a task.
#[derive(Debug)]
pub(crate) struct Metric {
    /// What it measures.
    pub(crate) kind: Kind,
    /// How the values of documents become one.
    pub(crate) aggregation: Aggregation,
    /// Whether a larger value is better.
    pub(crate) higher_is_better: bool,
    /// How texts are compared.
    pub(crate) exact_match: ExactMatch,
}

/// What a metric measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Acc,
    AccNorm,
    AccBytes,
    AccMutualInfo,
    ExactMatch,
    BrierScore,
    F1,
    Mcc,
    Perplexity,
    WordPerplexity,
    BytePerplexity,
    BitsPerByte,
    Bleu,
    Chrf,
    Ter,
    Bypass,
    PromptLevelStrict,
    InstructionLevelStrict,
    PromptLevelLoose,
    InstructionLevelLoose,
    Refusal,
    Appropriate,
    AttackSuccess,
}

/// Every metric: its name, its own aggregation, whether more is better, and the output types that it can grade.
const METRICS: [(Kind, &str, Aggregation, bool, &[OutputType]); 23] = {
    use Aggregation as A;
    use OutputType::{GenerateUntil, Loglikelihood, LoglikelihoodRolling, MultipleChoice};
    const CHOICE: &[OutputType] = &[MultipleChoice];
    const ROLLING: &[OutputType] = &[LoglikelihoodRolling];
    const GENERATE: &[OutputType] = &[GenerateUntil];
    [
        (Kind::Acc, "acc", A::Mean, true, &[Loglikelihood, MultipleChoice]),
        (Kind::AccNorm, "acc_norm", A::Mean, true, CHOICE),
        (Kind::AccBytes, "acc_bytes", A::Mean, true, CHOICE),
        (Kind::AccMutualInfo, "acc_mutual_info", A::Mean, true, CHOICE),
        (Kind::ExactMatch, "exact_match", A::Mean, true, &[GenerateUntil, MultipleChoice]),
        (Kind::BrierScore, "brier_score", A::BrierScore, false, CHOICE),
        (Kind::F1, "f1", A::F1, true, CHOICE),
        (Kind::Mcc, "mcc", A::MatthewsCorrcoef, true, CHOICE),
        (Kind::Perplexity, "perplexity", A::Perplexity, false, &[Loglikelihood]),
        (Kind::WordPerplexity, "word_perplexity", A::WeightedPerplexity, false, ROLLING),
        (Kind::BytePerplexity, "byte_perplexity", A::WeightedPerplexity, false, ROLLING),
        (Kind::BitsPerByte, "bits_per_byte", A::BitsPerByte, false, ROLLING),
        (Kind::Bleu, "bleu", A::Bleu, true, GENERATE),
        (Kind::Chrf, "chrf", A::Chrf, true, GENERATE),
        (Kind::Ter, "ter", A::Ter, false, GENERATE),
        (Kind::Bypass, "bypass", A::Bypass, true, &[GenerateUntil, Loglikelihood, MultipleChoice]),
        (Kind::PromptLevelStrict, "prompt_level_strict_acc", A::Mean, true, GENERATE),
        (Kind::InstructionLevelStrict, "inst_level_strict_acc", A::MeanOfAll, true, GENERATE),
        (Kind::PromptLevelLoose, "prompt_level_loose_acc", A::Mean, true, GENERATE),
        (Kind::InstructionLevelLoose, "inst_level_loose_acc", A::MeanOfAll, true, GENERATE),
        (Kind::Refusal, "refusal", A::Mean, false, GENERATE),
        (Kind::Appropriate, "appropriate", A::Mean, true, GENERATE),
        (Kind::AttackSuccess, "attack_success", A::Mean, false, GENERATE),
    ]
};

/// What the reference measures that only Python can, and why.
const PYTHON_ONLY: [(&str, &str); 3] = [
    ("likelihood", "the reference has no way to sum it up"),
    ("acc_all", "it belongs to one task's layout, in Python"),
    ("rouge", "it is a measure of `rouge_score`, which is Python"),
];

impl Kind {
    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        METRICS.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// What the function of a built-in task measures in the place of Python.
    fn native(self) -> Option<Native> {
        match self {
            Self::PromptLevelStrict
            | Self::InstructionLevelStrict
            | Self::PromptLevelLoose
            | Self::InstructionLevelLoose => Some(Native::Ifeval),
            Self::Refusal | Self::Appropriate => Some(Native::Xstest),
            Self::AttackSuccess => Some(Native::Jailbreak),
            _ => None,
        }
    }
}

impl Metric {
    /// The metrics of a task; those that belong to its output type where it names none.
    ///
    /// # Errors
    /// Fails with task and metric where one is unknown, or cannot grade the task's output.
    pub(crate) fn of(spec: &Spec) -> Result<Vec<Self>> {
        let defaults: &[&str] = match spec.output_type {
            OutputType::Loglikelihood => &["perplexity", "acc"],
            OutputType::MultipleChoice => &["acc", "acc_norm"],
            OutputType::LoglikelihoodRolling => &["word_perplexity", "byte_perplexity", "bits_per_byte"],
            OutputType::GenerateUntil => &["exact_match"],
        };
        let default = |&metric: &&str| MetricConfig { metric: metric.to_owned(), ..MetricConfig::default() };
        let configs = spec.metric_list.clone().unwrap_or_else(|| defaults.iter().map(default).collect());
        configs.iter().map(|config| Self::new(spec, config)).collect()
    }

    fn new(spec: &Spec, config: &MetricConfig) -> Result<Self> {
        let name = config.metric.as_str();
        let error = |message: String| spec.error("metric_list", message);
        if config.hf_evaluate {
            return Err(error(format!("`{name}` is a metric of the `evaluate` library, which is Python")));
        }
        if let Some((_, reason)) = PYTHON_ONLY.iter().find(|(known, _)| *known == name) {
            return Err(error(format!("`{name}` cannot be measured: {reason}")));
        }
        let Some(&(kind, _, aggregation, higher_is_better, types)) = METRICS.iter().find(|row| row.1 == name)
        else {
            let known: Vec<&str> = METRICS.iter().map(|row| row.1).collect();
            let nearest = nexa_core::config::nearest(name, known.iter().copied());
            let hint = nearest.map(|name| format!("; did you mean `{name}`?"));
            return Err(error(format!("there is no metric `{name}`{}", hint.unwrap_or_default())));
        };
        let is_native = kind.native().is_none_or(|native| spec.native == Some(native));
        if !types.contains(&spec.output_type) || !is_native {
            return Err(error(format!("`{name}` does not grade what `{}` gives", spec.output_type.as_str())));
        }
        let aggregation = match &config.aggregation {
            Some(name) => Aggregation::named(name).map_err(error)?,
            None => aggregation,
        };
        let ignored = config.regexes_to_ignore.iter().flatten().map(|pattern| PythonRegex::new(pattern));
        Ok(Self {
            kind,
            aggregation,
            higher_is_better: config.higher_is_better.unwrap_or(higher_is_better),
            exact_match: ExactMatch {
                ignored: ignored.collect::<Result<_, _>>().map_err(error)?,
                ignore_case: config.ignore_case,
                ignore_punctuation: config.ignore_punctuation,
                ignore_numbers: config.ignore_numbers,
            },
        })
    }
}
