//! `POST /v1/recommend`.

use std::time::Duration;

use axum::extract::State;

use super::json::Json;
use super::{Api, ApiError, Cause, ErrorBody};
use crate::rerank::{RecommendRequest, RecommendResponse};

/// Reranked recommendations for a consumer, with the written reasons and the account of each score.
#[utoipa::path(
    post,
    path = "/v1/recommend",
    request_body = RecommendRequest,
    responses(
        (status = 200, description = "The results, best first.", body = RecommendResponse),
        (status = 400, description = "The body is not JSON.", body = ErrorBody),
        (status = 404, description = "The consumer is not in the store.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 422, description = "A value cannot be used.", body = ErrorBody),
        (status = 429, description = "Too many requests are in hand.", body = ErrorBody),
        (status = 503, description = "Models or store are not ready.", body = ErrorBody),
        (status = 504, description = "Retrieval took too long.", body = ErrorBody),
    )
)]
pub(super) async fn recommend(
    State(api): State<Api>,
    Json(request): Json<RecommendRequest>,
) -> Result<axum::Json<RecommendResponse>, ApiError> {
    let limit = Duration::from_secs(api.inner.settings.timeout_seconds);
    let work = async {
        tokio::time::timeout(limit, api.inner.reranker.recommend(&request)).await.unwrap_or_else(
            |_| {
                Err(ApiError::new(
                    Cause::Deadline,
                    "retrieval took longer than `server.timeout_seconds`",
                ))
            },
        )
    };
    api.observed("recommend", work).await.map(axum::Json)
}
