//! Making, describing, listing and deleting collections, and their payload indexes.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Fault, Operations};
use crate::filter::Filter;
use crate::store::{CollectionSchema, Ensured, PayloadIndex, StoreError};

/// What a client is told of a collection.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::listener) struct CollectionInfo {
    /// Its vectors and payload indexes.
    pub(in crate::listener) schema: CollectionSchema,
    /// How many points it has.
    pub(in crate::listener) points: u64,
    /// How many points have a value of each indexed payload key.
    pub(in crate::listener) indexed_points: BTreeMap<String, u64>,
}

impl Operations {
    /// Makes a collection that does not exist yet.
    pub(in crate::listener) async fn create_collection(
        &self,
        collection: &str,
        schema: &CollectionSchema,
    ) -> Result<(), Fault> {
        for (name, vector) in &schema.vectors {
            if vector.dimension == 0 {
                let detail = "value 0 invalid, must be from 1 to 65536";
                return Err(Fault::range(&format!("the size of vector `{name}`"), detail));
            }
        }
        match self.store.ensure(collection, schema).await {
            Ok(Ensured::Created) => Ok(()),
            // The store takes a second making of the same collection; Qdrant does not.
            Ok(Ensured::Existing) | Err(StoreError::SchemaMismatch { .. }) => {
                Err(Fault::exists(collection))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(in crate::listener) async fn collection_info(
        &self,
        collection: &str,
    ) -> Result<CollectionInfo, Fault> {
        let schema = self.store.schema(collection).await?;
        let points = self.store.count(collection, None).await?;
        let mut indexed_points = BTreeMap::new();
        for key in schema.payload_indexes.keys() {
            let present = Filter::from_json(json!({"must_not": [{"is_empty": {"key": key}}]}))
                .map_err(StoreError::from)?;
            let count = self.store.count(collection, Some(&present)).await?;
            indexed_points.insert(key.clone(), count);
        }
        Ok(CollectionInfo { schema, points, indexed_points })
    }

    pub(in crate::listener) async fn collections(&self) -> Result<Vec<String>, Fault> {
        Ok(self.store.collections().await?)
    }

    /// Deletes a collection; false if there is none.
    pub(in crate::listener) async fn delete_collection(
        &self,
        collection: &str,
    ) -> Result<bool, Fault> {
        Ok(self.store.delete_collection(collection).await?)
    }

    pub(in crate::listener) async fn collection_exists(
        &self,
        collection: &str,
    ) -> Result<bool, Fault> {
        match self.store.schema(collection).await {
            Ok(_) => Ok(true),
            Err(StoreError::CollectionMissing { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds a payload index; one of the same kind that exists is left as it is.
    pub(in crate::listener) async fn create_payload_index(
        &self,
        collection: &str,
        key: String,
        index: PayloadIndex,
    ) -> Result<(), Fault> {
        // Only the index is asked for, with the vectors that are there, so nothing else can change.
        let CollectionSchema { vectors, .. } = self.store.schema(collection).await?;
        let wanted = CollectionSchema { vectors, payload_indexes: [(key, index)].into() };
        self.store.ensure(collection, &wanted).await?;
        Ok(())
    }
}
