//! The settings of the server backend.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Where the Qdrant server is, how long to wait for it, and how collections are made on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// The server's gRPC address: `http://` or `https://`, host and port (6334 unless changed).
    pub url: String,
    /// The server's API key; empty for a server without one. Never shown again.
    pub api_key: Secret,
    /// A file with the server's API key, read again while serving, as keys are; instead of `api_key`.
    pub api_key_file: Option<PathBuf>,
    /// A PEM file with certificates to trust besides the system's; only with `https`.
    pub ca_certificate: Option<PathBuf>,
    /// Seconds until a connection must stand.
    pub connect_timeout_seconds: f64,
    /// Seconds until one attempt of a call must be answered.
    pub request_timeout_seconds: f64,
    /// Seconds until a call must have succeeded, with all its attempts and the waits between them.
    /// A long write is several calls.
    pub total_timeout_seconds: f64,
    /// How often a call is tried, from 1. Only faults that may pass are tried again.
    pub maximum_attempts: usize,
    /// Seconds before the second attempt, doubled for every further one; up to as much again is
    /// added by chance, so that callers do not come back all at once.
    pub backoff_initial_seconds: f64,
    /// The longest wait between two attempts in seconds, before chance adds to it.
    pub backoff_maximum_seconds: f64,
    /// Calls that must fail one after the other before the server is left alone for a while and
    /// calls fail at once; 0 never does that.
    pub breaker_failures: u32,
    /// Seconds for which the server is left alone; then one call is let through to try it.
    pub breaker_cool_down_seconds: f64,
    /// Seconds that `optimize` waits for the server to finish building its indexes.
    pub optimize_timeout_seconds: f64,
    /// Points written in one request; a longer write is split.
    pub write_batch: usize,
    /// The most points that one search, scroll page, read or facet may return.
    pub maximum_results: usize,
    /// For collections made here: number of shards. None is the server's default.
    pub shard_number: Option<u32>,
    /// For collections made here: copies of every shard. None is the server's default.
    pub replication_factor: Option<u32>,
    /// For collections made here: copies that must confirm a write. None is the server's default.
    pub write_consistency_factor: Option<u32>,
    /// For collections made here: whether vectors stay on disk instead of in memory.
    pub on_disk_vectors: bool,
    /// For collections made here: whether the payload stays on disk instead of in memory.
    pub on_disk_payload: bool,
    /// For collections made here: a smaller form of the vectors to search in.
    pub quantization: Quantization,
    /// For collections made here: edges per node of the HNSW graph. More finds better neighbours and
    /// takes more memory.
    pub hnsw_m: u64,
    /// For collections made here: neighbours considered while the HNSW graph is built.
    pub hnsw_ef_construct: u64,
    /// For collections made here: kilobytes of vectors in one segment from which an HNSW index is
    /// built (1 KB holds 8 vectors of 32 components).
    pub indexing_threshold_kilobytes: u64,
}

/// A smaller form of the vectors, searched instead of the vectors themselves.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Quantization {
    /// None.
    #[default]
    None,
    /// One byte per component.
    Scalar {
        /// The share of the components, by size, that the bytes span; what lies outside is cut off.
        /// None spans all.
        #[serde(default)]
        quantile: Option<f32>,
        /// Whether the bytes stay in memory even when the vectors are on disk.
        #[serde(default)]
        always_ram: bool,
    },
    /// One bit per component: for vectors of many components only.
    Binary {
        /// Whether the bits stay in memory even when the vectors are on disk.
        #[serde(default)]
        always_ram: bool,
    },
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            url: "http://localhost:6334".to_owned(),
            api_key: Secret::default(),
            api_key_file: None,
            ca_certificate: None,
            connect_timeout_seconds: 2.0,
            request_timeout_seconds: 30.0,
            total_timeout_seconds: 60.0,
            maximum_attempts: 4,
            backoff_initial_seconds: 0.1,
            backoff_maximum_seconds: 5.0,
            breaker_failures: 5,
            breaker_cool_down_seconds: 5.0,
            optimize_timeout_seconds: 3_600.0,
            write_batch: 500,
            maximum_results: 10_000,
            shard_number: None,
            replication_factor: None,
            write_consistency_factor: None,
            on_disk_vectors: false,
            on_disk_payload: true,
            quantization: Quantization::None,
            hnsw_m: 16,
            hnsw_ef_construct: 100,
            indexing_threshold_kilobytes: 10_000,
        }
    }
}

