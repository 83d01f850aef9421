//! The files of labels: where they lie, how they are read, and how a line gets into one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::history::History;
use super::label::Line;
use crate::artifact::ArtifactId;
use crate::lab::{Lab, check_name};
use crate::{Error, Result, files, run, scan};

/// The labels of one artifact.
#[derive(Debug, Clone)]
pub struct Labels {
    lab: Lab,
    artifact: ArtifactId,
}

/// What one reviewer wrote.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// What the lines come to.
    pub history: History,
    /// The number of the last line, where it is cut off: it was being written when its process ended, or still is.
    pub cut_line: Option<usize>,
}

impl Labels {
    /// The labels of an artifact.
    pub fn new(lab: &Lab, artifact: &ArtifactId) -> Self {
        Self { lab: lab.clone(), artifact: artifact.clone() }
    }

    /// The artifact.
    pub fn artifact(&self) -> &ArtifactId {
        &self.artifact
    }

    /// The file of a reviewer, which need not exist yet.
    ///
    /// # Errors
    /// Fails when the name cannot be that of a file.
    pub fn path(&self, reviewer: &str) -> Result<PathBuf> {
        check_name("reviewer", reviewer)?;
        Ok(self.folder()?.join(format!("{}.{reviewer}.jsonl", self.artifact.stem())))
    }

    /// Everyone who has a file, by name.
    ///
    /// # Errors
    /// Fails when the folder cannot be listed.
    pub fn reviewers(&self) -> Result<Vec<String>> {
        let stem = format!("{}.", self.artifact.stem());
        let reviewer = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.strip_prefix(&stem)?.strip_suffix(".jsonl")?.to_owned();
            check_name("reviewer", &name).is_ok().then_some(name)
        };
        Ok(scan::entries(&self.folder()?)?.into_iter().filter_map(reviewer).collect())
    }

    /// What a reviewer wrote so far.
    ///
    /// # Errors
    /// Fails with path and line when a whole line is no label. A missing file is an empty one.
    pub fn read(&self, reviewer: &str) -> Result<Journal> {
        read(&self.path(reviewer)?)
    }

    /// What everyone wrote so far, by reviewer.
    ///
    /// # Errors
    /// As [`Labels::read`].
    pub fn read_all(&self) -> Result<BTreeMap<String, Journal>> {
        let read = |name: String| Ok((name.clone(), self.read(&name)?));
        self.reviewers()?.into_iter().map(read).collect()
    }

    /// Adds lines to a reviewer's file, durably, whole line by whole line.
    ///
    /// # Errors
    /// Fails with the path when they cannot be written; those that were are kept.
    pub fn append(&self, reviewer: &str, lines: &[Line]) -> Result<()> {
        let path = self.path(reviewer)?;
        let ArtifactId { project, .. } = &self.artifact;
        let lock = format!("labels-{project}-{}-{reviewer}", self.artifact.stem());
        // The same reviewer may have a page and a terminal open.
        let _lock = run::lock(&self.lab, &lock, "the labels", true)?;
        // Opened anew each time: what an earlier attempt left of a line on a full disk is dropped first.
        let mut log = files::LineLog::open(&path)?;
        lines.iter().try_for_each(|line| log.append(line))?;
        log.sync()
    }

    fn folder(&self) -> Result<PathBuf> {
        let project = self.lab.project(&self.artifact.project)?;
        Ok(project.processed_folder().join("distillation/labels"))
    }
}

fn read(path: &Path) -> Result<Journal> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Journal::default()),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    let mut journal = Journal::default();
    let mut rest = bytes.as_slice();
    for number in 1.. {
        if rest.is_empty() {
            break;
        }
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            journal.cut_line = Some(number);
            break;
        };
        let line = serde_json::from_slice(&rest[..end])
            .map_err(|e| Error::malformed(path, format!("line {number}: {e}")))?;
        journal.history.apply(&line);
        rest = &rest[end + 1..];
    }
    Ok(journal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::{Action, Status, Verdict};

    fn labels() -> (tempfile::TempDir, Labels) {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
        let labels = Labels::new(&lab, &"tutor/filtered_v1".parse().unwrap());
        (folder, labels)
    }

    #[test]
    fn a_kill_between_and_in_lines_loses_at_most_the_line_being_written() {
        let (_folder, labels) = labels();
        let line = |row: &str| Line::new(row, Action::Accept, "ana");
        labels.append("ana", &[line("a"), line("b")]).unwrap();
        let path = labels.path("ana").unwrap();
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let journal = labels.read("ana").unwrap();
            let expected = usize::from(length >= first) + usize::from(length == whole.len());
            assert_eq!(journal.history.decided().count(), expected, "{length} bytes");
            let cut = ![0, first, whole.len()].contains(&length);
            assert_eq!(journal.cut_line, cut.then_some(expected + 1), "{length} bytes");
            // The next line drops the rest of the cut one.
            labels.append("ana", &[line("c")]).unwrap();
            let journal = labels.read("ana").unwrap();
            assert_eq!((journal.history.decided().count(), journal.cut_line), (expected + 1, None));
            assert_eq!(journal.history.status("c"), Status::Decided(Verdict::Accept));
        }
    }

    #[test]
    fn a_whole_line_that_is_no_label_is_told() {
        let (_folder, labels) = labels();
        labels.append("ana", &[Line::new("a", Action::Accept, "ana")]).unwrap();
        let path = labels.path("ana").unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"<<<<<<< HEAD\n");
        std::fs::write(&path, bytes).unwrap();
        let error = labels.read("ana").unwrap_err().to_string();
        assert!(error.contains("filtered_v1.ana.jsonl: line 2: "), "{error}");
    }

    #[test]
    fn each_reviewer_has_a_file_and_no_name_leads_out_of_the_folder() {
        let (_folder, labels) = labels();
        assert_eq!(labels.reviewers().unwrap(), Vec::<String>::new());
        for reviewer in ["ben", "ana"] {
            labels.append(reviewer, &[Line::new("a", Action::Accept, reviewer)]).unwrap();
        }
        assert_eq!(labels.reviewers().unwrap(), ["ana", "ben"]);
        for bad in ["", "../ana", "a/b", "Ana", "a.b"] {
            assert!(labels.append(bad, &[]).is_err(), "{bad}");
        }
    }
}
