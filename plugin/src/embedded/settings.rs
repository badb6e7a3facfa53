//! The settings of the embedded store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the embedded store is and the limits it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedSettings {
    /// The folder that holds everything; made when missing. One process at a time may open it.
    pub folder: PathBuf,
    /// Whether each write waits until the disk has it. With `true` an acknowledged write survives a
    /// power cut; with `false` it survives the process being killed, and bulk writing is faster.
    pub sync_every_write: bool,
    /// Bytes of journal after which written data is brought into its final files.
    pub checkpoint_bytes: u64,
    /// Points written in one step; a longer write is split.
    pub write_batch: usize,
    /// The most points that one search, scroll page, read or facet may return.
    pub maximum_results: usize,
    /// Bytes that must stay free on the disk; a write that finds less is refused.
    pub minimum_free_bytes: u64,
    /// Kilobytes of vectors in one segment from which an HNSW index is built (1 KB holds 8 vectors of
    /// 32 components). Below it a full scan is as fast, and exact.
    pub indexing_threshold_kilobytes: usize,
    /// Edges per node of the HNSW graph. More finds better neighbours and takes more memory.
    pub hnsw_m: usize,
    /// Neighbours considered while the HNSW graph is built. More builds a better graph, slower.
    pub hnsw_ef_construct: usize,
    /// Bytes of the engine's own log after which `optimize` drops its old part.
    pub engine_log_bytes: u64,
}

impl Default for EmbeddedSettings {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("whyrank-store"),
            sync_every_write: true,
            checkpoint_bytes: 16 * 1024 * 1024,
            write_batch: 1_000,
            maximum_results: 10_000,
            minimum_free_bytes: 256 * 1024 * 1024,
            indexing_threshold_kilobytes: 10_000,
            hnsw_m: 16,
            hnsw_ef_construct: 100,
            engine_log_bytes: 64 * 1024 * 1024,
        }
    }
}

impl EmbeddedSettings {
    /// The default settings in another folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_and_a_missing_one_has_its_default() {
        let settings: EmbeddedSettings = serde_json::from_str(r#"{"folder": "here"}"#).unwrap();
        assert_eq!(settings, EmbeddedSettings::in_folder("here"));
        let error = serde_json::from_str::<EmbeddedSettings>(r#"{"foldr": "x"}"#).unwrap_err();
        assert!(error.to_string().contains("foldr"), "{error}");
    }
}
