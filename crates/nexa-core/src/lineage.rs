//! Where an artifact comes from and what was made of it, as trees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::artifact::{ArtifactId, Manifest, Store};
use crate::hash::ContentHash;
use crate::{Error, Result};

/// A node of a lineage tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The artifact's id, or `file:<path>`.
    pub id: String,
    /// What it served as for the node above, empty at the root.
    pub role: String,
    /// `checkpoint`, `dataset`, …; `file` for files from outside, `missing` where the artifact is gone.
    pub kind: String,
    /// The content that was used.
    pub content_hash: ContentHash,
    /// The run that made it.
    pub run: Option<String>,
    /// Whether the content that was used is no longer what is there.
    pub changed: bool,
    /// Whether `nexa data gc` removed it, and when, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removal>,
    /// What it was made from, or what was made of it.
    pub next: Vec<Node>,
}

/// The kind of an artifact that is gone without a trace.
const MISSING: &str = "missing";

/// That an artifact is gone, while its manifest is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// When it was removed, where that is known.
    pub at: Option<DateTime<Utc>>,
}

/// The tree of everything that an artifact descends from. What was removed is told as what it was.
///
/// # Errors
/// Fails when the artifact never existed or a manifest is malformed.
pub fn ancestors(store: &Store<'_>, id: &ArtifactId) -> Result<Node> {
    let all = Known::of(store)?;
    Ok(all.ancestor_node(all.get(store, id)?, ""))
}

/// The tree of everything that descends from an artifact.
///
/// # Errors
/// As [`ancestors`].
pub fn descendants(store: &Store<'_>, id: &ArtifactId) -> Result<Node> {
    let all = Known::of(store)?;
    Ok(all.descendant_node(all.get(store, id)?, ""))
}

impl Node {
    /// What keeps this from being followed back to where it began: what is gone without a trace, and what is no longer as it
    /// was used. What `nexa data gc` removed is still known.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if self.kind == MISSING {
            gaps.push(format!("{} is gone", self.id));
        } else if self.changed {
            gaps.push(format!("{} has changed since it was used", self.id));
        }
        gaps.extend(self.next.iter().flat_map(Self::gaps));
        gaps.sort();
        gaps.dedup();
        gaps
    }

    /// Draws the tree, one line a node. What stands above already is not opened again.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.render_into(&mut out, "", "", &mut BTreeSet::new());
        out
    }

    fn render_into(&self, out: &mut String, first: &str, rest: &str, seen: &mut BTreeSet<String>) {
        let role = if self.role.is_empty() || self.role == self.kind {
            String::new()
        } else {
            format!("{}: ", self.role)
        };
        let run = self.run.as_ref().map(|run| format!("  run {run}")).unwrap_or_default();
        let changed = if self.changed { "  CHANGED SINCE" } else { "" };
        let is_new = seen.insert(self.id.clone());
        let removed = match self.removed {
            Some(Removal { at: Some(at) }) => at.format("  REMOVED by gc at %Y-%m-%d %H:%M").to_string(),
            Some(Removal { at: None }) => "  REMOVED by gc".to_owned(),
            None => String::new(),
        };
        let above = if is_new || self.next.is_empty() { "" } else { "  (as above)" };
        out.push_str(&format!(
            "{first}{role}{id}  [{kind} {hash}]{run}{changed}{removed}{above}\n",
            id = self.id,
            kind = self.kind,
            hash = self.content_hash.short()
        ));
        if !is_new {
            return;
        }
        for (position, node) in self.next.iter().enumerate() {
            let last = position + 1 == self.next.len();
            let (branch, stem) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            node.render_into(out, &format!("{rest}{branch}"), &format!("{rest}{stem}"), seen);
        }
    }
}

/// Everything that is or was in the lab.
struct Known {
    /// The lab's folder.
    root: PathBuf,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    manifest: Manifest,
    removed: Option<Removal>,
}

impl Known {
    fn of(store: &Store<'_>) -> Result<Self> {
        let mut known = BTreeMap::new();
        for project in store.lab().projects()? {
            for removed in store.removed(&project)? {
                let entry = Entry { manifest: removed.manifest, removed: Some(Removal { at: removed.at }) };
                known.insert(entry.manifest.id.to_string(), entry);
            }
        }
        for artifact in store.all()? {
            let entry = Entry { manifest: artifact.manifest, removed: None };
            known.insert(entry.manifest.id.to_string(), entry);
        }
        Ok(Self { root: store.lab().root().to_owned(), entries: known })
    }

    fn get(&self, store: &Store<'_>, id: &ArtifactId) -> Result<&Entry> {
        let missing = || Error::NotFound { what: "artifact", name: id.to_string(), hint: None };
        match self.entries.get(&id.to_string()) {
            Some(entry) => Ok(entry),
            // The store says what there is instead.
            None => Err(store.get(id).err().unwrap_or_else(missing)),
        }
    }

    fn ancestor_node(&self, entry: &Entry, role: &str) -> Node {
        let mut tree = node(entry, role);
        for parent in &entry.manifest.parents {
            tree.next.push(match self.entries.get(&parent.id) {
                Some(found) => {
                    let mut below = self.ancestor_node(found, &parent.role);
                    below.changed = parent.content_hash != found.manifest.content_hash;
                    below.content_hash = parent.content_hash.clone();
                    below
                }
                None => {
                    let file = parent.path(&self.root);
                    let changed = file.as_ref().is_some_and(|path| {
                        ContentHash::of_file(path).map_or(true, |now| now != parent.content_hash)
                    });
                    Node {
                        id: parent.id.clone(),
                        role: parent.role.clone(),
                        kind: if file.is_some() { "file" } else { MISSING }.to_owned(),
                        content_hash: parent.content_hash.clone(),
                        run: None,
                        changed,
                        removed: None,
                        next: Vec::new(),
                    }
                }
            });
        }
        tree
    }

    fn descendant_node(&self, entry: &Entry, role: &str) -> Node {
        let id = entry.manifest.id.to_string();
        let mut tree = node(entry, role);
        for child in self.entries.values() {
            if let Some(link) = child.manifest.parents.iter().find(|parent| parent.id == id) {
                tree.next.push(self.descendant_node(child, &link.role));
            }
        }
        tree
    }
}

fn node(entry: &Entry, role: &str) -> Node {
    Node {
        id: entry.manifest.id.to_string(),
        role: role.to_owned(),
        kind: entry.manifest.kind.to_string(),
        content_hash: entry.manifest.content_hash.clone(),
        run: Some(entry.manifest.producer.run.to_string()),
        changed: false,
        removed: entry.removed,
        next: Vec::new(),
    }
}
