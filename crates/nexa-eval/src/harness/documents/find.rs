//! Where the files of a split lie.
//!
//! In this order: what the configuration names for the task, what the task file names, and the folder of the lab that
//! bears the name of the task or the data set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexa_core::lab::BENCHMARKS_FOLDER;
use serde_json::Value;

use crate::harness::spec::Spec;
use crate::{Error, Result};

/// Formats of documents, by the ends of names.
const EXTENSIONS: [&str; 9] =
    ["parquet", "jsonl", "jsonl.gz", "jsonl.zst", "json", "csv", "csv.gz", "csv.zst", "txt"];

/// What stands in `dataset_path` where the files are named beside it.
const LOADERS: [&str; 4] = ["json", "csv", "parquet", "text"];

/// Finds files of documents.
pub(crate) struct Finder<'a> {
    /// The root of the lab.
    pub(crate) root: &'a Path,
    /// Files or folders by task, group or data set.
    pub(crate) data: &'a BTreeMap<String, PathBuf>,
}

/// Where a task comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Owner {
    /// The groups that it was asked for in, the innermost first.
    pub(crate) groups: Vec<String>,
    /// The folder of its file; none for what is built in.
    pub(crate) folder: Option<PathBuf>,
}

impl Finder<'_> {
    /// The files of one split of a task, in the order of their rows.
    ///
    /// # Errors
    /// Fails with everything that was looked for where there is none.
    pub(crate) fn files(&self, spec: &Spec, owner: &Owner, split: &str) -> Result<Vec<PathBuf>> {
        let named = self.named_files(spec, owner, split);
        if let Some(missing) = named.iter().find(|path| !path.is_file()) {
            let what = format!("split `{split}` is {}, which is not there", missing.display());
            return Err(spec.error("dataset_kwargs", what));
        }
        if !named.is_empty() && self.stated(spec, owner).is_none() {
            return Ok(named);
        }
        let places = self.places(spec, owner);
        let found = places.iter().map(|place| in_place(place, spec, split)).find(|found| !found.is_empty());
        found.ok_or_else(|| Error::NoDocuments {
            task: spec.task.clone(),
            split: split.to_owned(),
            looked: places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The file that a task's name gives.
    ///
    /// # Errors
    /// Fails where it is not there.
    pub(crate) fn text_file(&self, spec: &Spec, path: &Path) -> Result<PathBuf> {
        let path = self.absolute(path, &Owner::default());
        if path.is_file() {
            return Ok(path);
        }
        let split = spec.eval_split().unwrap_or_default().to_owned();
        Err(Error::NoDocuments { task: spec.task.clone(), split, looked: path.display().to_string() })
    }

    /// Whether the configuration names files for a task.
    pub(crate) fn is_stated(&self, spec: &Spec, owner: &Owner) -> bool {
        self.stated(spec, owner).is_some()
    }

    /// What the configuration names for a task, a group that it stands in, or its data set.
    fn stated(&self, spec: &Spec, owner: &Owner) -> Option<&PathBuf> {
        names(spec, owner).find_map(|name| self.data.get(name))
    }

    /// The files that a task names itself.
    fn named_files(&self, spec: &Spec, owner: &Owner, split: &str) -> Vec<PathBuf> {
        let Some(kwargs) = &spec.dataset_kwargs else { return Vec::new() };
        let of_split = match &kwargs.data_files {
            Some(Value::Object(by_split)) => by_split.get(split),
            // Files that are named for no split are its training split, as the reference's library has it.
            Some(files) if split == "train" || spec.eval_split() == Some(split) => Some(files),
            _ => None,
        };
        let base = Path::new(kwargs.data_dir.as_deref().unwrap_or(""));
        let paths = match of_split {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        paths.into_iter().map(|path| self.absolute(&base.join(path), owner)).collect()
    }

    /// Files and folders that may hold a task's documents.
    fn places(&self, spec: &Spec, owner: &Owner) -> Vec<PathBuf> {
        if let Some(path) = self.stated(spec, owner) {
            return vec![self.absolute(path, &Owner::default())];
        }
        let folder = spec.dataset_kwargs.as_ref().and_then(|kwargs| kwargs.data_dir.as_deref());
        let path = spec.dataset_path.as_deref().filter(|path| !LOADERS.contains(path));
        let own = folder.into_iter().chain(path).map(|path| self.absolute(Path::new(path), owner));
        let lab = names(spec, owner).map(|name| self.root.join(BENCHMARKS_FOLDER).join(name));
        own.filter(|path| path.exists()).chain(lab).collect()
    }

    /// A path beside the task's file, else in the working folder, else in the lab.
    fn absolute(&self, path: &Path, owner: &Owner) -> PathBuf {
        let beside = owner.folder.as_ref().map(|folder| folder.join(path)).filter(|path| path.exists());
        beside.unwrap_or_else(|| if path.exists() { path.to_owned() } else { self.root.join(path) })
    }
}

/// The names that a task's data may go by.
fn names<'a>(spec: &'a Spec, owner: &'a Owner) -> impl Iterator<Item = &'a str> {
    let dataset = spec.dataset_path.as_deref().and_then(|path| path.rsplit('/').next());
    std::iter::once(spec.task.as_str())
        .chain(owner.groups.iter().map(String::as_str))
        .chain(dataset.filter(|name| !LOADERS.contains(name)))
}

/// The files of a split in a folder; a single file is what is evaluated.
fn in_place(place: &Path, spec: &Spec, split: &str) -> Vec<PathBuf> {
    if place.is_file() {
        let is_evaluated = spec.eval_split() == Some(split);
        return if is_evaluated { vec![place.to_owned()] } else { Vec::new() };
    }
    let part = spec.dataset_name.as_deref();
    let mut folders = Vec::new();
    folders.extend(part.map(|part| place.join(part)));
    folders.extend(part.map(|part| place.join("data").join(part)));
    folders.extend([place.join("data"), place.to_owned()]);
    let mut found = folders.iter().map(|folder| in_folder(folder, part, split));
    if let Some(found) = found.find(|found| !found.is_empty()) {
        return found;
    }
    // The only table of a folder can be nothing else, unless the data set has parts of which it may be another.
    let tables = tables(place);
    if tables.len() == 1 && part.is_none() && spec.eval_split() == Some(split) { tables } else { Vec::new() }
}

fn in_folder(folder: &Path, part: Option<&str>, split: &str) -> Vec<PathBuf> {
    let tables = tables(folder);
    let words: &[&str] = match split {
        "validation" => &["validation", "val", "valid", "dev"],
        other => &[other],
    };
    for word in words {
        let is_split = |stem: &str| {
            let shard = stem.strip_prefix(word).and_then(|rest| rest.strip_prefix(['-', '_', '.']));
            let of_part = part.map_or_else(
                || stem.rsplit_once(['-', '_']),
                |part| {
                    let rest = stem.strip_prefix(part)?.strip_prefix(['-', '_'])?;
                    Some((part, rest))
                },
            );
            stem == *word
                || shard.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                || of_part.is_some_and(|(_, split)| split == *word)
        };
        let found: Vec<PathBuf> =
            tables.iter().filter(|path| stem(path).is_some_and(&is_split)).cloned().collect();
        if !found.is_empty() {
            return found;
        }
    }
    let of_part = |path: &&PathBuf| part.is_some() && stem(path) == part;
    tables.iter().filter(of_part).take(1).cloned().collect()
}

/// The tables of a folder, by name.
fn tables(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| stem(path).is_some()).collect();
    found.sort();
    found
}

/// The name of a table without its format.
fn stem(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    EXTENSIONS.iter().find_map(|extension| nexa_core::table::stem(name, extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the files that are found for a split of a task in a folder with some files.
    fn check(files: &[&str], task: &str, split: &str, expected: &[&str]) {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let value = nexa_core::config::parse_yaml(task, "task").unwrap();
        let spec: Spec = nexa_core::config::from_value(value, "task").unwrap();
        let owner = Owner { groups: vec!["family".to_owned()], folder: Some(root.path().join("tasks")) };
        let finder = Finder { root: root.path(), data: &BTreeMap::from([("mine".into(), "own".into())]) };
        let found = finder.files(&spec, &owner, split).unwrap_or_default();
        let names =
            |path: &PathBuf| path.strip_prefix(root.path()).unwrap().to_str().unwrap().replace("tasks/", "");
        assert_eq!(found.iter().map(names).collect::<Vec<_>>(), expected, "{task}");
    }

    #[test]
    fn files_are_found_by_task_group_and_data_set() {
        let b = |name: &str| format!("{BENCHMARKS_FOLDER}/{name}");
        let task =
            "{task: t, dataset_path: org/set, dataset_name: part, test_split: test, training_split: train}";
        check(&[&b("t/test.jsonl"), &b("t/train.jsonl")], task, "train", &[&b("t/train.jsonl")]);
        check(&[&b("family/part.jsonl"), &b("family/other.jsonl")], task, "test", &[&b("family/part.jsonl")]);
        let shards = [b("set/part/test-00000-of-00002.parquet"), b("set/part/test-00001-of-00002.parquet")];
        check(&[&shards[1], &shards[0]], task, "test", &[&shards[0], &shards[1]]);
        let whole = task.replace("dataset_name: part, ", "");
        check(&[&b("set/only.csv")], &whole, "test", &[&b("set/only.csv")]);
        check(&[&b("set/only.csv")], &whole, "train", &[]);
        check(&[&b("set/only.csv")], task, "test", &[]);
        check(&[&b("t/part_test.jsonl")], task, "test", &[&b("t/part_test.jsonl")]);
        let validation = "{task: t, validation_split: validation}";
        let raw = [b("t/hellaswag_val.jsonl"), b("t/hellaswag_train.jsonl")];
        check(&[&raw[0], &raw[1]], validation, "validation", &[&raw[0]]);
        check(&[&b("t/train_xl.jsonl"), &b("t/train_s.jsonl")], task, "train", &[]);
        check(&[&b("t/val.jsonl"), &b("t/train.jsonl")], validation, "validation", &[&b("t/val.jsonl")]);
    }

    #[test]
    fn the_configuration_goes_before_the_task_and_the_task_before_the_lab() {
        let lab = format!("{BENCHMARKS_FOLDER}/mine/test.jsonl");
        let task = "{task: mine, dataset_path: json, dataset_kwargs: {data_files: {test: a.jsonl}}, test_split: test}";
        check(&["own/test.jsonl", "tasks/a.jsonl", &lab], task, "test", &["own/test.jsonl"]);
        let other = task.replace("mine", "other");
        check(&["own/test.jsonl", "tasks/a.jsonl"], &other, "test", &["a.jsonl"]);
        check(&["own/test.jsonl"], &other, "test", &[]);
    }
}
