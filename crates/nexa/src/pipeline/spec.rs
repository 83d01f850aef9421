//! The pipeline file, and the checks that need nothing but the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexa_core::{Error, Result, config};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::models;
use crate::stages;

/// A pipeline file as it is written.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What the pipeline is called.
    pipeline: String,
    /// The project whose artifacts it makes.
    project: String,
    /// The seed of every stage that takes one and does not set its own.
    #[serde(default)]
    seed: u64,
    /// The stages, in any order.
    stages: serde_json::Map<String, Value>,
}

/// One stage as it is written.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileStage {
    /// Which stage: `distill.collect`.
    uses: String,
    /// For each role, the stage of this pipeline or the artifact that plays it.
    #[serde(default, rename = "in")]
    inputs: BTreeMap<String, String>,
    /// A YAML file with the stage's configuration, relative to the pipeline file.
    #[serde(default)]
    config: Option<PathBuf>,
    /// The stage's configuration; its keys stand over those of `config`.
    #[serde(default = "empty")]
    with: Value,
    /// The name of its artifact; that of the stage where it is left out.
    #[serde(default)]
    output: Option<String>,
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// A checked pipeline: every stage exists, every input can be had, and there is no cycle.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    /// What the pipeline is called.
    pub(crate) name: String,
    /// The project.
    pub(crate) project: String,
    /// The stages, each after those that it depends on; among equals in the order of the file.
    pub(crate) nodes: Vec<Node>,
}

/// A stage of a pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Its name in the file.
    pub(crate) name: String,
    /// Which stage it is.
    pub(crate) kind: &'static stages::StageKind,
    /// Its configuration, the pipeline's seed filled in.
    pub(crate) with: Value,
    /// The name of its artifact.
    pub(crate) output: String,
    /// Where each input comes from.
    pub(crate) inputs: BTreeMap<String, Source>,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The stage at this position in [`Pipeline::nodes`].
    Stage(usize),
    /// An artifact of the lab, by id or name.
    Artifact(String),
}

impl Node {
    /// The stages that must have ended before.
    pub(crate) fn dependencies(&self) -> impl Iterator<Item = usize> {
        self.inputs.values().filter_map(|source| match source {
            Source::Stage(position) => Some(*position),
            Source::Artifact(_) => None,
        })
    }
}

