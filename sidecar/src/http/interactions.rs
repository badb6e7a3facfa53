//! `POST /v1/interactions`: what consumers do, taken in without training.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json::Json;
use super::{Api, ApiError, ErrorBody};
use crate::interactions::{InteractionGiven, InteractionReport};

/// A batch of interactions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InteractionsRequest {
    /// The interactions, in any order.
    pub(super) interactions: Vec<InteractionGiven>,
}

/// Takes in what consumers did: histories and vectors follow, their explanations are marked stale.
/// Sending a batch again changes nothing.
#[utoipa::path(
    post,
    path = "/v1/interactions",
    request_body = InteractionsRequest,
    responses(
        (status = 200, description = "All of them are durable.", body = InteractionReport),
        (status = 400, description = "The body is not JSON.", body = ErrorBody),
        (status = 404, description = "An item is not in the store; nothing was taken in.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 422, description = "A value cannot be used; nothing was taken in.", body = ErrorBody),
        (status = 429, description = "Too many requests are in hand.", body = ErrorBody),
        (status = 503, description = "The store is not ready; send the batch again.", body = ErrorBody),
    )
)]
pub(super) async fn post(
    State(api): State<Api>,
    Json(request): Json<InteractionsRequest>,
) -> Result<axum::Json<InteractionReport>, ApiError> {
    let inner = api.inner.clone();
    // A task of its own: a caller that leaves does not stop it between record and vector.
    let work = async move {
        let work = async move { inner.interactions.take_in(&request.interactions).await };
        let done = tokio::spawn(work).await;
        done.unwrap_or_else(|error| Err(anyhow::Error::from(error).into()))
    };
    api.observed("interactions", work).await.map(axum::Json)
}
