//! Which path leads to which page, and how a page becomes an answer.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use nexa_core::Diagnose;
use nexa_core::artifact::ArtifactId;
use nexa_core::hosts::AllowedHosts;
use nexa_core::run::RunId;
use serde::Serialize;
use serde_json::json;

use crate::desk::{Desk, Sent, Then};
use crate::guard::{check_host, check_origin};
use crate::logs::Cursor;
use crate::pages::{self, Page};
use crate::request::Ask;
use crate::server::Ui;
use crate::transport::{compress, secure, twins};
use crate::{Error, Result, assets, chat, follow};

type Shared = State<Arc<Ui>>;

/// The whole site.
pub(crate) fn app(ui: Arc<Ui>, hosts: AllowedHosts) -> Router {
    let pages = Router::new()
        .route("/", get(overview))
        .route("/runs", get(runs))
        .route("/runs/{id}", get(run))
        .route("/runs/{id}/curves", get(curves))
        .route("/runs/{id}/metrics.csv", get(metrics_csv))
        .route("/runs/{id}/events", get(events))
        .route("/compare", get(compare))
        .route("/leaderboard", get(leaderboard))
        .route("/evaluation/{project}/{stem}", get(evaluation))
        .route("/evaluation/{project}/{stem}/{sample}", get(sample))
        .route("/versus", get(versus))
        .route("/verdicts/{project}/{stem}", get(verdicts))
        .route("/data", get(data))
        .route("/data/{project}/{stem}", get(rows))
        .route("/data/{project}/{stem}/{row}", get(row))
        .route("/lineage/{project}/{stem}", get(lineage))
        .route("/review", get(reviews))
        .route("/review/{project}/{stem}", get(review).post(decide))
        .route("/review/{project}/{stem}/agreement", get(agreement))
        .route("/chat", get(chat))
        .route("/chat/model", get(chat_model))
        .route("/chat/completions", post(chat_completions).layer(DefaultBodyLimit::max(chat::MAX_BODY_BYTES)))
        .route("/cost", get(cost))
        .route("/assets/{name}", get(asset))
        .fallback(no_page)
        .with_state(ui);
    // The inner router is the fallback of an outer one, so that `twins` may change the path before it is matched.
    Router::new()
        .fallback_service(pages)
        .layer(map_request(twins))
        .layer(from_fn(compress))
        .layer(from_fn(check_origin))
        .layer(from_fn_with_state(Arc::new(hosts), check_host))
        .layer(from_fn(secure))
}

async fn overview(State(ui): Shared, ask: Ask) -> Response {
    answer(ask, move |_| pages::overview::gather(&ui), pages::overview::page).await
}

async fn runs(State(ui): Shared, ask: Ask) -> Response {
    answer(ask, move |ask| pages::runs::gather(&ui, &ask.params), pages::runs::page).await
}

async fn run(State(ui): Shared, Path(id): Path<String>, ask: Ask) -> Response {
    answer(ask, move |_| pages::run::gather(&ui, &id.parse::<RunId>()?), pages::run::page).await
}

async fn curves(State(ui): Shared, Path(id): Path<String>, ask: Ask) -> Response {
    let work = move || {
        let curves = pages::run::curves(&ui, &id.parse()?)?.downsampled();
        to_json(StatusCode::OK, &curves, &ask.path)
    };
    blocking(work).await
}

