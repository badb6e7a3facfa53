//! Keeps the engine's own log from growing for ever.
//!
//! qdrant-edge 0.7.2 appends every operation to `wal/` and neither reads it back nor shortens it. It
//! is needed for one thing: the number of the next operation is the start of the newest closed file
//! plus what follows it, and points remember the number that wrote them, so numbering must go on.
//! Hence the newest closed file and the open one stay; older closed files can go, while the engine is
//! not running.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::io_error;
use crate::store::StoreResult;

const LOG_FOLDER: &str = "wal";
const CLOSED: &str = "closed-";

/// Bytes of the engine's log.
pub(super) fn bytes(engine: &Path) -> StoreResult<u64> {
    let mut total = 0;
    for file in files(engine)? {
        total += fs::metadata(&file).map_err(io_error("reading", &file))?.len();
    }
    Ok(total)
}

/// Removes all closed files but the newest. The engine must not be running on the folder.
pub(super) fn drop_old_part(engine: &Path) -> StoreResult<()> {
    let closed = files(engine)?.into_iter().filter_map(|path| {
        let start: u64 = path.file_name()?.to_str()?.strip_prefix(CLOSED)?.parse().ok()?;
        Some((start, path))
    });
    let mut closed: Vec<(u64, PathBuf)> = closed.collect();
    closed.sort_unstable();
    closed.pop();
    for (_, path) in closed {
        fs::remove_file(&path).map_err(io_error("removing", &path))?;
    }
    Ok(())
}

fn files(engine: &Path) -> StoreResult<Vec<PathBuf>> {
    let folder = engine.join(LOG_FOLDER);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&folder).map_err(io_error("listing", &folder))?;
    entries
        .map(|entry| Ok(entry.map_err(io_error("listing", &folder))?.path()))
        .filter(|path| path.as_ref().map_or(true, |path| path.is_file()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_closed_file_and_the_open_one_stay() {
        let folder = tempfile::tempdir().unwrap();
        drop_old_part(folder.path()).unwrap();
        let log = folder.path().join(LOG_FOLDER);
        fs::create_dir(&log).unwrap();
        for name in ["closed-0", "closed-9", "closed-10", "open-3", "first-index"] {
            fs::write(log.join(name), "1234").unwrap();
        }
        drop_old_part(folder.path()).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["closed-10", "first-index", "open-3"]);
        assert_eq!(bytes(folder.path()).unwrap(), 12);
    }
}
