//! The stages `train` and `train.init`: SFT data and a tokenizer become a checkpoint.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::event::Event;
use nexa_core::lab::Lab;
use nexa_core::split::Split;
use nexa_core::stage::{Context, Inputs as StageInputs, Stage, StageError};
use nexa_core::{Diagnose, ExitCode};
use serde_json::Value;

use crate::{Config, DataFile, End, Error, Inputs, Session, initialise, train};

/// The role of the data.
const SFT_ROLE: &str = "sft_dataset";
/// The role of the tokenizer.
const TOKENIZER_ROLE: &str = "tokenizer";
/// The role of the model to go on from.
const BASE_ROLE: &str = "base";
/// The role of a distillation's teacher.
const TEACHER_ROLE: &str = "teacher";
/// Where tokenised data is kept in the lab's folder of state.
const CACHE_FOLDER: &str = "cache/tokens";

/// Trains a decoder, from scratch or from a given model on.
#[derive(Debug, Clone)]
pub struct Train {
    config: Config,
    /// Why it computes on the CPU although it could be otherwise.
    reason: Option<String>,
}

impl Train {
    /// Takes a configuration that makes sense, and finds the device that it means on this machine.
    ///
    /// # Errors
    /// Names the key whose value cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        let (config, reason) = config.resolve();
        config.check()?;
        Ok(Self { config, reason })
    }

    fn run_in(&self, context: &Context<'_>) -> Result<(), StageError> {
        let inputs = Inputs::of(&self.config, context.inputs, context.services.lab)?;
        let session = Session {
            workspace: context.workspace,
            output: context.output,
            events: context.services.events,
            cancel: context.services.cancel,
            tables: context.services.tables,
            environment: Some(context.services.environment),
            after_micro_batch: &|| {},
        };
        if let Some(reason) = &self.reason {
            context.emit(Event::info(format!("computing on the CPU; {reason}")));
        }
        let outcome = train(&self.config, &inputs, &session)?;
        context.set_tokens(outcome.trained_tokens);
        context.state("steps", outcome.steps)?;
        context.state("epochs", outcome.epochs)?;
        context.state("datasets", &outcome.datasets)?;
        context.state("parameters", outcome.parameters)?;
        context.state("trained_parameters", outcome.trained_parameters)?;
        context.state("tokens_read", outcome.tokens)?;
        context.state("first_loss_nats", outcome.first_loss)?;
        context.state("last_loss_nats", outcome.last_loss)?;
        context.state("validation_loss_nats", outcome.validation.map(|validation| validation.loss))?;
        context.state("best_validation", outcome.best)?;
        context.state("precision", &outcome.precision)?;
        context.state("end", outcome.end)?;
        let note = match outcome.end {
            End::LastStep => "",
            End::Time => "; ended by max_time_s",
            End::NoGain => "; ended by early_stopping_patience",
        };
        context.emit(Event::info(format!(
            "{} steps, loss {:.3} -> {:.3}, {:.0} tokens/s{note}",
            outcome.steps,
            outcome.first_loss,
            outcome.last_loss,
            outcome.tokens as f64 / outcome.seconds.max(1e-9),
        )));
        Ok(())
    }
}

impl Inputs {
    /// Finds the files in the inputs of a stage.
    ///
    /// # Errors
    /// Fails when an input or the training data in it is missing.
    pub fn of(config: &Config, inputs: &StageInputs, lab: &Lab) -> nexa_core::Result<Self> {
        inputs.require(SFT_ROLE)?;
        let folder = |role| inputs.get(role).map(Artifact::path);
        let (mut train, mut validation) = (Vec::new(), Vec::new());
        let mut datasets: Vec<(u32, &Artifact)> =
            inputs.iter().filter_map(|(role, artifact)| Some((dataset_number(role)?, artifact))).collect();
        datasets.sort_by_key(|(number, _)| *number);
        for (_, artifact) in datasets {
            let name = artifact.id().to_string();
            let split = config.split_of(&name);
            train.push(side_of(artifact, name.clone(), split)?);
            // What is trained on tells nothing when it is asked for again.
            if split != Split::Validation {
                validation.extend(side_of(artifact, name, Split::Validation));
            }
        }
        Ok(Self {
            train,
            validation,
            tokenizer: folder(TOKENIZER_ROLE),
            base: folder(BASE_ROLE),
            base_name: folder(BASE_ROLE).and_then(|base| {
                let inside = base.strip_prefix(lab.root()).ok()?;
                Some(inside.to_string_lossy().into_owned())
            }),
            teacher: folder(TEACHER_ROLE),
            cache: lab.state_folder().join(CACHE_FOLDER),
        })
    }
}

