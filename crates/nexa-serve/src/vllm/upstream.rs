//! The way to a running vLLM, and how many requests are on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::process::Process;
use crate::{About, Error};

/// How long vLLM may take to say that it is well. An orchestrator that asks us waits for one second where nothing else is set
/// (`timeoutSeconds` of a probe of Kubernetes): by then it must have our answer, even where vLLM gives none.
const HEALTH_TIMEOUT: Duration = Duration::from_millis(900);

/// What requests are passed on to.
pub(crate) struct Upstream {
    /// The model's own name first, then its aliases.
    pub(crate) names: Vec<String>,
    pub(crate) about: About,
    /// What headers carry: the id of the checkpoint's manifest, where it has one.
    pub(crate) manifest: Option<HeaderValue>,
    address: SocketAddr,
    authorization: HeaderValue,
    http: Client<HttpConnector, Body>,
    permits: Arc<Semaphore>,
    max_in_flight: u32,
}

impl Upstream {
    pub(super) fn new(
        process: &Process,
        names: Vec<String>,
        max_in_flight: usize,
        about: About,
    ) -> Result<Self, Error> {
        if max_in_flight == 0 {
            return Err(Error::EngineConfig { key: "max_batch" });
        }
        let max_in_flight = max_in_flight.min(Semaphore::MAX_PERMITS >> 1);
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", process.key.expose()))
            .expect("hex digits make a header");
        authorization.set_sensitive(true);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // A connection that is not used again is closed as soon as nobody reads from it, and vLLM sees that.
        let http = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let manifest = about.manifest.as_ref().and_then(|id| HeaderValue::from_str(&id.to_string()).ok());
        Ok(Self {
            names,
            about,
            manifest,
            address: process.address,
            authorization,
            http,
            permits: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight: u32::try_from(max_in_flight).unwrap_or(u32::MAX),
        })
    }

    /// Lets a request in; none where as many as may be are under way.
    pub(crate) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// How many requests may be under way.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.max_in_flight as usize
    }

    /// Waits until no request is under way.
    pub(super) async fn idle(&self) {
        let _ = self.permits.acquire_many(self.max_in_flight).await;
    }

    /// Passes a request on, and returns the head of the answer with a body that is still to come.
    ///
    /// # Errors
    /// Says in words what keeps vLLM from answering.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Body>, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|error| error.to_string())?;
        let answer = self.http.request(request).await.map_err(|error| error.to_string())?;
        Ok(answer.map(Body::new))
    }

    /// Whether vLLM answers.
    pub(crate) async fn is_healthy(&self) -> bool {
        let asked = tokio::time::timeout(HEALTH_TIMEOUT, self.send(Method::GET, "/health", Vec::new())).await;
        asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status() == StatusCode::OK))
    }
}
