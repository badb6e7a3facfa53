//! The durable part of the queue: jobs in the store, taken by lease.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::{Instrument, Span};
use utoipa::ToSchema;
use whyrank_plugin::records::{JOB_KIND, KIND_KEY};
use whyrank_plugin::{
    Filter, ItemId, JobRecord, JobState, PointId, Scroll, Selection, StoreResult, UserId,
};

use super::{Lane, QueueSettings};
use crate::metrics::Metrics;
use crate::spans;
use crate::storage::Storage;

/// Jobs of a lane that a worker looks at before it tries the next lane: with several workers the first
/// may be gone already.
const LOOKED_AT: usize = 4;
/// Milliseconds by which the clocks of two workers may differ.
const SKEW: i64 = 60_000;

/// Milliseconds since the Unix epoch; tests bring their own.
type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The jobs of one installation. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    storage: Storage,
    settings: QueueSettings,
    metrics: Metrics,
    clock: Clock,
    pub(super) wake: Arc<Notify>,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Jobs").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A pair that somebody wants explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The consumer.
    pub user: UserId,
    /// The item.
    pub item: ItemId,
    /// Why, and so how soon.
    pub lane: Lane,
}

/// What became of pairs that were offered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Offered {
    /// Pairs that wait now and did not before. They are durable.
    pub queued: usize,
    /// Pairs that waited already or are dead letters.
    pub known: usize,
    /// Pairs that were not taken.
    pub refused: usize,
    /// Why not: `full` or `draining`.
    pub reason: Option<String>,
}

/// A job that this process has until its lease ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The job as it was taken.
    pub job: JobRecord,
    token: String,
    /// What is done with the job happens in this span.
    pub(super) span: Span,
}

/// What became of a job that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It is tried again later.
    Retried,
    /// It was given up.
    Dead,
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn all_of(conditions: Value) -> StoreResult<Filter> {
    Ok(Filter::from_json(json!({ "must": conditions }))?)
}

pub(super) fn is(key: &str, value: impl Into<Value>) -> Value {
    json!({ "key": key, "match": { "value": value.into() } })
}

pub(super) fn payload(value: Value) -> whyrank_plugin::store::Payload {
    match value {
        Value::Object(payload) => payload,
        _ => whyrank_plugin::store::Payload::new(),
    }
}

impl Jobs {
    /// The jobs in this store.
    pub fn new(storage: Storage, settings: QueueSettings, metrics: Metrics) -> Self {
        Self { storage, settings, metrics, clock: Arc::new(now), wake: Arc::default() }
    }

    /// The same with another clock.
    #[cfg(test)]
    pub(crate) fn with_clock(self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// The limits in force.
    pub fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn now(&self) -> i64 {
        (self.clock)()
    }

    /// Ends when something was queued by this process.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn collection(&self) -> &str {
        &self.storage.settings().queue
    }

    async fn set_where(&self, id: PointId, conditions: Value, change: Value) -> StoreResult<()> {
        let (filter, change) = (all_of(conditions)?, payload(change));
        let store = self.storage.store();
        store.set_payload_where(self.collection(), &[id], &filter, change).await
    }

    async fn job(&self, id: PointId) -> StoreResult<Option<JobRecord>> {
        Ok(self.jobs(&[id]).await?.pop().flatten())
    }

    pub(super) async fn jobs(&self, ids: &[PointId]) -> StoreResult<Vec<Option<JobRecord>>> {
        let points =
            self.storage.store().read(self.collection(), ids, &Selection::payload()).await?;
        Ok(points.into_iter().map(|point| readable(point?)).collect())
    }

