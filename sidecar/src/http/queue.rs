//! `/v1/queue`: the queue of pairs that wait to be explained, shown and steered.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use whyrank_plugin::{ItemId, UserId};

use super::json::Json;
use super::{Api, ApiError, Cause, ErrorBody};
use crate::queue::{DeadLetter, Lane, Offered, QueueStatus, Wanted};

/// Pairs in one request, at most.
const MOST: usize = 1_000;

/// A pair, by the ids that the data gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PairGiven {
    /// The consumer.
    user: String,
    /// The item.
    item: String,
}

/// Pairs to be explained in the background.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OfferRequest {
    /// The pairs, 1,000 at most.
    pairs: Vec<PairGiven>,
}

/// What to do with the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ControlAction {
    /// Workers take no further job.
    Pause,
    /// Workers take jobs, and new ones are taken in.
    Resume,
    /// Nothing new is taken in; workers do what there is.
    Drain,
}

/// A change of how the queue runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ControlRequest {
    /// What to do.
    action: ControlAction,
}

/// Which dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadQuery {
    /// How many at most, 100 if absent.
    limit: Option<usize>,
}

/// Which dead letters wait again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// These pairs, by point ids as the dead letters name them; all if absent.
    pairs: Option<Vec<PairGiven>>,
}

/// How many dead letters wait again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Replayed {
    /// So many.
    replayed: usize,
}

/// The state of the queue.
#[utoipa::path(get, path = "/v1/queue", responses(
    (status = 200, description = "Depth, age, dead letters.", body = QueueStatus),
    (status = 503, description = "The store is not ready.", body = ErrorBody),
))]
pub(super) async fn show(State(api): State<Api>) -> Result<axum::Json<QueueStatus>, ApiError> {
    let work = async { Ok(api.inner.jobs.status().await?) };
    api.observed("queue", work).await.map(axum::Json)
}

/// Queues pairs to be explained in the background, behind what requests ask for.
#[utoipa::path(post, path = "/v1/queue", request_body = OfferRequest, responses(
    (status = 202, description = "What waits is durable; what was refused is told.", body = Offered),
    (status = 404, description = "An id is not one under the configured scheme.", body = ErrorBody),
    (status = 422, description = "Too many pairs.", body = ErrorBody),
    (status = 503, description = "The store is not ready.", body = ErrorBody),
))]
pub(super) async fn offer(
    State(api): State<Api>,
    Json(request): Json<OfferRequest>,
) -> Result<(StatusCode, axum::Json<Offered>), ApiError> {
    let work = async {
        let count = request.pairs.len();
        if count > MOST {
            let message = format!("`pairs` has {count} entries, more than {MOST}");
            return Err(ApiError::new(Cause::Invalid, message));
        }
        let storage = &api.inner.storage;
        let wanted = request.pairs.iter().map(|pair| {
            let user = storage.user_id(&pair.user);
            let user = user.map_err(|e| ApiError::new(Cause::UnknownUser, e.to_string()))?;
            let item = storage.item_id(&pair.item);
            let item = item.map_err(|e| ApiError::new(Cause::UnknownItem, e.to_string()))?;
            Ok(Wanted { user, item, lane: Lane::Backfill })
        });
        let wanted = wanted.collect::<Result<Vec<_>, ApiError>>()?;
        Ok(api.inner.jobs.offer(&wanted).await?)
    };
    let offered = api.observed("queue", work).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(offered)))
}

/// Pauses, resumes or drains the queue, for all processes that share the store.
#[utoipa::path(post, path = "/v1/queue/control", request_body = ControlRequest, responses(
    (status = 200, description = "The state after it.", body = QueueStatus),
    (status = 503, description = "The store is not ready.", body = ErrorBody),
))]
pub(super) async fn control(
    State(api): State<Api>,
    Json(request): Json<ControlRequest>,
) -> Result<axum::Json<QueueStatus>, ApiError> {
    let jobs = &api.inner.jobs;
    let work = async {
        match request.action {
            ControlAction::Pause => jobs.pause(true).await?,
            ControlAction::Drain => jobs.drain(true).await?,
            ControlAction::Resume => {
                jobs.pause(false).await?;
                jobs.drain(false).await?;
            }
        }
        Ok(jobs.status().await?)
    };
    api.observed("queue", work).await.map(axum::Json)
}

/// Pairs that were given up, and why.
#[utoipa::path(get, path = "/v1/queue/dead", params(DeadQuery), responses(
    (status = 200, description = "The dead letters.", body = Vec<DeadLetter>),
    (status = 503, description = "The store is not ready.", body = ErrorBody),
))]
pub(super) async fn dead_letters(
    State(api): State<Api>,
    query: Result<Query<DeadQuery>, QueryRejection>,
) -> Result<axum::Json<Vec<DeadLetter>>, ApiError> {
    let Query(query) =
        query.map_err(|rejection| ApiError::new(Cause::Malformed, rejection.body_text()))?;
    let limit = query.limit.unwrap_or(100).min(10 * MOST);
    let work = async { Ok(api.inner.jobs.dead_letters(limit).await?) };
    api.observed("queue", work).await.map(axum::Json)
}

/// Lets dead letters be tried again.
#[utoipa::path(post, path = "/v1/queue/replay", request_body = ReplayRequest, responses(
    (status = 200, description = "How many wait again.", body = Replayed),
    (status = 422, description = "A pair is not named by point ids.", body = ErrorBody),
    (status = 503, description = "The store is not ready.", body = ErrorBody),
))]
pub(super) async fn replay(
    State(api): State<Api>,
    Json(request): Json<ReplayRequest>,
) -> Result<axum::Json<Replayed>, ApiError> {
    let work = async {
        let pairs = request.pairs.map(|pairs| {
            let pairs = pairs.iter().map(|pair| {
                let invalid = |error: &dyn std::fmt::Display| {
                    ApiError::new(Cause::Invalid, format!("`pairs`: {error}"))
                };
                let user: UserId = pair.user.parse().map_err(|error| invalid(&error))?;
                let item: ItemId = pair.item.parse().map_err(|error| invalid(&error))?;
                Ok((user, item))
            });
            pairs.collect::<Result<Vec<_>, ApiError>>()
        });
        let pairs = pairs.transpose()?;
        let replayed = api.inner.jobs.replay(pairs.as_deref()).await?;
        Ok(Replayed { replayed })
    };
    api.observed("queue", work).await.map(axum::Json)
}
