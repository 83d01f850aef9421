//! Every stage that pipelines and commands can name, with the roles of its inputs.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::config;
use nexa_core::env::Environment;
use nexa_core::lab::Lab;
use nexa_core::stage::{Inputs, Stage, StageError};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::render::table;
use crate::wire;

/// Makes a stage from its configuration; the text names the configuration's place in errors.
type Build = fn(Value, &str, &Lab) -> Result<Box<dyn Stage>, StageError>;

/// A stage that can be named.
#[derive(Debug)]
pub(crate) struct StageKind {
    /// The word in `uses:`.
    pub(crate) uses: &'static str,
    /// What it makes.
    pub(crate) makes: Kind,
    /// The name of its artifact where none is given.
    name: &'static str,
    /// Its inputs.
    pub(crate) roles: &'static [Role],
    /// Whether its configuration has a `seed`.
    pub(crate) seeded: bool,
    /// Makes it.
    pub(crate) build: Build,
}

/// An input of a stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Role {
    /// The word in `in:`.
    pub(crate) name: &'static str,
    /// What plays it.
    pub(crate) kind: Kind,
    /// Whether the stage cannot run without.
    pub(crate) required: bool,
    /// Whether a command fills it with the newest artifact where nothing was said, although it is not required.
    pub(crate) by_default: bool,
    /// Whether further inputs may play it: `sft_dataset_2`, `sft_dataset_3` …
    pub(crate) many: bool,
    /// Another kind that can play it.
    or: Option<Kind>,
}

impl Role {
    /// Lets another kind play it too.
    const fn or(self, kind: Kind) -> Self {
        Self { or: Some(kind), ..self }
    }

    /// Lets further inputs play it.
    const fn many(self) -> Self {
        Self { many: true, ..self }
    }

    /// Whether an artifact of a kind can play it.
    pub(crate) fn takes(&self, kind: Kind) -> bool {
        kind == self.kind || Some(kind) == self.or
    }

    /// Refuses an artifact that cannot play it.
    ///
    /// # Errors
    /// Says what the artifact is and what was wanted.
    pub(crate) fn check(&self, artifact: &Artifact) -> nexa_core::Result<()> {
        if self.takes(artifact.manifest.kind) { Ok(()) } else { artifact.expect_kind(self.kind) }
    }
}

const fn required(name: &'static str, kind: Kind) -> Role {
    Role { name, kind, required: true, by_default: false, many: false, or: None }
}

const fn optional(name: &'static str, kind: Kind) -> Role {
    Role { name, kind, required: false, by_default: false, many: false, or: None }
}

const fn default(name: &'static str, kind: Kind) -> Role {
    Role { name, kind, required: false, by_default: true, many: false, or: None }
}

/// What the stages that sift rows read: one of these, whose name is that of its kind.
pub(crate) const SIFTED: &[Role] = &[
    optional("dataset", Kind::Dataset),
    optional("filtered", Kind::Filtered),
    optional("teacher_outputs", Kind::TeacherOutputs),
    optional("teacher_inputs", Kind::TeacherInputs),
];

