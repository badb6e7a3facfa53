//! Whether the process is alive, whether it can answer, and what it has measured.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{Api, ApiError, Cause};

pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Ready only with models and a store that answers; a stopping server is not ready.
pub(super) async fn ready(State(api): State<Api>) -> Result<&'static str, ApiError> {
    let not_ready = |message: String| ApiError::new(Cause::NotReady, message);
    if api.inner.stopping.load(Ordering::Relaxed) {
        return Err(not_ready("the server is stopping".to_owned()));
    }
    if !api.inner.reranker.has_models() {
        return Err(not_ready("there is no trained ranker; run `whyrank train`".to_owned()));
    }
    let storage = &api.inner.storage;
    match storage.items_have_vectors().await? {
        Some(true) => Ok("ready"),
        Some(false) => Err(not_ready("the items have no vectors; run `whyrank index`".to_owned())),
        None => Err(not_ready("the store has no items; run `whyrank import`".to_owned())),
    }
}

async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let text = api.inner.metrics.text();
    let text = text.map_err(|error| ApiError::new(Cause::Internal, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