/// The rows of one side: those of its own file in packaged data, of a table those that say so.
fn side_of(artifact: &Artifact, name: String, split: Split) -> nexa_core::Result<DataFile> {
    if artifact.manifest.kind == Kind::Dataset {
        return Ok(DataFile { path: artifact.file("parquet")?, name, split: Some(split) });
    }
    Ok(DataFile { path: artifact.file(&format!("{}.jsonl", split.as_str()))?, name, split: None })
}

/// Which of several data sets plays a role: the first one plays the plain role, every further one a numbered one.
fn dataset_number(role: &str) -> Option<u32> {
    match role.strip_prefix(SFT_ROLE)? {
        "" => Some(1),
        rest => rest.strip_prefix('_')?.parse().ok(),
    }
}

impl Stage for Train {
    fn name(&self) -> &'static str {
        "train"
    }

    fn kind(&self) -> Kind {
        Kind::Checkpoint
    }

    fn code_version(&self) -> u32 {
        5
    }

    fn config(&self) -> Value {
        config_value(&self.config)
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn device(&self) -> String {
        self.config.device.to_string()
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        self.run_in(context)
    }
}

/// Writes the weights that training would start from, so that they can be evaluated.
#[derive(Debug, Clone)]
pub struct Initialise {
    config: Config,
}

impl Initialise {
    /// Takes a configuration that makes sense; of it, the shape of the model and the seed count.
    ///
    /// # Errors
    /// Names the key whose value cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        Ok(Self { config })
    }
}

impl Stage for Initialise {
    fn name(&self) -> &'static str {
        "train.init"
    }

    fn kind(&self) -> Kind {
        Kind::Checkpoint
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        serde_json::json!({
            "model": self.config.model,
            "sequence_len": self.config.sequence_len(),
        })
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        let tokenizer = context.inputs.require(TOKENIZER_ROLE)?.path();
        initialise(&self.config, &tokenizer, context.output, self.config.seed)?;
        Ok(())
    }
}

/// What determines the result. On the CPU no device is named, as there was no other once: keys stay what they were,
/// and the run's record tells the device.
fn config_value(config: &Config) -> Value {
    let mut value =
        serde_json::to_value(config).expect("the configuration holds only numbers, texts and lists");
    if let Some(keys) = value.as_object_mut().filter(|_| config.device.is_cpu()) {
        keys.remove("device");
        keys.remove("bf16");
    }
    value
}

impl Diagnose for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::OtherRun { .. } | Self::State { .. } => {
                Some("run the stage with `--force` to begin again".to_owned())
            }
            Self::NoSamples { .. } => {
                Some("raise `sequence_len`, or look at the rows with `nexa data show`".to_owned())
            }
            Self::Diverged { .. } => Some(
                "lower `learning_rate`, raise `warmup_steps`, or look at the samples with `nexa data show`"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => ExitCode::Storage,
            Self::Store(error) => error.exit_code(),
            Self::Model(error) => error.exit_code(),
            Self::Config { .. } => ExitCode::Config,
            Self::Sample { .. } | Self::NoSamples { .. } => ExitCode::Input,
            Self::OtherRun { .. } | Self::State { .. } | Self::NotIdentical(_) => ExitCode::Integrity,
            Self::Interrupted { .. } => ExitCode::Interrupted,
            Self::Io(_) | Self::Diverged { .. } | Self::Threads(_) | Self::Child(_) => ExitCode::Failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bf16;

    #[test]
    fn a_device_is_in_the_key_where_it_is_not_the_cpu() {
        let check = |device: &str, bf16, expected: [Option<&str>; 2]| {
            let config = Config { device: device.parse().expect("a device"), bf16, ..Config::default() };
            let stage = Train::new(config).expect("makes sense");
            let value = stage.config();
            let found = ["device", "bf16"].map(|key| value.get(key).map(Value::to_string));
            assert_eq!(found.each_ref().map(Option::as_deref), expected, "{device}");
            stage.device()
        };
        assert_eq!(check("cpu", Bf16::Auto, [None, None]), "cpu");
        assert_eq!(check("cpu", Bf16::Off, [None, None]), "cpu");
        assert_eq!(check("cuda:1", Bf16::Auto, [Some("\"cuda:1\""), Some("\"auto\"")]), "cuda:1");
        assert_eq!(check("webgpu", Bf16::Off, [Some("\"webgpu:0\""), Some("false")]), "webgpu:0");
    }
}
