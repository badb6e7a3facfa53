//! The folder of all versions, and the pointer to the live one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Dimensions, Manifest, Staging, Verified, files, verify};
use crate::artifacts::ArtifactPaths;

/// The file that says which version is live.
pub(super) const POINTER: &str = "live.json";
/// The folder of all versions.
pub(super) const VERSIONS: &str = "versions";

/// What `live.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pointer {
    live: String,
    /// What was live before, the latest last.
    previous: Vec<String>,
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

    pub(super) fn versions(&self) -> PathBuf {
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
    pub(super) fn ids(&self) -> Result<Vec<String>> {
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
