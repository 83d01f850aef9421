//! What an evaluation will ask, decided before a model is loaded or a document is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::evaluate::Config;
use crate::harness::builtin;
use crate::harness::documents::Finder;
use crate::harness::filter::Chain;
use crate::harness::metric::Metric;
use crate::harness::registry::{Chosen, ChosenGroup, Registry};
use crate::harness::spec::{Generation, OutputType, Spec};
use crate::{Error, Result};

/// The tasks and groups of an evaluation.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Its tasks.
    pub(crate) tasks: Vec<PlannedTask>,
    /// Its groups, each after those that stand in it.
    pub(crate) groups: Vec<ChosenGroup>,
    /// The families of which some parts have no data.
    pub(crate) absent: Vec<Absent>,
}

/// A task with its files.
#[derive(Debug)]
pub(crate) struct PlannedTask {
    pub(crate) spec: Spec,
    /// Examples before each question.
    pub(crate) shots: usize,
    /// The files of each split that is read.
    pub(crate) files: BTreeMap<String, Vec<PathBuf>>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) chains: Vec<Chain>,
    pub(crate) generation: Generation,
}

/// A family that some parts are missing of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Absent {
    pub(crate) group: String,
    pub(crate) present: usize,
    pub(crate) total: usize,
}

impl Plan {
    /// Finds tasks by their names, and the files of their documents.
    ///
    /// # Errors
    /// Fails where a name stands for nothing, a task file is malformed, or a task has no documents here.
    pub(crate) fn new(names: &[String], config: &Config, root: &Path) -> Result<Self> {
        if names.is_empty() {
            return Ok(Self::default());
        }
        let registry = Registry::new(root, &config.include_path)?;
        let choice = registry.choose(names)?;
        let finder = Finder { root, data: &config.data };
        let mut plan = Self::default();
        let mut missing = BTreeMap::new();
        for chosen in choice.tasks {
            let family = chosen.owner.groups.iter().rev().find(|group| builtin::is_family(group)).cloned();
            match (PlannedTask::new(&chosen, config, &finder), family) {
                (Err(error @ Error::NoDocuments { .. }), Some(family)) => {
                    let (count, _) = missing.entry(family).or_insert((0, error));
                    *count += 1;
                }
                (planned, _) => plan.tasks.push(planned?),
            }
        }
        plan.groups = choice.groups;
        for (group, (count, error)) in missing {
            let total = plan
                .groups
                .iter()
                .find(|known| known.group.group == group)
                .map_or(0, |known| known.tasks.len());
            if count == total {
                return Err(error);
            }
            plan.absent.push(Absent { group, present: total - count, total });
        }
        plan.forget_absent();
        Ok(plan)
    }

    /// Takes out of the groups what has no documents.
    fn forget_absent(&mut self) {
        let is_there =
            |tasks: &[PlannedTask], name: &String| tasks.iter().any(|task| task.spec.task == *name);
        for group in &mut self.groups {
            group.tasks.retain(|name| is_there(&self.tasks, name));
        }
        self.groups.retain(|group| !group.tasks.is_empty());
        let groups: Vec<String> = self.groups.iter().map(|group| group.group.group.clone()).collect();
        for group in &mut self.groups {
            group.children.retain(|name| is_there(&self.tasks, name) || groups.contains(name));
        }
    }

    /// Every file that is read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.tasks.iter().flat_map(|task| task.files.values().flatten().cloned()).collect()
    }

    /// What decides the results, besides the content of the files.
    pub(crate) fn key(&self) -> Value {
        let task = |task: &PlannedTask| {
            let files: BTreeMap<_, _> =
                task.files.iter().map(|(split, files)| (split, files.len())).collect();
            json!({"spec": task.spec, "num_fewshot": task.shots, "files": files})
        };
        let group = |group: &ChosenGroup| json!({"group": group.group, "tasks": group.tasks});
        json!({
            "tasks": self.tasks.iter().map(task).collect::<Vec<_>>(),
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
        })
    }
}

impl PlannedTask {
    fn new(chosen: &Chosen, config: &Config, finder: &Finder<'_>) -> Result<Self> {
        let spec = chosen.spec.clone();
        // A task that says it takes no examples takes none, whatever the command line wants.
        let shots = match (spec.num_fewshot, config.num_fewshot) {
            (Some(0), _) => 0,
            (own, wanted) => wanted.or(own).unwrap_or(0),
        };
        let (metrics, chains) = (Metric::of(&spec)?, Chain::of(&spec)?);
        if spec.output_type != OutputType::GenerateUntil && !chains.iter().all(Chain::takes_first_only) {
            let message = "probabilities are not texts: only `take_first` can be applied to them";
            return Err(spec.error("filter_list", message));
        }
        let generation = Generation::of(&spec, config.gen_kwargs.as_ref())?;
        let mut files = BTreeMap::new();
        let evaluated = spec.eval_split().unwrap_or_default().to_owned();
        match &chosen.path {
            Some(path) => drop(files.insert(evaluated, vec![finder.text_file(&spec, path)?])),
            None if spec.documents.is_some() && !finder.is_stated(&spec, &chosen.owner) => {}
            None => {
                let found = finder.files(&spec, &chosen.owner, &evaluated)?;
                files.insert(evaluated, found);
            }
        }
        let has_own = |split: &str| files.is_empty() && spec.eval_split() == Some(split);
        let examples = spec.examples_split().filter(|split| shots > 0 && !files.contains_key(*split));
        if let Some(split) = examples.filter(|split| !has_own(split)) {
            files.insert(split.to_owned(), finder.files(&spec, &chosen.owner, split)?);
        }
        Ok(Self { spec, shots, files, metrics, chains, generation })
    }
}
