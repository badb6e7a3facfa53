//! One collection on disk: an engine shard, the journal in front of it, and its schema.
//!
//! Layout of the folder: `schema.json` (written last when the collection is made, so a folder without
//! it is half made), `journal`, and `engine/` with the shard's own files. Everything here blocks and
//! runs off the async threads.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use qdrant_edge::{EdgeShard, OperationError};

use crate::embedded::convert::{engine_config, engine_error};
use crate::embedded::files::{io_error, replace, sync_folder};
use crate::embedded::journal::{Journal, Operation};
use crate::embedded::lock::FolderLock;
use crate::embedded::settings::EmbeddedSettings;
use crate::embedded::{engine_log, write};
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{CollectionSchema, Ensured, StoreError, StoreResult};
use crate::validate;

#[cfg(test)]
mod tests;

const SCHEMA_FILE: &str = "schema.json";
const JOURNAL_FILE: &str = "journal";
const ENGINE_FOLDER: &str = "engine";

/// A collection, shared by all calls on it.
#[derive(Debug)]
pub(in crate::embedded) struct Collection {
    name: String,
    folder: PathBuf,
    settings: Arc<EmbeddedSettings>,
    schema: RwLock<CollectionSchema>,
    /// None after closing. Readers share it; only closing and reloading take it alone.
    running: RwLock<Option<Running>>,
    /// Whoever holds the journal is the one writer: the engine's flush panics beside another.
    journal: Mutex<Journal>,
}

/// The engine on the collection's files.
#[derive(Debug)]
struct Running {
    shard: EdgeShard,
    /// Goes with the shard: when the last collection is closed, other processes may open the folder.
    lock: Arc<FolderLock>,
}