/// Reads and checks a pipeline file. Overrides are dotted keys: `stages.train.with.max_steps=10`.
///
/// # Errors
/// Fails with file and key on anything that cannot be run.
pub(crate) fn load(path: &Path, overrides: &[String]) -> Result<Pipeline> {
    let value = config::read_yaml(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    parse(value, &path.display().to_string(), folder, overrides)
}

/// Checks a pipeline that was read; `place` is named in errors, files are relative to `folder`.
fn parse(mut value: Value, place: &str, folder: &Path, overrides: &[String]) -> Result<Pipeline> {
    config::apply_overrides(&mut value, overrides)?;
    let file: File = config::from_value(value, place)?;
    let mut stages_in_file = Vec::new();
    for (name, value) in file.stages {
        let mut stage: FileStage = config::from_value(value, place).map_err(|error| within(error, &name))?;
        if let Some(file) = &stage.config {
            let mut whole = config::read_yaml(&folder.join(file))?;
            lay_over(&mut whole, stage.with);
            stage.with = whole;
        }
        stages_in_file.push((name, stage));
    }
    let order = order(&stages_in_file, place)?;
    let mut nodes = Vec::with_capacity(order.len());
    for &position in &order {
        let (name, stage) = &stages_in_file[position];
        nodes.push(check_stage(name, stage, &stages_in_file, &order, file.seed, place)?);
    }
    check_outputs(&nodes, place)?;
    Ok(Pipeline { name: file.pipeline, project: file.project, nodes })
}

/// Lays one configuration over another: mappings are joined, everything else is replaced.
fn lay_over(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                lay_over(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// Puts the stage's name before the key that an error names.
fn within(error: Error, stage: &str) -> Error {
    match error {
        Error::UnknownKey { place, key, nearest } => Error::UnknownKey {
            place,
            key: format!("stages.{stage}.{key}"),
            nearest: nearest.map(|key| format!("stages.{stage}.{key}")),
        },
        Error::Config { place, message } => {
            Error::Config { place, message: format!("stage `{stage}`: {message}") }
        }
        other => other,
    }
}

/// Sorts the stages so that each comes after those that it depends on.
fn order(stages: &[(String, FileStage)], place: &str) -> Result<Vec<usize>> {
    let position_of = |name: &str| stages.iter().position(|(other, _)| other == name);
    let mut order: Vec<usize> = Vec::with_capacity(stages.len());
    while order.len() < stages.len() {
        let next = (0..stages.len()).find(|position| {
            !order.contains(position)
                && stages[*position]
                    .1
                    .inputs
                    .values()
                    .filter_map(|source| position_of(source))
                    .all(|needed| order.contains(&needed))
        });
        match next {
            Some(position) => order.push(position),
            None => {
                let stuck: Vec<&str> = (0..stages.len())
                    .filter(|position| !order.contains(position))
                    .map(|position| stages[position].0.as_str())
                    .collect();
                let message = format!("these stages wait for each other: {}", stuck.join(", "));
                return Err(Error::config(place, message));
            }
        }
    }
    Ok(order)
}

fn check_stage(
    name: &str,
    stage: &FileStage,
    all: &[(String, FileStage)],
    order: &[usize],
    seed: u64,
    place: &str,
) -> Result<Node> {
    nexa_core::lab::check_name("stage", name)?;
    let kind = stages::find(&stage.uses).ok_or_else(|| {
        let nearest = config::nearest(&stage.uses, stages::STAGES.iter().map(|kind| kind.uses));
        let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
        Error::config(place, format!("stage `{name}`: there is no `uses: {}`{hint}", stage.uses))
    })?;
    let mut inputs = BTreeMap::new();
    for (role, source) in &stage.inputs {
        let known = kind.role(role).ok_or_else(|| Error::UnknownKey {
            place: place.to_owned(),
            key: format!("stages.{name}.in.{role}"),
            nearest: config::nearest(role, kind.roles.iter().map(|role| role.name))
                .map(|role| format!("stages.{name}.in.{role}")),
        })?;
        let source = match order.iter().position(|&position| all[position].0 == *source) {
            Some(position) => {
                let given = stages::find(&all[order[position]].1.uses).map(|kind| kind.makes);
                if given.is_some_and(|given| !known.takes(given)) {
                    let message = format!(
                        "stage `{name}`: `in.{role}` wants a {}, but `{source}` does not make one",
                        known.kind
                    );
                    return Err(Error::config(place, message));
                }
                Source::Stage(position)
            }
            None => Source::Artifact(source.clone()),
        };
        inputs.insert(role.clone(), source);
    }
    for role in kind.roles.iter().filter(|role| role.required) {
        if !inputs.contains_key(role.name) {
            return Err(Error::config(
                place,
                format!("stage `{name}`: `in.{}` is missing: a {}", role.name, role.kind),
            ));
        }
    }
    let mut with = stage.with.clone();
    let map = with
        .as_object_mut()
        .ok_or_else(|| Error::config(place, format!("stage `{name}`: `with` is not a mapping")))?;
    if kind.uses == "train" {
        models::refuse_base_model(&stage.with, name, place)?;
    }
    if kind.seeded {
        map.entry("seed").or_insert_with(|| seed.into());
    }
    let output = stage.output.clone().unwrap_or_else(|| name.to_owned());
    nexa_core::lab::check_name("artifact", &output)?;
    Ok(Node { name: name.to_owned(), kind, with, output, inputs })
}

fn check_outputs(nodes: &[Node], place: &str) -> Result<()> {
    for (position, node) in nodes.iter().enumerate() {
        if let Some(other) = nodes[..position].iter().find(|other| other.output == node.output) {
            let message = format!(
                "stages `{}` and `{}` both make `{}`; set `output`",
                other.name, node.name, node.output
            );
            return Err(Error::config(place, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str) -> Result<Pipeline> {
        parse(config::parse_yaml(yaml, "p.yaml")?, "p.yaml", Path::new("."), &[])
    }

    fn error(yaml: &str) -> String {
        let error = check(yaml).unwrap_err();
        let hint = nexa_core::Diagnose::hint(&error).unwrap_or_default();
        format!("{error} {hint}")
    }

    #[test]
    fn stages_are_put_in_order_and_share_the_seed() {
        let pipeline = check(
            "{pipeline: p, project: p, seed: 7, stages: {
                inputs: {uses: distill.inputs, in: {dataset: rows}},
                rows: {uses: data.ingest, in: {raw: problems}},
                problems: {uses: distill.problems}}}",
        )
        .unwrap();
        let names: Vec<_> = pipeline.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["problems", "rows", "inputs"]);
        assert_eq!(pipeline.nodes[0].with["seed"], 7);
        assert_eq!(pipeline.nodes[1].inputs["raw"], Source::Stage(0));
    }

    #[test]
    fn a_stage_may_keep_its_configuration_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("c.yaml"),
            "{teacher: embedded, embedded: {wrong: 0.1, failing: 0.2}}",
        )
        .unwrap();
        let pipeline = folder.path().join("p.yaml");
        let text = "{pipeline: p, project: p, stages: {a: {uses: distill.problems, config: c.yaml, with: {embedded: {wrong: 0.5}}}}}";
        std::fs::write(&pipeline, text).unwrap();
        let with = &load(&pipeline, &["stages.a.with.teacher=other".to_owned()]).unwrap().nodes[0].with;
        assert_eq!(with["embedded"], serde_json::json!({"wrong": 0.5, "failing": 0.2}));
        assert_eq!(with["teacher"], "other");
    }

    #[test]
    fn what_cannot_run_is_refused_before_anything_runs() {
        let cycle = "{pipeline: p, project: p, stages: {
            a: {uses: distill.filter, in: {outputs: b}}, b: {uses: distill.collect, in: {inputs: a}}}}";
        assert!(error(cycle).contains("wait for each other: a, b"), "{}", error(cycle));
        let unknown = "{pipeline: p, project: p, stages: {a: {uses: distill.colect}}}";
        assert!(error(unknown).contains("did you mean `distill.collect`?"), "{}", error(unknown));
        let role = "{pipeline: p, project: p, stages: {a: {uses: distill.filter, in: {output: x}}}}";
        assert!(error(role).contains("did you mean `stages.a.in.outputs`?"), "{}", error(role));
        let missing = "{pipeline: p, project: p, stages: {a: {uses: distill.filter}}}";
        assert!(error(missing).contains("`in.outputs` is missing: a teacher_outputs"), "{}", error(missing));
        let key = "{pipeline: p, project: p, stages: {a: {use: distill.filter}}}";
        assert!(error(key).contains("did you mean `stages.a.uses`?"), "{}", error(key));
        let base = "{pipeline: p, project: p, stages: {
            a: {uses: train, in: {sft_dataset: s}, with: {base_model: m}}}}";
        assert!(error(base).contains("say `in: {base: …}`"), "{}", error(base));
        assert!(error(base).contains("`uses: model.import"), "{}", error(base));
        let kind = "{pipeline: p, project: p, stages: {
            a: {uses: distill.problems}, b: {uses: distill.filter, in: {outputs: a}}}}";
        assert!(error(kind).contains("wants a teacher_outputs"), "{}", error(kind));
    }
}
