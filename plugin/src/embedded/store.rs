//! The [`Store`] trait on the embedded backend: each call is checked and handed to the collection on
//! a blocking thread.

use async_trait::async_trait;

use super::journal::Operation;
use super::{EmbeddedStore, blocking, read};
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{
    CollectionSchema, Ensured, FacetHit, Page, Payload, Point, PointVectors, ScoredPoint, Scroll,
    Search, Selection, Store, StoreResult,
};
use crate::validate;

#[async_trait]
impl Store for EmbeddedStore {
    fn describe(&self) -> String {
        format!("embedded Qdrant engine in {}", self.inner.settings.folder.display())
    }

    async fn ensure(&self, collection: &str, schema: &CollectionSchema) -> StoreResult<Ensured> {
        let inner = self.inner.clone();
        let (collection, schema) = (collection.to_owned(), schema.clone());
        blocking(move || inner.ensure(&collection, &schema)).await
    }

    async fn schema(&self, collection: &str) -> StoreResult<CollectionSchema> {
        Ok(self.inner.collection(collection)?.schema())
    }

    async fn collections(&self) -> StoreResult<Vec<String>> {
        Ok(self.inner.all()?.iter().map(|collection| collection.name().to_owned()).collect())
    }

    async fn delete_collection(&self, collection: &str) -> StoreResult<bool> {
        let (inner, collection) = (self.inner.clone(), collection.to_owned());
        blocking(move || inner.delete_collection(&collection)).await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.upsert",
        skip_all
    )]
    async fn upsert(&self, collection: &str, points: Vec<Point>) -> StoreResult<()> {
        self.on(collection, move |collection, settings| {
            validate::points(collection.name(), &collection.schema(), &points)?;
            in_steps(points, settings.write_batch, |step| collection.write(Operation::Upsert(step)))
        })
        .await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.update_vectors",
        skip_all
    )]
    async fn update_vectors(&self, collection: &str, points: Vec<PointVectors>) -> StoreResult<()> {
        self.on(collection, move |collection, settings| {
            validate::point_vectors(collection.name(), &collection.schema(), &points)?;
            let ids: Vec<PointId> = points.iter().map(|point| point.id).collect();
            collection.check_existing(&ids)?;
            in_steps(points, settings.write_batch, |step| {
                collection.write(Operation::UpdateVectors(step))
            })
        })
        .await
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
        let ids = ids.to_vec();
        self.on(collection, move |collection, settings| {
            collection.check_existing(&ids)?;
            in_steps(ids, settings.write_batch, |step| {
                collection.write(Operation::SetPayload(step, payload.clone()))
            })
        })
        .await
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
        let (ids, filter) = (ids.to_vec(), filter.clone());
        self.on(collection, move |collection, settings| {
            in_steps(ids, settings.write_batch, |step| {
                let write = |ids| Operation::SetPayload(ids, payload.clone());
                collection.write_matching(&step, &filter, write)
            })
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
        let (ids, filter) = (ids.to_vec(), filter.clone());
        self.on(collection, move |collection, settings| {
            in_steps(ids, settings.write_batch, |step| {
                collection.write_matching(&step, &filter, Operation::Delete)
            })
        })
        .await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.delete",
        skip_all
    )]
    async fn delete(&self, collection: &str, ids: &[PointId]) -> StoreResult<()> {
        let ids = ids.to_vec();
        self.on(collection, move |collection, settings| {
            in_steps(ids, settings.write_batch, |step| collection.write(Operation::Delete(step)))
        })
        .await
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
        let (ids, selection) = (ids.to_vec(), selection.clone());
        self.on(collection, move |collection, settings| {
            read::read(collection, settings, &ids, &selection)
        })
        .await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.search",
        skip_all
    )]
    async fn search(&self, collection: &str, search: Search) -> StoreResult<Vec<ScoredPoint>> {
        self.on(collection, move |collection, settings| read::search(collection, settings, search))
            .await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.scroll",
        skip_all
    )]
    async fn scroll(&self, collection: &str, scroll: Scroll) -> StoreResult<Page> {
        self.on(collection, move |collection, settings| read::scroll(collection, settings, scroll))
            .await
    }

    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "store.count",
        skip_all
    )]
    async fn count(&self, collection: &str, filter: Option<&Filter>) -> StoreResult<u64> {
        let filter = filter.cloned();
        self.on(collection, move |collection, _| read::count(collection, filter.as_ref())).await
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
        let (key, filter) = (key.to_owned(), filter.cloned());
        self.on(collection, move |collection, settings| {
            read::facet(collection, settings, &key, filter.as_ref(), limit)
        })
        .await
    }

    async fn optimize(&self, collection: &str) -> StoreResult<()> {
        self.on(collection, |collection, _| collection.optimize()).await
    }

    async fn flush(&self) -> StoreResult<()> {
        let collections = self.inner.all()?;
        blocking(move || collections.iter().try_for_each(|collection| collection.flush())).await
    }

    async fn close(&self) -> StoreResult<()> {
        let inner = self.inner.clone();
        blocking(move || inner.close()).await
    }
}

/// Writes in steps of bounded size, so that neither the journal's records nor the time that other
/// writers wait grow with the call.
fn in_steps<T>(
    all: Vec<T>,
    size: usize,
    mut write: impl FnMut(Vec<T>) -> StoreResult<()>,
) -> StoreResult<()> {
    let mut rest = all.into_iter();
    loop {
        let step: Vec<T> = rest.by_ref().take(size.max(1)).collect();
        if step.is_empty() {
            return Ok(());
        }
        write(step)?;
    }
}
