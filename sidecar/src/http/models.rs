//! `/v1/models`: the versions of the trained models, shown and switched. For the role `admin`.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json::Json;
use super::{Api, ApiError, Cause, ErrorBody};
use crate::versions::{Switched, VersionSummary};

/// The versions of the trained models.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct VersionsView {
    /// The version that this process answers with; `unversioned` if its files are of none.
    answering: String,
    /// All that are kept, the oldest first.
    versions: Vec<VersionSummary>,
}

/// Which version is to be live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActivateRequest {
    /// Its id.
    version: String,
}

/// Why a switch was refused is for the caller to act on: nothing has changed.
fn refused(error: anyhow::Error) -> ApiError {
    ApiError::new(Cause::Invalid, format!("{error:#}"))
}

/// The versions of the trained models.
#[utoipa::path(get, path = "/v1/models", responses(
    (status = 200, description = "All versions that are kept.", body = VersionsView),
    (status = 422, description = "The folder of models cannot be read.", body = ErrorBody),
))]
pub(super) async fn show(State(api): State<Api>) -> Result<axum::Json<VersionsView>, ApiError> {
    let work = async {
        let (answering, versions) = api.inner.models.list().await.map_err(refused)?;
        Ok(VersionsView { answering, versions })
    };
    api.observed("models", work).await.map(axum::Json)
}

/// Verifies a version and makes it live. Requests in hand end with the version before.
#[utoipa::path(post, path = "/v1/models/activate", request_body = ActivateRequest, responses(
    (status = 200, description = "It answers now.", body = Switched),
    (status = 422, description = "It does not verify or does not fit the store; the version before \
     stays live.", body = ErrorBody),
))]
pub(super) async fn activate(
    State(api): State<Api>,
    Json(request): Json<ActivateRequest>,
) -> Result<axum::Json<Switched>, ApiError> {
    let work = async { api.inner.models.activate(&request.version).await.map_err(refused) };
    api.observed("models", work).await.map(axum::Json)
}

/// Verifies the version that was live before and makes it live again.
#[utoipa::path(post, path = "/v1/models/rollback", responses(
    (status = 200, description = "It answers now.", body = Switched),
    (status = 422, description = "There is none, or it does not verify; nothing has changed.",
     body = ErrorBody),
))]
pub(super) async fn rollback(State(api): State<Api>) -> Result<axum::Json<Switched>, ApiError> {
    let work = async { api.inner.models.roll_back().await.map_err(refused) };
    api.observed("models", work).await.map(axum::Json)
}
