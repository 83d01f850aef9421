//! The models that are kept on the way: `checkpoints/step-<N>` in the workspace, each a folder as Hugging Face writes
//! it.
//!
//! A folder is complete when it has its name, and none is removed before a state that no longer lists it is durable:
//! whichever state a killed run goes on from, the checkpoints that it knows are there.

use std::path::{Path, PathBuf};

use nexa_core::files;
use nexa_model::ChatTokenizer;

use crate::model::Model;
use crate::state::Progress;
use crate::{Config, Error};

/// Models on disk.
#[derive(Debug)]
pub(super) struct Checkpoints {
    folder: PathBuf,
    tokenizer: ChatTokenizer,
    limit: usize,
    needs_best: bool,
    /// What the newest state on disk lists.
    durable: Vec<u64>,
}

impl Checkpoints {
    /// Opens the checkpoints of a run.
    pub(super) fn new(
        workspace: &Path,
        config: &Config,
        tokenizer: ChatTokenizer,
        progress: &Progress,
    ) -> Self {
        Self {
            folder: workspace.join("checkpoints"),
            tokenizer,
            limit: config.save_total_limit,
            needs_best: config.load_best_model_at_end,
            durable: progress.checkpoints.clone(),
        }
    }

    /// Writes the model of a step if they are to be kept, and takes them into the progress.
    pub(super) fn keep(&self, progress: &mut Progress, model: &Model, is_best: bool) -> Result<(), Error> {
        let step = progress.step;
        if self.limit == 0 && !(is_best && self.needs_best) {
            return Ok(());
        }
        if !progress.checkpoints.contains(&step) {
            let temporary = self.folder.join(format!(".tmp-step-{step}"));
            files::remove(&temporary)?;
            files::create_folder(&temporary)?;
            model.save(&temporary, &self.tokenizer)?;
            let folder = self.path(step);
            files::remove(&folder)?;
            fs_err::rename(&temporary, &folder)?;
            files::sync_folder(&self.folder)?;
            progress.checkpoints.push(step);
        }
        let best = progress.best.map(|best| best.step);
        progress.checkpoints = retained(&progress.checkpoints, best, self.limit);
        Ok(())
    }

    /// Removes what neither the state on disk before nor the one that has just been written lists.
    pub(super) fn saved(&mut self, progress: &Progress) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.durable, progress.checkpoints.clone());
        self.remove_others(&[&before, &progress.checkpoints])
    }

    /// Removes everything that the state of a finished run does not list.
    pub(super) fn finished(&self) -> Result<(), Error> {
        self.remove_others(&[&self.durable])
    }

    /// Copies the model of a kept step.
    pub(super) fn copy(&self, step: u64, output: &Path) -> Result<(), Error> {
        Ok(files::copy_tree(&self.path(step), output)?)
    }

    /// Writes the finished model.
    pub(super) fn write(&self, output: &Path, model: &Model) -> Result<(), Error> {
        model.save(output, &self.tokenizer)
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step}"))
    }

    fn remove_others(&self, kept: &[&[u64]]) -> Result<(), Error> {
        if !self.folder.is_dir() {
            return Ok(());
        }
        for entry in fs_err::read_dir(&self.folder)? {
            let path = entry?.path();
            if !kept.iter().copied().flatten().any(|&step| path == self.path(step)) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Chooses what is kept of some steps, ascending: the best, the newest, and of the others the newest up to the limit.
fn retained(steps: &[u64], best: Option<u64>, limit: usize) -> Vec<u64> {
    let mut kept: Vec<u64> = steps.iter().copied().filter(|&step| Some(step) == best).collect();
    for (age, &step) in steps.iter().rev().enumerate() {
        let is_wanted = kept.len() < limit || (age == 0 && limit > 0);
        if is_wanted && !kept.contains(&step) {
            kept.push(step);
        }
    }
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_and_the_newest_are_retained() {
        let check = |steps: &[u64], best, limit, expected: &[u64]| {
            assert_eq!(retained(steps, best, limit), expected, "{steps:?} {best:?} {limit}");
        };
        check(&[1, 2, 3, 4], None, 2, &[3, 4]);
        check(&[1, 2, 3, 4], Some(2), 2, &[2, 4]);
        check(&[1, 2, 3, 4], Some(4), 2, &[3, 4]);
        check(&[1, 2, 3, 4], Some(2), 1, &[2, 4]);
        check(&[1, 2, 3, 4], Some(4), 1, &[4]);
        check(&[1, 2, 3, 4], Some(1), 3, &[1, 3, 4]);
        check(&[1, 2], Some(1), 9, &[1, 2]);
        check(&[1, 2], Some(2), 0, &[2]);
        check(&[], None, 2, &[]);
    }
}