    /// The job of a pair, if it waits or is dead.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find(&self, user: UserId, item: ItemId) -> StoreResult<Option<JobRecord>> {
        self.job(JobRecord::id_of(&user, &item)).await
    }

    /// Takes pairs in: durable when it returns. A pair waits once, however often it is offered; the
    /// most urgent reason counts.
    ///
    /// # Errors
    /// When the store fails; then nothing is promised.
    pub async fn offer(&self, wanted: &[Wanted]) -> StoreResult<Offered> {
        let mut unique: HashMap<PointId, Wanted> = HashMap::with_capacity(wanted.len());
        for one in wanted {
            let kept = unique.entry(JobRecord::id_of(&one.user, &one.item)).or_insert(*one);
            kept.lane = kept.lane.min(one.lane);
        }
        let (ids, wanted): (Vec<PointId>, Vec<Wanted>) = unique.into_iter().unzip();
        let mut offered = Offered::default();
        if ids.is_empty() {
            return Ok(offered);
        }
        let draining = self.control().await?.draining;
        let now = self.now();
        // Of those who only want a pair, nobody waits for it.
        let asking = spans::traceparent();
        let waiter = |lane: Lane| asking.clone().filter(|_| lane == Lane::Live);
        let mut fresh = Vec::new();
        for ((id, one), known) in ids.iter().zip(&wanted).zip(self.jobs(&ids).await?) {
            let Some(known) = known else {
                let job = JobRecord {
                    user: one.user,
                    item: one.item,
                    lane: one.lane.number(),
                    state: JobState::Waiting,
                    due: now,
                    lease: None,
                    attempts: 0,
                    asked: now,
                    queued: now,
                    error: None,
                    traceparent: waiter(one.lane),
                };
                fresh.push(job);
                continue;
            };
            offered.known += 1;
            if one.lane == Lane::Live && known.lease.is_none() {
                self.hurry(*id, &known).await?;
            }
            let waiting = is("state", "waiting");
            if one.lane.number() < known.lane {
                let later = json!({ "key": "lane", "range": { "gt": one.lane.number() } });
                let mut change = json!({ "lane": one.lane.number() });
                if let Some(traceparent) = waiter(one.lane) {
                    change["traceparent"] = traceparent.into();
                }
                self.set_where(*id, json!([waiting.clone(), later]), change).await?;
            }
            // What is being written now may stand on what has just changed.
            if one.lane == Lane::Stale && known.lease.is_some() {
                self.set_where(*id, json!([waiting]), json!({ "asked": now })).await?;
            }
        }
        let room = if draining {
            0
        } else {
            (self.settings.capacity as u64).saturating_sub(self.count("waiting").await?) as usize
        };
        if fresh.len() > room {
            // The most urgent find room.
            fresh.sort_by_key(|job| job.lane);
            offered.refused = fresh.len() - room;
            let reason = if draining { "draining" } else { "full" };
            offered.reason = Some(reason.to_owned());
            let refused = self.metrics.queue_refused.with_label_values(&[reason]);
            refused.inc_by(offered.refused as u64);
            fresh.truncate(room);
        }
        offered.queued = fresh.len();
        if !fresh.is_empty() {
            let points = fresh.iter().map(JobRecord::to_point).collect();
            self.storage.store().upsert(self.collection(), points).await?;
            self.wake.notify_one();
        }
        Ok(offered)
    }

    /// Somebody waits for the pair: it is due at once, though it failed before, and one that was given up is
    /// tried once more.
    async fn hurry(&self, id: PointId, known: &JobRecord) -> StoreResult<()> {
        let last = i64::from(self.settings.attempts) - 1;
        let (state, attempts) = match known.state {
            JobState::Waiting => ("waiting", known.attempts.min(last)),
            JobState::Dead => ("dead", last),
        };
        // Nobody has taken it since it was read.
        let unchanged = json!([is("state", state), is("attempts", known.attempts)]);
        let change = json!({ "state": "waiting", "due": self.now(), "attempts": attempts });
        self.set_where(id, unchanged, change).await?;
        self.wake.notify_one();
        Ok(())
    }

    pub(super) async fn count(&self, state: &str) -> StoreResult<u64> {
        let filter = all_of(json!([is(KIND_KEY, JOB_KIND), is("state", state)]))?;
        self.storage.store().count(self.collection(), Some(&filter)).await
    }

    /// Takes the most urgent job of these lanes that is due, for `lease_seconds`; none if there is none.
    /// Among those of one lane chance decides, so that workers do not all reach for the same one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim(&self, worker: &str, lanes: &[Lane]) -> StoreResult<Option<Claim>> {
        let ready = json!([is(KIND_KEY, JOB_KIND), is("state", "waiting"), self.due()]);
        let ready = all_of(ready)?;
        if self.storage.store().count(self.collection(), Some(&ready)).await? == 0 {
            return Ok(None);
        }
        for lane in lanes {
            let filter = ready.clone().and(all_of(json!([is("lane", lane.number())]))?);
            // A random pair's id is a random place among the ids.
            let item = ItemId(rand::random::<u64>().into());
            let place = JobRecord::id_of(&UserId(0.into()), &item);
            for from in [Some(place), None] {
                let selection = Selection::payload();
                let scroll =
                    Scroll { filter: Some(filter.clone()), from, limit: LOOKED_AT, selection };
                let page = self.storage.store().scroll(self.collection(), scroll).await?;
                for job in page.points.into_iter().filter_map(readable) {
                    if let Some(claim) = self.take(job, worker).await? {
                        return Ok(Some(claim));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn take(&self, job: JobRecord, worker: &str) -> StoreResult<Option<Claim>> {
        let lane = Lane::named(job.lane);
        let span = spans::job(lane, job.attempts + 1, job.traceparent.as_deref());
        let leased = self.leased(job, worker).instrument(spans::lease(&span)).await?;
        if leased.is_none() {
            // Another worker was faster, or the job has been tried too often.
            span.record("outcome", "not_taken");
        }
        Ok(leased.map(|(job, token)| Claim { job, token, span }))
    }

    async fn leased(
        &self,
        job: JobRecord,
        worker: &str,
    ) -> StoreResult<Option<(JobRecord, String)>> {
        let (id, now) = (job.id(), self.now());
        // Nobody has taken it since it was read.
        let unchanged = json!([is("state", "waiting"), is("attempts", job.attempts), self.due(),]);
        if job.attempts >= i64::from(self.settings.attempts) {
            let error = job.error.unwrap_or_else(|| "its worker ended while writing it".to_owned());
            let change = json!({ "state": "dead", "lease": null, "due": now, "error": error });
            self.set_where(id, unchanged, change).await?;
            self.counted("dead");
            return Ok(None);
        }
        let token = format!("{worker}/{:016x}", rand::random::<u64>());
        let (due, attempts) = (now + self.lease(), job.attempts + 1);
        let change = json!({ "lease": token, "due": due, "attempts": attempts });
        self.set_where(id, unchanged, change).await?;
        let held = self.job(id).await?;
        let held = held.filter(|job| job.lease.as_deref() == Some(token.as_str()));
        Ok(held.map(|job| (job, token)))
    }

    /// Due by the clock; or so far ahead that only a clock which was set back since can have put it there.
    fn due(&self) -> Value {
        let now = self.now();
        let settings = &self.settings;
        let longest = settings.lease_seconds.max(settings.retry_maximum_seconds * 2);
        let farthest = now + (longest * 1_000) as i64 + SKEW;
        json!({ "should": [
            { "key": "due", "range": { "lte": now } },
            { "key": "due", "range": { "gt": farthest } },
        ] })
    }

    fn lease(&self) -> i64 {
        (self.settings.lease_seconds * 1_000) as i64
    }

    /// Keeps the job for another `lease_seconds`; false if somebody else has it now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn renew(&self, claim: &Claim) -> StoreResult<bool> {
        let due = self.now() + self.lease();
        let id = claim.job.id();
        self.set_where(id, json!([is("lease", claim.token.as_str())]), json!({ "due": due }))
            .await?;
        let job = self.job(id).await?;
        Ok(job.is_some_and(|job| job.lease.as_deref() == Some(claim.token.as_str())))
    }

    /// The explanation is durable: the job leaves the queue, unless it was asked for again meanwhile.
    ///
    /// # Errors
    /// When the store fails; the job is then done again, which finds the explanation.
    pub async fn finish(&self, claim: &Claim) -> StoreResult<()> {
        let id = claim.job.id();
        let mine = is("lease", claim.token.as_str());
        let done = all_of(json!([mine.clone(), is("asked", claim.job.asked)]))?;
        self.storage.store().delete_where(self.collection(), &[id], &done).await?;
        let again = json!({
            "lease": null, "due": self.now(), "attempts": 0, "error": null, "traceparent": null,
        });
        self.set_where(id, json!([mine]), again).await
    }

    /// Gives the job back as if it had not been taken: the worker stops, or the store was away.
    ///
    /// # Errors
    /// When the store fails; the job is then due when its lease ends.
    pub async fn release(&self, claim: &Claim) -> StoreResult<()> {
        let attempts = claim.job.attempts - 1;
        let change = json!({ "lease": null, "due": self.now(), "attempts": attempts });
        self.set_where(claim.job.id(), json!([is("lease", claim.token.as_str())]), change).await
    }

    /// Gives the job back because the LLM is away: nobody's fault, and not to be tried again before
    /// `again_after`, nor before a job that failed for the first time.
    ///
    /// # Errors
    /// When the store fails; the job is then due when its lease ends.
    pub async fn put_off(
        &self,
        claim: &Claim,
        error: &str,
        again_after: Duration,
    ) -> StoreResult<()> {
        let due = self.now() + self.backoff(1).max(again_after.as_millis() as i64);
        let attempts = claim.job.attempts - 1;
        let change = json!({ "lease": null, "due": due, "attempts": attempts, "error": error });
        let mine = json!([is("lease", claim.token.as_str())]);
        self.set_where(claim.job.id(), mine, change).await?;
        self.counted("put_off");
        Ok(())
    }

    /// The job could not be done: later again, or to the dead letters.
    ///
    /// # Errors
    /// When the store fails; the job is then due when its lease ends.
    pub async fn fail(&self, claim: &Claim, error: &str, hopeless: bool) -> StoreResult<Failure> {
        let (now, job) = (self.now(), &claim.job);
        let dead = hopeless || job.attempts >= i64::from(self.settings.attempts);
        let change = if dead {
            json!({ "state": "dead", "lease": null, "due": now, "error": error })
        } else {
            let due = now + self.backoff(job.attempts);
            json!({ "lease": null, "due": due, "error": error })
        };
        self.set_where(job.id(), json!([is("lease", claim.token.as_str())]), change).await?;
        self.counted(if dead { "dead" } else { "retried" });
        Ok(if dead { Failure::Dead } else { Failure::Retried })
    }

    /// Milliseconds before the next attempt: twice as long each time, and up to a quarter more by
    /// chance, so that what failed together does not come back together.
    fn backoff(&self, attempts: i64) -> i64 {
        let doubled = 1_u64 << (attempts.clamp(1, 32) - 1);
        let seconds = self.settings.retry_initial_seconds.saturating_mul(doubled);
        let milliseconds = seconds.min(self.settings.retry_maximum_seconds) * 1_000;
        (milliseconds + rand::random_range(0..=milliseconds / 4)) as i64
    }

    pub(super) fn counted(&self, outcome: &str) {
        self.metrics.queue_jobs.with_label_values(&[outcome]).inc();
    }
}

/// A point that cannot be read is told and passed over: one bad point must not stop the queue.
pub(super) fn readable(point: whyrank_plugin::Point) -> Option<JobRecord> {
    match JobRecord::from_point(point) {
        Ok(job) => Some(job),
        Err(error) => {
            tracing::warn!(%error, "a job of the queue is unusable");
            None
        }
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
