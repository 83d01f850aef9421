//! Where contracts meet their implementations: models for evaluation, tokenizers for distillation, the leaderboard for the dashboards.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nexa_core::artifact::{Artifact, Kind, Store};
use nexa_core::lab::Lab;
use nexa_core::lm::{self, Calls, LoadedModel, ModelLoader, TokenizerLoader};
use nexa_core::stage::Context;
use nexa_core::table::Tables;
use nexa_eval::Leaderboard;
use nexa_eval::compare::Verdict;
use nexa_eval::leaderboard::Choice;
use nexa_eval::metric::Name;
use nexa_eval::statistics::Estimate;
use nexa_model::LocalModel;
use nexa_model::device::{self, DeviceName};
use nexa_serve::{Engine, EngineConfig};
use nexa_ui::{self as view, LeaderboardSource, LeaderboardView};

/// Opens checkpoints and models behind APIs for evaluation.
pub(crate) fn loader() -> Arc<dyn ModelLoader> {
    Arc::new(LocalLoader)
}

/// Opens local checkpoints: our decoder, under our engine.
struct LocalLoader;

impl ModelLoader for LocalLoader {
    fn load(&self, checkpoint: &Path) -> Result<LoadedModel<'static>, lm::Error> {
        let failed = |message: String| lm::Error::Failed { model: checkpoint.display().to_string(), message };
        let model = LocalModel::load(checkpoint).map_err(|error| failed(error.to_string()))?;
        let engine = Engine::start(Box::new(model), EngineConfig::default())
            .map_err(|error| failed(error.to_string()))?;
        Ok(engine.into())
    }

    fn open<'a>(
        &self,
        model: &Artifact,
        context: &'a Context<'a>,
        calls: &Calls,
    ) -> Result<LoadedModel<'a>, lm::Error> {
        if model.manifest.kind == Kind::ApiModel {
            return nexa_distill::api::open(model, context, calls)
                .map_err(|error| lm::Error::Calls(Box::new(error)));
        }
        self.load(&model.path())
    }
}

/// Opens the students' tokenizers for gates and packaging.
pub(crate) fn tokenizers() -> Arc<dyn TokenizerLoader> {
    Arc::new(LocalLoader)
}

impl TokenizerLoader for LocalLoader {
    fn load_tokenizer(&self, folder: &Path) -> Result<Arc<dyn lm::Tokenizer>, lm::Error> {
        let tokenizer = nexa_model::ChatTokenizer::load(folder);
        Ok(Arc::new(tokenizer.map_err(|error| lm::Error::Tokenizer(error.to_string()))?))
    }
}

/// The devices that this build can train on here, and why `device: auto` is the CPU where it could be another.
pub(crate) fn devices() -> String {
    let text = |found: &device::Found| {
        format!("{}{}", found.name, if found.is_software { " (a software renderer)" } else { "" })
    };
    let found: Vec<String> = device::found().iter().map(text).collect();
    let reason = device::resolve(DeviceName::Auto).reason;
    format!("{}{}", found.join(", "), reason.map_or_else(String::new, |reason| format!("; {reason}")))
}

/// Evaluation's leaderboard, in the form of the dashboards.
pub(crate) struct Leaderboards {
    lab: Lab,
    tables: Arc<dyn Tables>,
    /// The last one of each project and metric, with what it was made from: reading every evaluation takes long.
    kept: Mutex<HashMap<(String, Option<String>), Kept>>,
}

/// Leaderboards that are kept of a project, at most: who asks names the metric, so there may be any number.
const KEPT: usize = 8;

/// A leaderboard with what it was made from.
type Kept = (Vec<String>, LeaderboardView);

impl Leaderboards {
    /// The leaderboards of a lab.
    pub(crate) fn new(lab: Lab, tables: Arc<dyn Tables>) -> Self {
        Self { lab, tables, kept: Mutex::default() }
    }

    /// What a leaderboard is made from: evaluations by content, and the models that are there.
    fn sources(&self, project: &str) -> nexa_core::Result<Vec<String>> {
        let store = Store::new(&self.lab);
        let kinds = [Kind::Evaluation, Kind::Checkpoint, Kind::ApiModel];
        let artifacts =
            kinds.map(|kind| store.of_kind(project, kind)).into_iter().collect::<Result<Vec<_>, _>>()?;
        let source = |artifact: &Artifact| format!("{} {}", artifact.id(), artifact.manifest.content_hash);
        Ok(artifacts.iter().flatten().map(source).collect())
    }
}

