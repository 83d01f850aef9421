//! The stage `evaluate`: a checkpoint and tasks in, predictions and metrics out.
//!
//! What was answered before a kill is read from `samples.jsonl` of the run, so the artifact of a resumed run is that of a
//! straight one to the last byte. How long it took stands in the run's events, never in the artifact.

mod config;
mod contamination;
mod held_out;
mod suite;
mod versus;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexa_core::artifact::Kind;
use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::lm::{FinishReason, ModelLoader};
use nexa_core::stage::{Context, Stage, StageError};
use serde_json::{Value, json};

use crate::ask::Asker;
use crate::contamination::Overlaps;
use crate::facts::{self, Facts};
use crate::harness::{self, Loaded, Plan};
use crate::metric::{self, Metric, Name};
use crate::predictions;
use crate::task::Task;
use crate::{Error, Result};

pub use config::{Config, Limit, Split};
pub use versus::Decision;

use held_out::HeldOut;
use suite::Found;
use versus::{Versus, Wanted};

/// The stage's word in records.
pub const STAGE: &str = "evaluate";

/// The version of what it makes.
pub(crate) const CODE_VERSION: u32 = 5;

/// Metrics of tasks that are shown as they are found, at most; the file has all.
const SHOWN: usize = 20;

/// The stage.
pub struct Evaluate {
    config: Config,
    loader: Arc<dyn ModelLoader>,
    plan: Plan,
}

impl Evaluate {
    /// Sets up an evaluation: finds its tasks, and their files in the lab whose root is given. `loader` opens the
    /// checkpoint.
    ///
    /// # Errors
    /// Fails where there is no task of a name, a task file is malformed or wants Python, or a task has no documents here.
    pub fn new(config: Config, root: &Path, loader: Arc<dyn ModelLoader>) -> Result<Self> {
        if config.tasks.is_empty() {
            return Err(Error::NoTask);
        }
        let plan = Plan::new(&config.others(), &config, root)?;
        Ok(Self { config, loader, plan })
    }

    fn evaluate(&self, context: &Context<'_>) -> Result<()> {
        let (config, tables) = (&self.config, context.services.tables);
        let checkpoint = context.inputs.require("checkpoint")?;
        let mut held_out = HeldOut::read(context, config)?;
        for absent in &self.plan.absent {
            context.emit(Event::warning(format!(
                "{}: there is data for {} of its {} tasks; the others are left out",
                absent.group, absent.present, absent.total
            )));
        }
        let loaded = self.plan.tasks.iter().map(|task| Loaded::read(task, config, tables));
        let loaded = loaded.collect::<Result<Vec<_>>>()?;
        let wanted = Wanted { held_out: held_out.as_ref(), loaded: &loaded };
        let versus = Versus::read(context, config, &wanted)?;
        let mut overlaps = self.overlaps(context, &wanted)?;
        let model = self.loader.open(checkpoint, context, &config.calls)?;
        // What is behind an API is called without a pause between batches; each answer is kept as it comes.
        let is_here = checkpoint.manifest.kind == Kind::Checkpoint;
        let batch = if is_here { config.batch.get() } else { usize::MAX };
        let mut asker = Asker::open(context, &model, batch, config.calls.max_failed_share)?;
        if config.cache {
            asker = asker.with_cache(&checkpoint.manifest.content_hash)?;
        }
        let found =
            self.ask(context, &mut asker, (held_out.as_mut(), loaded), (versus.as_ref(), overlaps.as_mut()))?;
        let Found { metrics, mut predictions, questions, overlaps: overlapping, decision } = found;

        if let Some(overlaps) = &overlaps {
            contamination::mark(overlaps, &mut predictions);
            contamination::write(context, overlaps, overlapping)?;
        }
        predictions::write(tables, context.output, &predictions)?;
        files::write_json(&context.output.join(metric::FILE), &metrics)?;
        let facts = Facts {
            checkpoint_hash: checkpoint.manifest.content_hash.clone(),
            weights_hash: model.info.weights_hash.clone(),
            tasks: predictions.iter().map(|one| one.task.clone()).collect(),
            test_set: held_out.as_ref().map(HeldOut::test_set),
            questions,
        };
        files::write_json(&context.output.join(facts::FILE), &facts)?;
        context.set_rows(predictions.len() as u64);
        context.state("model", &model.info.name)?;
        tell_cut_off(context, &predictions)?;
        tell(context, &metrics)?;
        match versus.zip(decision) {
            Some((versus, decision)) => versus.write(context, &decision, &model.info.name),
            None => Ok(()),
        }
    }