/// The stages, in the order of the data's way.
pub(crate) static STAGES: &[StageKind] = &[
    StageKind {
        uses: "distill.problems",
        makes: Kind::Raw,
        name: "problems",
        roles: &[],
        seeded: true,
        build: |value, place, _| boxed(nexa_distill::problems::Problems::new(parse(value, place)?)?),
    },
    StageKind {
        uses: "data.ingest",
        makes: Kind::Dataset,
        name: "dataset",
        roles: &[default("raw", Kind::Raw)],
        seeded: false,
        build: |value, place, lab| boxed(nexa_data::ingest::Ingest::new(lab, parse(value, place)?)?),
    },
    StageKind {
        uses: "data.dedup",
        makes: Kind::Dataset,
        name: "deduplicated",
        roles: SIFTED,
        seeded: false,
        build: |value, place, _| boxed(nexa_data::dedup::Dedup::new(parse(value, place)?)?),
    },
    StageKind {
        uses: "data.decontaminate",
        makes: Kind::Dataset,
        name: "decontaminated",
        roles: &[
            SIFTED[0],
            SIFTED[1],
            SIFTED[2],
            SIFTED[3],
            optional("evaluation", Kind::Dataset),
            optional("sft_dataset", Kind::SftDataset),
        ],
        seeded: false,
        build: |value, place, lab| {
            boxed(nexa_data::decontaminate::Decontaminate::new(lab, parse(value, place)?)?)
        },
    },
    StageKind {
        uses: "data.split",
        makes: Kind::Dataset,
        name: "split",
        roles: SIFTED,
        seeded: true,
        build: |value, place, _| boxed(nexa_data::split::Split::new(parse(value, place)?)?),
    },
    StageKind {
        uses: "data.score",
        makes: Kind::Scores,
        name: "scores",
        roles: &[required("dataset", Kind::Dataset)],
        seeded: false,
        build: |value, place, _| boxed(nexa_data::clean::Score::new(parse(value, place)?)?),
    },
    StageKind {
        uses: "data.clean",
        makes: Kind::Dataset,
        name: "clean",
        roles: &[required("dataset", Kind::Dataset), required("scores", Kind::Scores)],
        seeded: false,
        build: |value, place, _| boxed(nexa_data::clean::Clean::new(parse(value, place)?)?),
    },
    StageKind {
        uses: "distill.inputs",
        makes: Kind::TeacherInputs,
        name: "teacher_inputs",
        roles: &[default("dataset", Kind::Dataset)],
        seeded: false,
        build: |value, place, lab| {
            boxed(nexa_distill::inputs::Inputs::new(parse(value, place)?, lab.root())?)
        },
    },
    StageKind {
        uses: "distill.collect",
        makes: Kind::TeacherOutputs,
        name: "teacher_outputs",
        roles: &[required("inputs", Kind::TeacherInputs), optional("teacher", Kind::Checkpoint)],
        seeded: true,
        build: |value, place, lab| {
            let environment = Environment::load(lab.root())?;
            let collect = nexa_distill::collect::Collect::new(parse(value, place)?, &environment)?;
            boxed(collect.with_loader(wire::loader()))
        },
    },
    StageKind {
        uses: "distill.judge",
        makes: Kind::Verdicts,
        name: "verdicts",
        roles: &[
            optional("outputs", Kind::TeacherOutputs),
            optional("evaluation", Kind::Evaluation),
            optional("versus", Kind::Evaluation),
            optional("teacher", Kind::Checkpoint),
        ],
        seeded: true,
        build: |value, place, lab| {
            let environment = Environment::load(lab.root())?;
            let judge = nexa_distill::judge::Judge::new(parse(value, place)?, lab.root(), &environment)?;
            boxed(judge.with_loader(&wire::loader()))
        },
    },
    StageKind {
        uses: "distill.filter",
        makes: Kind::Filtered,
        name: "filtered",
        roles: &[
            required("outputs", Kind::TeacherOutputs),
            optional("verdicts", Kind::Verdicts),
            optional("tokenizer", Kind::Tokenizer),
            optional("student", Kind::Checkpoint),
        ],
        seeded: false,
        build: |value, place, lab| {
            let filter = nexa_distill::filter::Filter::in_folder(parse(value, place)?, lab.root())?;
            boxed(filter.with_tokenizers(wire::tokenizers()))
        },
    },
    StageKind {
        uses: "distill.regenerate",
        makes: Kind::TeacherInputs,
        name: "regenerated_inputs",
        roles: &[required("filtered", Kind::Filtered)],
        seeded: false,
        build: |value, place, _| boxed(nexa_distill::regenerate::Regenerate::new(parse(value, place)?)?),
    },
    StageKind {
        uses: "distill.review",
        makes: Kind::Filtered,
        name: "reviewed",
        roles: &[default("filtered", Kind::Filtered), optional("outputs", Kind::TeacherOutputs)],
        seeded: false,
        build: |value, place, lab| boxed(nexa_distill::review::Review::new(lab, parse(value, place)?)?),
    },
    StageKind {
        uses: "distill.package",
        makes: Kind::SftDataset,
        name: "sft",
        roles: &[
            default("filtered", Kind::Filtered),
            optional("dataset", Kind::Dataset),
            optional("regenerated", Kind::Filtered).many(),
            optional("tokenizer", Kind::Tokenizer),
            optional("student", Kind::Checkpoint),
        ],
        seeded: true,
        build: |value, place, _| {
            let package = nexa_distill::package::Package::new(parse(value, place)?)?;
            boxed(package.with_tokenizers(wire::tokenizers()))
        },
    },
    StageKind {
        uses: "tokenizer.train",
        makes: Kind::Tokenizer,
        name: "tokenizer",
        roles: &[required("sft_dataset", Kind::SftDataset).or(Kind::Dataset)],
        seeded: false,
        build: |value, place, _| boxed(nexa_model::TrainTokenizer::new(parse(value, place)?)),
    },
    StageKind {
        uses: "model.import",
        makes: Kind::Checkpoint,
        name: "imported",
        roles: &[],
        seeded: false,
        build: |value, place, lab| {
            let environment = Environment::load(lab.root())?;
            boxed(nexa_model::ImportModel::new(lab, &environment, parse(value, place)?)?)
        },
    },
    StageKind {
        uses: "model.api",
        makes: Kind::ApiModel,
        name: "api_model",
        roles: &[],
        seeded: false,
        build: |value, place, lab| {
            let environment = Environment::load(lab.root())?;
            boxed(nexa_distill::api::ApiModel::new(parse(value, place)?, &environment)?)
        },
    },
    StageKind {
        uses: "model.merge",
        makes: Kind::Checkpoint,
        name: "merged",
        roles: &[required("base", Kind::Checkpoint)],
        seeded: false,
        build: |value, place, lab| boxed(nexa_model::MergeModel::new(lab, parse(value, place)?)?),
    },
    StageKind {
        uses: "train.init",
        makes: Kind::Checkpoint,
        name: "untrained",
        roles: &[required("tokenizer", Kind::Tokenizer)],
        seeded: true,
        build: |value, place, _| boxed(nexa_train::Initialise::new(parse(value, place)?)?),
    },
    StageKind {
        uses: "train",
        makes: Kind::Checkpoint,
        name: "student",
        roles: &[
            required("sft_dataset", Kind::SftDataset).or(Kind::Dataset).many(),
            default("tokenizer", Kind::Tokenizer),
            optional("base", Kind::Checkpoint),
            optional("teacher", Kind::Checkpoint),
        ],
        seeded: true,
        build: |value, place, _| boxed(nexa_train::Train::new(parse(value, place)?)?),
    },
    StageKind {
        uses: "evaluate",
        makes: Kind::Evaluation,
        name: "evaluation",
        roles: &[
            required("checkpoint", Kind::Checkpoint).or(Kind::ApiModel),
            default("sft_dataset", Kind::SftDataset),
            optional("versus", Kind::Evaluation),
        ],
        seeded: true,
        build: |value, place, lab| {
            boxed(nexa_eval::Evaluate::new(parse(value, place)?, lab.root(), wire::loader())?)
        },
    },
    StageKind {
        uses: "feedback",
        makes: Kind::Feedback,
        name: "feedback",
        roles: &[required("evaluation", Kind::Evaluation), optional("sft_dataset", Kind::SftDataset)],
        seeded: true,
        build: |value, place, _| boxed(nexa_eval::Feedback::new(parse(value, place)?)?),
    },
    StageKind {
        uses: "feedback.inputs",
        makes: Kind::TeacherInputs,
        name: "teacher_inputs",
        roles: &[
            required("feedback", Kind::Feedback),
            required("evaluation", Kind::Evaluation),
            required("pool", Kind::TeacherInputs),
            optional("sft_dataset", Kind::SftDataset),
            optional("teacher_outputs", Kind::TeacherOutputs).many(),
        ],
        seeded: true,
        build: |value, place, lab| boxed(nexa_eval::AimedInputs::new(lab, parse(value, place)?)?),
    },
];

