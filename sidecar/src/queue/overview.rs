//! The queue as people see it: its state, its switches and its dead letters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use whyrank_plugin::records::{JOB_KIND, KIND_KEY};
use whyrank_plugin::{
    ItemId, JobRecord, JobState, QueueControl, Scroll, Selection, StoreError, StoreResult, UserId,
};

use super::Lane;
use super::jobs::{Jobs, all_of, is, payload, readable};

/// Jobs read in one page.
const PAGE: usize = 1_000;

/// The state of the queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueStatus {
    /// Workers take no job.
    pub paused: bool,
    /// Nothing new is taken in.
    pub draining: bool,
    /// Pairs that wait or are being written.
    pub depth: u64,
    /// Of these, how many a worker has now.
    pub leased: u64,
    /// How many wait in each lane: `live`, `shown`, `stale`, `backfill`.
    pub lanes: BTreeMap<String, u64>,
    /// Seconds that the oldest has waited.
    pub oldest_seconds: f64,
    /// Pairs that were given up.
    pub dead: u64,
    /// What the workers write with, as explanations carry it; absent before the first worker.
    pub generator: Option<String>,
}

/// A pair that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// The consumer's point id.
    pub user: String,
    /// The item's point id.
    pub item: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it was given up, in seconds since 1970.
    pub since: i64,
    /// Why the last attempt failed.
    pub error: String,
}

impl Jobs {
    /// Whether the queue runs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn control(&self) -> StoreResult<QueueControl> {
        let ids = [QueueControl::id()];
        let found =
            self.storage().store().read(self.collection(), &ids, &Selection::payload()).await?;
        let point = found.into_iter().next().flatten();
        Ok(point.and_then(|point| QueueControl::from_point(point).ok()).unwrap_or_default())
    }

    async fn set_control(&self, change: Value) -> StoreResult<()> {
        let (store, ids) = (self.storage().store(), [QueueControl::id()]);
        match store.set_payload(self.collection(), &ids, payload(change.clone())).await {
            Err(StoreError::PointsMissing { .. }) => {
                let fresh = vec![QueueControl::default().to_point()];
                store.upsert(self.collection(), fresh).await?;
                store.set_payload(self.collection(), &ids, payload(change)).await
            }
            other => other,
        }
    }

    /// Lets workers take no further job, or lets them go on. Requests that wait are served.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pause(&self, paused: bool) -> StoreResult<()> {
        self.set_control(json!({ "paused": paused })).await
    }

    /// Takes nothing new in while workers go on, or takes it in again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn drain(&self, draining: bool) -> StoreResult<()> {
        self.set_control(json!({ "draining": draining })).await
    }

    /// Lets all processes know what explanations are written with from now on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn announce(&self, generator: &str, prompt_version: &str) -> StoreResult<()> {
        let change = json!({ "generator": generator, "prompt_version": prompt_version });
        self.set_control(change).await
    }

    /// The state of the queue. It walks through the jobs, so it is for people and now and then.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn status(&self) -> StoreResult<QueueStatus> {
        let control = self.control().await?;
        let mut status = QueueStatus {
            paused: control.paused,
            draining: control.draining,
            generator: control.generator,
            lanes: Lane::ALL.iter().map(|lane| (lane.name().to_owned(), 0)).collect(),
            ..QueueStatus::default()
        };
        let mut oldest = self.now();
        self.walk("waiting", usize::MAX, |job| {
            status.depth += 1;
            status.leased += u64::from(job.lease.is_some());
            oldest = oldest.min(job.queued);
            let lane = Lane::ALL.into_iter().find(|lane| lane.number() == job.lane);
            if let Some(lane) = lane {
                *status.lanes.entry(lane.name().to_owned()).or_default() += 1;
            }
        })
        .await?;
        status.oldest_seconds = (self.now() - oldest) as f64 / 1e3;
        status.dead = self.count("dead").await?;
        Ok(status)
    }

    /// Of the state of the queue what costs no more where more waits: how many wait, how many were given up,
    /// and whether it is paused.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sizes(&self) -> StoreResult<QueueStatus> {
        let control = self.control().await?;
        let (depth, dead) = (self.count("waiting").await?, self.count("dead").await?);
        Ok(QueueStatus { paused: control.paused, depth, dead, ..QueueStatus::default() })
    }

    pub(super) async fn walk(
        &self,
        state: &str,
        limit: usize,
        mut take: impl FnMut(JobRecord),
    ) -> StoreResult<()> {
        let filter = all_of(json!([is(KIND_KEY, JOB_KIND), is("state", state)]))?;
        let (mut from, mut left) = (None, limit);
        loop {
            let selection = Selection::payload();
            let limit = PAGE.min(left).max(1);
            let scroll = Scroll { filter: Some(filter.clone()), from, limit, selection };
            let page = self.storage().store().scroll(self.collection(), scroll).await?;
            left = left.saturating_sub(page.points.len());
            page.points.into_iter().filter_map(readable).for_each(&mut take);
            from = page.next;
            if from.is_none() || left == 0 {
                return Ok(());
            }
        }
    }

    /// Pairs that were given up, at most so many.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn dead_letters(&self, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        let mut found = Vec::new();
        self.walk("dead", limit, |job| {
            found.push(DeadLetter {
                user: job.user.to_string(),
                item: job.item.to_string(),
                attempts: job.attempts,
                since: job.due / 1_000,
                error: job.error.unwrap_or_default(),
            });
        })
        .await?;
        Ok(found)
    }

    /// Lets dead letters wait again with all their attempts: these, or all; returns how many were found.
    ///
    /// # Errors
    /// When the store fails; what was not replayed stays dead.
    pub async fn replay(&self, pairs: Option<&[(UserId, ItemId)]>) -> StoreResult<usize> {
        let mut ids = Vec::new();
        match pairs {
            Some(pairs) => {
                let asked: Vec<_> =
                    pairs.iter().map(|(user, item)| JobRecord::id_of(user, item)).collect();
                let jobs = self.jobs(&asked).await?.into_iter().flatten();
                ids.extend(jobs.filter(|job| job.state == JobState::Dead).map(|job| job.id()));
            }
            None => self.walk("dead", usize::MAX, |job| ids.push(job.id())).await?,
        }
        let dead = all_of(json!([is("state", "dead")]))?;
        let again = json!({
            "state": "waiting", "attempts": 0, "error": null, "due": self.now(), "queued": self.now(),
        });
        for part in ids.chunks(PAGE) {
            let store = self.storage().store();
            store.set_payload_where(self.collection(), part, &dead, payload(again.clone())).await?;
        }
        self.wake.notify_one();
        Ok(ids.len())
    }
}
