//! Says whether a file is what the manifest says, without reading it again when that was settled before.
//!
//! A language model has a gigabyte: hashing it costs seconds at each start. So a file that was found
//! right gets a small record beside it, with the size and the modification time it had; while both are
//! unchanged the record stands for the hash. [`verify`] never believes the record.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{Context, Result, WeightsError};
use super::manifest::{Artifact, ArtifactFile};
use crate::progress::Progress;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// What was true of a file when it was last hashed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    size: u64,
    modified_nanoseconds: u128,
    sha256: String,
}

impl Record {
    fn of(metadata: &Metadata, sha256: &str) -> Option<Self> {
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            size: metadata.len(),
            modified_nanoseconds: modified.as_nanos(),
            sha256: sha256.to_owned(),
        })
    }
}

/// Checks a file, by its record if there is one that still holds, else by its content.
pub(super) fn ensure(
    artifact: &Artifact,
    file: &ArtifactFile,
    path: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let metadata = metadata_of_right_size(artifact, file, path)?;
    let expected = Record::of(&metadata, &file.sha256);
    let recorded = std::fs::read(record_path(path))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    if expected.is_some() && expected == recorded {
        return Ok(());
    }
    verify(artifact, file, path, progress)
}

/// Reads the whole file, compares its hash, and writes the record.
pub(super) fn verify(
    artifact: &Artifact,
    file: &ArtifactFile,
    path: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    metadata_of_right_size(artifact, file, path)?;
    progress.begin(&format!("verifying {}/{}", artifact.name, file.name), file.size);
    let mut reader = File::open(path).during("opening", path)?;
    let mut hasher = Sha256::new();
    let hashed = hash_into(&mut hasher, &mut reader, path, |done| {
        progress.advance(done);
        if progress.cancelled() {
            return Err(WeightsError::Cancelled { artifact: artifact.name.clone() });
        }
        Ok(())
    });
    progress.end();
    hashed?;
    let actual = format!("{:x}", hasher.finalize());
    if actual != file.sha256 {
        forget(path);
        return Err(WeightsError::WrongHash {
            artifact: artifact.name.clone(),
            path: path.to_owned(),
            expected: file.sha256.clone(),
            actual,
        });
    }
    remember(path, &file.sha256);
    Ok(())
}

/// Hashes everything that is left in `reader`; `tell` gets the bytes read so far.
pub(super) fn hash_into(
    hasher: &mut Sha256,
    reader: &mut impl Read,
    path: &Path,
    mut tell: impl FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).during("reading", path),
        };
        hasher.update(&buffer[..count]);
        done += count as u64;
        tell(done)?;
    }
}

/// Records that the file is right. Without the record it is only hashed again, so a folder that
/// cannot be written to is no fault.
pub(super) fn remember(path: &Path, sha256: &str) {
    let record = std::fs::metadata(path).ok().and_then(|metadata| Record::of(&metadata, sha256));
    let Some(record) = record else { return };
    let bytes = serde_json::to_vec(&record).expect("a record has only numbers and text");
    if let Err(error) = std::fs::write(record_path(path), bytes) {
        tracing::debug!(path = %path.display(), %error, "the file is right, but will be hashed again at the next start");
    }
}

/// Removes the record.
pub(super) fn forget(path: &Path) {
    // A record that stays behind does no harm: it names the hash that the file must have.
    let _ = std::fs::remove_file(record_path(path));
}

fn record_path(path: &Path) -> PathBuf {
    let name = path.file_name().expect("the path of a file").to_string_lossy();
    path.with_file_name(format!(".{name}.verified"))
}

fn metadata_of_right_size(
    artifact: &Artifact,
    file: &ArtifactFile,
    path: &Path,
) -> Result<Metadata> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(WeightsError::Missing {
                artifact: artifact.name.clone(),
                path: path.to_owned(),
            });
        }
        other => other.during("looking at", path)?,
    };
    if metadata.len() == file.size {
        return Ok(metadata);
    }
    Err(WeightsError::WrongSize {
        artifact: artifact.name.clone(),
        path: path.to_owned(),
        expected: file.size,
        actual: metadata.len(),
    })
}
