//! The error of the store: every cause with where it happened and what to do.

use std::path::PathBuf;

use crate::filter::FilterError;
use crate::id::PointId;

/// A result of a store operation.
pub type StoreResult<T> = Result<T, StoreError>;

/// What went wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such collection.
    #[error(
        "collection `{collection}` does not exist; create it with `index`, or correct its name"
    )]
    CollectionMissing {
        /// The name asked for.
        collection: String,
    },
    /// The name cannot name a collection.
    #[error(
        "{name:?} cannot name a collection: use 1 to 255 letters, digits, `_`, `-` or `.`, not a dot first"
    )]
    CollectionName {
        /// The name given.
        name: String,
    },
    /// The collection exists with another shape.
    #[error(
        "collection `{collection}` does not fit: {detail}; index into a collection of another name, or delete this one"
    )]
    SchemaMismatch {
        /// The collection.
        collection: String,
        /// Which vector differs, and how.
        detail: String,
    },
    /// A point cannot be stored. Nothing of the call was written.
    #[error("point {id} for collection `{collection}` is refused: {detail}")]
    InvalidPoint {
        /// The collection.
        collection: String,
        /// The first point at fault.
        id: PointId,
        /// What is wrong with it.
        detail: String,
    },
    /// The points to change do not exist. Nothing of the call was written.
    #[error(
        "collection `{collection}` has no point {first} ({count} of the points given are missing); write them first"
    )]
    PointsMissing {
        /// The collection.
        collection: String,
        /// The first missing id.
        first: PointId,
        /// How many are missing.
        count: usize,
    },
    /// The request cannot be answered as it is.
    #[error("request on collection `{collection}` is refused: {detail}")]
    InvalidRequest {
        /// The collection.
        collection: String,
        /// What is wrong.
        detail: String,
    },
    /// The filter is not one.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// More was asked for than a limit allows.
    #[error(
        "{what} is {given}, more than `{setting}` = {limit} allows; ask for less or raise the setting"
    )]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// The number given.
        given: usize,
        /// The largest number allowed.
        limit: usize,
        /// The setting that holds the limit.
        setting: &'static str,
    },
    /// Another process, or this one, has the folder open.
    #[error("the store in {} is in use by {holder}; stop that process, or set another folder", folder.display())]
    Locked {
        /// The store's folder.
        folder: PathBuf,
        /// Who holds it, as far as is known.
        holder: String,
    },
    /// Too little disk space is left to write safely.
    #[error("only {free} bytes are free for {}, the setting `minimum_free_bytes` wants {wanted}; make room and try again", folder.display())]
    DiskFull {
        /// The store's folder.
        folder: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes that must stay free.
        wanted: u64,
    },
    /// A file operation failed.
    #[error("{action} {} failed: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Stored data cannot be read.
    #[error("{} is damaged: {detail}; restore the folder from a copy, or delete it and index again", path.display())]
    Corrupt {
        /// The damaged file or folder.
        path: PathBuf,
        /// How that shows.
        detail: String,
    },
    /// The engine refused or failed.
    #[error("the engine failed on collection `{collection}`: {detail}")]
    Engine {
        /// The collection.
        collection: String,
        /// What the engine said.
        detail: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A server answers, but not as this backend needs it: it is something else, too old, or refuses
    /// the API key; or the settings of the connection cannot work.
    #[error("the server at {url} cannot be used: {detail}")]
    Server {
        /// The server's address.
        url: String,
        /// What is wrong, and what to do.
        detail: String,
    },
    /// A server cannot be reached, or did not answer in time.
    #[error("the Qdrant server is not available: {detail}")]
    Unavailable {
        /// What happened.
        detail: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::DiskFull { .. } | Self::Locked { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::Interrupted
                    | std::io::ErrorKind::TimedOut
                    | std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::WouldBlock
            ),
            Self::CollectionMissing { .. }
            | Self::CollectionName { .. }
            | Self::SchemaMismatch { .. }
            | Self::InvalidPoint { .. }
            | Self::PointsMissing { .. }
            | Self::InvalidRequest { .. }
            | Self::Filter(_)
            | Self::TooMany { .. }
            | Self::Corrupt { .. }
            | Self::Engine { .. }
            | Self::Server { .. }
            | Self::Closed => false,
        }
    }
}
