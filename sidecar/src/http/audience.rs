//! `POST /v1/audiences` and `POST /v1/audiences/compare`.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;

use super::authentication::Caller;
use super::json::Json;
use super::{Api, ApiError, Cause, ErrorBody};
use crate::access::KeyRole;
use crate::audience::{
    AudienceComparisonRequest, AudienceComparisonResponse, AudienceRequest, AudienceResponse,
};

/// The consumers most likely to respond to items or to a campaign in words, with the reasons, the
/// expected size, and the groups that the reasons make.
#[utoipa::path(
    post,
    path = "/v1/audiences",
    request_body = AudienceRequest,
    responses(
        (status = 200, description = "The consumers, most likely first.", body = AudienceResponse),
        (status = 400, description = "The body is not JSON.", body = ErrorBody),
        (status = 401, description = "The key is missing or wrong.", body = ErrorBody),
        (status = 403, description = "The key's role does not reach audiences.", body = ErrorBody),
        (status = 404, description = "An item is not in the store.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 422, description = "A value cannot be used.", body = ErrorBody),
        (status = 429, description = "Too many requests are in hand.", body = ErrorBody),
        (status = 503, description = "Models or store are not ready.", body = ErrorBody),
        (status = 504, description = "The audience took too long.", body = ErrorBody),
    )
)]
pub(super) async fn audience(
    State(api): State<Api>,
    caller: Option<Extension<Caller>>,
    Json(mut request): Json<AudienceRequest>,
) -> Result<axum::Json<AudienceResponse>, ApiError> {
    let audiences = &api.inner.audiences;
    let plans = plans_campaigns(caller.as_deref());
    if plans {
        request.keep_histories_out()?;
    }
    let limit = Duration::from_secs(audiences.timeout_seconds());
    let work = async {
        tokio::time::timeout(limit, audiences.audience(&request)).await.unwrap_or_else(|_| {
            let message = "the audience took longer than `audience.timeout_seconds`";
            Err(ApiError::new(Cause::Deadline, message))
        })
    };
    let mut response = api.observed("audiences", work).await?;
    if plans {
        response.withhold_texts(audiences.minimum_consumers());
    }
    Ok(axum::Json(response))
}

/// How the audiences of two campaigns overlap, and what sets them apart.
#[utoipa::path(
    post,
    path = "/v1/audiences/compare",
    request_body = AudienceComparisonRequest,
    responses(
        (status = 200, description = "Both audiences side by side.", body = AudienceComparisonResponse),
        (status = 400, description = "The body is not JSON.", body = ErrorBody),
        (status = 401, description = "The key is missing or wrong.", body = ErrorBody),
        (status = 403, description = "The key's role does not reach audiences.", body = ErrorBody),
        (status = 404, description = "An item is not in the store.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 422, description = "A value cannot be used.", body = ErrorBody),
        (status = 429, description = "Too many requests are in hand.", body = ErrorBody),
        (status = 503, description = "Models or store are not ready.", body = ErrorBody),
        (status = 504, description = "The audiences took too long.", body = ErrorBody),
    )
)]
pub(super) async fn compare(
    State(api): State<Api>,
    caller: Option<Extension<Caller>>,
    Json(mut request): Json<AudienceComparisonRequest>,
) -> Result<axum::Json<AudienceComparisonResponse>, ApiError> {
    let audiences = &api.inner.audiences;
    let plans = plans_campaigns(caller.as_deref());
    if plans {
        request.first.keep_histories_out()?;
        request.second.keep_histories_out()?;
    }
    // Two audiences are made.
    let limit = Duration::from_secs(audiences.timeout_seconds().saturating_mul(2));
    let work = async {
        tokio::time::timeout(limit, audiences.compare(&request)).await.unwrap_or_else(|_| {
            let message = "the audiences took longer than twice `audience.timeout_seconds`";
            Err(ApiError::new(Cause::Deadline, message))
        })
    };
    let mut response = api.observed("audience_comparison", work).await?;
    if plans {
        response.withhold_texts(audiences.minimum_consumers());
    }
    Ok(axum::Json(response))
}

/// Whether the caller may see users, but not their histories.
fn plans_campaigns(caller: Option<&Caller>) -> bool {
    caller.is_some_and(|caller| caller.role == KeyRole::Campaign)
}