impl LeaderboardSource for Leaderboards {
    fn leaderboard(&self, project: &str, metric: Option<&str>) -> Result<LeaderboardView, String> {
        let key = (project.to_owned(), metric.map(str::to_owned));
        let sources = self.sources(project).map_err(|e| e.to_string())?;
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, view)) = kept().get(&key)
            && *of == sources
        {
            return Ok(view.clone());
        }
        let store = Store::new(&self.lab);
        let choice = Choice { task: None, metric: key.1.clone() };
        let view = match Leaderboard::choose(&store, project, self.tables.as_ref(), &choice) {
            Ok(found) => LeaderboardView {
                groups: found.by_test_set().filter_map(group).collect(),
                boards: found.boards.iter().map(board).collect(),
            },
            // Another project may have the metric.
            Err(nexa_eval::Error::Core(nexa_core::Error::NotFound { .. })) => {
                return Ok(LeaderboardView::default());
            }
            Err(error) => return Err(error.to_string()),
        };
        let mut kept = kept();
        if kept.keys().filter(|(of, _)| of == project).count() >= KEPT {
            kept.retain(|(of, _), _| of != project);
        }
        kept.insert(key, (sources, view.clone()));
        Ok(view)
    }
}

fn board(board: &nexa_eval::leaderboard::Board) -> view::Board {
    let named = |name: &Name| match name.filter.as_ref() {
        nexa_eval::metric::NO_FILTER => name.metric.to_string(),
        filter => format!("{},{filter}", name.metric),
    };
    view::Board {
        task: board.task.clone(),
        metric: named(&board.metric),
        metrics: board.metrics.iter().map(named).collect(),
        higher_is_better: board.higher_is_better,
        documents: board.asked.documents as u64,
        num_fewshot: board.asked.num_fewshot.map(|count| count as u64),
        subtasks: board.asked.subtasks.len(),
        dataset: board.asked.dataset.clone(),
        places: board.entries.iter().map(place).collect(),
    }
}

fn place(entry: &nexa_eval::leaderboard::Entry) -> view::Place {
    let number = |rank: usize| u32::try_from(rank).unwrap_or(u32::MAX);
    view::Place {
        rank: number(entry.rank),
        ranks: entry.rank_range.map(|range| (number(range.best), number(range.worst))),
        model: entry.checkpoint.clone(),
        evaluation: entry.evaluation.to_string(),
        value: estimate(entry.value),
        p_value: entry.versus_best.map(|test| test.p_adjusted),
        verdict: entry.versus_best.map(|test| verdict(test.verdict)),
        spend: entry.spend.clone(),
        model_spend: entry.checkpoint_spend.clone(),
        made_from: entry.made_from.iter().map(|origin| (origin.role.clone(), origin.id.clone())).collect(),
        created_at: Some(entry.created_at),
    }
}

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Better => "better than the first".to_owned(),
        Verdict::Worse => "worse than the first".to_owned(),
        Verdict::NoDifferenceShown => "no difference to the first shown".to_owned(),
    }
}

fn group(rows: &[nexa_eval::leaderboard::Row]) -> Option<view::Group> {
    let first = rows.first()?;
    Some(view::Group {
        dataset: first.dataset.clone(),
        split: first.test_set.split.as_str().to_owned(),
        n: first.test_set.items as u64,
        rows: rows.iter().map(standing).collect(),
    })
}

fn standing(row: &nexa_eval::leaderboard::Row) -> view::Standing {
    view::Standing {
        rank: row.rank.and_then(|rank| u32::try_from(rank).ok()),
        model: row.checkpoint.clone(),
        evaluation: row.evaluation.to_string(),
        exact_match: row.exact_match.map(estimate),
        bits_per_byte: row.bits_per_byte.map(estimate),
        p_value: row.versus_best.map(|test| test.p_adjusted),
        verdict: row.versus_best.map(|test| verdict(test.verdict)),
        model_spend: row.checkpoint_spend.clone(),
        created_at: Some(row.created_at),
    }
}

/// A value with its interval, in the form of the dashboards.
pub(crate) fn estimate(estimate: Estimate) -> view::Estimate {
    view::Estimate { value: estimate.value, ci_low: estimate.ci_low, ci_high: estimate.ci_high }
}
