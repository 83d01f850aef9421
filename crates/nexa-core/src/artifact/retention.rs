//! Which versions are kept, and why: the rule, apart from the files.
//!
//! Kept are the newest versions of every name, what is too young, what has a tag, what a run at work or one that can go on
//! reads, and what people have reviewed; and with each of these all that it descends from. The rest may go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{ArtifactId, Manifest};
use crate::{Error, Result};

/// How much is kept: `retention` of `nexa.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// So many of the newest versions of each name are kept; at least one is. Default 5.
    pub keep_last: usize,
    /// What is younger is kept as well: `30d`, `12h`. Default: age does not matter.
    pub older_than: Option<Age>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep_last: 5, older_than: None }
    }
}

/// A span of time in whole minutes, hours, days or weeks: `90m`, `12h`, `30d`, `8w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Age {
    count: u32,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Minutes,
    Hours,
    Days,
    Weeks,
}

impl Unit {
    const ALL: [Self; 4] = [Self::Minutes, Self::Hours, Self::Days, Self::Weeks];

    fn letter(self) -> char {
        match self {
            Self::Minutes => 'm',
            Self::Hours => 'h',
            Self::Days => 'd',
            Self::Weeks => 'w',
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::Minutes => 60,
            Self::Hours => 3600,
            Self::Days => 86_400,
            Self::Weeks => 7 * 86_400,
        }
    }
}

impl Age {
    /// The span itself.
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.count) * self.unit.seconds())
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit.letter())
    }
}

impl FromStr for Age {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unit = Unit::ALL.into_iter().find(|unit| text.ends_with(unit.letter()));
        let parsed = unit.and_then(|unit| {
            let count = text.strip_suffix(unit.letter())?.parse().ok()?;
            Some(Self { count, unit })
        });
        parsed.ok_or_else(|| Error::BadName {
            what: "age",
            name: text.to_owned(),
            message: "it is a number with `m`, `h`, `d` or `w` behind it, such as `30d`".to_owned(),
        })
    }
}

impl TryFrom<String> for Age {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Age> for String {
    fn from(age: Age) -> Self {
        age.to_string()
    }
}

/// Why a version is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Reason {
    /// It is among the newest of its name.
    Newest,
    /// It is too young.
    Young,
    /// It has tags.
    Tagged {
        /// Which.
        tags: Vec<String>,
    },
    /// A run reads it that is at work, or that the same command takes up again.
    Read {
        /// The run.
        run: String,
    },
    /// People decided on its rows.
    Reviewed {
        /// Who.
        reviewers: Vec<String>,
    },
    /// Something that is kept descends from it.
    Ancestor {
        /// What that is.
        of: ArtifactId,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("among the newest of its name"),
            Self::Young => f.write_str("too young"),
            Self::Tagged { tags } => write!(f, "tagged {}", tags.join(", ")),
            Self::Read { run } => write!(f, "read by run {run}"),
            Self::Reviewed { reviewers } => write!(f, "reviewed by {}", reviewers.join(", ")),
            Self::Ancestor { of } => write!(f, "{of} descends from it"),
        }
    }
}

/// What keeps artifacts besides their age.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// Reasons by id.
    pub(super) reasons: BTreeMap<ArtifactId, Vec<Reason>>,
}

impl Held {
    /// Keeps an artifact for a reason.
    pub(super) fn hold(&mut self, id: ArtifactId, reason: Reason) {
        self.reasons.entry(id).or_default().push(reason);
    }
}

/// What is decided of some artifacts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Decided {
    /// Why each is kept that is.
    pub(super) kept: BTreeMap<ArtifactId, Vec<Reason>>,
    /// What goes, each before what it descends from.
    pub(super) removed: Vec<ArtifactId>,
}

/// Decides on the artifacts of a project. `all` are those of the whole lab: what one project keeps may descend from
/// another.
pub(super) fn decide(
    all: &[&Manifest],
    project: &str,
    retention: Retention,
    held: &Held,
    now: DateTime<Utc>,
) -> Decided {
    let mut decided = Decided::default();
    let by_id: BTreeMap<String, &Manifest> =
        all.iter().map(|manifest| (manifest.id.to_string(), *manifest)).collect();
    for manifest in all {
        let mut reasons = held.reasons.get(&manifest.id).cloned().unwrap_or_default();
        if manifest.id.project != project {
            // Nothing is asked of other projects; what they hold stays, and what it needs with it.
            reasons.push(Reason::Newest);
        } else if is_among_newest(all, manifest, retention.keep_last) {
            reasons.insert(0, Reason::Newest);
        } else if is_young(manifest, retention.older_than, now) {
            reasons.insert(0, Reason::Young);
        }
        if !reasons.is_empty() {
            decided.kept.insert(manifest.id.clone(), reasons);
        }
    }
    let mut open: Vec<ArtifactId> = decided.kept.keys().cloned().collect();
    while let Some(id) = open.pop() {
        let Some(manifest) = by_id.get(&id.to_string()) else { continue };
        for parent in manifest.parents.iter().filter_map(|parent| by_id.get(&parent.id)) {
            let of = id.clone();
            let is_kept = decided.kept.contains_key(&parent.id);
            if !is_kept {
                decided.kept.insert(parent.id.clone(), vec![Reason::Ancestor { of }]);
                open.push(parent.id.clone());
            }
        }
    }
    let going: BTreeSet<&ArtifactId> =
        all.iter().map(|manifest| &manifest.id).filter(|id| !decided.kept.contains_key(id)).collect();
    decided.removed = children_first(&by_id, &going);
    decided.kept.retain(|id, _| id.project == project);
    decided
}

fn is_among_newest(all: &[&Manifest], manifest: &Manifest, keep_last: usize) -> bool {
    let of_name =
        |other: &&&Manifest| other.id.project == manifest.id.project && other.id.name == manifest.id.name;
    let newer = all.iter().filter(of_name).filter(|other| other.id.version > manifest.id.version).count();
    newer < keep_last.max(1)
}

fn is_young(manifest: &Manifest, older_than: Option<Age>, now: DateTime<Utc>) -> bool {
    // A clock that was set back makes an artifact young, not old.
    older_than.is_some_and(|age| {
        (now - manifest.created_at).to_std().map_or(true, |passed| passed < age.duration())
    })
}

/// Orders artifacts such that each comes before what it was made from: whatever a kill leaves has its ancestors.
fn children_first(by_id: &BTreeMap<String, &Manifest>, going: &BTreeSet<&ArtifactId>) -> Vec<ArtifactId> {
    fn visit<'a>(
        id: &'a ArtifactId,
        by_id: &BTreeMap<String, &'a Manifest>,
        done: &mut BTreeSet<&'a ArtifactId>,
        order: &mut Vec<ArtifactId>,
    ) {
        if !done.insert(id) {
            return;
        }
        let manifest = by_id.get(&id.to_string());
        for parent in manifest.into_iter().flat_map(|manifest| &manifest.parents) {
            if let Some(parent) = by_id.get(&parent.id) {
                visit(&parent.id, by_id, done, order);
            }
        }
        order.push(id.clone());
    }
    let (mut done, mut order) = (BTreeSet::new(), Vec::new());
    for id in going {
        visit(id, by_id, &mut done, &mut order);
    }
    order.retain(|id| going.contains(id));
    order.reverse();
    order
}

#[cfg(test)]
mod tests;
