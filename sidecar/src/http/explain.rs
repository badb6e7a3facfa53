//! `POST /v1/explain`: the reasons of one pair, from the store or written now.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;
use utoipa::ToSchema;
use whyrank_plugin::{ExplanationRecord, ItemRecord, UserRecord};

use super::json::Json;
use super::known::{known_item, known_user};
use super::{Api, ApiError, Cause, ErrorBody};
use crate::compare::{Mattered, mattered};
use crate::generator::Delta;
use crate::queue::WritingDesk;
use crate::rerank::Reasons;

/// Pieces of a streamed text that may wait for a slow caller.
const STREAM_BUFFER: usize = 64;

/// A request for the reasons of one pair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The consumer's id as the data gave it.
    pub user: String,
    /// The item's id as the data gave it.
    pub item: String,
    /// Whether to write the reasons now if they are not written or not current. This waits for the LLM.
    #[serde(default)]
    pub wait: bool,
    /// With `wait`: whether to stream the text as server-sent events `delta`, `restart`, then `done`
    /// with the whole answer, or `error`.
    #[serde(default)]
    pub stream: bool,
}

/// The reasons of one pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainResponse {
    /// The consumer.
    pub user: String,
    /// The item.
    pub item: String,
    /// The reasons for and against, and what wrote them.
    pub explanation: Reasons,
    /// What moved the score of the pair; absent where no ranker is trained.
    pub mattered: Option<Mattered>,
    /// Version of the prompt templates.
    pub prompt_version: String,
    /// Version of the profiles and the evidence that the generator was told.
    pub profile_version: String,
    /// Attempts until a text was accepted.
    pub attempts: u32,
    /// When it was written, in seconds since 1970.
    pub written_at: i64,
}

impl ExplainResponse {
    /// What is written about a pair, and what moved its score.
    pub fn new(record: ExplanationRecord, mattered: Option<Mattered>) -> Self {
        let (provenance, stale) = (record.provenance, record.stale);
        Self {
            user: record.user_external_id,
            item: record.item_external_id,
            explanation: Reasons::of(record.explanation, provenance.clone()).but_stale(stale),
            mattered,
            prompt_version: provenance.prompt_version,
            profile_version: provenance.profile_version,
            attempts: provenance.attempts,
            written_at: provenance.written_at,
        }
    }
}

/// The reasons for and against an item, for one consumer.
#[utoipa::path(
    post,
    path = "/v1/explain",
    request_body = ExplainRequest,
    responses(
        (status = 200, description = "The reasons; with `stream`, server-sent events.", body = ExplainResponse),
        (status = 400, description = "The body is not JSON.", body = ErrorBody),
        (status = 404, description = "Unknown consumer or item, or nothing is written and `wait` was not asked for.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 422, description = "A value cannot be used.", body = ErrorBody),
        (status = 429, description = "Too many requests wait for the LLM.", body = ErrorBody),
        (status = 503, description = "This server has no worker, or is not ready.", body = ErrorBody),
        (status = 504, description = "Writing took too long.", body = ErrorBody),
    )
)]
pub(super) async fn explain(
    State(api): State<Api>,
    Json(request): Json<ExplainRequest>,
) -> Result<Response, ApiError> {
    if request.wait && request.stream {
        let events = streamed(api, &request).await?;
        return Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response());
    }
    let answer = api.clone();
    api.observed("explain", async move {
        let (user, item) = known_pair(&answer, &request).await?;
        if !request.wait {
            let pair = (user.id, item.id);
            let mut found = answer.inner.storage.explanations(&[pair]).await?;
            let looked_up = |outcome| {
                answer.inner.metrics.explanation_lookups.with_label_values(&[outcome]).inc()
            };
            let record = found.pop().flatten().ok_or_else(|| {
                looked_up("miss");
                let message =
                    "nothing is written for this pair; ask with `wait` to have it written";
                ApiError::new(Cause::NoExplanation, message)
            })?;
            let stale = answer.inner.reranker.freshness().stale(&record);
            looked_up(if stale.is_some() { "stale" } else { "hit" });
            if stale.is_some()
                && let Some(missing) = &answer.inner.missing
            {
                missing.stale(user.id, item.id);
            }
            let mut response = answer.explained(record, &user, item).await;
            response.explanation.stale = stale;
            return Ok(axum::Json(response).into_response());
        }
        let (desk, limit) = answer.desk()?;
        let cancel = CancellationToken::new();
        // A caller that leaves drops this future, and with it the guard: the LLM stops.
        let _guard = cancel.clone().drop_guard();
        let record = write(&desk, &user, &item, None, cancel, limit).await?;
        Ok(axum::Json(answer.explained(record, &user, item).await).into_response())
    })
    .await
}

