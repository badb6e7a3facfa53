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
mod golden;
mod keeper;
mod live;
mod manifest;
mod staging;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub use golden::{Golden, GoldenCandidate, GoldenConsumer, GoldenText};
pub(crate) use keeper::{ModelKeeper, Switched, tell};
pub(crate) use live::LiveModels;
pub(crate) use manifest::settings_fingerprint;
pub use manifest::{FileEntry, Manifest};
pub(crate) use staging::Staging;

use crate::artifacts::{ArtifactPaths, RerankModels, STORE_FILES, load_encoder};
use crate::config::Settings;
use crate::rerank::FeatureLogSettings;

/// The file that says which version is live.
const POINTER: &str = "live.json";
/// The folder of all versions.
const VERSIONS: &str = "versions";
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

/// What `live.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pointer {
    live: String,
    /// What was live before, the latest last.
    previous: Vec<String>,
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

/// One version as `whyrank models list` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct VersionSummary {
    /// Its id.
    pub version: String,
    /// Whether it is the live one.
    pub live: bool,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub created: u64,
    /// The files that it trained anew; the others are those of the version before.
    pub trained: Vec<String>,
    /// What is wrong with its manifest, if something is.
    pub fault: Option<String>,
}

/// The folder of the trained models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder {
    root: PathBuf,
}

impl ModelFolder {
    /// The models in this folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn pointer_path(&self) -> PathBuf {
        self.root.join(POINTER)
    }

    fn versions(&self) -> PathBuf {
        self.root.join(VERSIONS)
    }

    fn pointer(&self) -> Result<Option<Pointer>> {
        let path = self.pointer_path();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let pointer: Pointer = serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is damaged; `whyrank models activate VERSION` writes it anew",
                path.display()
            )
        })?;
        Ok(Some(pointer))
    }

    /// The id of the live version; none where models lie in the folder itself, or there are none.
    ///
    /// # Errors
    /// When `live.json` is damaged.
    pub fn live_version(&self) -> Result<Option<String>> {
        Ok(self.pointer()?.map(|pointer| pointer.live))
    }

    /// The files of the live version: those of the folder itself where no version is live.
    ///
    /// # Errors
    /// When `live.json` is damaged, or names a version that is not there.
    pub fn live(&self) -> Result<ArtifactPaths> {
        match self.live_version()? {
            Some(version) => self.version(&version).with_context(|| {
                format!(
                    "{} names a version that cannot be used; `whyrank models list` shows which can, \
                     `whyrank models rollback` takes the one before",
                    self.pointer_path().display()
                )
            }),
            None => Ok(ArtifactPaths::new(&self.root)),
        }
    }

    /// The files of one version.
    ///
    /// # Errors
    /// When there is no such version.
    pub fn version(&self, version: &str) -> Result<ArtifactPaths> {
        // An id comes from callers, so that it must not lead out of the folder.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        ensure!(
            !version.is_empty() && version.chars().all(plain),
            "{version:?} is not the id of a version; `whyrank models list` shows them"
        );
        let folder = self.versions().join(version);
        ensure!(
            folder.is_dir(),
            "there is no version {version} in {}; `whyrank models list` shows those that there are",
            self.versions().display()
        );
        Ok(ArtifactPaths::versioned(folder, version))
    }

    /// All versions, the oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read, or `live.json` is damaged.
    pub fn list(&self) -> Result<Vec<VersionSummary>> {
        let live = self.live_version()?;
        let mut found = Vec::new();
        for version in self.ids()? {
            let manifest = Manifest::read(&self.versions().join(&version), &version);
            let is_live = live.as_deref() == Some(version.as_str());
            found.push(match manifest {
                Ok(manifest) => VersionSummary {
                    version,
                    live: is_live,
                    created: manifest.created,
                    trained: manifest.trained().map(str::to_owned).collect(),
                    fault: None,
                },
                Err(error) => VersionSummary {
                    version,
                    live: is_live,
                    created: 0,
                    trained: Vec::new(),
                    fault: Some(format!("{error:#}")),
                },
            });
        }
        Ok(found)
    }

    /// The ids of all versions; they begin with their time, so that order is age.
    fn ids(&self) -> Result<Vec<String>> {
        let folder = self.versions();
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let reading = || format!("reading {}", folder.display());
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&folder).with_context(reading)? {
            let name = entry.with_context(reading)?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                ids.push(name);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Reads every file of a version, compares its hash, loads all models and runs the golden inputs.
    ///
    /// # Errors
    /// Whatever does not fit, by file, and what to do.
    pub fn verify(&self, version: &str, dimensions: Dimensions) -> Result<Verified> {
        let paths = self.version(version)?;
        verify(&paths, dimensions)
    }

    /// Makes a version the live one. The caller has verified it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn activate(&self, version: &str) -> Result<()> {
        self.version(version)?;
        // A damaged pointer says nothing about what was before; it is replaced.
        let mut previous = match self.pointer() {
            Ok(Some(pointer)) if pointer.live == version => return Ok(()),
            Ok(Some(pointer)) => {
                let mut previous = pointer.previous;
                previous.retain(|one| one != version);
                previous.push(pointer.live);
                previous
            }
            Ok(None) | Err(_) => Vec::new(),
        };
        previous.retain(|one| self.version(one).is_ok());
        self.write_pointer(&Pointer { live: version.to_owned(), previous })
    }

    /// The version that was live before.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn before(&self) -> Result<String> {
        let pointer = self.pointer()?.context("no version is live, so none was before it")?;
        let there = pointer.previous.iter().rev().find(|version| self.version(version).is_ok());
        there.cloned().with_context(|| {
            format!(
                "no version before {} is kept; `whyrank models list` shows what is",
                pointer.live
            )
        })
    }

    /// Makes `version`, which [`Self::before`] named, live again and forgets what was live after it, so
    /// that rolling back twice goes back two versions.
    pub(crate) fn roll_back_to(&self, version: &str) -> Result<()> {
        let pointer = self.pointer()?.context("no version is live, so none was before it")?;
        let Some(place) = pointer.previous.iter().rposition(|one| one == version) else {
            bail!("{version} was not live before {}", pointer.live);
        };
        let previous = pointer.previous[..place].to_vec();
        self.write_pointer(&Pointer { live: version.to_owned(), previous })
    }

    fn write_pointer(&self, pointer: &Pointer) -> Result<()> {
        files::replace(&self.pointer_path(), &serde_json::to_vec_pretty(pointer)?)
    }

    /// Removes the oldest versions beyond `keep`, never the live one, the one before it, or those of
    /// `besides`.
    ///
    /// # Errors
    /// When a folder cannot be removed.
    pub(crate) fn prune(&self, keep: usize, besides: &[&str]) -> Result<Vec<String>> {
        let pointer = self.pointer()?;
        let needed = |id: &str| {
            besides.contains(&id)
                || pointer.as_ref().is_some_and(|pointer| {
                    pointer.live == id || pointer.previous.last().is_some_and(|last| last == id)
                })
        };
        let mut old: Vec<String> = self.ids()?;
        let kept = pointer.as_ref().map(|pointer| pointer.live.clone());
        old.retain(|id| Some(id) != kept.as_ref());
        let beyond = old.len().saturating_sub(keep);
        let mut removed = Vec::new();
        for id in old.into_iter().take(beyond).filter(|id| !needed(id)) {
            let folder = self.versions().join(&id);
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("removing {}", folder.display()))?;
            removed.push(id);
        }
        Ok(removed)
    }

    /// Begins a version from the files of the live one.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn begin(&self) -> Result<Staging> {
        Staging::begin(self)
    }
}

