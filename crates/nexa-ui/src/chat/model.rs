//! What an inference server says that it serves, in whichever words it has for it.
//!
//! `nexa inference` tells most; other servers with OpenAI's API tell at least a name.

use std::sync::Arc;

use axum::http::StatusCode;
use nexa_core::artifact::{ArtifactId, Store};
use serde::Serialize;
use serde_json::Value;

use super::ServerAddress;
use crate::pages::artifact_url;
use crate::server::Ui;
use crate::{Error, Result};

/// A server and what it serves.
#[derive(Debug, Serialize)]
pub(crate) struct Served {
    server: ServerAddress,
    /// `ok` once it answers, `locked` where it wants another key, else its own word for what it does: `loading`, `draining`.
    status: String,
    /// Why there is no model, in the server's words.
    error: Option<String>,
    hint: Option<&'static str>,
    model: Option<Model>,
}

/// A model, as far as its server tells.
#[derive(Debug, Serialize)]
struct Model {
    name: String,
    architecture: Option<String>,
    /// How its weights are kept.
    format: Option<String>,
    parameters: Option<u64>,
    context_length: Option<u64>,
    device: Option<String>,
    weights_hash: Option<String>,
    /// The artifact whose manifest names data, settings and run of the model.
    artifact: Option<String>,
    /// Where that is shown, if it is one of this lab.
    url: Option<String>,
}

/// Asks a server what it serves.
///
/// # Errors
/// Fails when the user did not name the server, or it does not answer.
pub(crate) async fn served(ui: &Arc<Ui>, server: &str) -> Result<Served> {
    let upstream = &ui.upstream;
    let server = upstream.find(server)?.clone();
    let (health, said) = upstream.get(&server, "/health").await?;
    let (code, info) = match upstream.get(&server, "/model/info").await? {
        (StatusCode::NOT_FOUND, _) => upstream.get(&server, "/v1/models").await?,
        answer => answer,
    };
    let mut model = code.is_success().then(|| Model::new(&info)).flatten();
    let is_locked = code == StatusCode::UNAUTHORIZED;
    let status = match text(&said, "status") {
        _ if is_locked => "locked".to_owned(),
        Some(status) => status,
        None => word(health).to_owned(),
    };
    let error = model.is_none().then(|| refusal(code, &info));
    let hint = is_locked.then_some("set `NEXA_API_KEY` to a key of the server, and start `nexa ui` again");
    if let Some(model) = &mut model {
        model.url = link(ui, model.artifact.as_deref()).await?;
    }
    Ok(Served { server, status, error, hint, model })
}

impl Model {
    /// Reads `/model/info`, or the first of `/v1/models`.
    fn new(info: &Value) -> Option<Self> {
        let info = info.pointer("/data/0").unwrap_or(info);
        let name = text(info, "model_id").or_else(|| text(info, "id"))?;
        let is_artifact = |name: &String| name.parse::<ArtifactId>().is_ok();
        let is_gguf = || text(info, "checkpoint_path").filter(|path| path.ends_with(".gguf"));
        let number = |key: &str| info.get(key).and_then(Value::as_u64);
        Some(Self {
            architecture: text(info, "architecture"),
            format: text(info, "format").or_else(|| is_gguf().map(|_| "gguf".to_owned())),
            parameters: number("parameters"),
            context_length: number("context_length").or_else(|| number("max_model_len")),
            device: text(info, "device"),
            weights_hash: text(info, "weights_hash"),
            artifact: text(info, "manifest").or_else(|| Some(name.clone()).filter(is_artifact)),
            url: None,
            name,
        })
    }
}

/// The page of an artifact, if this lab holds it.
async fn link(ui: &Arc<Ui>, id: Option<&str>) -> Result<Option<String>> {
    let Some(id) = id.and_then(|id| id.parse::<ArtifactId>().ok()) else { return Ok(None) };
    let ui = Arc::clone(ui);
    let found =
        tokio::task::spawn_blocking(move || Store::new(&ui.lab).get(&id).is_ok().then(|| artifact_url(&id)));
    found.await.map_err(|e| Error::Render { path: "/chat/model".to_owned(), message: e.to_string() })
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn word(health: StatusCode) -> &'static str {
    if health.is_success() { "ok" } else { "unavailable" }
}

/// What a server says instead of what was asked for, in OpenAI's form or any other.
fn refusal(code: StatusCode, said: &Value) -> String {
    let message = said.pointer("/error/message").or_else(|| said.get("error")).and_then(Value::as_str);
    message.map_or_else(|| format!("the server answers {code} and tells no model"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_is_read_from_what_any_server_says() {
        let nexa = json!({"model_id": "tutor/student_v2", "context_length": 512, "format": "q8_0"});
        let model = Model::new(&nexa).unwrap();
        assert_eq!(
            (model.artifact.as_deref(), model.format.as_deref()),
            (Some("tutor/student_v2"), Some("q8_0"))
        );
        let named = json!({"model_id": "prod", "manifest": "tutor/student_v3"});
        assert_eq!(Model::new(&named).unwrap().artifact.as_deref(), Some("tutor/student_v3"));
        let file = json!({"model_id": "small", "checkpoint_path": "/m/small.gguf"});
        let model = Model::new(&file).unwrap();
        assert_eq!((model.artifact, model.format.as_deref()), (None, Some("gguf")));
        let other = json!({"object": "list", "data": [{"id": "some-model", "max_model_len": 4096}]});
        let model = Model::new(&other).unwrap();
        assert_eq!((model.name.as_str(), model.context_length), ("some-model", Some(4096)));
        assert!(Model::new(&json!({"data": []})).is_none() && Model::new(&Value::Null).is_none());
    }
}
