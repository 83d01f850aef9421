//! Whether rows were held against what models are judged by, before they become what models are trained on.

use nexa_core::artifact::{Artifact, Store};
use nexa_core::decontamination::checked_sets;
use nexa_core::hash::ContentHash;
use nexa_core::stage::Context;

use crate::{Error, Result};

/// Fails when the lab names evaluation sets that neither the rows nor what they descend from were held against.
pub(super) fn require_checked(context: &Context<'_>, source: &Artifact) -> Result<()> {
    let lab = context.services.lab;
    let sets = &lab.settings().evaluation_sets;
    if sets.is_empty() {
        return Ok(());
    }
    let checked = checked_sets(&Store::new(lab), source)?;
    let mut missing = Vec::new();
    for set in sets {
        if !checked.contains(&ContentHash::of_file(&lab.root().join(&set.path))?) {
            missing.push(set.path.clone());
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::NotDecontaminated { input: source.id().clone(), sets: missing })
    }
}
