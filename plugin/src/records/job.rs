//! The `queue` collection: pairs that wait to be explained, and beside them one point that says whether
//! the queue runs and one point an hour and worker that says what was spent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RecordError, fields_of, payload_of};
use crate::id::{ItemId, PointId, UserId, explanation_id, queue_point_id};
use crate::store::{CollectionSchema, Distance, PayloadIndex, Point, VectorSchema, Vectors};

/// A collection needs a vector; it says nothing. All points have it, because a point that lacked one
/// would be written in two steps on a server: the point, and the deletion of what it may have had.
const NO_VECTOR: &str = "none";

pub(super) fn no_vector() -> Vectors {
    [(NO_VECTOR.to_owned(), vec![0.0])].into()
}

/// The payload key that tells jobs, usage and control apart.
pub const KIND_KEY: &str = "kind";
/// The value of [`KIND_KEY`] of a job.
pub const JOB_KIND: &str = "job";
/// The value of [`KIND_KEY`] of what a worker spent in an hour.
pub const USAGE_KIND: &str = "usage";

/// What becomes of a job next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for a worker, or a worker has it until it is due again.
    Waiting,
    /// It was given up; somebody must look at it.
    Dead,
}

/// A pair that waits to be explained. Its id is that of the explanation, so a pair waits once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// The consumer.
    pub user: UserId,
    /// The item.
    pub item: ItemId,
    /// Jobs of a smaller number go first.
    pub lane: i64,
    /// What becomes of it next.
    pub state: JobState,
    /// From when on a worker may take it, in milliseconds since the Unix epoch.
    pub due: i64,
    /// The worker that has it and this one time of having it; nobody if absent.
    pub lease: Option<String>,
    /// How often a worker took it.
    pub attempts: i64,
    /// When it was asked for last, in milliseconds since the Unix epoch: asked again while a worker has
    /// it, it stays.
    pub asked: i64,
    /// When it was queued, in milliseconds since the Unix epoch.
    pub queued: i64,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The request that waits for it, as the value of a `traceparent`, where that is traced.
    pub traceparent: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Fields {
    kind: String,
    user: String,
    item: String,
    lane: i64,
    state: JobState,
    due: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
    attempts: i64,
    asked: i64,
    queued: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

impl JobRecord {
    /// The point id of the job of this pair.
    pub fn id_of(user: &UserId, item: &ItemId) -> PointId {
        explanation_id(user, item)
    }

    /// The point id.
    pub fn id(&self) -> PointId {
        Self::id_of(&self.user, &self.item)
    }

    /// The point of this record.
    pub fn to_point(&self) -> Point {
        let fields = Fields {
            kind: JOB_KIND.to_owned(),
            user: self.user.to_string(),
            item: self.item.to_string(),
            lane: self.lane,
            state: self.state,
            due: self.due,
            lease: self.lease.clone(),
            attempts: self.attempts,
            asked: self.asked,
            queued: self.queued,
            error: self.error.clone(),
            traceparent: self.traceparent.clone(),
        };
        Point { id: self.id(), vectors: no_vector(), payload: payload_of(&fields) }
    }

    /// The record of a point that was read with its whole payload.
    pub fn from_point(mut point: Point) -> Result<Self, RecordError> {
        let fields: Fields = fields_of(&mut point, "a job")?;
        let error = |reason: String| RecordError { id: point.id, kind: "a job", reason };
        let user = fields.user.parse().map_err(|invalid| error(format!("user: {invalid}")))?;
        let item = fields.item.parse().map_err(|invalid| error(format!("item: {invalid}")))?;
        Ok(Self {
            user,
            item,
            lane: fields.lane,
            state: fields.state,
            due: fields.due,
            lease: fields.lease,
            attempts: fields.attempts,
            asked: fields.asked,
            queued: fields.queued,
            error: fields.error,
            traceparent: fields.traceparent,
        })
    }
}

/// Whether the queue runs, and what the workers that serve it write with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueControl {
    /// Workers take no job.
    pub paused: bool,
    /// Nothing new is taken in.
    pub draining: bool,
    /// The generator, its model and version, as explanations carry it.
    pub generator: Option<String>,
    /// The version of the prompt templates.
    pub prompt_version: Option<String>,
}

impl QueueControl {
    /// The one point id.
    pub fn id() -> PointId {
        queue_point_id("control")
    }

    /// The point of this record.
    pub fn to_point(&self) -> Point {
        Point { id: Self::id(), vectors: no_vector(), payload: payload_of(self) }
    }

    /// The record of a point that was read with its whole payload.
    pub fn from_point(mut point: Point) -> Result<Self, RecordError> {
        fields_of(&mut point, "the queue's control")
    }
}

/// What one worker spent in one hour. Only that worker writes it, so nothing is lost between two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageRecord {
    /// [`USAGE_KIND`].
    pub kind: String,
    /// Hours since the Unix epoch.
    pub hour: i64,
    /// The worker.
    pub worker: String,
    /// Pairs that the LLM wrote about.
    pub pairs: i64,
    /// Tokens read and written.
    pub tokens: i64,
}

impl UsageRecord {
    /// Nothing spent yet.
    pub fn new(hour: i64, worker: &str) -> Self {
        let (kind, worker) = (USAGE_KIND.to_owned(), worker.to_owned());
        Self { kind, hour, worker, pairs: 0, tokens: 0 }
    }

    /// The point of this record.
    pub fn to_point(&self) -> Point {
        let id = queue_point_id(&format!("usage/{}/{}", self.hour, self.worker));
        Point { id, vectors: no_vector(), payload: payload_of(self) }
    }

    /// The record of a point that was read with its whole payload.
    pub fn from_point(mut point: Point) -> Result<Self, RecordError> {
        fields_of(&mut point, "a worker's usage")
    }
}

/// The `queue` collection.
pub fn queue_schema() -> CollectionSchema {
    let none = VectorSchema { dimension: 1, distance: Distance::Dot, indexed: false };
    CollectionSchema {
        vectors: [(NO_VECTOR.to_owned(), none)].into(),
        payload_indexes: BTreeMap::from([
            (KIND_KEY.to_owned(), PayloadIndex::Keyword),
            ("state".to_owned(), PayloadIndex::Keyword),
            ("lane".to_owned(), PayloadIndex::Integer),
            ("due".to_owned(), PayloadIndex::Integer),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_from_their_points() {
        let job = JobRecord {
            user: UserId(7.into()),
            item: ItemId::from_external("50"),
            lane: 2,
            state: JobState::Waiting,
            due: 1_700_000_000_123,
            lease: Some("w-1".to_owned()),
            attempts: 3,
            asked: 1_700_000_000_100,
            queued: 1_700_000_000_000,
            error: Some("the server did not answer".to_owned()),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        };
        let free = JobRecord {
            lease: None,
            error: None,
            traceparent: None,
            state: JobState::Dead,
            ..job.clone()
        };
        for job in [job, free] {
            assert_eq!(JobRecord::from_point(job.to_point()), Ok(job));
        }
        let usage = UsageRecord { pairs: 3, tokens: 900, ..UsageRecord::new(5, "w") };
        assert_eq!(UsageRecord::from_point(usage.to_point()), Ok(usage));
        let control = QueueControl { paused: true, ..QueueControl::default() };
        assert_eq!(QueueControl::from_point(control.to_point()), Ok(control));
    }
}
