//! The seam: one trait, [`Store`], its plain data types and its error. Backends depend on it, never
//! the reverse; the operations are those that Qdrant offers, so they fit over gRPC as well.

mod error;
mod schema;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use error::{StoreError, StoreResult};
pub use schema::{CollectionSchema, Distance, Ensured, PayloadIndex, VectorSchema};

use crate::filter::Filter;
use crate::id::PointId;

/// The payload of a point: a JSON object.
pub type Payload = Map<String, Value>;

/// The vectors of a point by name. A name that is missing is a vector that the point does not have.
/// The empty name is the unnamed vector of a collection that was made with only one.
pub type Vectors = BTreeMap<String, Vec<f32>>;

/// A point as it is written and read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The id.
    pub id: PointId,
    /// The vectors: all when written, the selected ones when read.
    pub vectors: Vectors,
    /// The payload: all when written, the selected keys when read.
    pub payload: Payload,
}

/// New values for some vectors of a point that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointVectors {
    /// The id.
    pub id: PointId,
    /// The vectors to set; others stay.
    pub vectors: Vectors,
}

/// A point that a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredPoint {
    /// The score by the vector's distance.
    pub score: f32,
    /// The point, with the selected vectors and payload keys.
    pub point: Point,
}

/// Which vectors are returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VectorSelection {
    /// None.
    #[default]
    None,
    /// All that the point has.
    All,
    /// Those of these names that the point has.
    Named(Vec<String>),
}

/// Which payload keys are returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PayloadSelection {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These keys (JSON paths).
    Include(Vec<String>),
    /// All but these keys (JSON paths).
    Exclude(Vec<String>),
}

/// What is returned of each point besides its id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Which vectors.
    pub vectors: VectorSelection,
    /// Which payload keys.
    pub payload: PayloadSelection,
}

impl Selection {
    /// Only ids.
    pub fn none() -> Self {
        Self::default()
    }

    /// All vectors and the whole payload.
    pub fn all() -> Self {
        Self { vectors: VectorSelection::All, payload: PayloadSelection::All }
    }

    /// The whole payload, no vector.
    pub fn payload() -> Self {
        Self { vectors: VectorSelection::None, payload: PayloadSelection::All }
    }

    /// These vectors, no payload: the cheapest read of vectors.
    pub fn vectors<Name: Into<String>>(names: impl IntoIterator<Item = Name>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self { vectors: VectorSelection::Named(names), payload: PayloadSelection::None }
    }
}

/// A nearest-neighbour search.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The named vector to search.
    pub vector_name: String,
    /// The query, with that vector's dimension.
    pub query: Vec<f32>,
    /// Only points that match.
    pub filter: Option<Filter>,
    /// How many points at most.
    pub limit: usize,
    /// How many of the nearest to skip.
    pub offset: usize,
    /// Only points nearer than this: above it for similarities, below it for distances.
    pub score_threshold: Option<f32>,
    /// Whether to compare with every point instead of using the HNSW index.
    pub exact: bool,
    /// What to return of each point.
    pub selection: Selection,
}

impl Search {
    /// A search for the `limit` nearest points, ids and scores only.
    pub fn new(vector_name: impl Into<String>, query: Vec<f32>, limit: usize) -> Self {
        Self {
            vector_name: vector_name.into(),
            query,
            filter: None,
            limit,
            offset: 0,
            score_threshold: None,
            exact: false,
            selection: Selection::none(),
        }
    }
}

/// One page of a walk through the points in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Scroll {
    /// Only points that match.
    pub filter: Option<Filter>,
    /// The first id of the page; none starts at the beginning.
    pub from: Option<PointId>,
    /// How many points at most, from 1.
    pub limit: usize,
    /// What to return of each point.
    pub selection: Selection,
}

/// A page of points.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The points, in the order of their ids.
    pub points: Vec<Point>,
    /// Where the next page starts; none after the last.
    pub next: Option<PointId>,
}

/// A value of an indexed payload key and the number of points that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FacetHit {
    /// The value: a string, an integer or a boolean.
    pub value: Value,
    /// Number of points.
    pub count: u64,
}

/// The points of a batched read in the order asked: backends return those that exist, in any order.
/// An id that was asked for twice is answered twice.
pub(crate) fn in_order(
    ids: &[PointId],
    points: impl IntoIterator<Item = Point>,
) -> Vec<Option<Point>> {
    let mut found: HashMap<PointId, Point> =
        points.into_iter().map(|point| (point.id, point)).collect();
    let mut asked: HashMap<PointId, usize> = HashMap::with_capacity(ids.len());
    for id in ids {
        *asked.entry(*id).or_default() += 1;
    }
    let answers = ids.iter().map(|id| {
        let left = asked.get_mut(id)?;
        *left -= 1;
        if *left == 0 { found.remove(id) } else { found.get(id).cloned() }
    });
    answers.collect()
}

