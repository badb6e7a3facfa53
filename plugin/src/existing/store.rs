//! The [`Store`] trait over an existing items collection: calls on it are translated or refused, all
//! others pass.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use super::{ExistingItems, STATISTICS_KEY, statistics_schema};
use crate::filter::Filter;
use crate::id::PointId;
use crate::records::{ITEM_VECTOR, Statistics};
use crate::store::{
    CollectionSchema, Ensured, FacetHit, Page, Payload, PayloadSelection, Point, PointVectors,
    ScoredPoint, Scroll, Search, Selection, Store, StoreResult,
};

#[async_trait]
impl Store for ExistingItems {
    fn describe(&self) -> String {
        format!("{}; items in the existing collection `{}`", self.store.describe(), self.items)
    }

    async fn ensure(&self, collection: &str, schema: &CollectionSchema) -> StoreResult<Ensured> {
        if collection != self.items {
            return self.store.ensure(collection, schema).await;
        }
        self.check_items(schema).await?;
        self.store.ensure(&self.statistics, &statistics_schema()).await?;
        Ok(Ensured::Existing)
    }

    async fn schema(&self, collection: &str) -> StoreResult<CollectionSchema> {
        let mut schema = self.store.schema(collection).await?;
        if collection == self.items {
            let vector = schema.vectors.remove(&self.vector);
            let vector = vector.map(|vector| (ITEM_VECTOR.to_owned(), vector));
            schema.vectors = BTreeMap::from_iter(vector);
        }
        Ok(schema)
    }

    async fn collections(&self) -> StoreResult<Vec<String>> {
        self.store.collections().await
    }

    async fn delete_collection(&self, collection: &str) -> StoreResult<bool> {
        if collection == self.items {
            return Err(self.untouchable("it is not deleted"));
        }
        self.store.delete_collection(collection).await
    }

    async fn upsert(&self, collection: &str, points: Vec<Point>) -> StoreResult<()> {
        if collection != self.items {
            return self.store.upsert(collection, points).await;
        }
        let statistics = points.into_iter().map(|point| {
            let statistics = match point.payload.get(STATISTICS_KEY) {
                Some(value) => self.parse_statistics(&self.items, point.id, value)?,
                None => Statistics::default(),
            };
            Ok((point.id, statistics))
        });
        self.write_statistics(statistics.collect::<StoreResult<_>>()?).await
    }

    async fn update_vectors(&self, collection: &str, points: Vec<PointVectors>) -> StoreResult<()> {
        if collection == self.items {
            return Err(self.untouchable("its vectors are not changed"));
        }
        self.store.update_vectors(collection, points).await
    }

    async fn set_payload(
        &self,
        collection: &str,
        ids: &[PointId],
        payload: Payload,
    ) -> StoreResult<()> {
        if collection != self.items {
            return self.store.set_payload(collection, ids, payload).await;
        }
        if let Some(key) = payload.keys().find(|key| *key != STATISTICS_KEY) {
            return Err(self.untouchable(&format!("its payload key `{key}` is not changed")));
        }
        let mut statistics = Vec::with_capacity(ids.len());
        if let Some(value) = payload.get(STATISTICS_KEY) {
            for id in ids {
                let own = match value {
                    Value::Null => Statistics::default(),
                    value => self.parse_statistics(&self.items, *id, value)?,
                };
                statistics.push((*id, own));
            }
        }
        self.write_statistics(statistics).await
    }

    async fn set_payload_where(
        &self,
        collection: &str,
        ids: &[PointId],
        filter: &Filter,
        payload: Payload,
    ) -> StoreResult<()> {
        if collection == self.items {
            return Err(self.untouchable("its payload is not changed by conditions"));
        }
        self.store.set_payload_where(collection, ids, filter, payload).await
    }

    async fn delete_where(
        &self,
        collection: &str,
        ids: &[PointId],
        filter: &Filter,
    ) -> StoreResult<()> {
        if collection == self.items {
            return Err(self.untouchable("its points are not deleted"));
        }
        self.store.delete_where(collection, ids, filter).await
    }

    async fn delete(&self, collection: &str, ids: &[PointId]) -> StoreResult<()> {
        if collection == self.items {
            return Err(self.untouchable("its points are not deleted"));
        }
        self.store.delete(collection, ids).await
    }

    async fn read(
        &self,
        collection: &str,
        ids: &[PointId],
        selection: &Selection,
    ) -> StoreResult<Vec<Option<Point>>> {
        if collection != self.items {
            return self.store.read(collection, ids, selection).await;
        }
        let foreign = self.mapping.foreign_selection(selection)?;
        // Both at once: the ids are known.
        let (points, statistics) = futures::try_join!(
            self.store.read(collection, ids, &foreign),
            self.statistics_of(ids, &selection.payload),
        )?;
        let items = points.into_iter().zip(statistics).map(|(point, statistics)| {
            point.map(|point| self.mapping.item(point, statistics, &selection.payload))
        });
        Ok(items.collect())
    }

    async fn search(&self, collection: &str, search: Search) -> StoreResult<Vec<ScoredPoint>> {
        if collection != self.items {
            return self.store.search(collection, search).await;
        }
        let payload = search.selection.payload.clone();
        let search = Search {
            vector_name: self.mapping.vector(&search.vector_name)?,
            filter: self.filter(search.filter.as_ref())?,
            selection: self.mapping.foreign_selection(&search.selection)?,
            ..search
        };
        let found = self.store.search(collection, search).await?;
        let (scores, points): (Vec<f32>, Vec<Point>) =
            found.into_iter().map(|scored| (scored.score, scored.point)).unzip();
        let items = self.items_of(points, &payload).await?;
        Ok(scores
            .into_iter()
            .zip(items)
            .map(|(score, point)| ScoredPoint { score, point })
            .collect())
    }

    async fn scroll(&self, collection: &str, scroll: Scroll) -> StoreResult<Page> {
        if collection != self.items {
            return self.store.scroll(collection, scroll).await;
        }
        let payload: PayloadSelection = scroll.selection.payload.clone();
        let scroll = Scroll {
            filter: self.filter(scroll.filter.as_ref())?,
            selection: self.mapping.foreign_selection(&scroll.selection)?,
            ..scroll
        };
        let page = self.store.scroll(collection, scroll).await?;
        Ok(Page { points: self.items_of(page.points, &payload).await?, next: page.next })
    }

    async fn count(&self, collection: &str, filter: Option<&Filter>) -> StoreResult<u64> {
        if collection != self.items {
            return self.store.count(collection, filter).await;
        }
        self.store.count(collection, self.filter(filter)?.as_ref()).await
    }

    async fn facet(
        &self,
        collection: &str,
        key: &str,
        filter: Option<&Filter>,
        limit: usize,
    ) -> StoreResult<Vec<FacetHit>> {
        if collection != self.items {
            return self.store.facet(collection, key, filter, limit).await;
        }
        self.store.facet(collection, key, self.filter(filter)?.as_ref(), limit).await
    }

    async fn optimize(&self, collection: &str) -> StoreResult<()> {
        // When their collection is rebuilt is the search team's decision.
        let own = if collection == self.items { &self.statistics } else { collection };
        self.store.optimize(own).await
    }

    async fn flush(&self) -> StoreResult<()> {
        self.store.flush().await
    }

    async fn close(&self) -> StoreResult<()> {
        self.store.close().await
    }
}
