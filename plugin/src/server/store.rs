//! The [`Store`] trait on the server backend. Reads end when their caller leaves, writes go on.

use async_trait::async_trait;

use super::ServerStore;
use super::connect::shown;
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{
    CollectionSchema, Ensured, FacetHit, Page, Payload, Point, PointVectors, ScoredPoint, Scroll,
    Search, Selection, Store, StoreError, StoreResult,
};

#[async_trait]
impl Store for ServerStore {
    fn describe(&self) -> String {
        format!("Qdrant {} at {}", self.inner.version, shown(&self.inner.settings.url))
    }

    async fn ensure(&self, collection: &str, schema: &CollectionSchema) -> StoreResult<Ensured> {
        let (collection, schema) = (collection.to_owned(), schema.clone());
        self.write(|inner| async move { inner.ensure(&collection, &schema).await }).await
    }

    async fn schema(&self, collection: &str) -> StoreResult<CollectionSchema> {
        Ok((*self.inner.fresh_schema(collection).await?).clone())
    }

    async fn collections(&self) -> StoreResult<Vec<String>> {
        self.inner.collections().await
    }

    async fn delete_collection(&self, collection: &str) -> StoreResult<bool> {
        let collection = collection.to_owned();
        self.write(|inner| async move { inner.delete_collection(&collection).await }).await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.upsert",
        skip_all
    )]
    async fn upsert(&self, collection: &str, points: Vec<Point>) -> StoreResult<()> {
        let collection = collection.to_owned();
        self.write(|inner| async move { inner.upsert(&collection, points).await }).await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.update_vectors",
        skip_all
    )]
    async fn update_vectors(&self, collection: &str, points: Vec<PointVectors>) -> StoreResult<()> {
        let collection = collection.to_owned();
        self.write(|inner| async move { inner.update_vectors(&collection, points).await }).await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.set_payload",
        skip_all
    )]
    async fn set_payload(
        &self,
        collection: &str,
        ids: &[PointId],
        payload: Payload,
    ) -> StoreResult<()> {
        let (collection, ids) = (collection.to_owned(), ids.to_vec());
        self.write(|inner| async move { inner.set_payload(&collection, &ids, payload).await }).await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.set_payload_where",
        skip_all
    )]
    async fn set_payload_where(
        &self,
        collection: &str,
        ids: &[PointId],
        filter: &Filter,
        payload: Payload,
    ) -> StoreResult<()> {
        let (collection, ids, filter) = (collection.to_owned(), ids.to_vec(), filter.clone());
        self.write(|inner| async move {
            inner.set_payload_where(&collection, &ids, &filter, payload).await
        })
        .await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.delete_where",
        skip_all
    )]
    async fn delete_where(
        &self,
        collection: &str,
        ids: &[PointId],
        filter: &Filter,
    ) -> StoreResult<()> {
        let (collection, ids, filter) = (collection.to_owned(), ids.to_vec(), filter.clone());
        self.write(|inner| async move { inner.delete_where(&collection, &ids, &filter).await })
            .await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.delete",
        skip_all
    )]
    async fn delete(&self, collection: &str, ids: &[PointId]) -> StoreResult<()> {
        let (collection, ids) = (collection.to_owned(), ids.to_vec());
        self.write(|inner| async move { inner.delete(&collection, &ids).await }).await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.read",
        skip_all
    )]
    async fn read(
        &self,
        collection: &str,
        ids: &[PointId],
        selection: &Selection,
    ) -> StoreResult<Vec<Option<Point>>> {
        self.inner.read(collection, ids, selection).await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.search",
        skip_all
    )]
    async fn search(&self, collection: &str, search: Search) -> StoreResult<Vec<ScoredPoint>> {
        self.inner.search(collection, search).await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.scroll",
        skip_all
    )]
    async fn scroll(&self, collection: &str, scroll: Scroll) -> StoreResult<Page> {
        self.inner.scroll(collection, scroll).await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.count",
        skip_all
    )]
    async fn count(&self, collection: &str, filter: Option<&Filter>) -> StoreResult<u64> {
        self.inner.count(collection, filter).await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.facet",
        skip_all
    )]
    async fn facet(
        &self,
        collection: &str,
        key: &str,
        filter: Option<&Filter>,
        limit: usize,
    ) -> StoreResult<Vec<FacetHit>> {
        self.inner.facet(collection, key, filter, limit).await
    }

    async fn optimize(&self, collection: &str) -> StoreResult<()> {
        self.inner.optimize(collection).await
    }

    async fn flush(&self) -> StoreResult<()> {
        // The server has every acknowledged write in its log.
        self.inner.clients().as_ref().map(drop).ok_or(StoreError::Closed)
    }

    async fn close(&self) -> StoreResult<()> {
        // Calls that are running have copies of the connection and finish.
        self.inner.clients().take();
        Ok(())
    }
}
