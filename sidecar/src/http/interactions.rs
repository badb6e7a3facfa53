//! `POST /v1/interactions`: what consumers do, taken in without training.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json::Json;
use super::{Api, ApiError, Cause, ErrorBody};
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
        (status = 429, description = "Too many requests or batches are in hand.", body = ErrorBody),
        (status = 503, description = "The store is not ready; send the batch again.", body = ErrorBody),
        (status = 504, description = "It took too long; send the batch again.", body = ErrorBody),
    )
)]
pub(super) async fn post(
    State(api): State<Api>,
    Json(request): Json<InteractionsRequest>,
) -> Result<axum::Json<InteractionReport>, ApiError> {
    let limit = api.inner.interactions.limit();
    let work = async {
        let taken_in = api.inner.interactions.take_in(&request.interactions);
        tokio::time::timeout(limit, taken_in).await.unwrap_or_else(|_| {
            let message =
                "the batch was not taken in within `interactions.timeout_seconds`; send it again";
            Err(ApiError::new(Cause::Deadline, message))
        })
    };
    api.observed("interactions", work).await.map(axum::Json)
}