impl Collection {
    /// Makes a collection in a folder of its own.
    pub(in crate::embedded) fn create(
        name: &str,
        folder: PathBuf,
        schema: &CollectionSchema,
        settings: Arc<EmbeddedSettings>,
        lock: Arc<FolderLock>,
    ) -> StoreResult<Self> {
        validate::schema(name, schema)?;
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(io_error("removing the half-made", &folder))?;
        }
        let engine = folder.join(ENGINE_FOLDER);
        fs::create_dir_all(&engine).map_err(io_error("creating", &engine))?;
        drop_shard(load_shard(name, &folder, schema, &settings)?);
        write_schema(&folder, schema)?;
        folder.parent().map_or(Ok(()), sync_folder)?;
        Self::open(name, folder, settings, lock)
    }

    /// Opens an existing collection and applies its journal.
    pub(in crate::embedded) fn open(
        name: &str,
        folder: PathBuf,
        settings: Arc<EmbeddedSettings>,
        lock: Arc<FolderLock>,
    ) -> StoreResult<Self> {
        let schema = read_schema(&folder)?;
        let shard = load_shard(name, &folder, &schema, &settings)?;
        let (mut journal, operations) =
            Journal::open(&folder.join(JOURNAL_FILE), settings.sync_every_write)?;
        if !operations.is_empty() {
            tracing::info!(collection = name, operations = operations.len(), "recovering writes");
            for operation in operations {
                write::reapply(&shard, &schema, operation).map_err(engine_error(name))?;
            }
            flush_shard(name, &shard)?;
            journal.truncate(0)?;
        }
        Ok(Self {
            name: name.to_owned(),
            folder,
            settings,
            schema: RwLock::new(schema),
            running: RwLock::new(Some(Running { shard, lock })),
            journal: Mutex::new(journal),
        })
    }

    /// Whether the folder holds a collection that was made completely.
    pub(in crate::embedded) fn is_complete(folder: &Path) -> bool {
        folder.join(SCHEMA_FILE).is_file()
    }

    pub(in crate::embedded) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::embedded) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(in crate::embedded) fn schema(&self) -> CollectionSchema {
        self.schema.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs a read on the shard.
    pub(in crate::embedded) fn with_shard<T>(
        &self,
        read: impl FnOnce(&EdgeShard) -> Result<T, OperationError>,
    ) -> StoreResult<T> {
        let guard = self.read_running();
        let running = guard.as_ref().ok_or(StoreError::Closed)?;
        read(&running.shard).map_err(engine_error(&self.name))
    }

    /// Checks that the collection has the vectors of `wanted`, and adds its payload indexes.
    pub(in crate::embedded) fn ensure(&self, wanted: &CollectionSchema) -> StoreResult<Ensured> {
        validate::schema(&self.name, wanted)?;
        let journal = self.lock_journal();
        let mut schema = self.schema();
        validate::fits(&self.name, &schema, wanted)?;
        let before = schema.payload_indexes.len();
        schema.payload_indexes.extend(wanted.payload_indexes.clone());
        if schema.payload_indexes.len() > before {
            let guard = self.read_running();
            let shard = &guard.as_ref().ok_or(StoreError::Closed)?.shard;
            write::create_indexes(shard, &schema).map_err(engine_error(&self.name))?;
            flush_shard(&self.name, shard)?;
            write_schema(&self.folder, &schema)?;
            *self.schema.write().unwrap_or_else(PoisonError::into_inner) = schema;
        }
        drop(journal);
        Ok(Ensured::Existing)
    }

    /// Refuses ids that do not exist.
    pub(in crate::embedded) fn check_existing(&self, ids: &[PointId]) -> StoreResult<()> {
        let guard = self.read_running();
        let shard = &guard.as_ref().ok_or(StoreError::Closed)?.shard;
        write::check_existing(&self.name, shard, ids)
    }

    /// Writes one operation that was validated: durable when it returns.
    pub(in crate::embedded) fn write(&self, operation: Operation) -> StoreResult<()> {
        let mut journal = self.lock_journal();
        let guard = self.read_running();
        let shard = &guard.as_ref().ok_or(StoreError::Closed)?.shard;
        write::check_existing(&self.name, shard, &operation.needed())?;
        self.write_checked(&mut journal, shard, operation)
    }

    /// Writes an operation on those of the points that match. Whoever holds the journal is the one
    /// writer, so nothing comes between the check and the change.
    pub(in crate::embedded) fn write_matching(
        &self,
        ids: &[PointId],
        filter: &Filter,
        operation: impl FnOnce(Vec<PointId>) -> Operation,
    ) -> StoreResult<()> {
        let mut journal = self.lock_journal();
        let guard = self.read_running();
        let shard = &guard.as_ref().ok_or(StoreError::Closed)?.shard;
        let found = write::matching(shard, ids, filter).map_err(engine_error(&self.name))?;
        if found.is_empty() {
            return Ok(());
        }
        self.write_checked(&mut journal, shard, operation(found))
    }

    fn write_checked(
        &self,
        journal: &mut Journal,
        shard: &EdgeShard,
        operation: Operation,
    ) -> StoreResult<()> {
        self.check_free_space()?;
        let before = journal.length();
        journal.append(&operation)?;
        let schema = self.schema();
        if let Err(error) = write::apply(shard, &schema, operation) {
            // The caller learns of the failure, so the operation must not come back at the next start.
            journal.truncate(before)?;
            return Err(engine_error(&self.name)(error));
        }
        if journal.length() >= self.settings.checkpoint_bytes {
            self.checkpoint(journal, shard)?;
        }
        Ok(())
    }

    /// Builds indexes, merges segments, drops deleted points, and shortens the engine's own log.
    pub(in crate::embedded) fn optimize(&self) -> StoreResult<()> {
        let mut journal = self.lock_journal();
        {
            let guard = self.read_running();
            let shard = &guard.as_ref().ok_or(StoreError::Closed)?.shard;
            self.checkpoint(&mut journal, shard)?;
            shard.optimize().map_err(engine_error(&self.name))?;
            // The engine makes a new segment without asking which payload keys are indexed.
            write::create_indexes(shard, &self.schema()).map_err(engine_error(&self.name))?;
            self.checkpoint(&mut journal, shard)?;
        }
        let engine = self.folder.join(ENGINE_FOLDER);
        if engine_log::bytes(&engine)? > self.settings.engine_log_bytes {
            let mut guard = self.running.write().unwrap_or_else(PoisonError::into_inner);
            let Running { shard, lock } = guard.take().ok_or(StoreError::Closed)?;
            drop_shard(shard);
            let shard = load_shard(&self.name, &self.folder, &self.schema(), &self.settings)?;
            *guard = Some(Running { shard, lock });
        }
        Ok(())
    }

    /// Brings all writes into the engine's files and empties the journal.
    pub(in crate::embedded) fn flush(&self) -> StoreResult<()> {
        let mut journal = self.lock_journal();
        let guard = self.read_running();
        let shard = &guard.as_ref().ok_or(StoreError::Closed)?.shard;
        self.checkpoint(&mut journal, shard)
    }

    /// Flushes and closes; calls that are running finish first.
    pub(in crate::embedded) fn close(&self) -> StoreResult<()> {
        let mut journal = self.lock_journal();
        let mut guard = self.running.write().unwrap_or_else(PoisonError::into_inner);
        let Some(Running { shard, lock: _lock }) = guard.take() else { return Ok(()) };
        let flushed = self.checkpoint(&mut journal, &shard);
        drop_shard(shard);
        flushed
    }

    fn checkpoint(&self, journal: &mut Journal, shard: &EdgeShard) -> StoreResult<()> {
        flush_shard(&self.name, shard)?;
        if journal.length() > 0 { journal.truncate(0) } else { Ok(()) }
    }

    fn check_free_space(&self) -> StoreResult<()> {
        let free = fs4::available_space(&self.folder)
            .map_err(io_error("asking for the free space of", &self.folder))?;
        let wanted = self.settings.minimum_free_bytes;
        if free < wanted {
            return Err(StoreError::DiskFull {
                folder: self.settings.folder.clone(),
                free,
                wanted,
            });
        }
        Ok(())
    }

    fn lock_journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_running(&self) -> RwLockReadGuard<'_, Option<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            // The journal still has what the flush did not bring home.
            tracing::error!(collection = self.name, %error, "closing failed; the next start recovers");
        }
    }
}