impl ServerSettings {
    /// The default settings for another server.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// What is wrong with the settings, the first fault only; none if nothing is.
    pub fn fault(&self) -> Option<String> {
        let seconds = [
            ("connect_timeout_seconds", self.connect_timeout_seconds),
            ("request_timeout_seconds", self.request_timeout_seconds),
            ("total_timeout_seconds", self.total_timeout_seconds),
            ("backoff_initial_seconds", self.backoff_initial_seconds),
            ("backoff_maximum_seconds", self.backoff_maximum_seconds),
            ("breaker_cool_down_seconds", self.breaker_cool_down_seconds),
            ("optimize_timeout_seconds", self.optimize_timeout_seconds),
        ];
        for (setting, value) in seconds {
            if value <= 0.0 || Duration::try_from_secs_f64(value).is_err() {
                return Some(format!("`{setting}` is {value}, not a time above 0"));
            }
        }
        let counts = [
            ("maximum_attempts", self.maximum_attempts),
            ("write_batch", self.write_batch),
            ("maximum_results", self.maximum_results),
        ];
        for (setting, value) in counts {
            if value == 0 {
                return Some(format!("`{setting}` is 0; set 1 or more"));
            }
        }
        if self.maximum_results > u32::MAX as usize {
            let largest = u32::MAX;
            return Some(format!("`maximum_results` is above {largest}, Qdrant's largest page"));
        }
        match self.quantization {
            Quantization::Scalar { quantile: Some(quantile), .. }
                if !(0.5..=1.0).contains(&quantile) =>
            {
                Some(format!("`quantization.quantile` is {quantile}, not from 0.5 to 1"))
            }
            _ => None,
        }
    }
}

/// A time in seconds that [`ServerSettings::fault`] accepted.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_and_a_missing_one_has_its_default() {
        let settings: ServerSettings =
            serde_json::from_str(r#"{"url": "https://qdrant.example:6334"}"#).unwrap();
        assert_eq!(settings, ServerSettings::at("https://qdrant.example:6334"));
        let error = serde_json::from_str::<ServerSettings>(r#"{"urll": "x"}"#).unwrap_err();
        assert!(error.to_string().contains("urll"), "{error}");
    }

    #[test]
    fn quantization_is_written_with_its_kind() {
        let check = |json: &str, expected: Quantization| {
            assert_eq!(serde_json::from_str::<Quantization>(json).unwrap(), expected, "{json}");
        };
        check(r#"{"kind": "none"}"#, Quantization::None);
        let scalar = Quantization::Scalar { quantile: Some(0.99), always_ram: true };
        check(r#"{"kind": "scalar", "quantile": 0.99, "always_ram": true}"#, scalar);
        check(r#"{"kind": "binary"}"#, Quantization::Binary { always_ram: false });
        assert!(serde_json::from_str::<Quantization>(r#"{"kind": "binary", "bits": 2}"#).is_err());
    }

    #[test]
    fn faults_are_named_with_their_setting() {
        let check = |change: fn(&mut ServerSettings), word: &str| {
            let mut settings = ServerSettings::default();
            change(&mut settings);
            let fault = settings.fault().expect(word);
            assert!(fault.contains(word), "{fault}");
        };
        assert_eq!(ServerSettings::default().fault(), None);
        check(|settings| settings.connect_timeout_seconds = 0.0, "connect_timeout_seconds");
        check(|settings| settings.total_timeout_seconds = f64::NAN, "total_timeout_seconds");
        check(|settings| settings.backoff_initial_seconds = -1.0, "backoff_initial_seconds");
        check(|settings| settings.write_batch = 0, "write_batch");
        check(|settings| settings.maximum_results = usize::MAX, "maximum_results");
        let narrow = |settings: &mut ServerSettings| {
            settings.quantization = Quantization::Scalar { quantile: Some(0.1), always_ram: false };
        };
        check(narrow, "quantile");
    }

    #[test]
    fn the_key_is_not_shown() {
        let settings =
            ServerSettings { api_key: Secret::new("hunter2"), ..ServerSettings::default() };
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("hunter2") && shown.contains("***"), "{shown}");
    }
}
