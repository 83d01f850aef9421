//! `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`: models beside the one that is served, each a correction of its
//! weights. The routes are vLLM's.
//!
//! Every loading has a number, its generation. Requests that are under way keep the generation that they began with; a request
//! may say which one it expects, and is refused where another is there.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Json;
use nexa_core::lm::Adapter;
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::Fields;
use super::state::Model;

/// The adapters that are served, by their names.
#[derive(Debug, Default)]
pub(super) struct Adapters {
    state: Mutex<State>,
    /// The folder from which requests may load.
    folder: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct State {
    loaded: BTreeMap<String, Adapter>,
    /// The newest generation that each name has had, also where it was taken away: an earlier loading comes too late.
    newest: BTreeMap<String, u64>,
}

impl State {
    fn put(&mut self, name: &str, adapter: Adapter) {
        if self.newest.get(name).is_none_or(|&newest| newest < adapter.generation) {
            self.newest.insert(name.to_owned(), adapter.generation);
            self.loaded.insert(name.to_owned(), adapter);
        }
    }
}

impl Adapters {
    /// With those that were loaded before the server began.
    pub(super) fn new(loaded: Vec<(String, Adapter)>, folder: Option<PathBuf>) -> Self {
        let mut state = State::default();
        for (name, adapter) in loaded {
            state.put(&name, adapter);
        }
        Self { state: Mutex::new(state), folder }
    }

    pub(super) fn get(&self, name: &str) -> Option<Adapter> {
        self.lock().loaded.get(name).cloned()
    }

    /// Names and generations.
    pub(super) fn list(&self) -> Vec<(String, u64)> {
        self.lock().loaded.iter().map(|(name, adapter)| (name.clone(), adapter.generation)).collect()
    }

    /// Puts an adapter in the place of an earlier loading. Of two loadings at the same time the later one stays, whichever
    /// is done first, and though the later one was taken away meanwhile.
    fn put(&self, name: &str, adapter: Adapter) {
        self.lock().put(name, adapter);
    }

    /// Takes an adapter away, where it is of the generation that is expected.
    fn take(&self, name: &str, expected: Option<u64>) -> Result<Adapter, ApiError> {
        let mut state = self.lock();
        let found = state.loaded.get(name).ok_or_else(|| ApiError::no_model(name))?;
        check_generation(name, found.generation, expected)?;
        state.loaded.remove(name).ok_or_else(|| ApiError::no_model(name))
    }

    /// The folder of a path that a request names, which stays below the one that was opened for requests.
    fn folder(&self, path: &str) -> Result<PathBuf, ApiError> {
        let Some(folder) = &self.folder else { return Err(ApiError::no_adapter_folder()) };
        let stays_below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if path.is_empty() || !stays_below {
            let message = "`lora_path` must be relative to the server's folder of adapters, and within it";
            return Err(ApiError::bad_param("lora_path", message));
        }
        Ok(folder.join(path))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a generation that is not the one that is expected.
pub(super) fn check_generation(name: &str, found: u64, expected: Option<u64>) -> Result<(), ApiError> {
    match expected {
        Some(expected) if expected != found => Err(ApiError::other_generation(name, found, expected)),
        _ => Ok(()),
    }
}

/// Takes the generation that a request expects.
pub(super) fn take_generation(fields: &mut Fields) -> Result<Option<u64>, ApiError> {
    Ok(fields.integer("lora_generation", 1)?.map(i64::cast_unsigned))
}

/// Loads an adapter, or loads it anew; requests under way keep what they began with.
pub(super) async fn load(Model(served): Model, fields: Fields) -> Result<Json<Value>, ApiError> {
    let (name, path) = take_load(fields)?;
    if served.names.contains(&name) {
        return Err(ApiError::bad_param("lora_name", format!("`{name}` is the name of the model itself")));
    }
    let folder = served.adapters.folder(&path)?;
    let loading = served.blocking(move |served| Ok(served.engine.load_adapter(&folder)?)).await;
    let adapter = loading.map_err(|error| ApiError::from_engine(error, "lora_path"))?;
    let generation = adapter.generation;
    served.adapters.put(&name, adapter);
    Ok(Json(json!({"lora_name": name, "lora_generation": generation})))
}

/// Takes an adapter away. It stays in memory until the last request that has it is answered.
pub(super) async fn unload(Model(served): Model, fields: Fields) -> Result<Json<Value>, ApiError> {
    let (name, expected) = take_unload(fields)?;
    let adapter = served.adapters.take(&name, expected)?;
    Ok(Json(json!({"lora_name": name, "lora_generation": adapter.generation})))
}

/// Takes a request of [`load`] apart.
pub(super) fn take_load(mut fields: Fields) -> Result<(String, String), ApiError> {
    let name = take_name(&mut fields)?;
    let path = fields.string("lora_path")?;
    let path = path.ok_or_else(|| ApiError::bad_param("lora_path", "`lora_path` is missing"))?;
    fields.finish()?;
    Ok((name, path))
}

/// Takes a request of [`unload`] apart.
pub(super) fn take_unload(mut fields: Fields) -> Result<(String, Option<u64>), ApiError> {
    let name = take_name(&mut fields)?;
    let expected = take_generation(&mut fields)?;
    fields.finish()?;
    Ok((name, expected))
}

fn take_name(fields: &mut Fields) -> Result<String, ApiError> {
    let name = fields.string("lora_name")?.filter(|name| !name.is_empty());
    name.ok_or_else(|| ApiError::bad_param("lora_name", "`lora_name` is missing"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_loading_that_is_late_does_not_replace_a_later_one() {
        let adapter = |generation| Adapter { generation, weights: Arc::new(()) };
        let adapters = Adapters::default();
        let check = |generation, expected: u64| {
            adapters.put("tuned", adapter(generation));
            assert_eq!(adapters.list(), [("tuned".to_owned(), expected)]);
        };
        check(2, 2);
        check(1, 2);
        check(4, 4);
        // Nor does it come back after that was taken away.
        adapters.take("tuned", Some(4)).expect("it is there");
        adapters.put("tuned", adapter(3));
        assert!(adapters.list().is_empty());
        check(5, 5);
    }
}
