//! File operations that survive a crash: atomic replacement, synced folders, and their errors.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::store::StoreError;

/// Makes the error of a file operation that failed.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// Replaces a file so that after a crash it has either the old content or the new.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(io_error("writing", path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes renames and new files in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(io_error("syncing", folder))
}
