//! A search team's existing items collection, used without ever being altered.
//!
//! [`ExistingItems`] stands between Whyrank and any store. To Whyrank the collection looks like its
//! own: the configured vector is called [`crate::records::ITEM_VECTOR`], and the configured payload
//! fields make an item record. What Whyrank has to write about items, their rating statistics, goes
//! into a collection of its own, and reads join both. Invariant: no call reaches the items collection
//! that could change it.

mod mapping;
mod settings;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use mapping::{Mapping, STATISTICS_KEY};
pub use settings::{ExistingAttribute, ExistingItemsSettings};

use crate::filter::Filter;
use crate::id::PointId;
use crate::records::{self, Statistics};
use crate::store::{
    CollectionSchema, Distance, PayloadSelection, Point, Selection, Store, StoreError, StoreResult,
    VectorSchema, Vectors,
};

/// The only vector of the statistics collection. No point has it; Qdrant wants a collection to have
/// one.
const NO_VECTOR: &str = "none";

/// A store whose items collection belongs to somebody else.
#[derive(Debug)]
pub struct ExistingItems {
    store: Arc<dyn Store>,
    items: String,
    statistics: String,
    vector: String,
    mapping: Mapping,
}

impl ExistingItems {
    /// Stands before a store whose collection `items` is described by the settings.
    ///
    /// # Errors
    /// [`StoreError::InvalidRequest`] if the settings have a fault.
    pub fn new(
        store: Arc<dyn Store>,
        items: impl Into<String>,
        settings: &ExistingItemsSettings,
    ) -> StoreResult<Self> {
        let items = items.into();
        if let Some(detail) = settings.fault(&items) {
            return Err(StoreError::InvalidRequest { collection: items, detail });
        }
        Ok(Self {
            mapping: Mapping::new(&items, settings)?,
            store,
            items,
            statistics: settings.statistics_collection.clone(),
            vector: settings.vector.clone(),
        })
    }

    /// Checks that the collection has the vector in this dimension. Its distance is the search team's
    /// choice, and its payload indexes are theirs as well.
    async fn check_items(&self, wanted: &CollectionSchema) -> StoreResult<()> {
        let found = self.store.schema(&self.items).await?;
        let Some(vector) = found.vectors.get(&self.vector) else {
            let known: Vec<String> = found.vectors.keys().map(|name| format!("{name:?}")).collect();
            return Err(self.refused(format!(
                "it has no vector {:?}, but {}; correct the vector of the existing items",
                self.vector,
                known.join(", ")
            )));
        };
        match wanted.vectors.values().next() {
            Some(wanted) if wanted.dimension != vector.dimension => Err(self.refused(format!(
                "its vector {:?} has {} components, but the consumers' vectors have {}; both must \
                 come from the same model",
                self.vector, vector.dimension, wanted.dimension
            ))),
            _ => Ok(()),
        }
    }

    /// The item points of foreign ones, with their statistics joined if the payload is wanted.
    async fn items_of(
        &self,
        foreign: Vec<Point>,
        payload: &PayloadSelection,
    ) -> StoreResult<Vec<Point>> {
        let ids: Vec<PointId> = foreign.iter().map(|point| point.id).collect();
        let statistics = self.statistics_of(&ids, payload).await?;
        let items = foreign.into_iter().zip(statistics);
        Ok(items.map(|(point, own)| self.mapping.item(point, own, payload)).collect())
    }

    /// The statistics of items, in the order asked; of an item without any, those of no ratings.
    async fn statistics_of(
        &self,
        ids: &[PointId],
        payload: &PayloadSelection,
    ) -> StoreResult<Vec<Statistics>> {
        if *payload == PayloadSelection::None || ids.is_empty() {
            return Ok(vec![Statistics::default(); ids.len()]);
        }
        match self.store.read(&self.statistics, ids, &Selection::payload()).await {
            Ok(points) => points.into_iter().map(|point| self.read_statistics(point)).collect(),
            // Nothing was imported yet.
            Err(StoreError::CollectionMissing { .. }) => Ok(vec![Statistics::default(); ids.len()]),
            Err(error) => Err(error),
        }
    }

    fn read_statistics(&self, point: Option<Point>) -> StoreResult<Statistics> {
        let Some(point) = point else { return Ok(Statistics::default()) };
        self.parse_statistics(&self.statistics, point.id, &Value::Object(point.payload))
    }

    fn parse_statistics(
        &self,
        collection: &str,
        id: PointId,
        value: &Value,
    ) -> StoreResult<Statistics> {
        Statistics::deserialize(value).map_err(|error| StoreError::InvalidPoint {
            collection: collection.to_owned(),
            id,
            detail: format!("its statistics cannot be read: {error}"),
        })
    }

    /// Writes statistics of items that exist.
    async fn write_statistics(&self, statistics: Vec<(PointId, Statistics)>) -> StoreResult<()> {
        let ids: Vec<PointId> = statistics.iter().map(|(id, _)| *id).collect();
        self.check_existing(&ids).await?;
        let points = statistics.into_iter().map(|(id, statistics)| Point {
            id,
            vectors: Vectors::new(),
            payload: records::payload_of(&statistics),
        });
        self.store.upsert(&self.statistics, points.collect()).await
    }

    async fn check_existing(&self, ids: &[PointId]) -> StoreResult<()> {
        /// Ids looked up at a time.
        const STEP: usize = 1_000;
        let mut missing = Vec::new();
        for step in ids.chunks(STEP) {
            let found = self.store.read(&self.items, step, &Selection::none()).await?;
            let gaps = step.iter().zip(found).filter(|(_, point)| point.is_none());
            missing.extend(gaps.map(|(id, _)| *id));
        }
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(StoreError::PointsMissing {
                collection: self.items.clone(),
                first: *first,
                count: missing.len(),
            }),
        }
    }

    fn filter(&self, filter: Option<&Filter>) -> StoreResult<Option<Filter>> {
        Ok(filter.map(|filter| self.mapping.filter(filter)).transpose()?)
    }

    fn refused(&self, detail: String) -> StoreError {
        StoreError::InvalidRequest { collection: self.items.clone(), detail }
    }

    /// The refusal of whatever would change the items collection.
    fn untouchable(&self, what: &str) -> StoreError {
        self.refused(format!(
            "{what}: the collection exists already and belongs to the search team, so it is only \
             read; change it where it is filled"
        ))
    }
}

fn statistics_schema() -> CollectionSchema {
    let none = VectorSchema { dimension: 1, distance: Distance::Dot, indexed: false };
    CollectionSchema {
        vectors: [(NO_VECTOR.to_owned(), none)].into(),
        ..CollectionSchema::default()
    }
}
