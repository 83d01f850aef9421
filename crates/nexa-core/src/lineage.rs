//! Where an artifact comes from and what was made of it, as trees.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::Result;
use crate::artifact::{Artifact, ArtifactId, Store};
use crate::hash::ContentHash;

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
    /// What it was made from, or what was made of it.
    pub next: Vec<Node>,
}

/// The tree of everything that an artifact descends from.
///
/// # Errors
/// Fails when the artifact does not exist or a manifest is malformed.
pub fn ancestors(store: &Store<'_>, id: &ArtifactId) -> Result<Node> {
    let all = by_id(store)?;
    let artifact = store.get(id)?;
    Ok(ancestor_node(&all, &artifact, ""))
}

/// The tree of everything that descends from an artifact.
///
/// # Errors
/// Fails when the artifact does not exist or a manifest is malformed.
pub fn descendants(store: &Store<'_>, id: &ArtifactId) -> Result<Node> {
    let all = by_id(store)?;
    let artifact = store.get(id)?;
    Ok(descendant_node(&all, &artifact, ""))
}

impl Node {
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
        let above = if is_new || self.next.is_empty() { "" } else { "  (as above)" };
        out.push_str(&format!(
            "{first}{role}{id}  [{kind} {hash}]{run}{changed}{above}\n",
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

fn by_id(store: &Store<'_>) -> Result<BTreeMap<String, Artifact>> {
    Ok(store.all()?.into_iter().map(|artifact| (artifact.id().to_string(), artifact)).collect())
}

fn node(artifact: &Artifact, role: &str, used: &ContentHash) -> Node {
    Node {
        id: artifact.id().to_string(),
        role: role.to_owned(),
        kind: artifact.manifest.kind.to_string(),
        content_hash: used.clone(),
        run: Some(artifact.manifest.producer.run.to_string()),
        changed: *used != artifact.manifest.content_hash,
        next: Vec::new(),
    }
}

fn ancestor_node(all: &BTreeMap<String, Artifact>, artifact: &Artifact, role: &str) -> Node {
    let mut tree = node(artifact, role, &artifact.manifest.content_hash);
    for parent in &artifact.manifest.parents {
        tree.next.push(match all.get(&parent.id) {
            Some(found) => {
                let mut below = ancestor_node(all, found, &parent.role);
                below.changed = parent.content_hash != found.manifest.content_hash;
                below.content_hash = parent.content_hash.clone();
                below
            }
            None => {
                let file = parent.id.strip_prefix("file:");
                let changed = file.is_some_and(|path| {
                    ContentHash::of_file(std::path::Path::new(path))
                        .map_or(true, |now| now != parent.content_hash)
                });
                Node {
                    id: parent.id.clone(),
                    role: parent.role.clone(),
                    kind: if file.is_some() { "file" } else { "missing" }.to_owned(),
                    content_hash: parent.content_hash.clone(),
                    run: None,
                    changed,
                    next: Vec::new(),
                }
            }
        });
    }
    tree
}

fn descendant_node(all: &BTreeMap<String, Artifact>, artifact: &Artifact, role: &str) -> Node {
    let id = artifact.id().to_string();
    let mut tree = node(artifact, role, &artifact.manifest.content_hash);
    for child in all.values() {
        if let Some(link) = child.manifest.parents.iter().find(|parent| parent.id == id) {
            tree.next.push(descendant_node(all, child, &link.role));
        }
    }
    tree
}
