//! The embedded backend: Qdrant's engine (`qdrant-edge`) in this process, on disk, nothing installed.
//!
//! # Durability
//! A write is first appended to the collection's journal and, with `sync_every_write`, synced to
//! disk; then the engine applies it; then the call returns. When the process is killed, the next
//! [`EmbeddedStore::open`] applies the journal again. From time to time (`checkpoint_bytes`), and on
//! `optimize`, `flush` and `close`, the engine's files are flushed and the journal is emptied.
//!
//! # Filling a collection fast
//! Call `upsert` with some thousand points at a time (it is split into steps of `write_batch`), with
//! `sync_every_write` off if the data can be indexed again, and `optimize` once at the end: without
//! it searches scan all vectors.
//!
//! # Threads
//! The engine blocks, so every call runs on tokio's blocking threads, and goes on there to its end
//! even when the caller has left. Reads run side by side; writes of a collection run one at a time.

mod collection;
mod convert;
mod engine_log;
mod files;
mod journal;
mod lock;
mod read;
mod settings;
mod store;
mod write;

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use collection::Collection;
use files::io_error;
use lock::FolderLock;
pub use settings::EmbeddedSettings;

use crate::store::{CollectionSchema, Ensured, StoreError, StoreResult};
use crate::validate;

const COLLECTIONS_FOLDER: &str = "collections";
/// What a collection's folder is renamed to before its files are removed, so that it is gone at once.
const DELETED_PREFIX: &str = ".deleted-";

/// The store over `qdrant-edge` in a folder of this machine.
#[derive(Debug)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Arc<EmbeddedSettings>,
    /// None after closing.
    open: RwLock<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    collections: BTreeMap<String, Arc<Collection>>,
    lock: Arc<FolderLock>,
}

impl EmbeddedStore {
    /// Opens the store in its folder, making the folder when it is missing, and recovers what a
    /// killed process had acknowledged.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has the folder open; [`StoreError::Corrupt`] or
    /// [`StoreError::Io`] if the files cannot be read.
    pub async fn open(settings: EmbeddedSettings) -> StoreResult<Self> {
        blocking(move || {
            let settings = Arc::new(settings);
            let open = Open::new(&settings)?;
            Ok(Self { inner: Arc::new(Inner { settings, open: RwLock::new(Some(open)) }) })
        })
        .await
    }

    /// Runs a call on a collection, off the async threads.
    async fn on<T: Send + 'static>(
        &self,
        collection: &str,
        call: impl FnOnce(&Collection, &EmbeddedSettings) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let collection = self.inner.collection(collection)?;
        let settings = Arc::clone(&self.inner.settings);
        blocking(move || call(&collection, &settings)).await
    }
}

impl Inner {
    fn collection(&self, name: &str) -> StoreResult<Arc<Collection>> {
        let guard = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = guard.as_ref().ok_or(StoreError::Closed)?;
        open.collections
            .get(name)
            .cloned()
            .ok_or_else(|| StoreError::CollectionMissing { collection: name.to_owned() })
    }

    fn all(&self) -> StoreResult<Vec<Arc<Collection>>> {
        let guard = self.open.read().unwrap_or_else(PoisonError::into_inner);
        Ok(guard.as_ref().ok_or(StoreError::Closed)?.collections.values().cloned().collect())
    }

    fn ensure(&self, name: &str, schema: &CollectionSchema) -> StoreResult<Ensured> {
        validate::collection_name(name)?;
        match self.collection(name) {
            Err(StoreError::CollectionMissing { .. }) => {}
            Err(error) => return Err(error),
            Ok(collection) => return collection.ensure(schema),
        }
        // Held while the collection is made, so that two callers make one.
        let mut guard = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let open = guard.as_mut().ok_or(StoreError::Closed)?;
        if let Some(collection) = open.collections.get(name) {
            return collection.ensure(schema);
        }
        let folder = self.settings.folder.join(COLLECTIONS_FOLDER).join(name);
        let (settings, lock) = (Arc::clone(&self.settings), Arc::clone(&open.lock));
        let collection = Collection::create(name, folder, schema, settings, lock)?;
        open.collections.insert(name.to_owned(), Arc::new(collection));
        Ok(Ensured::Created)
    }

    fn delete_collection(&self, name: &str) -> StoreResult<bool> {
        let collection = {
            let mut guard = self.open.write().unwrap_or_else(PoisonError::into_inner);
            let open = guard.as_mut().ok_or(StoreError::Closed)?;
            let Some(collection) = open.collections.remove(name) else { return Ok(false) };
            // Inside the lock: a collection of the same name may be made right after it.
            collection.close()?;
            let folder = collection.folder().to_owned();
            let deleted = folder.with_file_name(format!("{DELETED_PREFIX}{name}"));
            remove_if_there(&deleted)?;
            fs::rename(&folder, &deleted).map_err(io_error("renaming", &folder))?;
            deleted
        };
        remove_if_there(&collection)?;
        Ok(true)
    }

    fn close(&self) -> StoreResult<()> {
        let open = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(open) = open else { return Ok(()) };
        // All are closed, whatever happens to one; the first fault is reported.
        let results: Vec<StoreResult<()>> =
            open.collections.values().map(|collection| collection.close()).collect();
        results.into_iter().collect()
    }
}

impl Open {
    fn new(settings: &Arc<EmbeddedSettings>) -> StoreResult<Self> {
        let folder = settings.folder.join(COLLECTIONS_FOLDER);
        fs::create_dir_all(&folder).map_err(io_error("creating", &folder))?;
        let lock = Arc::new(FolderLock::take(&settings.folder)?);
        let mut collections = BTreeMap::new();
        for (name, folder) in folders(&folder)? {
            if name.starts_with('.') || !Collection::is_complete(&folder) {
                // Left by a process that died while deleting or making the collection.
                tracing::warn!(folder = %folder.display(), "removing an incomplete collection");
                remove_if_there(&folder)?;
                continue;
            }
            let collection =
                Collection::open(&name, folder, Arc::clone(settings), Arc::clone(&lock))?;
            collections.insert(name, Arc::new(collection));
        }
        Ok(Self { collections, lock })
    }
}

/// The names and paths of the folders in a folder.
fn folders(folder: &Path) -> StoreResult<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error("listing", folder))? {
        let entry = entry.map_err(io_error("listing", folder))?;
        let path = entry.path();
        if let (true, Ok(name)) = (path.is_dir(), entry.file_name().into_string()) {
            found.push((name, path));
        }
    }
    Ok(found)
}

fn remove_if_there(folder: &Path) -> StoreResult<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(io_error("removing", folder))?;
    }
    Ok(())
}

/// Runs a blocking call on tokio's blocking threads.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    tokio::task::spawn_blocking(call).await.unwrap_or_else(|failure| {
        let detail = match failure.try_into_panic() {
            Ok(panic) => panic_message(&*panic),
            Err(cancelled) => cancelled.to_string(),
        };
        Err(StoreError::Engine { collection: String::new(), detail })
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked without a message")
        .to_owned()
}
