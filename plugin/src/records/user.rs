//! A consumer in the `users` collection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RecordError, Statistics, USER_VECTOR, fields_of, payload_of, single_vector};
use crate::id::{ItemId, UserId};
use crate::store::{Payload, Point};

/// One item of a consumer's history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The item.
    pub item: ItemId,
    /// The rating that the consumer gave.
    pub rating: f32,
    /// When, in seconds since the Unix epoch.
    pub time: i64,
}

/// An interaction that came after the import, one at a time. It outlives another import of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Posted {
    /// What makes it one interaction, however often it is sent.
    pub key: String,
    /// What it added to the history.
    #[serde(flatten)]
    pub entry: HistoryEntry,
}

/// How a consumer's ratings differ from those of an average consumer, solved from the whole history.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StoredTaste {
    /// Deviation over all items, in units of the ratings.
    pub bias: f32,
    /// Deviation beyond that for each axis of the item vectors, `[d]`.
    pub weights: Vec<f32>,
}

/// A consumer: profile, history and vector.
#[derive(Debug, Clone, PartialEq)]
pub struct UserRecord {
    /// The point id.
    pub id: UserId,
    /// The id as the data gave it.
    pub external_id: String,
    /// The profile, by attribute name.
    pub attributes: BTreeMap<String, String>,
    /// The recent rated items of the history part, newest first.
    pub history: Vec<HistoryEntry>,
    /// All items that the consumer interacted with, for leaving them out of a search.
    pub seen: Vec<ItemId>,
    /// Over the history part.
    pub statistics: Statistics,
    /// The user vector, `[d]`.
    pub vector: Option<Vec<f32>>,
    /// How the ratings differ from an average consumer's; none before indexing.
    pub taste: Option<StoredTaste>,
    /// The latest interactions that came after the import, newest first; the history has them too.
    pub posted: Vec<Posted>,
    /// Changes with every interaction that came after the import, so that two writers notice each other.
    pub revision: Option<String>,
    /// The revision that the vector and the marks on the explanations belong to.
    pub settled: Option<String>,
}

/// The payload of a user point.
#[derive(Serialize, Deserialize)]
struct Fields {
    external_id: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    history: Vec<HistoryEntry>,
    #[serde(default)]
    seen: Vec<ItemId>,
    #[serde(default)]
    statistics: Statistics,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taste: Option<StoredTaste>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    posted: Vec<Posted>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<String>,
}

impl UserRecord {
    /// The point of this record.
    pub fn to_point(&self) -> Point {
        let fields = Fields {
            external_id: self.external_id.clone(),
            attributes: self.attributes.clone(),
            history: self.history.clone(),
            seen: self.seen.clone(),
            statistics: self.statistics,
            taste: self.taste.clone(),
            posted: self.posted.clone(),
            revision: self.revision.clone(),
            settled: self.settled.clone(),
        };
        Point {
            id: self.id.point(),
            vectors: single_vector(USER_VECTOR, self.vector.as_ref()),
            payload: payload_of(&fields),
        }
    }

    /// The part of the payload that indexing changes; none for a consumer without a taste.
    pub fn taste_payload(&self) -> Option<Payload> {
        let taste = self.taste.as_ref()?;
        Some(payload_of(&BTreeMap::from([("taste", taste)])))
    }

    /// The record of a point that was read with its whole payload. The vector is `None` if it was
    /// not selected or the point has none.
    pub fn from_point(mut point: Point) -> Result<Self, RecordError> {
        let fields: Fields = fields_of(&mut point, "a user")?;
        Ok(Self {
            id: UserId(point.id),
            external_id: fields.external_id,
            attributes: fields.attributes,
            history: fields.history,
            seen: fields.seen,
            statistics: fields.statistics,
            vector: point.vectors.remove(USER_VECTOR),
            taste: fields.taste,
            posted: fields.posted,
            revision: fields.revision,
            settled: fields.settled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> UserRecord {
        let item = ItemId::from_external("50");
        UserRecord {
            id: UserId::from_external("Jürgen 7"),
            external_id: "Jürgen 7".to_owned(),
            attributes: [("occupation".to_owned(), "библиотекарь".to_owned())].into(),
            history: vec![HistoryEntry { item, rating: 3.6, time: 874_965_758 }],
            seen: vec![item, ItemId(9.into())],
            statistics: Statistics { count: 1, mean_rating: Some(3.6), ..Statistics::default() },
            vector: Some(vec![0.1, -2.0]),
            taste: Some(StoredTaste { bias: 0.5, weights: vec![0.25, -1.0] }),
            posted: vec![Posted {
                key: "order 7".to_owned(),
                entry: HistoryEntry { item, rating: 3.6, time: 874_965_758 },
            }],
            revision: Some("r".to_owned()),
            settled: Some("r".to_owned()),
        }
    }

    #[test]
    fn a_record_comes_back_from_its_point() {
        let bare = UserRecord {
            attributes: BTreeMap::new(),
            history: Vec::new(),
            seen: Vec::new(),
            statistics: Statistics::default(),
            vector: None,
            taste: None,
            posted: Vec::new(),
            revision: None,
            settled: None,
            ..record()
        };
        for record in [record(), bare] {
            assert_eq!(UserRecord::from_point(record.to_point()), Ok(record));
        }
    }

    #[test]
    fn the_taste_alone_is_the_same_as_in_the_whole_payload() {
        let whole = record().to_point().payload;
        let part = record().taste_payload().unwrap();
        assert_eq!(part.keys().collect::<Vec<_>>(), ["taste"]);
        assert_eq!(part["taste"], whole["taste"]);
        assert_eq!(UserRecord { taste: None, ..record() }.taste_payload(), None);
    }

    #[test]
    fn a_foreign_point_is_refused_with_the_missing_key() {
        let mut point = record().to_point();
        point.payload.remove("external_id");
        let error = UserRecord::from_point(point).unwrap_err();
        assert_eq!(error.id, record().id.point());
        assert!(error.to_string().contains("missing field `external_id`"), "{error}");
    }

    #[test]
    fn keys_that_others_wrote_are_left_alone() {
        let mut point = record().to_point();
        point.payload.insert("crm_segment".to_owned(), "gold".into());
        assert_eq!(UserRecord::from_point(point), Ok(record()));
    }
}
