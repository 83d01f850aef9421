//! The lab on disk: where it is, what it is set to, and where everything lies.
//!
//! ```text
//! lab/
//!   nexa.yaml                     settings: default project, prices, budgets
//!   .env                          API keys; never copied anywhere
//!   projects/<project>/           configs/ docs/ manifests/ pipelines/
//!   data/raw/<project>/           what came from outside
//!   data/raw/benchmarks/          documents of evaluation tasks, for all projects
//!   data/processed/<project>/     datasets/ distillation/ training/ evaluation/ registry/
//!   runs/<run id>/                run.json config.yaml metrics.jsonl events.jsonl ledger.jsonl, resumable state
//!   .nexa/                        lab.db (index), locks, pointers to unfinished runs, cache/
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::artifact::Retention;
use crate::cost::Prices;
use crate::decontamination::EvaluationSet;
use crate::promotion::Promotion;
use crate::{Error, Result, config, files, scan};

/// The file that marks the root of a lab.
pub const LAB_FILE: &str = "nexa.yaml";

/// The layout version that this code reads and writes.
pub const LAB_VERSION: u64 = 1;

/// Where documents of evaluation tasks lie, from the root of a lab on.
pub const BENCHMARKS_FOLDER: &str = "data/raw/benchmarks";

/// What `nexa.yaml` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Layout version of the lab; a newer one is refused.
    pub lab_version: u64,
    /// The project that commands use when none is named.
    pub project: Option<String>,
    /// What machines and models cost.
    pub prices: Prices,
    /// Ceilings that are checked before money is spent.
    pub budget: Budget,
    /// What models are judged by: rows that overlap it are kept out of what is packaged for training.
    pub evaluation_sets: Vec<EvaluationSet>,
    /// Which versions `nexa data gc` keeps.
    pub retention: Retention,
    /// What a version must show before it is given a tag, by tag.
    pub promotion: BTreeMap<String, Promotion>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lab_version: LAB_VERSION,
            project: None,
            prices: Prices::default(),
            budget: Budget::default(),
            evaluation_sets: Vec::new(),
            retention: Retention::default(),
            promotion: BTreeMap::new(),
        }
    }
}

/// Ceilings on spending.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// No stage may spend more than this on API calls, in US dollars. A stage's own `max_cost_usd` may be lower.
    pub max_usd_per_run: Option<f64>,
    /// Above so many US dollars, or where nobody knows how many, a command asks in a terminal before it makes the first
    /// call. Default 1.
    pub confirm_above_usd: Option<f64>,
}

/// An opened lab.
#[derive(Debug, Clone)]
pub struct Lab {
    root: PathBuf,
    settings: Settings,
}

impl Lab {
    /// Finds the lab that a folder belongs to, by walking up to `nexa.yaml`.
    ///
    /// # Errors
    /// Fails when there is none, or as [`Lab::open`].
    pub fn discover(start: &Path) -> Result<Self> {
        let start = std::path::absolute(start).map_err(|e| Error::io("resolve", start, e))?;
        let root = start
            .ancestors()
            .find(|folder| folder.join(LAB_FILE).is_file())
            .ok_or_else(|| Error::NoLab { start: start.clone() })?;
        Self::open(root)
    }

