//! From names to tasks: what is built in, what lies in folders of task files, and single files by their paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexa_core::{files, scan};
use serde_json::Value;

use crate::harness::builtin::{self, TEXT};
use crate::harness::documents::Owner;
use crate::harness::spec::{Child, Definition, Group, Spec, read};
use crate::{Error, Result};

/// How a task over a text file or a table of texts is asked for.
const TEXT_PREFIX: &str = "text:";

/// How deep groups may stand in groups.
const MAX_DEPTH: usize = 16;

/// Every task and group that can be named.
pub(crate) struct Registry {
    definitions: BTreeMap<String, Definition>,
    /// The files of projects that cannot be read.
    unread: Vec<Unread>,
    root: PathBuf,
}

/// A file that cannot be read as a task, which it need not be meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unread {
    path: PathBuf,
    /// What is wrong, with the path.
    reason: String,
    /// What it would define, as far as its lines tell.
    names: Vec<String>,
}

/// A task that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// What it is set to.
    pub(crate) spec: Spec,
    /// Where it comes from.
    pub(crate) owner: Owner,
    /// The file that it reads, where its name says which.
    pub(crate) path: Option<PathBuf>,
}

/// A group that was asked for, or that stands in one that was.
#[derive(Debug, Clone)]
pub(crate) struct ChosenGroup {
    /// What it is set to.
    pub(crate) group: Group,
    /// What stands directly in it, by name.
    pub(crate) children: Vec<String>,
    /// The tasks in it, at any depth.
    pub(crate) tasks: Vec<String>,
}

/// What was asked for, each task once, and groups after those that stand in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    pub(crate) tasks: Vec<Chosen>,
    pub(crate) groups: Vec<ChosenGroup>,
}

impl Registry {
    /// Knows what is built in and, over that, the task files of all projects and of some folders. Paths are looked for in the working folder,
    /// then below `root`.
    ///
    /// # Errors
    /// Fails with the path when a folder or one of its files cannot be read.
    pub(crate) fn new(root: &Path, folders: &[PathBuf]) -> Result<Self> {
        let mut definitions = builtin::definitions()?;
        let mut add = |definition: Definition| {
            if let Some(name) = definition.name().map(str::to_owned) {
                definitions.insert(name, definition);
            }
        };
        let mut unread = Vec::new();
        for file in project_files(root)? {
            match read(&file) {
                Ok(definition) if definition.is_of_tasks() => add(definition),
                Ok(_) => {}
                // Configurations of all kinds lie there. Who asks for a task that is not found hears of it.
                Err(error) => unread.push(Unread::new(file, &error)),
            }
        }
        for folder in folders {
            let folder = below(root, folder);
            for file in files::walk(&folder)?.into_iter().filter(|file| is_yaml(file)) {
                add(read(&folder.join(file))?);
            }
        }
        Ok(Self { definitions, unread, root: root.to_owned() })
    }

    /// The names of all tasks, groups and tags, with what each is: for listings.
    pub(crate) fn names(&self) -> Vec<(String, &'static str)> {
        let tags = self.definitions.values().flat_map(Definition::tags).map(|tag| (tag.to_owned(), "tag"));
        let kind = |definition: &Definition| if definition.is_group() { "group" } else { "task" };
        let own = self.definitions.iter().filter(|(name, _)| *name != TEXT);
        let own = own.map(|(name, definition)| (name.clone(), kind(definition)));
        let mut names: BTreeMap<String, &'static str> = tags.collect();
        names.extend(own);
        names.into_iter().collect()
    }

    /// Finds what was asked for: names of tasks, groups and tags, paths of task files, and `text:PATH`.
    ///
    /// # Errors
    /// Fails with the nearest name where there is none of this name, and where a task file is malformed.
    pub(crate) fn choose(&self, names: &[String]) -> Result<Choice> {
        let mut choice = Choice::default();
        for name in names {
            self.add(name, &mut Vec::new(), &mut choice)?;
        }
        Ok(choice)
    }

    /// Adds what a name stands for, and returns the names of the tasks that this was.
    fn add(&self, name: &str, groups: &mut Vec<String>, choice: &mut Choice) -> Result<Vec<String>> {
        if let Some(path) = name.strip_prefix(TEXT_PREFIX) {
            return self.add_text(name, Path::new(path), groups, choice);
        }
        if let Some(definition) = self.definitions.get(name).filter(|_| name != TEXT) {
            return self.add_definition(definition, groups, choice);
        }
        let path = Path::new(name);
        if is_yaml(path) {
            return self.add_definition(&read(&below(&self.root, path))?, groups, choice);
        }
        let tagged: Vec<&Definition> =
            self.definitions.values().filter(|definition| definition.tags().contains(&name)).collect();
        if tagged.is_empty() {
            return Err(self.unknown(name));
        }
        let mut tasks = Vec::new();
        for definition in tagged {
            tasks.extend(self.add_definition(definition, groups, choice)?);
        }
        Ok(tasks)
    }