fn load_shard(
    name: &str,
    folder: &Path,
    schema: &CollectionSchema,
    settings: &EmbeddedSettings,
) -> StoreResult<EdgeShard> {
    let engine = folder.join(ENGINE_FOLDER);
    engine_log::drop_old_part(&engine)?;
    let shard = EdgeShard::load(&engine, Some(engine_config(schema, settings)))
        .map_err(|error| StoreError::Corrupt { path: engine.clone(), detail: error.to_string() })?;
    write::create_indexes(&shard, schema).map_err(engine_error(name))?;
    Ok(shard)
}

/// The engine's flush panics where it should return an error, for example when the disk is full.
fn flush_shard(name: &str, shard: &EdgeShard) -> StoreResult<()> {
    catch_unwind(AssertUnwindSafe(|| shard.flush())).map_err(|panic| StoreError::Engine {
        collection: name.to_owned(),
        detail: format!("flushing failed: {}", crate::embedded::panic_message(&*panic)),
    })
}

/// Dropping a shard flushes it, which may panic.
fn drop_shard(shard: EdgeShard) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(shard))) {
        tracing::error!(
            reason = crate::embedded::panic_message(&*panic),
            "the engine did not close cleanly"
        );
    }
}

fn write_schema(folder: &Path, schema: &CollectionSchema) -> StoreResult<()> {
    let json = serde_json::to_vec_pretty(schema).expect("a schema has only text and numbers");
    replace(&folder.join(SCHEMA_FILE), &json)
}

fn read_schema(folder: &Path) -> StoreResult<CollectionSchema> {
    let path = folder.join(SCHEMA_FILE);
    let json = fs::read(&path).map_err(io_error("reading", &path))?;
    serde_json::from_slice(&json)
        .map_err(|error| StoreError::Corrupt { path, detail: error.to_string() })
}