    /// Opens the lab whose root is a folder.
    ///
    /// # Errors
    /// Fails when `nexa.yaml` is missing or malformed, or was written by a newer version.
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(|e| Error::io("resolve", root, e))?;
        let file = root.join(LAB_FILE);
        let value = config::read_yaml(&file)?;
        if let Some(version) = value.get("lab_version").and_then(serde_json::Value::as_u64)
            && version > LAB_VERSION
        {
            return Err(Error::TooNew { path: file, found: version, supported: LAB_VERSION });
        }
        let settings = config::from_value(value, &file.display().to_string())?;
        Ok(Self { root, settings })
    }

    /// Makes a lab in a folder, or opens the one that is there.
    ///
    /// # Errors
    /// Fails when files cannot be written.
    pub fn init(root: &Path, project: Option<&str>) -> Result<Self> {
        let file = root.join(LAB_FILE);
        if !file.exists() {
            let project =
                project.map_or_else(|| "# project: my_project".to_owned(), |p| format!("project: {p}"));
            let text = format!(
                "# Settings of this lab. Every key may be left out.\n\
                 lab_version: {LAB_VERSION}\n\
                 # The project that commands use when none is named.\n\
                 {project}\n\
                 # What things cost, in US dollars. What has no price is reported as unknown, never as 0.\n\
                 # prices:\n\
                 #   machine_usd_per_hour: 0.10\n\
                 #   as_of: 2026-11-24\n\
                 #   models:\n\
                 #     openai/gpt-4o: {{input_usd_per_million: 2.50, output_usd_per_million: 10.00}}\n\
                 # budget:\n\
                 #   max_usd_per_run: 5.00\n\
                 # What models are judged by; packaging asks for `nexa data decontaminate` against it.\n\
                 # evaluation_sets:\n\
                 #   - {{path: data/raw/gsm8k/test.jsonl, question: [question], answer: [answer]}}\n\
                 # What `nexa data gc` keeps besides all that is tagged, in use, or needed by something that is kept.\n\
                 # retention: {{keep_last: 5, older_than: 30d}}\n\
                 # What a version must show before `nexa data tag` gives it a tag.\n\
                 # promotion:\n\
                 #   prod: {{require: [{{metric: exact_match, at_least: 0.6}}]}}\n"
            );
            files::write_atomic(&file, text.as_bytes())?;
        }
        let lab = Self::open(root)?;
        for folder in ["data/raw", "data/processed", "projects", "runs", ".nexa"] {
            files::create_folder(&lab.root.join(folder))?;
        }
        if let Some(project) = project {
            lab.project(project)?.create_folders()?;
        }
        Ok(lab)
    }

    /// The folder of `nexa.yaml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `nexa.yaml` says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Names a project of the lab; its folders need not exist yet.
    ///
    /// # Errors
    /// Fails when the name is not of the form `[a-z0-9_]+`.
    pub fn project(&self, name: &str) -> Result<Project> {
        check_name("project", name)?;
        Ok(Project { root: self.root.clone(), name: name.to_owned() })
    }

    /// The project named, else the default one of `nexa.yaml`, else the only one there is.
    ///
    /// # Errors
    /// Fails when none of these exists.
    pub fn project_or_default(&self, name: Option<&str>) -> Result<Project> {
        if let Some(name) = name.or(self.settings.project.as_deref()) {
            return self.project(name);
        }
        let projects = self.projects()?;
        match projects.as_slice() {
            [only] => self.project(only),
            _ => Err(Error::NotFound {
                what: "project",
                name: "(none named)".to_owned(),
                hint: Some(format!(
                    "name one with `--project`, or set `project:` in {LAB_FILE}; there are: {}",
                    projects.join(", ")
                )),
            }),
        }
    }

    /// The names of all projects that have a folder, sorted.
    ///
    /// # Errors
    /// Fails when a folder cannot be listed.
    pub fn projects(&self) -> Result<Vec<String>> {
        let mut names = std::collections::BTreeSet::new();
        for folder in ["projects", "data/processed", "data/raw"] {
            for path in scan::entries(&self.root.join(folder))? {
                if let Some(name) = path.file_name().and_then(|name| name.to_str())
                    && path.is_dir()
                    && path != self.benchmarks_folder()
                    && check_name("project", name).is_ok()
                {
                    names.insert(name.to_owned());
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    /// The folder of all runs.
    pub fn runs_folder(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// `data/raw/benchmarks`: documents of evaluation tasks, which belong to no project.
    pub fn benchmarks_folder(&self) -> PathBuf {
        self.root.join(BENCHMARKS_FOLDER)
    }

    /// The folder of the lab's own state: index, locks, pointers.
    pub fn state_folder(&self) -> PathBuf {
        self.root.join(".nexa")
    }

    /// A path as the user would write it: relative to the lab where it lies inside.
    pub fn display_path(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// A project of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    root: PathBuf,
    name: String,
}

impl Project {
    /// The project's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `projects/<project>`: what people write.
    pub fn folder(&self) -> PathBuf {
        self.root.join("projects").join(&self.name)
    }

    /// `data/raw/<project>`: what came from outside.
    pub fn raw_folder(&self) -> PathBuf {
        self.root.join("data/raw").join(&self.name)
    }

    /// `data/processed/<project>`: what stages made.
    pub fn processed_folder(&self) -> PathBuf {
        self.root.join("data/processed").join(&self.name)
    }

    /// `data/processed/<project>/registry`: tags, and what was removed.
    pub fn registry_folder(&self) -> PathBuf {
        self.processed_folder().join("registry")
    }

    /// Makes the folders that a person is meant to fill.
    ///
    /// # Errors
    /// Fails when a folder cannot be made.
    pub fn create_folders(&self) -> Result<()> {
        for folder in ["configs", "docs", "manifests", "pipelines"] {
            files::create_folder(&self.folder().join(folder))?;
        }
        files::create_folder(&self.raw_folder())?;
        files::create_folder(&self.processed_folder())
    }
}

/// Checks a name that becomes part of a path.
///
/// # Errors
/// Fails when the name is not of the form `[a-z0-9_]+` or begins with an underscore.
pub fn check_name(what: &'static str, name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && !name.starts_with('_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if fits {
        Ok(())
    } else {
        Err(Error::BadName {
            what,
            name: name.to_owned(),
            message:
                "only lowercase letters, digits and underscores are allowed, and a letter or digit first"
                    .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_is_found_from_below() {
        let folder = tempfile::tempdir().unwrap();
        Lab::init(folder.path(), Some("tutor")).unwrap();
        let deep = folder.path().join("projects/tutor/configs");
        let lab = Lab::discover(&deep).unwrap();
        assert_eq!(lab.settings().project.as_deref(), Some("tutor"));
        std::fs::create_dir_all(lab.benchmarks_folder()).unwrap();
        assert_eq!(lab.projects().unwrap(), ["tutor"]);
    }

    #[test]
    fn a_folder_that_cannot_be_listed_is_no_folder_without_projects() {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
        std::fs::remove_dir_all(folder.path().join("data/raw")).unwrap();
        assert_eq!(lab.projects().unwrap(), ["tutor"], "a missing folder holds none");
        std::fs::write(folder.path().join("data/raw"), "").unwrap();
        let error = lab.projects().unwrap_err().to_string();
        assert!(error.starts_with("list `") && error.contains("data/raw"), "{error}");
    }

    #[test]
    fn a_lab_of_a_newer_version_is_refused_before_its_keys_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LAB_FILE), "lab_version: 99\nkey_of_the_future: 1\n").unwrap();
        assert!(matches!(Lab::open(folder.path()), Err(Error::TooNew { found: 99, .. })));
    }

    #[test]
    fn an_unknown_setting_names_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LAB_FILE), "projct: a\n").unwrap();
        let error = Lab::open(folder.path()).unwrap_err();
        assert!(
            matches!(&error, Error::UnknownKey { key, nearest: Some(nearest), .. } if key == "projct" && nearest == "project"),
            "{error}"
        );
    }
}
