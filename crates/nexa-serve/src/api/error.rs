//! Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nexa_core::lm;
use serde_json::{Value, json};

use crate::Error;

/// Seconds after which a refused request may try again.
pub(super) const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// An error on its way to a client.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: Some(code), param: None, message: message.into() }
    }

    fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// A request that makes no sense as a whole.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code: None,
            param: None,
            message: message.into(),
        }
    }

    /// A parameter that is missing or has a value that cannot be used.
    pub(super) fn bad_param(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_value", message)
            .with_param(param)
    }

    /// A parameter that would change the answer, which this server cannot do.
    pub(super) fn unsupported(param: impl Into<String>) -> Self {
        let param = param.into();
        let message = format!("`{param}` with this value is not supported by this server");
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "unsupported_parameter", message)
            .with_param(param)
    }

    /// A parameter that nobody knows.
    pub(super) fn unknown(param: impl Into<String>) -> Self {
        let param = param.into();
        let message = format!("unknown parameter `{param}`");
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "unknown_parameter", message)
            .with_param(param)
    }

    pub(super) fn no_model(name: &str) -> Self {
        let message = format!("the model `{name}` does not exist; `GET /v1/models` lists what is served");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", "model_not_found", message)
            .with_param("model")
    }

    /// An adapter that is asked for what the model computes without any.
    pub(super) fn adapter_unused(name: &str, model: &str) -> Self {
        let message = format!(
            "`{name}` is an adapter, and embeddings are those of the model without any: ask `{model}`"
        );
        Self::bad_param("model", message)
    }

    /// A model that is offered tools, but whose chat template has no place for them.
    pub(super) fn no_tools() -> Self {
        Self::bad_param("tools", "the chat template of this model knows no tools")
    }

    /// A server whose adapters are chosen where it is started.
    pub(super) fn no_adapter_folder() -> Self {
        let message =
            "this server loads no adapters for requests; it is started with `--lora-folder` for that";
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", "adapters_fixed", message)
    }

    /// An adapter that was loaded anew since the client learnt of it.
    pub(super) fn other_generation(name: &str, found: u64, expected: u64) -> Self {
        let message = format!("adapter `{name}` is of generation {found}, not {expected}");
        Self::new(StatusCode::CONFLICT, "invalid_request_error", "lora_generation_mismatch", message)
            .with_param("lora_generation")
    }

    pub(super) fn no_route(method: &Method, path: &str) -> Self {
        let message = format!("no route for {method} {path}");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", "unknown_url", message)
    }

    pub(super) fn wrong_method(method: &Method, path: &str) -> Self {
        let message = format!("{path} does not take {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "method_not_allowed", message)
    }

    pub(super) fn foreign_host() -> Self {
        let message = "without an API key only requests for localhost and for the host that the server is bound to are \
                       answered: send them there, or start the server with a key";
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", "foreign_host", message)
    }

    pub(super) fn bad_key() -> Self {
        let message = "missing or wrong API key: send `Authorization: Bearer KEY`";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", "invalid_api_key", message)
    }

    pub(super) fn too_large(limit_bytes: usize) -> Self {
        let message = format!("the body is larger than {limit_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "request_too_large", message)
    }

    pub(super) fn wrong_content_type(found: &str) -> Self {
        let message = format!("content type is `{found}`, but must be `application/json`");
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            "unsupported_media_type",
            message,
        )
    }

    pub(super) fn slow_body(timeout: Duration) -> Self {
        let message = format!("the body was not sent within {} seconds", timeout.as_secs_f64());
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", "slow_request", message)
    }

    /// A request that took longer than the server gives one.
    pub(super) fn timed_out(timeout: Duration) -> Self {
        let message =
            format!("the request took longer than {} seconds and was cancelled", timeout.as_secs_f64());
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout_error", "request_timeout", message)
    }

    pub(super) fn loading() -> Self {
        Self::unavailable("loading", "the model is being loaded: try again soon, or wait for `GET /ready`")
    }

    pub(super) fn shutting_down() -> Self {
        Self::unavailable("shutting_down", "the server is shutting down")
    }

    /// An engine in another process that does not answer.
    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        let message = format!("the engine does not answer: {}", message.into());
        Self::new(StatusCode::BAD_GATEWAY, "server_error", "engine_unreachable", message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error", message)
    }

    fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable_error", code, message)
    }

    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The error's body, which is also what a broken stream ends with.
    pub(super) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }

    /// An error of the engine; `prompt_param` is what the prompt is called in this request.
    pub(super) fn from_engine(error: Error, prompt_param: &'static str) -> Self {
        match error {
            Error::Model(error) => Self::from_model(error, prompt_param),
            Error::QueueFull { .. } | Error::QueueTokensFull { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "queue_full", error.to_string())
            }
            Error::Refused { .. } => Self::new(
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                "content_filter",
                error.to_string(),
            )
            .with_param(prompt_param),
            Error::Draining => Self::shutting_down(),
            Error::Stopped { .. } => Self::unavailable("engine_stopped", error.to_string()),
            other => Self::internal(other.to_string()),
        }
    }

    /// An error of the model; `prompt_param` is what the prompt is called in this request.
    pub(super) fn from_model(error: lm::Error, prompt_param: &'static str) -> Self {
        let message = error.to_string();
        match error {
            lm::Error::TooLong { .. } => Self::new(
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                "context_length_exceeded",
                format!("the prompt leaves no room for an answer: {message}"),
            )
            .with_param(prompt_param),
            lm::Error::CacheFull { .. } => {
                Self::invalid(format!("the request does not fit: {message}")).with_param(prompt_param)
            }
            lm::Error::Tokenizer(_) => Self::bad_param(prompt_param, message),
            lm::Error::Invalid(_) => Self::invalid(message),
            lm::Error::Failed { .. } | lm::Error::Calls(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "model_failed", message)
            }
            lm::Error::Interrupted => {
                Self::unavailable("shutting_down", "the server shut down before the answer was complete")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
