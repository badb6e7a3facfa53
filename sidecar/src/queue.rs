//! The worker that owns the LLM: one pair at a time, live requests before pairs that were merely
//! found missing. Both lanes are bounded; a full one refuses at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use whyrank_plugin::{ItemId, UserId};

use crate::generator::Delta;
use crate::http::{ApiError, Cause};
use crate::metrics::Metrics;
use crate::storage::Storage;
use crate::writing::{Outcome, Pair, PairWriter};

/// How much work may wait for the LLM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// Requests that may wait for an explanation to be written.
    pub live: usize,
    /// Pairs without an explanation that may wait to be written in the background.
    pub missing: usize,
    /// Whether shown pairs that nothing is written for are queued.
    pub write_missing: bool,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { live: 16, missing: 1_000, write_missing: true }
    }
}

/// A request that waits for a text.
struct Live {
    user: UserId,
    item: ItemId,
    deltas: Option<mpsc::Sender<Delta>>,
    answer: oneshot::Sender<Result<Outcome, ApiError>>,
    cancel: CancellationToken,
}

type Pending = Arc<Mutex<HashSet<(UserId, ItemId)>>>;

/// Takes pairs that nothing is written for; never waits.
#[derive(Debug, Clone)]
pub struct MissingPairs {
    lane: mpsc::Sender<(UserId, ItemId)>,
    pending: Pending,
    metrics: Metrics,
}

impl MissingPairs {
    /// Queues the pair unless it waits already or the lane is full.
    pub fn offer(&self, user: UserId, item: ItemId) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if !pending.insert((user, item)) {
            return;
        }
        if self.lane.try_send((user, item)).is_err() {
            pending.remove(&(user, item));
            self.metrics.queue_refused.inc();
        }
        self.metrics.queue_depth.set(pending.len() as i64);
    }
}

/// Where requests hand in pairs to be written now.
#[derive(Debug, Clone)]
pub struct WritingDesk {
    lane: mpsc::Sender<Live>,
    missing: MissingPairs,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Live({}, {})", self.user, self.item)
    }
}

impl WritingDesk {
    /// The lane for pairs that were found missing.
    pub fn missing(&self) -> &MissingPairs {
        &self.missing
    }

    /// Has the pair's explanation written now, before anything in the background. Dropping the
    /// returned future leaves the work to end by itself; `cancel` ends it.
    ///
    /// # Errors
    /// [`Cause::Full`] when too many requests wait; whatever the writing ends with.
    pub async fn write(
        &self,
        user: UserId,
        item: ItemId,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<Outcome, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.lane.try_send(Live { user, item, deltas, answer, cancel }).map_err(
            |error| match error {
                TrySendError::Full(_) => ApiError::new(
                    Cause::Full,
                    "too many requests wait for an explanation (`queue.live`)",
                ),
                TrySendError::Closed(_) => ApiError::new(Cause::NotReady, "the worker has stopped"),
            },
        )?;
        answered
            .await
            .unwrap_or_else(|_| Err(ApiError::new(Cause::NotReady, "the worker has stopped")))
    }
}

/// Starts the worker. It ends when `shutdown` fires, after the pair in hand was cancelled.
pub fn start(
    writer: PairWriter,
    storage: Storage,
    settings: &QueueSettings,
    metrics: &Metrics,
    shutdown: CancellationToken,
) -> (WritingDesk, tokio::task::JoinHandle<()>) {
    let (live_sender, live) = mpsc::channel(settings.live.max(1));
    let (missing_sender, missing) = mpsc::channel(settings.missing.max(1));
    let pending = Pending::default();
    let worker =
        Worker { writer, storage, pending: pending.clone(), metrics: metrics.clone(), shutdown };
    let missing_pairs = MissingPairs { lane: missing_sender, pending, metrics: metrics.clone() };
    let handle = tokio::spawn(worker.run(live, missing));
    (WritingDesk { lane: live_sender, missing: missing_pairs }, handle)
}

struct Worker {
    writer: PairWriter,
    storage: Storage,
    pending: Pending,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Worker {
    async fn run(
        self,
        mut live: mpsc::Receiver<Live>,
        mut missing: mpsc::Receiver<(UserId, ItemId)>,
    ) {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                Some(request) = live.recv() => self.answer(request).await,
                Some((user, item)) = missing.recv() => {
                    let cancel = self.shutdown.child_token();
                    if let Err(error) = self.write(user, item, None, cancel).await {
                        tracing::warn!(error = error.message, "a missing explanation was not written");
                    }
                    let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
                    pending.remove(&(user, item));
                    self.metrics.queue_depth.set(pending.len() as i64);
                }
                else => return,
            }
        }
    }

    async fn answer(&self, request: Live) {
        // Whoever has left needs no text.
        if request.cancel.is_cancelled() || request.answer.is_closed() {
            return;
        }
        let cancel = request.cancel.clone();
        let work = self.write(request.user, request.item, request.deltas, cancel);
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = self.shutdown.cancelled() => {
                request.cancel.cancel();
                Err(ApiError::new(Cause::NotReady, "the server is stopping"))
            }
        };
        // Nobody is left to tell.
        drop(request.answer.send(outcome));
    }

    async fn write(
        &self,
        user: UserId,
        item: ItemId,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<Outcome, ApiError> {
        let record =
            self.storage.user(user).await?.with_context(|| format!("no consumer {user}"))?;
        let found = self.storage.items(&[item]).await?.pop().flatten();
        let item = found.with_context(|| format!("no item {item}"))?;
        let before = label_time(&record, item.id);
        let pair = Pair { user: &record, item: &item, before };
        Ok(self.writer.write(pair, deltas, cancel).await?)
    }
}

/// When the consumer rated the item, if ever: what came then and later must not be told.
pub fn label_time(user: &whyrank_plugin::UserRecord, item: ItemId) -> Option<i64> {
    user.history.iter().find(|entry| entry.item == item).map(|entry| entry.time)
}
