//! What the four collections hold: the records, their points, and the schemas of the collections.

mod explanation;
mod item;
mod job;
mod release;
mod user;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use explanation::{ExplanationRecord, PairCodes, Provenance, Source, read_pair_codes};
pub use item::ItemRecord;
pub use job::{
    JOB_KIND, JobRecord, JobState, KIND_KEY, QueueControl, USAGE_KIND, UsageRecord, queue_schema,
};
pub use release::{RELEASE_KIND, ReleaseRecord};
pub use user::{HistoryEntry, Posted, StoredTaste, UserRecord};

use crate::id::PointId;
use crate::store::{
    CollectionSchema, Distance, Payload, PayloadIndex, Point, VectorSchema, Vectors,
};

/// The named vector of a user point, `[d]`.
pub const USER_VECTOR: &str = "user";
/// The named vector of an item point, `[d]`, in the same space as the users' vectors.
pub const ITEM_VECTOR: &str = "item";
/// The named vector with the code of the positive text, `[k]`.
pub const POSITIVE_VECTOR: &str = "positive";
/// The named vector with the code of the negative text, `[k]`.
pub const NEGATIVE_VECTOR: &str = "negative";
/// The payload key that keeps a user's or an item's id as the data gave it.
pub const EXTERNAL_ID_KEY: &str = "external_id";
/// The payload key of an explanation's consumer: the user's point id as text.
pub const USER_KEY: &str = "user";
/// The payload key of an explanation's item: the item's point id as text.
pub const ITEM_KEY: &str = "item";

/// Number and mean of the ratings of a consumer or an item, over the history part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Statistics {
    /// Number of ratings.
    pub count: u64,
    /// Their mean; none if there are no ratings.
    pub mean_rating: Option<f32>,
    /// Of an item: what an average consumer is expected to rate it, which indexing finds out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_rating: Option<f32>,
    /// Of an item: what an LLM foresees of its ratings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
}

/// What an LLM that is told an item's title foresees of how people rate it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// From 1 to 10, whatever the scale of the ratings.
    pub rating: f32,
    /// Digest of model, question and title: with the same ones nothing else would be said.
    pub version: u32,
}

impl Statistics {
    /// The statistics of these ratings.
    pub fn of(ratings: impl IntoIterator<Item = f32>) -> Self {
        let (mut count, mut sum) = (0_u64, 0.0_f64);
        for rating in ratings {
            count += 1;
            sum += f64::from(rating);
        }
        let mean_rating = (count > 0).then(|| (sum / count as f64) as f32);
        Self { count, mean_rating, ..Self::default() }
    }
}

/// A stored point is not the record it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("point {id} is not {kind}: {reason}; index it again")]
pub struct RecordError {
    /// The point.
    pub id: PointId,
    /// The kind of record that was expected, with its article.
    pub kind: &'static str,
    /// What is missing or does not fit.
    pub reason: String,
}

/// The `users` collection for vectors of `dimension` components.
pub fn users_schema(dimension: usize) -> CollectionSchema {
    schema([(USER_VECTOR, indexed(dimension))], [(EXTERNAL_ID_KEY, PayloadIndex::Keyword)])
}

/// The `items` collection for vectors of `dimension` components.
pub fn items_schema(dimension: usize) -> CollectionSchema {
    schema([(ITEM_VECTOR, indexed(dimension))], [(EXTERNAL_ID_KEY, PayloadIndex::Keyword)])
}

/// The `explanations` collection for codes of `dimension` components. Codes are read by id, so no
/// HNSW index is built for them.
pub fn explanations_schema(dimension: usize) -> CollectionSchema {
    let code = VectorSchema { dimension, distance: Distance::Dot, indexed: false };
    schema(
        [(POSITIVE_VECTOR, code), (NEGATIVE_VECTOR, code)],
        [(USER_KEY, PayloadIndex::Keyword), (ITEM_KEY, PayloadIndex::Keyword)],
    )
}

fn indexed(dimension: usize) -> VectorSchema {
    VectorSchema { dimension, distance: Distance::Dot, indexed: true }
}

fn schema<const V: usize, const P: usize>(
    vectors: [(&str, VectorSchema); V],
    payload_indexes: [(&str, PayloadIndex); P],
) -> CollectionSchema {
    CollectionSchema {
        vectors: vectors.map(|(name, vector)| (name.to_owned(), vector)).into(),
        payload_indexes: payload_indexes.map(|(key, index)| (key.to_owned(), index)).into(),
    }
}

/// The payload that a record's serialisable part makes.
pub(crate) fn payload_of(fields: &impl Serialize) -> Payload {
    match serde_json::to_value(fields) {
        Ok(Value::Object(payload)) => payload,
        other => unreachable!("the fields of a record serialise to an object, not {other:?}"),
    }
}

/// Reads a record's serialisable part from a point's payload; other keys are left alone, because a
/// collection may carry more than Whyrank wrote.
fn fields_of<Fields: DeserializeOwned>(
    point: &mut Point,
    kind: &'static str,
) -> Result<Fields, RecordError> {
    let payload = std::mem::take(&mut point.payload);
    Fields::deserialize(Value::Object(payload)).map_err(|error| RecordError {
        id: point.id,
        kind,
        reason: error.to_string(),
    })
}

/// The vectors of a point with at most one vector.
fn single_vector(name: &str, vector: Option<&Vec<f32>>) -> Vectors {
    vector.map(|vector| (name.to_owned(), vector.clone())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_no_ratings_have_no_mean() {
        let check = |ratings: &[f32], count: u64, mean_rating: Option<f32>| {
            assert_eq!(
                Statistics::of(ratings.iter().copied()),
                Statistics { count, mean_rating, ..Statistics::default() }
            );
        };
        check(&[], 0, None);
        check(&[3.0], 1, Some(3.0));
        check(&[1.0, 2.0, 4.5], 3, Some(2.5));
    }

    #[test]
    fn codes_are_not_indexed_for_search() {
        let schema = explanations_schema(32);
        assert!(schema.vectors.values().all(|vector| !vector.indexed && vector.dimension == 32));
        assert!(users_schema(8).vectors[USER_VECTOR].indexed);
    }
}