/// Collections of points, in Qdrant's terms.
///
/// Writes are durable when they return: killing the process afterwards loses none of them. A write
/// checks all its points before it writes the first. It is not a transaction: if it fails half way,
/// or the process dies in it, a part may be written, and writing it again is harmless.
/// Dropping the future of a write does not stop the write.
///
/// Payload integers from `i64::MIN` to `i64::MAX` are kept exactly. A greater one is kept exactly or
/// refused, never changed: a backend over Qdrant's protocol cannot carry it.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Where the data is, in words, for logs and `check`.
    fn describe(&self) -> String;

    /// Makes the collection, or checks that the existing one has these vectors with these dimensions
    /// and distances (it may have more), and adds missing payload indexes.
    async fn ensure(&self, collection: &str, schema: &CollectionSchema) -> StoreResult<Ensured>;

    /// The vectors and payload indexes that the collection has.
    async fn schema(&self, collection: &str) -> StoreResult<CollectionSchema>;

    /// The names of all collections, sorted.
    async fn collections(&self) -> StoreResult<Vec<String>>;

    /// Deletes the collection; false if there is none.
    async fn delete_collection(&self, collection: &str) -> StoreResult<bool>;

    /// Writes whole points, new ones or in place of existing ones: a vector that the new point lacks
    /// is gone afterwards. Of points with the same id in one call the last stays.
    async fn upsert(&self, collection: &str, points: Vec<Point>) -> StoreResult<()>;

    /// Sets some vectors of points that exist; payload and other vectors stay.
    async fn update_vectors(&self, collection: &str, points: Vec<PointVectors>) -> StoreResult<()>;

    /// Sets payload keys of points that exist; a null removes its key, other keys stay.
    async fn set_payload(
        &self,
        collection: &str,
        ids: &[PointId],
        payload: Payload,
    ) -> StoreResult<()>;

    /// Sets payload keys of those of the points that match the filter when they are written: no
    /// other write of a point comes between its check and its change. Ids that do not exist or do
    /// not match are passed over; whoever must know reads afterwards. The call may be made twice, so
    /// the payload should make the filter fail or say the same again.
    async fn set_payload_where(
        &self,
        collection: &str,
        ids: &[PointId],
        filter: &Filter,
        payload: Payload,
    ) -> StoreResult<()>;

    /// Deletes points; ids that do not exist are ignored.
    async fn delete(&self, collection: &str, ids: &[PointId]) -> StoreResult<()>;

    /// Deletes those of the points that match the filter when they are deleted, checked as by
    /// [`Store::set_payload_where`].
    async fn delete_where(
        &self,
        collection: &str,
        ids: &[PointId],
        filter: &Filter,
    ) -> StoreResult<()>;

    /// Reads points by id in one call: the answer has one entry per id, in the order asked, `None`
    /// where there is no such point.
    async fn read(
        &self,
        collection: &str,
        ids: &[PointId],
        selection: &Selection,
    ) -> StoreResult<Vec<Option<Point>>>;

    /// Finds the nearest points, nearest first.
    async fn search(&self, collection: &str, search: Search) -> StoreResult<Vec<ScoredPoint>>;

    /// Returns one page of points in the order of their ids.
    async fn scroll(&self, collection: &str, scroll: Scroll) -> StoreResult<Page>;

    /// Counts the points that match, exactly.
    async fn count(&self, collection: &str, filter: Option<&Filter>) -> StoreResult<u64>;

    /// Counts the points per value of a payload key that has an index, most frequent first, exactly.
    async fn facet(
        &self,
        collection: &str,
        key: &str,
        filter: Option<&Filter>,
        limit: usize,
    ) -> StoreResult<Vec<FacetHit>>;

    /// Brings the collection into the form that is fast to search: builds HNSW indexes, merges
    /// segments, drops deleted points. Call it after bulk writing. A server does this by itself.
    async fn optimize(&self, collection: &str) -> StoreResult<()>;

    /// Brings all data into its final files.
    async fn flush(&self) -> StoreResult<()>;

    /// Flushes and releases everything; later calls fail with [`StoreError::Closed`].
    async fn close(&self) -> StoreResult<()>;
}
