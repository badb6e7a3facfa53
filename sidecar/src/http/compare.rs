//! `POST /v1/compare`.

use std::time::Duration;

use axum::extract::State;

use super::json::Json;
use super::known::{known_item, known_user};
use super::{Api, ApiError, Cause, ErrorBody};
use crate::compare::{self, CompareRequest, CompareResponse};

/// Why one item stands above another for a consumer.
#[utoipa::path(
    post,
    path = "/v1/compare",
    request_body = CompareRequest,
    responses(
        (status = 200, description = "Which stands above, and what each input has to do with it.", body = CompareResponse),
        (status = 400, description = "The body is not JSON.", body = ErrorBody),
        (status = 401, description = "The key is missing or wrong.", body = ErrorBody),
        (status = 403, description = "The key's role does not reach comparisons.", body = ErrorBody),
        (status = 404, description = "The consumer or an item is not in the store.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 422, description = "A value cannot be used.", body = ErrorBody),
        (status = 429, description = "Too many requests are in hand.", body = ErrorBody),
        (status = 503, description = "Models or store are not ready.", body = ErrorBody),
        (status = 504, description = "The comparison took too long.", body = ErrorBody),
    )
)]
pub(super) async fn compare(
    State(api): State<Api>,
    Json(request): Json<CompareRequest>,
) -> Result<axum::Json<CompareResponse>, ApiError> {
    let inner = &api.inner;
    let compared = async {
        let [first, second] = &request.items;
        let user = known_user(&inner.storage, &request.user).await?;
        let items =
            [known_item(&inner.storage, first).await?, known_item(&inner.storage, second).await?];
        compare::compare(&inner.reranker, &inner.storage, user, items).await
    };
    let limit = Duration::from_secs(inner.settings.timeout_seconds);
    let work = async {
        tokio::time::timeout(limit, compared).await.unwrap_or_else(|_| {
            let message = "the comparison took longer than `server.timeout_seconds`";
            Err(ApiError::new(Cause::Deadline, message))
        })
    };
    api.observed("compare", work).await.map(axum::Json)
}
