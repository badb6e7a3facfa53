//! An item in the `items` collection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ITEM_VECTOR, RecordError, Statistics, fields_of, payload_of, single_vector};
use crate::id::ItemId;
use crate::store::Point;

/// An item: what is known of it and its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemRecord {
    /// The point id.
    pub id: ItemId,
    /// The id as the data gave it.
    pub external_id: String,
    /// The title.
    pub title: String,
    /// What else is known, by attribute name.
    pub attributes: BTreeMap<String, String>,
    /// The description, from the seller: hostile until proven otherwise. May be empty.
    pub text: String,
    /// Over the history part.
    pub statistics: Statistics,
    /// The item vector, `[d]`.
    pub vector: Option<Vec<f32>>,
}

/// The payload of an item point.
#[derive(Serialize, Deserialize)]
struct Fields {
    external_id: String,
    title: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    statistics: Statistics,
}

impl ItemRecord {
    /// The point of this record.
    pub fn to_point(&self) -> Point {
        let fields = Fields {
            external_id: self.external_id.clone(),
            title: self.title.clone(),
            attributes: self.attributes.clone(),
            text: self.text.clone(),
            statistics: self.statistics,
        };
        Point {
            id: self.id.point(),
            vectors: single_vector(ITEM_VECTOR, self.vector.as_ref()),
            payload: payload_of(&fields),
        }
    }

    /// The record of a point that was read with its whole payload. The vector is `None` if it was
    /// not selected or the point has none.
    pub fn from_point(mut point: Point) -> Result<Self, RecordError> {
        let fields: Fields = fields_of(&mut point, "an item")?;
        Ok(Self {
            id: ItemId(point.id),
            external_id: fields.external_id,
            title: fields.title,
            attributes: fields.attributes,
            text: fields.text,
            statistics: fields.statistics,
            vector: point.vectors.remove(ITEM_VECTOR),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::Forecast;

    proptest! {
        #[test]
        fn a_record_with_any_text_comes_back_from_its_point(
            external_id in ".*", title in ".*", text in ".*",
            attributes in prop::collection::btree_map(".*", ".*", 0..4),
            count in any::<u64>(), mean_rating in prop::option::of(-10.0_f32..10.0),
            expected_rating in prop::option::of(-10.0_f32..10.0),
            forecast in prop::option::of((1.0_f32..10.0, any::<u32>())),
            vector in prop::option::of(prop::collection::vec(-10.0_f32..10.0, 1..4)),
        ) {
            let id = ItemId::from_external(&external_id);
            let forecast = forecast.map(|(rating, version)| Forecast { rating, version });
            let statistics = Statistics { count, mean_rating, expected_rating, forecast };
            let record = ItemRecord { id, external_id, title, attributes, text, statistics, vector };
            prop_assert_eq!(ItemRecord::from_point(record.to_point()), Ok(record));
        }
    }

    #[test]
    fn a_value_of_another_type_is_named() {
        let mut point =
            Point { id: 1.into(), vectors: Default::default(), payload: Default::default() };
        point.payload.insert("external_id".to_owned(), 5.into());
        let error = ItemRecord::from_point(point).unwrap_err().to_string();
        assert!(
            error.contains("point 1 is not an item") && error.contains("integer `5`"),
            "{error}"
        );
    }
}
