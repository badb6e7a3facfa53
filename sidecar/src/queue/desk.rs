//! Where requests hand in pairs: those that they wait for, and those that they merely found missing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};
use whyrank_plugin::{ExplanationRecord, ItemId, JobState, UserId};

use super::budget::spent_up;
use super::jobs::{Jobs, Wanted};
use super::worker::without_cost;
use super::{Lane, RewriteStale};
use crate::generator::Delta;
use crate::http::{ApiError, Cause};
use crate::metrics::Metrics;
use crate::spans;
use crate::staleness::Freshness;

/// How long a pair that was offered is not offered again by the same process.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Pairs that are remembered at most; more are forgotten together.
const MOST_REMEMBERED: usize = 20_000;

/// A request that waits for a text.
pub(super) struct Live {
    pub(super) user: UserId,
    pub(super) item: ItemId,
    pub(super) deltas: Option<mpsc::Sender<Delta>>,
    pub(super) answer: oneshot::Sender<Result<ExplanationRecord, ApiError>>,
    pub(super) cancel: CancellationToken,
    /// The span in which the request waits; what is done for it is below.
    pub(super) span: Span,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Live({}, {})", self.user, self.item)
    }
}

/// Takes pairs that requests found missing or stale; never waits. A task writes them into the store.
#[derive(Debug, Clone)]
pub struct MissingPairs {
    lane: mpsc::Sender<Wanted>,
    remembered: Arc<Mutex<HashMap<(UserId, ItemId), Instant>>>,
    metrics: Metrics,
    missing: bool,
    stale: bool,
}

impl MissingPairs {
    pub(super) fn new(lane: mpsc::Sender<Wanted>, jobs: &Jobs) -> Self {
        Self {
            lane,
            remembered: Arc::default(),
            metrics: jobs.metrics().clone(),
            missing: jobs.settings().write_missing,
            stale: jobs.settings().rewrite_stale != RewriteStale::Never,
        }
    }

    /// A pair was shown that nothing is written for.
    pub fn missing(&self, user: UserId, item: ItemId) {
        if self.missing {
            self.offer(Wanted { user, item, lane: Lane::Shown });
        }
    }

    /// A pair was shown whose explanation is stale.
    pub fn stale(&self, user: UserId, item: ItemId) {
        if self.stale {
            self.offer(Wanted { user, item, lane: Lane::Stale });
        }
    }

    fn offer(&self, wanted: Wanted) {
        let pair = (wanted.user, wanted.item);
        let now = Instant::now();
        {
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.get(&pair).is_some_and(|at| now.duration_since(*at) < REMEMBERED) {
                return;
            }
            if remembered.len() >= MOST_REMEMBERED {
                remembered.clear();
            }
            remembered.insert(pair, now);
        }
        if self.lane.try_send(wanted).is_err() {
            self.metrics.queue_refused.with_label_values(&["busy"]).inc();
        }
    }
}

/// Where requests hand in pairs to be written now.
#[derive(Debug, Clone)]
pub enum WritingDesk {
    /// The LLM is in this process.
    Here(Box<HereDesk>),
    /// Workers are other processes on the same store.
    Elsewhere(Box<ElsewhereDesk>),
}

/// The desk of a process without a worker.
#[derive(Debug, Clone)]
pub struct ElsewhereDesk {
    jobs: Jobs,
    freshness: Freshness,
}

/// The desk beside a worker.
#[derive(Debug, Clone)]
pub struct HereDesk {
    lane: mpsc::Sender<Live>,
    metrics: Metrics,
}

impl HereDesk {
    pub(super) fn new(lane: mpsc::Sender<Live>, metrics: Metrics) -> Self {
        Self { lane, metrics }
    }
}

impl ElsewhereDesk {
    /// A desk that queues what workers on the same store write.
    pub fn new(jobs: Jobs, freshness: Freshness) -> Self {
        Self { jobs, freshness }
    }
}

fn stopped() -> ApiError {
    ApiError::new(Cause::NotReady, "the worker has stopped")
}