    /// The error of a name that stands for nothing: with the nearest one, unless it is that of a file that cannot be read, and
    /// with all such files.
    fn unknown(&self, name: &str) -> Error {
        let mut unread: Vec<&Unread> = self.unread.iter().collect();
        unread.sort_by_key(|file| !file.defines(name));
        let is_defined = unread.first().is_some_and(|file| file.defines(name));
        let names = self.names();
        let nearest = nexa_core::config::nearest(name, names.iter().map(|(name, _)| name.as_str()));
        Error::UnknownTask {
            name: name.to_owned(),
            nearest: nearest.filter(|_| !is_defined).map(str::to_owned),
            unread: unread.into_iter().map(|file| file.reason.clone()).collect(),
        }
    }

    fn add_definition(
        &self,
        definition: &Definition,
        groups: &mut Vec<String>,
        choice: &mut Choice,
    ) -> Result<Vec<String>> {
        if definition.is_group() {
            return self.add_group(definition, groups, choice);
        }
        let spec = definition.task()?;
        let name = spec.task.clone();
        let owner =
            Owner { groups: groups.iter().rev().cloned().collect(), folder: definition.folder.clone() };
        add_task(Chosen { spec, owner, path: None }, choice)?;
        Ok(vec![name])
    }

    fn add_group(
        &self,
        definition: &Definition,
        groups: &mut Vec<String>,
        choice: &mut Choice,
    ) -> Result<Vec<String>> {
        let group = definition.group()?;
        if groups.contains(&group.group) || groups.len() == MAX_DEPTH {
            let message = format!("group `{}` stands in itself", group.group);
            return Err(nexa_core::Error::config(&definition.place, message).into());
        }
        groups.push(group.group.clone());
        let (mut children, mut tasks) = (Vec::new(), Vec::new());
        for child in &group.task.0 {
            let found = match child {
                Child::Name(name) => {
                    let found = self.add(name, groups, choice)?;
                    let is_tag = !self.definitions.contains_key(name) && !name.starts_with(TEXT_PREFIX);
                    children.extend(if is_tag { found.clone() } else { vec![name.clone()] });
                    found
                }
                Child::Inline(value) => {
                    let inline = self.inline(value, definition)?;
                    children.extend(inline.name().map(str::to_owned));
                    self.add_definition(&inline, groups, choice)?
                }
            };
            tasks.extend(found);
        }
        groups.pop();
        let name = group.group.clone();
        if !choice.groups.iter().any(|known| known.group.group == name) {
            choice.groups.push(ChosenGroup { group, children, tasks: tasks.clone() });
        }
        Ok(tasks)
    }

    /// A task or group that is written out in a group: on its own, or as changes to one that has a name.
    fn inline(&self, value: &Value, within: &Definition) -> Result<Definition> {
        let Some(keys) = value.as_object() else {
            return Err(nexa_core::Error::config(&within.place, format!("`task`: {value} is no task")).into());
        };
        let task = keys.get("task").filter(|_| !keys.contains_key("group"));
        let named = task.and_then(Value::as_str).and_then(|name| self.definitions.get(name));
        Ok(match named.filter(|named| !named.is_group()) {
            Some(named) => named.with(keys),
            None => Definition { keys: keys.clone(), ..within.clone() },
        })
    }

    fn add_text(
        &self,
        name: &str,
        path: &Path,
        groups: &[String],
        choice: &mut Choice,
    ) -> Result<Vec<String>> {
        let base = self.definitions.get(TEXT).ok_or_else(|| unknown(name))?;
        let mut keys = base.keys.clone();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or(TEXT);
        let task = format!("text_{stem}");
        keys.insert("task".to_owned(), task.clone().into());
        let spec = Definition { keys, folder: None, place: name.to_owned() }.task()?;
        let owner = Owner { groups: groups.to_vec(), folder: None };
        add_task(Chosen { spec, owner, path: Some(path.to_owned()) }, choice)?;
        Ok(vec![task])
    }
}

impl Unread {
    fn new(path: PathBuf, error: &Error) -> Self {
        let shown = path.display().to_string();
        let reason = error.to_string();
        // What a file includes is named by its own path.
        let reason = if reason.contains(&shown) { reason } else { format!("{shown}: {reason}") };
        let names = std::fs::read_to_string(&path).map_or_else(|_| Vec::new(), |text| named_in(&text));
        Self { path, reason, names }
    }

    /// Whether it would define a task or group of a name, by its lines or by its own name.
    fn defines(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name) || self.path.file_stem().is_some_and(|stem| stem == name)
    }
}

/// The tasks and groups that the lines of a file name, whatever else stands in them.
fn named_in(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        matches!(key, "task" | "group").then(|| value.to_owned())
    };
    text.lines().filter_map(name).collect()
}

/// The YAML files in the `configs` of every project.
fn project_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for project in scan::entries(&root.join("projects"))? {
        let configs = project.join("configs");
        if configs.is_dir() {
            found.extend(
                files::walk(&configs)?
                    .into_iter()
                    .filter(|file| is_yaml(file))
                    .map(|file| configs.join(file)),
            );
        }
    }
    Ok(found)
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// A path as it is, where something is there, else below a folder.
fn below(root: &Path, path: &Path) -> PathBuf {
    if path.exists() { path.to_owned() } else { root.join(path) }
}

