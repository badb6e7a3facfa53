//! `GET /v1/items/{id}/insights`.

use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};

use super::authentication::Caller;
use super::known::known_item;
use super::{Api, ApiError, Cause, ErrorBody};
use crate::access::KeyRole;
use crate::insights::{InsightsRequest, InsightsResponse, Viewer};

/// Why an item ranks where it ranks: over the consumers for whom it is a candidate, what speaks for and
/// against it, who outranks it by what, and what would change if an objection were answered.
#[utoipa::path(
    get,
    path = "/v1/items/{id}/insights",
    params(
        ("id" = String, Path, description = "The item's id as the data gave it."),
        InsightsRequest,
    ),
    responses(
        (status = 200, description = "Where the item ranks, and why.", body = InsightsResponse),
        (status = 400, description = "A parameter is not of its form.", body = ErrorBody),
        (status = 401, description = "The key is missing or wrong.", body = ErrorBody),
        (status = 403, description = "The key does not reach the item's insights.", body = ErrorBody),
        (status = 404, description = "An item is not in the store.", body = ErrorBody),
        (status = 422, description = "A value cannot be used.", body = ErrorBody),
        (status = 429, description = "Too many requests are in hand.", body = ErrorBody),
        (status = 503, description = "Models or store are not ready.", body = ErrorBody),
        (status = 504, description = "The insights took too long.", body = ErrorBody),
    )
)]
pub(super) async fn insights(
    State(api): State<Api>,
    caller: Option<Extension<Caller>>,
    id: Result<Path<String>, PathRejection>,
    request: Result<Query<InsightsRequest>, QueryRejection>,
) -> Result<axum::Json<InsightsResponse>, ApiError> {
    let insights = &api.inner.insights;
    let answer = async {
        let malformed = |text: String| ApiError::new(Cause::Malformed, text);
        let Path(id) = id.map_err(|rejection| malformed(rejection.body_text()))?;
        let Query(request) = request.map_err(|rejection| malformed(rejection.body_text()))?;
        let viewer = match caller {
            Some(Extension(caller)) if caller.role == KeyRole::Seller => {
                admit_seller(&api, &caller, &id, &request).await?;
                Viewer::Seller
            }
            _ => Viewer::Operator,
        };
        insights.insights(&id, &request, viewer).await
    };
    let limit = Duration::from_secs(insights.timeout_seconds());
    let work = async {
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            let message = "the insights took longer than `insights.timeout_seconds`";
            Err(ApiError::new(Cause::Deadline, message))
        })
    };
    api.observed("insights", work).await.map(axum::Json)
}

/// Refuses a seller whose key does not cover the item, and one who would choose whom an answer stands
/// on: two answers over samples that differ in one consumer would tell about that consumer.
async fn admit_seller(
    api: &Api,
    caller: &Caller,
    id: &str,
    request: &InsightsRequest,
) -> Result<(), ApiError> {
    let forbidden = |message: String| ApiError::new(Cause::Forbidden, message);
    let name = &caller.name;
    for (parameter, given) in [("consumers", request.consumers), ("themes", request.themes)] {
        if given.is_some() {
            return Err(forbidden(format!(
                "key {name:?} has the role `seller`, which may not choose `{parameter}`; leave it out"
            )));
        }
    }
    let filter = caller.items.clone().ok_or_else(|| {
        forbidden(format!(
            "key {name:?} names no `items`; `server.keys` must say which are its own"
        ))
    })?;
    let storage = &api.inner.storage;
    // An item that is not there is told like one of somebody else: which ids others use is not the
    // seller's to learn.
    let not_own = || {
        forbidden(format!(
            "item {id:?} is not among the items of key {name:?}: it does not match the key's `items` \
             filter in `server.keys`"
        ))
    };
    let item = known_item(storage, id).await.map_err(|error| match error.cause {
        Cause::UnknownItem => not_own(),
        _ => error,
    })?;
    let own = whyrank_plugin::Filter::from_json(filter)
        .map_err(|error| forbidden(format!("the `items` of key {name:?} are unusable: {error}")))?
        .and(whyrank_plugin::Filter::with_ids([item.id.point()]));
    let items = &storage.settings().items;
    if storage.store().count(items, Some(&own)).await? == 0 {
        return Err(not_own());
    }
    Ok(())
}
