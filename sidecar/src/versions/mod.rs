//! Trained models as versions: each in a folder of its own with a manifest and golden inputs, one of
//! them live. What does not verify is never switched to.
//!
//! ```text
//! models_folder/
//!   live.json                       which version is live, and which were before; replaced by a rename
//!   versions/
//!     20261126T114500Z-1a2b3c4d/    never changed after it was moved here
//!       manifest.json  golden.json  ranker.onnx  explainer.onnx  encoder.onnx  ...
//! ```

mod files;
mod folder;
mod golden;
mod keeper;
mod live;
mod manifest;
mod staging;
#[cfg(test)]
mod tests;
mod verify;

use serde::{Deserialize, Serialize};

pub use folder::{ModelFolder, VersionSummary};
pub use golden::{Golden, GoldenCandidate, GoldenConsumer, GoldenText};
pub(crate) use keeper::{ModelKeeper, Switched, tell};
pub(crate) use live::LiveModels;
pub(crate) use manifest::settings_fingerprint;
pub use manifest::{FileEntry, Manifest};
pub(crate) use staging::Staging;
pub(crate) use verify::store_part;
pub use verify::{Verified, check_files, verify};

use crate::config::Settings;
use crate::rerank::FeatureLogSettings;

/// What the version is called that lies in the models folder itself, as before there were versions.
pub const UNVERSIONED: &str = "unversioned";

/// How versions of the trained models are kept and switched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Versions that are kept beside the live one; older ones are removed after a training.
    pub keep: usize,
    /// Seconds between two looks of a running server at which version is live; 0 looks only on SIGHUP.
    pub poll_seconds: u64,
    /// A version that ranks a share of the live requests too, off their path; metrics tell how far it
    /// agrees with the live one. Absent shadows nothing.
    pub shadow: Option<String>,
    /// Share of the requests that it ranks, 0 to 1.
    pub shadow_share: f32,
    /// Rankings that may wait for it; further ones are dropped and counted.
    pub shadow_queue: usize,
    /// Rankings logged with their features, for later training.
    pub feature_log: FeatureLogSettings,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            keep: 5,
            poll_seconds: 5,
            shadow: None,
            shadow_share: 0.1,
            shadow_queue: 64,
            feature_log: FeatureLogSettings::default(),
        }
    }
}

/// The sizes that models must have to fit the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimensions {
    /// Width of user and item vectors.
    pub vector: usize,
    /// Width of codes.
    pub code: usize,
}

impl Dimensions {
    /// Those of the configuration.
    pub fn of(settings: &Settings) -> Self {
        Self { vector: settings.vectors.factorisation.dimension, code: settings.autoencoder.code }
    }
}
