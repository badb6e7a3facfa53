//! What the tests of the server backend share: the server to test against, and a part of it of one's
//! own.

#![allow(dead_code, reason = "each test program uses a part")]

use async_trait::async_trait;
use uuid::Uuid;
use whyrank_plugin::store::Payload;
use whyrank_plugin::{
    CollectionSchema, Ensured, FacetHit, Filter, Page, Point, PointId, PointVectors, ScoredPoint,
    Scroll, Search, Selection, ServerSettings, ServerStore, Store, StoreError, StoreResult,
};

/// The server's gRPC address in the variable `QDRANT_URL`; without it says that the test is skipped.
pub(crate) fn server_url(test: &str) -> Option<String> {
    let url = std::env::var("QDRANT_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        eprintln!(
            "SKIPPED {test}: set QDRANT_URL to the gRPC address of a Qdrant server to run it"
        );
    }
    url
}

/// A store on a shared server whose collections have a prefix of their own: it sees nothing else,
/// and takes its collections away when it is closed.
#[derive(Debug)]
pub(crate) struct Private {
    store: ServerStore,
    prefix: String,
}

impl Private {
    /// Opens the server with a new prefix.
    pub(crate) async fn open(settings: ServerSettings) -> StoreResult<Self> {
        let prefix = format!("test-{}-", Uuid::new_v5(&Uuid::NAMESPACE_OID, &unique()).simple());
        Ok(Self { store: ServerStore::open(settings).await?, prefix })
    }

    fn name(&self, collection: &str) -> String {
        // A name that is refused must not become a good one.
        if collection.is_empty() || collection.starts_with('.') {
            collection.to_owned()
        } else {
            format!("{}{collection}", self.prefix)
        }
    }

    fn own<T>(&self, result: StoreResult<T>) -> StoreResult<T> {
        let own = |collection: String| match collection.strip_prefix(&self.prefix) {
            Some(name) => name.to_owned(),
            None => collection,
        };
        result.map_err(|error| match error {
            StoreError::CollectionMissing { collection } => {
                StoreError::CollectionMissing { collection: own(collection) }
            }
            StoreError::SchemaMismatch { collection, detail } => {
                StoreError::SchemaMismatch { collection: own(collection), detail }
            }
            StoreError::InvalidPoint { collection, id, detail } => {
                StoreError::InvalidPoint { collection: own(collection), id, detail }
            }
            StoreError::PointsMissing { collection, first, count } => {
                StoreError::PointsMissing { collection: own(collection), first, count }
            }
            StoreError::InvalidRequest { collection, detail } => {
                StoreError::InvalidRequest { collection: own(collection), detail }
            }
            other => other,
        })
    }
}

/// Bytes that no other test has: the process and the time.
fn unique() -> Vec<u8> {
    let since = std::time::UNIX_EPOCH.elapsed().expect("the clock is after 1970");
    let counter = {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        COUNTER.fetch_add(1, Ordering::Relaxed)
    };
    format!("{} {} {counter}", std::process::id(), since.as_nanos()).into_bytes()
}

#[async_trait]
impl Store for Private {
    fn describe(&self) -> String {
        self.store.describe()
    }

    async fn ensure(&self, collection: &str, schema: &CollectionSchema) -> StoreResult<Ensured> {
        self.own(self.store.ensure(&self.name(collection), schema).await)
    }

    async fn schema(&self, collection: &str) -> StoreResult<CollectionSchema> {
        self.own(self.store.schema(&self.name(collection)).await)
    }

    async fn collections(&self) -> StoreResult<Vec<String>> {
        let all = self.store.collections().await?;
        let own = all.iter().filter_map(|name| name.strip_prefix(&self.prefix));
        Ok(own.map(str::to_owned).collect())
    }

    async fn delete_collection(&self, collection: &str) -> StoreResult<bool> {
        self.own(self.store.delete_collection(&self.name(collection)).await)
    }

    async fn upsert(&self, collection: &str, points: Vec<Point>) -> StoreResult<()> {
        self.own(self.store.upsert(&self.name(collection), points).await)
    }

    async fn update_vectors(&self, collection: &str, points: Vec<PointVectors>) -> StoreResult<()> {
        self.own(self.store.update_vectors(&self.name(collection), points).await)
    }

    async fn set_payload(
        &self,
        collection: &str,
        ids: &[PointId],
        payload: Payload,
    ) -> StoreResult<()> {
        self.own(self.store.set_payload(&self.name(collection), ids, payload).await)
    }

    async fn set_payload_where(
        &self,
        collection: &str,
        ids: &[PointId],
        filter: &Filter,
        payload: Payload,
    ) -> StoreResult<()> {
        let name = self.name(collection);
        self.own(self.store.set_payload_where(&name, ids, filter, payload).await)
    }

    async fn delete_where(
        &self,
        collection: &str,
        ids: &[PointId],
        filter: &Filter,
    ) -> StoreResult<()> {
        self.own(self.store.delete_where(&self.name(collection), ids, filter).await)
    }

    async fn delete(&self, collection: &str, ids: &[PointId]) -> StoreResult<()> {
        self.own(self.store.delete(&self.name(collection), ids).await)
    }

    async fn read(
        &self,
        collection: &str,
        ids: &[PointId],
        selection: &Selection,
    ) -> StoreResult<Vec<Option<Point>>> {
        self.own(self.store.read(&self.name(collection), ids, selection).await)
    }

    async fn search(&self, collection: &str, search: Search) -> StoreResult<Vec<ScoredPoint>> {
        self.own(self.store.search(&self.name(collection), search).await)
    }

    async fn scroll(&self, collection: &str, scroll: Scroll) -> StoreResult<Page> {
        self.own(self.store.scroll(&self.name(collection), scroll).await)
    }

    async fn count(&self, collection: &str, filter: Option<&Filter>) -> StoreResult<u64> {
        self.own(self.store.count(&self.name(collection), filter).await)
    }

    async fn facet(
        &self,
        collection: &str,
        key: &str,
        filter: Option<&Filter>,
        limit: usize,
    ) -> StoreResult<Vec<FacetHit>> {
        self.own(self.store.facet(&self.name(collection), key, filter, limit).await)
    }

    async fn optimize(&self, collection: &str) -> StoreResult<()> {
        self.own(self.store.optimize(&self.name(collection)).await)
    }

    async fn flush(&self) -> StoreResult<()> {
        self.store.flush().await
    }

    async fn close(&self) -> StoreResult<()> {
        match self.collections().await {
            Ok(own) => {
                for collection in own {
                    self.delete_collection(&collection).await?;
                }
            }
            Err(StoreError::Closed) => {}
            Err(error) => return Err(error),
        }
        self.store.close().await
    }
}
