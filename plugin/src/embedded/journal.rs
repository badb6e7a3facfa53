//! The journal of a collection: every write is in it before the engine sees it, and leaves it when
//! the engine's files have it.
//!
//! The engine (qdrant-edge 0.7.2) writes a log of its own but never reads it back: what was not
//! flushed when the process dies is lost, or half there. Flushing at every write would take tens of
//! milliseconds, so the store keeps this journal, and applies it again when it opens. Each operation
//! overwrites what it names, so applying the whole journal again, in order, gives the same points
//! whatever part of it the engine had kept.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::io_error;
use crate::id::PointId;
use crate::store::{Payload, Point, PointVectors, StoreError, StoreResult};

/// Bytes before each record: its length and its CRC-32, little endian.
const HEADER: usize = 8;

/// A change of a collection's points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Operation {
    /// Whole points, in place of those with the same id.
    Upsert(Vec<Point>),
    /// Some vectors of existing points.
    UpdateVectors(Vec<PointVectors>),
    /// Some payload keys of existing points.
    SetPayload(Vec<PointId>, Payload),
    /// Points to delete.
    Delete(Vec<PointId>),
}

impl Operation {
    /// The points that must exist for it.
    pub(super) fn needed(&self) -> Vec<PointId> {
        match self {
            Self::UpdateVectors(points) => points.iter().map(|point| point.id).collect(),
            Self::SetPayload(ids, _) => ids.clone(),
            Self::Upsert(_) | Self::Delete(_) => Vec::new(),
        }
    }
}

/// The journal file, open for appending.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    sync: bool,
}

impl Journal {
    /// Opens the journal and returns the operations in it, oldest first. A record that was cut off
    /// while it was written was never acknowledged; it and all after it are dropped.
    pub(super) fn open(path: &Path, sync: bool) -> StoreResult<(Self, Vec<Operation>)> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io_error("opening", path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io_error("reading", path))?;
        let (operations, length) = parse(path, &bytes)?;
        let mut journal = Self { path: path.to_owned(), file, length: bytes.len() as u64, sync };
        if length < journal.length {
            tracing::warn!(
                journal = %path.display(),
                bytes = journal.length - length,
                "dropping the unacknowledged end of the journal"
            );
            journal.truncate(length)?;
        }
        Ok((journal, operations))
    }

    /// Bytes in the journal.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends an operation; durable when it returns. The journal is unchanged if it fails.
    pub(super) fn append(&mut self, operation: &Operation) -> StoreResult<()> {
        let record = rmp_serde::to_vec_named(operation)
            .map_err(|error| self.unusable(format!("an operation cannot be written: {error}")))?;
        let size = u32::try_from(record.len())
            .map_err(|_| self.unusable("one operation is larger than 4 GB".to_owned()))?;
        let mut bytes = Vec::with_capacity(HEADER + record.len());
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&record).to_le_bytes());
        bytes.extend_from_slice(&record);
        let written = self
            .file
            .seek(SeekFrom::Start(self.length))
            .and_then(|_| self.file.write_all(&bytes))
            .and_then(|()| if self.sync { self.file.sync_data() } else { Ok(()) });
        if let Err(source) = written {
            // What was written of it must not be read as a record later.
            self.truncate(self.length)?;
            return Err(io_error("writing", &self.path)(source));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Cuts the journal to its first `length` bytes.
    pub(super) fn truncate(&mut self, length: u64) -> StoreResult<()> {
        self.file
            .set_len(length)
            .and_then(|()| if self.sync { self.file.sync_data() } else { Ok(()) })
            .map_err(io_error("truncating", &self.path))?;
        self.length = length;
        Ok(())
    }

    fn unusable(&self, detail: String) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), detail }
    }
}

/// The operations in the bytes, and how many bytes they take.
fn parse(path: &Path, bytes: &[u8]) -> StoreResult<(Vec<Operation>, u64)> {
    let mut operations = Vec::new();
    let mut position = 0;
    while let Some(record) = record_at(bytes, position) {
        // The checksum fits, so this is what was written: not reading it would lose a write.
        let operation = rmp_serde::from_slice(record).map_err(|error| StoreError::Corrupt {
            path: path.to_owned(),
            detail: format!("the record at byte {position} cannot be read: {error}"),
        })?;
        operations.push(operation);
        position += HEADER + record.len();
    }
    Ok((operations, position as u64))
}

fn record_at(bytes: &[u8], position: usize) -> Option<&[u8]> {
    let header = bytes.get(position..position + HEADER)?;
    let (size, checksum) = header.split_at(4);
    let size = u32::from_le_bytes(size.try_into().ok()?) as usize;
    let record = bytes.get(position + HEADER..)?.get(..size)?;
    // A hole that the file system left reads as zeros: a record of no bytes, which is never written.
    (size > 0 && crc32fast::hash(record).to_le_bytes() == checksum).then_some(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn operations() -> Vec<Operation> {
        let payload =
            json!({"text": "naïve 怖い", "rating": 0.1, "big": u64::MAX, "list": [null, true]});
        let payload = payload.as_object().unwrap().clone();
        let id = PointId::Uuid(uuid::Uuid::from_u128(7));
        let vectors = [("user".to_owned(), vec![0.1_f32, -1.0e-30, f32::MAX])];
        vec![
            Operation::Upsert(vec![Point {
                id,
                vectors: vectors.clone().into(),
                payload: payload.clone(),
            }]),
            Operation::UpdateVectors(vec![PointVectors { id: 3.into(), vectors: vectors.into() }]),
            Operation::SetPayload(vec![id, 3.into()], payload),
            Operation::Delete(vec![id]),
        ]
    }

    fn written(path: &Path) -> Vec<u8> {
        let (mut journal, found) = Journal::open(path, true).unwrap();
        assert_eq!(found, []);
        for operation in operations() {
            journal.append(&operation).unwrap();
        }
        std::fs::read(path).unwrap()
    }

    #[test]
    fn operations_come_back_exactly_and_a_truncated_journal_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        written(&path);
        let (mut journal, found) = Journal::open(&path, true).unwrap();
        assert_eq!(found, operations());
        journal.truncate(0).unwrap();
        assert_eq!(Journal::open(&path, true).unwrap().1, []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_journal_cut_anywhere_keeps_its_whole_records(cut in 0.0_f64..1.0, garbage in any::<Vec<u8>>()) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal");
            let bytes = written(&path);
            let cut = (bytes.len() as f64 * cut) as usize;
            let mut damaged = bytes[..cut].to_vec();
            damaged.extend(garbage);
            std::fs::write(&path, &damaged).unwrap();
            let (mut journal, found) = Journal::open(&path, false).unwrap();
            let whole = parse(&path, &bytes[..cut]).unwrap().0;
            prop_assert_eq!(&found, &whole);
            // Appending goes on after the last whole record.
            journal.append(&operations()[3]).unwrap();
            let expected: Vec<_> = whole.into_iter().chain([operations()[3].clone()]).collect();
            prop_assert_eq!(Journal::open(&path, false).unwrap().1, expected);
        }
    }

    #[test]
    fn a_record_whose_checksum_fits_but_that_is_no_operation_is_not_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let record = b"\x01";
        let mut bytes = 1_u32.to_le_bytes().to_vec();
        bytes.extend(crc32fast::hash(record).to_le_bytes());
        bytes.extend(record);
        std::fs::write(&path, bytes).unwrap();
        let error = Journal::open(&path, true).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("byte 0"), "{error}");
    }
}