impl WritingDesk {
    /// Has the pair's explanation written now, before anything in the background. Dropping the
    /// returned future leaves the work to end by itself; `cancel` ends it where the LLM is here.
    ///
    /// # Errors
    /// [`Cause::Full`] when too many requests wait or the hour's budget is spent; whatever the writing
    /// ends with.
    pub async fn write(
        &self,
        user: UserId,
        item: ItemId,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<ExplanationRecord, ApiError> {
        match self {
            Self::Here(desk) => {
                desk.write(user, item, deltas, cancel).instrument(spans::waiting()).await
            }
            Self::Elsewhere(desk) => {
                desk.write(user, item, deltas).instrument(spans::waiting()).await
            }
        }
    }
}

impl HereDesk {
    async fn write(
        &self,
        user: UserId,
        item: ItemId,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<ExplanationRecord, ApiError> {
        let (answer, answered) = oneshot::channel();
        let live = Live { user, item, deltas, answer, cancel, span: Span::current() };
        self.lane.try_send(live).map_err(|error| match error {
            TrySendError::Full(_) => {
                self.metrics.queue_refused.with_label_values(&["live"]).inc();
                let message = "too many requests wait for an explanation (`queue.live`)";
                ApiError::new(Cause::Full, message)
            }
            TrySendError::Closed(_) => stopped(),
        })?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl ElsewhereDesk {
    async fn write(
        &self,
        user: UserId,
        item: ItemId,
        deltas: Option<mpsc::Sender<Delta>>,
    ) -> Result<ExplanationRecord, ApiError> {
        let waited = match spent_up(&self.jobs).await? {
            Some(message) => Waited::Unpaid(message),
            None => self.wait(user, item).await?,
        };
        let record = match waited {
            Waited::Written(record) => *record,
            Waited::Unpaid(message) => {
                return without_cost(&self.jobs, &self.freshness, user, item, message).await;
            }
        };
        if let Some(deltas) = deltas {
            let explanation = &record.explanation;
            let text = format!("WHY: {}\nWHY NOT: {}", explanation.positive, explanation.negative);
            // A listener that has left needs no text.
            drop(deltas.send(Delta::Text(text)).await);
        }
        Ok(record)
    }

    /// Queues the pair first in line and waits until a worker somewhere has removed its job.
    async fn wait(&self, user: UserId, item: ItemId) -> Result<Waited, ApiError> {
        let jobs = &self.jobs;
        let offered = jobs.offer(&[Wanted { user, item, lane: Lane::Live }]).await?;
        if let Some(reason) = offered.reason {
            let message =
                format!("the queue takes nothing more: it is {reason} (`queue.capacity`)");
            return Err(ApiError::new(Cause::Full, message));
        }
        let poll = Duration::from_millis(jobs.settings().poll_milliseconds);
        let mut looks = tokio::time::interval(poll);
        loop {
            looks.tick().await;
            match jobs.find(user, item).await? {
                Some(job) if job.state == JobState::Dead => {
                    let why = job.error.unwrap_or_default();
                    let message = format!(
                        "the pair was given up: {why}; `whyrank queue replay` lets it be tried again"
                    );
                    return Err(ApiError::new(Cause::Internal, message));
                }
                Some(job) if job.lease.is_none() => {
                    if let Some(message) = spent_up(jobs).await? {
                        return Ok(Waited::Unpaid(message));
                    }
                }
                Some(_) => {}
                None => break,
            }
        }
        let found = jobs.storage().explanations(&[(user, item)]).await?.pop().flatten();
        let record = found.ok_or_else(|| {
            ApiError::new(Cause::Internal, "the explanation is gone after it was written")
        })?;
        Ok(Waited::Written(Box::new(record)))
    }
}

/// How waiting for another process's worker ended.
enum Waited {
    Written(Box<ExplanationRecord>),
    /// The budget is spent and no worker has begun; the pair stays queued for the next hour.
    Unpaid(String),
}