fn unknown(name: &str) -> Error {
    Error::UnknownTask { name: name.to_owned(), nearest: None, unread: Vec::new() }
}

/// Adds a task, unless it is there already. Two that differ cannot go by one name.
fn add_task(chosen: Chosen, choice: &mut Choice) -> Result<()> {
    match choice.tasks.iter().find(|known| known.spec.task == chosen.spec.task) {
        Some(known) if known.spec == chosen.spec && known.path == chosen.path => Ok(()),
        Some(_) => Err(chosen.spec.error("task", "another task of this name was asked for as well")),
        None => {
            choice.tasks.push(chosen);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(files: &[(&str, &str)], names: &[&str]) -> Result<Choice, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let registry = Registry::new(folder.path(), &[PathBuf::new()]).map_err(|error| error.to_string())?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        registry.choose(&names).map_err(|error| error.to_string())
    }

    fn names(choice: &Choice) -> Vec<&str> {
        choice.tasks.iter().map(|chosen| chosen.spec.task.as_str()).collect()
    }

    #[test]
    fn names_stand_for_tasks_groups_and_tags() {
        let a = ("a.yaml", "task: a\ntest_split: test\ntag: [both]");
        let b = ("b.yaml", "task: b\ntest_split: test\ntag: both");
        let g = ("g.yaml", "group: g\ntask: [b, {task: a, num_fewshot: 2}, {group: h, task: gsm8k}]");
        let files = [a, b, g];
        assert_eq!(names(&choose(&files, &["both"]).unwrap()), ["a", "b"]);
        let found = choose(&files, &["g"]).unwrap();
        assert_eq!(names(&found), ["b", "a", "gsm8k"]);
        assert_eq!(
            (found.tasks[1].spec.num_fewshot, &found.tasks[2].owner.groups),
            (Some(2), &vec!["h".to_owned(), "g".to_owned()])
        );
        let groups: Vec<_> =
            found.groups.iter().map(|group| (group.group.group.as_str(), group.tasks.len())).collect();
        assert_eq!(groups, [("h", 1), ("g", 3)]);
        assert_eq!(choose(&[], &["mmlu"]).unwrap().tasks.len(), 57);
        assert_eq!(names(&choose(&[], &["text:data/a.txt", "piqa", "piqa"]).unwrap()), ["text_a", "piqa"]);
    }

    #[test]
    fn what_cannot_be_chosen_is_named() {
        let check = |files: &[(&str, &str)], names: &[&str], expected: &str| {
            let error = choose(files, names).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(&[], &["gsm8"], "there is no task `gsm8`");
        check(&[("g.yaml", "group: g\ntask: g")], &["g"], "group `g` stands in itself");
        check(
            &[
                ("a.yaml", "task: a\ntest_split: t"),
                ("g.yaml", "group: g\ntask: [a, {task: a, num_fewshot: 1}]"),
            ],
            &["g"],
            "another task of this name",
        );
        check(&[("g.yaml", "group: g\ntasks: [a]")], &["g"], "unknown key `tasks`");
    }

    /// Asks for a task of a lab whose projects hold some files.
    fn choose_of_projects(files: &[(&str, &str)], name: &str) -> Error {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join("projects/p/configs").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Registry::new(folder.path(), &[]).unwrap().choose(&[name.to_owned()]).unwrap_err()
    }

    #[test]
    fn a_broken_file_of_a_project_is_told() {
        let other = ("a_train.yaml", "seed: [1");
        let check = |files: &[(&str, &str)], name: &str, first: &str, reason: &str| {
            let error = choose_of_projects(files, name);
            let Error::UnknownTask { unread, .. } = &error else { panic!("{error}") };
            assert!(unread[0].contains(first) && unread[0].contains(reason), "{unread:?}");
            assert!(
                error.to_string().starts_with(&format!("there is no task `{name}`, and files were left"))
            );
        };
        check(&[other, ("mine.yaml", "doc_to_text: [a\n")], "mine", "mine.yaml", "line");
        check(&[other, ("mine.yaml", "task: mine\ninclude: gone.yaml")], "mine", "mine.yaml", "gone.yaml");
        let named = ("x/some.yaml", "task: 'mine' # a sum\ndoc_to_text: a: b");
        check(&[other, named], "mine", "some.yaml", "line");
        check(&[other], "mine", "a_train.yaml", "line");
        let error = choose_of_projects(&[other, ("gsm8.yaml", "task: gsm8\n- a")], "gsm8");
        assert!(matches!(error, Error::UnknownTask { nearest: None, .. }), "the file is meant: {error}");
        let error = choose_of_projects(&[other], "gsm8");
        assert!(matches!(error, Error::UnknownTask { nearest: Some(_), .. }), "{error}");
        assert_eq!(choose_of_projects(&[], "mine").to_string(), "there is no task `mine`");
    }
}