/// Finds a stage by its word.
pub(crate) fn find(uses: &str) -> Option<&'static StageKind> {
    STAGES.iter().find(|kind| kind.uses == uses)
}

impl StageKind {
    /// Finds the role of a name, numbered where several inputs may play it.
    pub(crate) fn role(&self, name: &str) -> Option<&'static Role> {
        let is_further = |role: &Role| {
            let number = name.strip_prefix(role.name).and_then(|rest| rest.strip_prefix('_'));
            role.many && number.and_then(|number| number.parse().ok()).is_some_and(|number: u32| number > 1)
        };
        self.roles.iter().find(|role| role.name == name || is_further(role))
    }

    /// The name under which one more input plays a role.
    pub(crate) fn next_role(role: &Role, inputs: &Inputs) -> String {
        let mut names = (2..).map(|number| format!("{}_{number}", role.name));
        match inputs.get(role.name) {
            Some(_) if role.many => names.find(|name| inputs.get(name).is_none()).unwrap_or_default(),
            _ => role.name.to_owned(),
        }
    }

    /// The name of its artifact where none is given. Evaluations are named for what they evaluate, so that versions
    /// of one name stay comparable.
    pub(crate) fn artifact_name(&self, inputs: &Inputs) -> String {
        match inputs.get("checkpoint") {
            Some(checkpoint) => format!("{}_{}", checkpoint.id().name, self.name),
            None => self.name.to_owned(),
        }
    }
}

/// One line on an artifact: id and size.
pub(crate) fn facts(artifact: &Artifact) -> String {
    let counts = &artifact.manifest.counts;
    let mut parts = vec![artifact.id().to_string()];
    parts.extend(
        counts.rows.map(|rows| format!("{} {}", table::count(rows), if rows == 1 { "row" } else { "rows" })),
    );
    parts.extend(counts.tokens.map(|tokens| format!("{} tokens", table::count(tokens))));
    parts.push(table::size(counts.bytes));
    parts.join(", ")
}

fn parse<T: DeserializeOwned>(value: Value, place: &str) -> Result<T, StageError> {
    Ok(config::from_value(value, place)?)
}

fn boxed(stage: impl Stage + 'static) -> Result<Box<dyn Stage>, StageError> {
    Ok(Box::new(stage))
}