impl Api {
    /// Where texts are written, and how long a caller waits for one.
    fn desk(&self) -> Result<(WritingDesk, Duration), ApiError> {
        let desk = self.inner.desk.clone().ok_or_else(|| {
            ApiError::new(
                Cause::NotReady,
                "this server runs without the role `worker`, so it cannot write",
            )
        })?;
        Ok((desk, Duration::from_secs(self.inner.settings.write_timeout_seconds)))
    }

    async fn explained(
        &self,
        record: ExplanationRecord,
        user: &UserRecord,
        item: ItemRecord,
    ) -> ExplainResponse {
        let mattered = mattered(&self.inner.reranker, user, item).await;
        // A text that was written is not lost to a fault of the ranker.
        let mattered = mattered.unwrap_or_else(|error| {
            tracing::warn!(%error, "what moved a score is not told");
            None
        });
        ExplainResponse::new(record, mattered)
    }
}

/// The pair, if both sides are in the store.
async fn known_pair(
    api: &Api,
    request: &ExplainRequest,
) -> Result<(UserRecord, ItemRecord), ApiError> {
    let storage = &api.inner.storage;
    let user = known_user(storage, &request.user).await?;
    let item = known_item(storage, &request.item).await?;
    Ok((user, item))
}

async fn write(
    desk: &WritingDesk,
    user: &UserRecord,
    item: &ItemRecord,
    deltas: Option<mpsc::Sender<Delta>>,
    cancel: CancellationToken,
    limit: Duration,
) -> Result<ExplanationRecord, ApiError> {
    let writing = desk.write(user.id, item.id, deltas, cancel);
    tokio::time::timeout(limit, writing).await.unwrap_or_else(|_| {
        let message = "writing took longer than `server.write_timeout_seconds`";
        Err(ApiError::new(Cause::Deadline, message))
    })
}

/// The events of a text that is being written. What comes of it is counted when the stream ends.
async fn streamed(
    api: Api,
    request: &ExplainRequest,
) -> Result<impl Stream<Item = Result<Event, Infallible>> + use<>, ApiError> {
    let unanswered = api.unanswered("explain");
    let known = known_pair(&api, request).await.and_then(|pair| Ok((pair, api.desk()?)));
    let ((user, item), (desk, limit)) = match known {
        Ok(known) => known,
        Err(error) => {
            unanswered.answered(Some(&error));
            return Err(error);
        }
    };
    let cancel = CancellationToken::new();
    let guard: DropGuard = cancel.clone().drop_guard();
    let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
    let given_up = cancel.clone();
    // A task of its own, because the deltas are read to their end before its result is awaited.
    let writing = async move {
        let record = write(&desk, &user, &item, Some(sender), cancel.clone(), limit).await;
        // A text that is given up may have a place in the queue still, and with it the other end of the
        // deltas: nobody reads on.
        let record = record.inspect_err(|_| cancel.cancel())?;
        Ok(api.explained(record, &user, item).await)
    };
    let writing = tokio::spawn(writing.in_current_span());
    let deltas = futures::stream::unfold(receiver, |mut receiver| async move {
        let event = match receiver.recv().await? {
            Delta::Text(text) => data("delta", &text),
            Delta::Restart => Event::default().event("restart").data("{}"),
        };
        Some((event, receiver))
    });
    let deltas = deltas.take_until(given_up.cancelled_owned());
    let end = futures::stream::once(async move {
        let ended = writing.await.unwrap_or_else(|error| Err(anyhow::Error::from(error).into()));
        unanswered.answered(ended.as_ref().err());
        match ended {
            Ok(explained) => data("done", &explained),
            Err(error) => {
                let error_type = error.cause.row().0.to_owned();
                data("error", &ErrorBody { error: error.message, error_type })
            }
        }
    });
    Ok(deltas.chain(end).map(move |event| {
        let _held_until_the_stream_is_dropped = &guard;
        Ok(event)
    }))
}

fn data<T: Serialize>(name: &str, value: &T) -> Event {
    let event = Event::default().event(name);
    event.json_data(value).unwrap_or_else(|error| {
        Event::default().event("error").data(format!("the event cannot be written: {error}"))
    })
}
