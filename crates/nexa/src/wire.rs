//! Where contracts meet their implementations: models for evaluation, tokenizers for distillation, the leaderboard for the dashboards.

use std::path::Path;
use std::sync::Arc;

use nexa_core::artifact::Store;
use nexa_core::lab::Lab;
use nexa_core::lm::{self, LoadedModel, ModelLoader, TokenizerLoader};
use nexa_core::table::Tables;
use nexa_eval::Leaderboard;
use nexa_eval::compare::Verdict;
use nexa_eval::statistics::Estimate;
use nexa_model::LocalModel;
use nexa_model::device::{self, DeviceName};
use nexa_serve::{Engine, EngineConfig};
use nexa_ui::{self as view, LeaderboardSource, LeaderboardView};

/// Opens checkpoints for evaluation.
pub(crate) fn loader() -> Arc<dyn ModelLoader> {
    Arc::new(LocalLoader)
}

/// Opens local checkpoints: our decoder, under our engine.
struct LocalLoader;

impl ModelLoader for LocalLoader {
    fn load(&self, checkpoint: &Path) -> Result<LoadedModel, lm::Error> {
        let failed = |message: String| lm::Error::Failed { model: checkpoint.display().to_string(), message };
        let model = LocalModel::load(checkpoint).map_err(|error| failed(error.to_string()))?;
        let engine = Engine::start(Box::new(model), EngineConfig::default())
            .map_err(|error| failed(error.to_string()))?;
        Ok(engine.into())
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
    pub(crate) lab: Lab,
    pub(crate) tables: Arc<dyn Tables>,
}

impl LeaderboardSource for Leaderboards {
    fn leaderboard(&self, project: &str) -> Result<LeaderboardView, String> {
        let store = Store::new(&self.lab);
        let board =
            Leaderboard::of_project(&store, project, self.tables.as_ref()).map_err(|e| e.to_string())?;
        Ok(LeaderboardView { groups: board.by_test_set().filter_map(group).collect() })
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
        verdict: row.versus_best.map(|test| match test.verdict {
            Verdict::Better => "better than the first".to_owned(),
            Verdict::Worse => "worse than the first".to_owned(),
            Verdict::NoDifferenceShown => "no difference to the first shown".to_owned(),
        }),
        model_spend: row.checkpoint_spend.clone(),
        created_at: Some(row.created_at),
    }
}

fn estimate(estimate: Estimate) -> view::Estimate {
    view::Estimate { value: estimate.value, ci_low: estimate.ci_low, ci_high: estimate.ci_high }
}