/// A version that is whole: every hash fits, and the golden inputs give what they gave at training.
#[derive(Debug)]
pub struct Verified {
    /// What it says about itself; none of files that lie in the models folder itself.
    pub manifest: Option<Manifest>,
    /// Ranker and explainer, warm, if there are both.
    pub rerank: Option<RerankModels>,
    /// Golden outputs that were compared.
    pub compared: usize,
}

/// Compares the hashes of a version's files with its manifest; nothing is to compare where models lie
/// in the models folder itself.
///
/// # Errors
/// The file that is missing, damaged, or not of this version, and what to do.
pub fn check_files(paths: &ArtifactPaths) -> Result<Option<Manifest>> {
    let Some(version) = paths.version() else { return Ok(None) };
    let manifest = Manifest::read(paths.folder(), version)?;
    manifest.check_files(paths.folder())?;
    Ok(Some(manifest))
}

/// Name and digest of the files that decide what the store holds, as they lie there.
pub(crate) fn store_part(paths: &ArtifactPaths) -> Vec<(&'static str, Option<String>)> {
    let digest = |name: &str| files::digest(&paths.folder().join(name)).ok();
    STORE_FILES.iter().map(|name| (*name, digest(name).map(|(_, sha256)| sha256))).collect()
}

/// See [`ModelFolder::verify`].
///
/// # Errors
/// Whatever does not fit, by file, and what to do.
pub fn verify(paths: &ArtifactPaths, dimensions: Dimensions) -> Result<Verified> {
    let Dimensions { vector, code } = dimensions;
    let manifest = check_files(paths)?;
    let golden = if manifest.is_some() { Some(Golden::read(paths)?) } else { None };
    let mut compared = 0;
    if paths.factorisation().exists() {
        let factorisation = paths.load_factorisation(vector)?;
        if let Some(golden) = &golden {
            compared += golden.check_factorisation(&factorisation, &paths.factorisation())?;
        }
    }
    if paths.encoder().exists() {
        let embedding = golden.as_ref().and_then(Golden::embedding).unwrap_or(EMBEDDING);
        let encoder = load_encoder(paths, embedding, code)?;
        if let Some(golden) = &golden {
            compared += golden.check_encoder(&encoder, &paths.encoder())?;
        }
    }
    let mut rerank = None;
    if paths.ranker().exists() {
        let models = RerankModels::load(paths, vector, code)?;
        if let Some(golden) = &golden {
            compared += golden.check_rerank(&models, paths)?;
        }
        rerank = Some(models);
    }
    Ok(Verified { manifest, rerank, compared })
}

/// Width of the text embedding where no golden text tells it.
const EMBEDDING: usize = 384;
