//! The lock that keeps a second process, or a second store in this one, out of a store's folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::files::io_error;
use crate::store::{StoreError, StoreResult};

const LOCK_FILE: &str = "lock";

/// A lock on the folder, held until it is dropped. The system frees it when the process dies, so a
/// killed process leaves no stale lock.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(folder: &Path) -> StoreResult<Self> {
        let path = folder.join(LOCK_FILE);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("opening", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    folder: folder.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io_error("locking", &path)(source)),
        }
        // The lock is the file's; the number in it only tells the next process whom to stop.
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(io_error("writing", &path))?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    // The number may be unreadable for a moment while the holder starts.
    match file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(process) if process == std::process::id() => format!("this process ({process})"),
        Some(process) => format!("process {process}"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_folder_and_holder_and_the_lock_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        let error = FolderLock::take(folder.path()).unwrap_err().to_string();
        for expected in
            [folder.path().to_str().unwrap(), &std::process::id().to_string(), "stop that process"]
        {
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
        drop(lock);
        FolderLock::take(folder.path()).unwrap();
    }
}
