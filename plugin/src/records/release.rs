//! What was told to sellers about an item, kept so that the same is told for a while.

use serde::{Deserialize, Serialize};

use super::job::no_vector;
use super::{RecordError, fields_of, payload_of};
use crate::id::{ItemId, PointId, queue_point_id};
use crate::store::Point;

/// The value of [`KIND_KEY`](super::KIND_KEY) of a release.
pub const RELEASE_KIND: &str = "release";

/// What was told about one item. It lies in the `queue` collection, beside what else all processes share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// [`RELEASE_KIND`].
    pub kind: String,
    /// The item's point id.
    pub item: String,
    /// When it was made, in seconds since the Unix epoch.
    pub made: i64,
    /// What was told, as JSON.
    pub content: String,
}

impl ReleaseRecord {
    /// A release about an item.
    pub fn new(item: ItemId, made: i64, content: String) -> Self {
        Self { kind: RELEASE_KIND.to_owned(), item: item.to_string(), made, content }
    }

    /// Where an item's release lies.
    pub fn point_id(item: ItemId) -> PointId {
        queue_point_id(&format!("release/{item}"))
    }

    /// The point of this record.
    pub fn to_point(&self) -> Point {
        let id = queue_point_id(&format!("release/{}", self.item));
        Point { id, vectors: no_vector(), payload: payload_of(self) }
    }

    /// The record of a point that was read with its whole payload.
    ///
    /// # Errors
    /// When the point is something else.
    pub fn from_point(mut point: Point) -> Result<Self, RecordError> {
        fields_of(&mut point, "a release")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_comes_back_from_its_point() {
        let item = ItemId::from_external("50");
        let release = ReleaseRecord::new(item, 1_700_000_000, "{}".to_owned());
        assert_eq!(release.to_point().id, ReleaseRecord::point_id(item));
        assert_eq!(ReleaseRecord::from_point(release.to_point()).unwrap(), release);
    }
}