    /// Asks everything that is wanted, the held-out split first.
    fn ask(
        &self,
        context: &Context<'_>,
        asker: &mut Asker<'_>,
        (held_out, loaded): (Option<&mut HeldOut<'_>>, Vec<Loaded<'_>>),
        (versus, mut overlaps): (Option<&Versus>, Option<&mut Overlaps>),
    ) -> Result<Found> {
        let mut found = Found::default();
        if let Some(held_out) = held_out {
            let own = held_out.run(context, asker, loaded.is_empty(), versus)?;
            if let Some(overlaps) = overlaps.as_deref_mut() {
                if let Some((_, places)) = &own.decision {
                    overlaps.keep(Task::ExactMatch.as_str(), places);
                }
                found.overlaps = held_out.overlaps(overlaps, &own.predictions);
            }
            found.decision = own.decision.map(|(decision, _)| decision);
            (found.metrics, found.predictions) = (own.metrics, own.predictions);
        }
        if !loaded.is_empty() {
            suite::run(context, asker, (&self.plan, loaded), (&self.config, versus), (overlaps, &mut found))?;
        }
        Ok(found)
    }

    /// Looks for everything that will be asked in what the checkpoint was trained on, where that is wanted.
    fn overlaps(&self, context: &Context<'_>, wanted: &Wanted<'_>) -> Result<Option<Overlaps>> {
        if !self.config.contamination {
            return Ok(None);
        }
        let mut documents = wanted.held_out.map(HeldOut::documents).unwrap_or_default();
        documents.extend(wanted.loaded.iter().map(|task| {
            let texts = task.documents.iter().map(harness::Document::text).collect();
            (task.task.spec.task.clone(), texts)
        }));
        Ok(Some(Overlaps::find(context, context.inputs.require("checkpoint")?, documents)?))
    }
}

impl Stage for Evaluate {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::Evaluation
    }

    fn code_version(&self) -> u32 {
        CODE_VERSION
    }

    fn config(&self) -> Value {
        json!({"settings": self.config.key(), "suite": self.plan.key()})
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        self.plan.files()
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.evaluate(context)?)
    }
}

/// States every metric in the manifest, and shows the first.
fn tell(context: &Context<'_>, metrics: &[Metric]) -> Result<()> {
    for metric in metrics {
        context.state(&metric.name().to_string(), metric.estimate())?;
    }
    let is_headline = |metric: &&Metric| {
        let name = metric.name();
        name.held_out_task().is_none() || [Name::EXACT_MATCH, Name::BITS_PER_BYTE].contains(&name)
    };
    // What is summed up over others says most.
    let mut shown: Vec<&Metric> = metrics.iter().filter(is_headline).collect();
    shown.sort_by_key(|metric| metric.subtasks.is_empty());
    for metric in shown.into_iter().take(SHOWN) {
        context.emit(Event::info(headline(metric)));
    }
    Ok(())
}

fn headline(metric: &Metric) -> String {
    let interval = match metric.ci_low.zip(metric.ci_high) {
        Some((low, high)) => format!("{low:.4} to {high:.4}"),
        None => "unknown".to_owned(),
    };
    format!("{} {:.4}, 95% interval {interval}, over {} items", metric.name(), metric.value, metric.n)
}

/// States how many answers of each task ended at the limit of tokens, and tells it of those with any.
fn tell_cut_off(context: &Context<'_>, predictions: &[predictions::Prediction]) -> Result<()> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for one in predictions.iter().filter(|one| one.output.is_some()) {
        let (cut_off, answers) = counts.entry(&one.task).or_default();
        *cut_off += usize::from(one.finish_reason.as_deref() == Some(FinishReason::Length.as_str()));
        *answers += 1;
    }
    for (task, (cut_off, answers)) in counts.iter().filter(|(_, (cut_off, _))| *cut_off > 0) {
        let share = *cut_off as f64 / *answers as f64 * 100.0;
        context.emit(Event::info(format!(
            "{task}: {cut_off} of {answers} answers ({share:.1} %) ended at the limit of tokens"
        )));
    }
    let cut_off: BTreeMap<&str, usize> =
        counts.into_iter().map(|(task, (cut_off, _))| (task, cut_off)).collect();
    Ok(context.state("cut_off", cut_off)?)
}