async fn metrics_csv(State(ui): Shared, Path(id): Path<String>) -> Response {
    let work = move || {
        let csv = pages::run::metrics_csv(&ui, &id.parse()?)?;
        let disposition = format!("attachment; filename=\"{id}.metrics.csv\"");
        let headers = [
            (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
            (header::CONTENT_DISPOSITION, disposition),
        ];
        Ok((headers, csv).into_response())
    };
    blocking(work).await
}

async fn events(State(ui): Shared, Path(id): Path<String>, headers: HeaderMap, ask: Ask) -> Response {
    // A browser that reconnects sends the address of its first connection, but knows how far it came.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let from = last.or(ask.params.get("from")).map(Cursor::from).unwrap_or_default();
    let stream = async { follow::stream(ui, id.parse()?, from).await };
    match stream.await {
        Ok(stream) => stream.into_response(),
        Err(error) => failure(&error, &ask),
    }
}

async fn compare(State(ui): Shared, ask: Ask) -> Response {
    answer(ask, move |ask| pages::compare::gather(&ui, &ask.params), pages::compare::page).await
}

async fn leaderboard(State(ui): Shared, ask: Ask) -> Response {
    answer(ask, move |ask| pages::leaderboard::gather(&ui, &ask.params), pages::leaderboard::page).await
}

async fn evaluation(State(ui): Shared, Path((project, stem)): Path<(String, String)>, ask: Ask) -> Response {
    let gather = move |ask: &Ask| pages::evaluation::gather(&ui, &artifact_id(&project, &stem)?, &ask.params);
    answer(ask, gather, pages::evaluation::page).await
}

async fn sample(
    State(ui): Shared,
    Path((project, stem, sample)): Path<(String, String, String)>,
    ask: Ask,
) -> Response {
    let gather =
        move |ask: &Ask| pages::sample::gather(&ui, &artifact_id(&project, &stem)?, &sample, &ask.params);
    answer(ask, gather, pages::sample::page).await
}

async fn versus(State(ui): Shared, ask: Ask) -> Response {
    answer(ask, move |ask| pages::versus::gather(&ui, &ask.params), pages::versus::page).await
}

async fn verdicts(State(ui): Shared, Path((project, stem)): Path<(String, String)>, ask: Ask) -> Response {
    let gather = move |ask: &Ask| pages::verdicts::gather(&ui, &artifact_id(&project, &stem)?, &ask.params);
    answer(ask, gather, pages::verdicts::page).await
}

async fn data(State(ui): Shared, ask: Ask) -> Response {
    answer(ask, move |ask| pages::data::gather(&ui, &ask.params), pages::data::page).await
}

async fn rows(State(ui): Shared, Path((project, stem)): Path<(String, String)>, ask: Ask) -> Response {
    let gather = move |ask: &Ask| pages::rows::gather(&ui, &artifact_id(&project, &stem)?, &ask.params);
    answer(ask, gather, pages::rows::page).await
}

async fn row(
    State(ui): Shared,
    Path((project, stem, row)): Path<(String, String, String)>,
    ask: Ask,
) -> Response {
    let gather = move |ask: &Ask| pages::row::gather(&ui, &artifact_id(&project, &stem)?, &row, &ask.params);
    answer(ask, gather, pages::row::page).await
}

async fn lineage(State(ui): Shared, Path((project, stem)): Path<(String, String)>, ask: Ask) -> Response {
    let gather = move |_: &Ask| pages::lineage::gather(&ui, &artifact_id(&project, &stem)?);
    answer(ask, gather, pages::lineage::page).await
}

async fn reviews(State(ui): Shared, ask: Ask) -> Response {
    answer(ask, move |ask| pages::review::list::gather(&ui, &ask.params), pages::review::list::page).await
}

async fn review(State(ui): Shared, Path((project, stem)): Path<(String, String)>, ask: Ask) -> Response {
    let gather =
        move |ask: &Ask| pages::review::record::gather(&ui, &artifact_id(&project, &stem)?, &ask.params);
    answer(ask, gather, pages::review::record::page).await
}

async fn agreement(State(ui): Shared, Path((project, stem)): Path<(String, String)>, ask: Ask) -> Response {
    let gather =
        move |ask: &Ask| pages::review::agreement::gather(&ui, &artifact_id(&project, &stem)?, &ask.params);
    answer(ask, gather, pages::review::agreement::page).await
}

/// Takes a reviewer's decision and leads to the next row. A form that cannot be acted upon gets the error and may be
/// sent again.
async fn decide(
    State(ui): Shared,
    Path((project, stem)): Path<(String, String)>,
    ask: Ask,
    Form(sent): Form<Sent>,
) -> Response {
    let work = move || {
        let acted = || Desk::open(&ui, &artifact_id(&project, &stem)?)?.act(&ui, &ask.params, &sent);
        Ok(match acted() {
            Ok(Then::Go(place)) => Redirect::to(&place).into_response(),
            Ok(Then::Stay) => StatusCode::NO_CONTENT.into_response(),
            Err(error) => failure(&error, &ask),
        })
    };
    blocking(work).await
}

async fn chat(State(ui): Shared, ask: Ask) -> Response {
    answer(ask, move |ask| pages::chat::gather(&ui, &ask.params), pages::chat::page).await
}

/// What a server serves. It is asked each time: it may be another model by now.
async fn chat_model(State(ui): Shared, ask: Ask) -> Response {
    match chat::served(&ui, ask.params.get("server").unwrap_or_default()).await {
        Ok(served) => axum::Json(served).into_response(),
        Err(error) => failure(&error, &Ask { twin: true, ..ask }),
    }
}

/// Passes a conversation on to a server, and its answer back as it is written.
async fn chat_completions(
    State(ui): Shared,
    ask: Ask,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let token = headers.get(chat::TOKEN).and_then(|token| token.to_str().ok()).unwrap_or_default();
    let passed = async {
        ui.expect_token(token, "send the conversation")?;
        let body = body.map_err(|e| Error::BadBody { message: e.body_text() })?;
        chat::complete(&ui, ask.params.get("server").unwrap_or_default(), body).await
    };
    passed.await.unwrap_or_else(|error| failure(&error, &Ask { twin: true, ..ask }))
}

async fn cost(State(ui): Shared, ask: Ask) -> Response {
    answer(ask, move |_| pages::cost::gather(&ui), pages::cost::page).await
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    blocking(move || Ok(assets::answer(&name, &headers))).await
}

async fn no_page(ask: Ask) -> Response {
    failure(&Error::NoPage { path: ask.path.clone() }, &ask)
}

fn artifact_id(project: &str, stem: &str) -> Result<ArtifactId> {
    Ok(format!("{project}/{stem}").parse()?)
}

/// Gathers the data of a page, and answers with the page or its twin.
async fn answer<D: Serialize + 'static>(
    ask: Ask,
    gather: impl FnOnce(&Ask) -> Result<D> + Send + 'static,
    page: fn(&D) -> Page,
) -> Response {
    let work = move || {
        let data = match gather(&ask) {
            Ok(data) => data,
            Err(error) => return Ok(failure(&error, &ask)),
        };
        if ask.twin {
            to_json(StatusCode::OK, &data, &ask.path)
        } else {
            Ok(page(&data).render(&ask).into_response())
        }
    };
    blocking(work).await
}

/// Works where waiting for a disk holds nobody up.
async fn blocking(work: impl FnOnce() -> Result<Response> + Send + 'static) -> Response {
    let result = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::Render { path: "the page".to_owned(), message: e.to_string() }));
    result.unwrap_or_else(|error| failure(&error, &Ask { twin: true, ..Ask::default() }))
}

fn failure(error: &Error, ask: &Ask) -> Response {
    let status = error.status();
    if ask.twin {
        let body = json!({ "error": error.to_string(), "hint": error.hint() });
        return (status, axum::Json(body)).into_response();
    }
    (status, pages::failure::page(error).render(ask)).into_response()
}

fn to_json(status: StatusCode, data: &impl Serialize, path: &str) -> Result<Response> {
    let body = serde_json::to_vec(data)
        .map_err(|e| Error::Render { path: path.to_owned(), message: e.to_string() })?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}
