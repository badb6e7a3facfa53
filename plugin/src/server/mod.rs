//! The server backend: a Qdrant server or cluster over gRPC.
//!
//! # Patience
//! Every call has a time limit per attempt, a number of attempts with growing, random waits between
//! them, and one cap over all. Only faults that may pass are tried again; all calls are harmless when
//! done twice. After several failures in a row the server is left alone for a while and calls fail at
//! once with [`StoreError::Unavailable`].
//!
//! # Writes
//! They wait until the server has applied them (`wait`), so that the next read sees them. A point
//! whose vectors are fewer than the collection's is written together with the deletion of the others:
//! Qdrant keeps the old vectors of a point that it moves out of an optimised segment.
//!
//! # Schemas
//! The shape of a collection is asked for once and remembered, to check vectors before they are sent;
//! it is asked for again when a check fails, because another program may have changed it.

mod breaker;
mod call;
mod collection;
mod conditional;
mod connect;
mod error;
mod read;
mod settings;
mod store;
mod version;
mod write;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::{Response, Status};
use tracing::Instrument;

use call::Caller;
use connect::Clients;
pub use settings::{Quantization, ServerSettings};

use crate::secret::Secret;
use crate::store::{CollectionSchema, StoreError, StoreResult};

/// The store on a Qdrant server.
#[derive(Debug)]
pub struct ServerStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ServerSettings,
    /// The server's version, as it says it.
    version: String,
    caller: Caller,
    /// None after closing.
    clients: Mutex<Option<Clients>>,
    schemas: Mutex<HashMap<String, Arc<CollectionSchema>>>,
}

impl ServerStore {
    /// Connects to the server and checks that it is a Qdrant of a version that fits.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it cannot be reached; [`StoreError::Server`] if it is something
    /// else, too old, refuses the API key, or the settings cannot work.
    pub async fn open(settings: ServerSettings) -> StoreResult<Self> {
        let clients = Clients::new(&settings)?;
        let caller = Caller::new(&settings);
        let version = version::check(&settings.url, &caller, &clients).await?;
        tracing::info!(url = settings.url, version, "connected to Qdrant");
        let inner = Inner {
            settings,
            version,
            caller,
            clients: Mutex::new(Some(clients)),
            schemas: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// From the next call on this API key is sent; an empty one sends none.
    ///
    /// # Errors
    /// [`StoreError::Server`] if a header cannot carry it, [`StoreError::Closed`] after closing. The key
    /// before then stays in force.
    pub fn replace_api_key(&self, key: &Secret) -> StoreResult<()> {
        let clients = self.inner.clients().clone().ok_or(StoreError::Closed)?;
        clients.replace_key(key).map_err(|detail| {
            let url = connect::shown(&self.inner.settings.url);
            StoreError::Server { url, detail }
        })
    }

    /// The server's version, for example `1.18.3`.
    pub fn version(&self) -> &str {
        &self.inner.version
    }

    /// Runs a write in a task of its own, which goes on when the caller has left.
    async fn write<T, Work>(&self, work: impl FnOnce(Arc<Inner>) -> Work) -> StoreResult<T>
    where
        T: Send + 'static,
        Work: Future<Output = StoreResult<T>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.inner)).in_current_span();
        tokio::spawn(work).await.unwrap_or_else(|failure| {
            let (collection, detail) = (String::new(), failure.to_string());
            Err(StoreError::Engine { collection, detail })
        })
    }
}

impl Inner {
    /// Makes a call on a collection, or on none (`""`).
    async fn call<T, Answer>(
        &self,
        collection: &str,
        attempt: impl Fn(Clients) -> Answer + Send + Sync,
    ) -> StoreResult<T>
    where
        T: Send,
        Answer: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let clients = self.clients().clone().ok_or(StoreError::Closed)?;
        let answer = self.caller.call(collection, || attempt(clients.clone())).await;
        if let Err(StoreError::CollectionMissing { .. }) = &answer {
            self.schemas().remove(collection);
        }
        answer
    }

    /// Runs a check against the schema as it is remembered and, if that fails, as it is now.
    async fn check(
        &self,
        collection: &str,
        check: impl Fn(&CollectionSchema) -> StoreResult<()> + Send,
    ) -> StoreResult<Arc<CollectionSchema>> {
        let known = self.known_schema(collection).await?;
        if check(&known).is_ok() {
            return Ok(known);
        }
        let fresh = self.fresh_schema(collection).await?;
        check(&fresh)?;
        Ok(fresh)
    }

    async fn known_schema(&self, collection: &str) -> StoreResult<Arc<CollectionSchema>> {
        if self.clients().is_none() {
            return Err(StoreError::Closed);
        }
        let known = self.schemas().get(collection).cloned();
        match known {
            Some(schema) => Ok(schema),
            None => self.fresh_schema(collection).await,
        }
    }

    fn clients(&self) -> MutexGuard<'_, Option<Clients>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn schemas(&self) -> MutexGuard<'_, HashMap<String, Arc<CollectionSchema>>> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error for an answer that the protocol does not allow.
    fn broken(&self, collection: &str, detail: impl ToString) -> StoreError {
        StoreError::Engine { collection: collection.to_owned(), detail: detail.to_string() }
    }
}
