//! A version while it is made: a folder of its own that becomes a version by one rename.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::manifest::MANIFEST;
use super::{Dimensions, Golden, Manifest, ModelFolder, UNVERSIONED, files, golden};
use crate::artifacts::{ArtifactPaths, FILES, RerankModels};
use crate::config::Settings;

/// Begins the names of folders that are no version yet.
const UNFINISHED: &str = ".unfinished-";
/// An unfinished folder of this age belongs to no training any more.
const ABANDONED: Duration = Duration::from_secs(48 * 60 * 60);

/// A version while it is made; the folder goes with the value unless it was finished.
#[derive(Debug)]
pub(crate) struct Staging {
    folder: ModelFolder,
    at: PathBuf,
    /// Hash and version of each file that was taken over.
    taken: BTreeMap<String, (String, String)>,
}

impl Staging {
    /// A folder with copies of the live version's files.
    pub(super) fn begin(folder: &ModelFolder) -> Result<Self> {
        let versions = folder.versions();
        std::fs::create_dir_all(&versions)
            .with_context(|| format!("making the folder {}", versions.display()))?;
        remove_abandoned(&versions);
        let unique = format!("{UNFINISHED}{}-{}", std::process::id(), now().as_nanos());
        let at = versions.join(unique);
        std::fs::create_dir(&at).with_context(|| format!("making {}", at.display()))?;
        let mut staging = Self { folder: folder.clone(), at, taken: BTreeMap::new() };
        // A live version that cannot be used must not keep a new one from being made.
        let Ok(live) = folder.live() else { return Ok(staging) };
        let manifest = super::check_files(&live);
        if let Err(error) = &manifest {
            tracing::warn!("nothing is taken over from the live version: {error:#}");
            return Ok(staging);
        }
        let manifest = manifest.ok().flatten();
        for name in FILES {
            let from = live.folder().join(name);
            if !from.exists() {
                continue;
            }
            let to = staging.at.join(name);
            std::fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
            let (_, sha256) = files::digest(&to)?;
            let entries = manifest.iter().flat_map(|manifest| &manifest.files);
            let origin = entries.filter(|entry| entry.name == name).find_map(|e| e.from.clone());
            let version =
                origin.unwrap_or_else(|| live.version().unwrap_or(UNVERSIONED).to_owned());
            staging.taken.insert(name.to_owned(), (sha256, version));
        }
        Ok(staging)
    }

    /// Where the stages of training write.
    pub(crate) fn paths(&self) -> ArtifactPaths {
        ArtifactPaths::new(&self.at)
    }

    /// Whether training has written or changed a file.
    pub(crate) fn has_changed(&self) -> Result<bool> {
        for name in FILES {
            let path = self.at.join(name);
            if path.exists() && !self.is_taken(&path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes ranker and explainer where they were taken over and do not fit the newly trained files,
    /// so that the version can be used as far as it goes. What was trained just now and does not load
    /// is an error.
    pub(crate) fn drop_unfit(&self, dimensions: Dimensions) -> Result<()> {
        let paths = self.paths();
        let Dimensions { vector, code } = dimensions;
        if !paths.ranker().exists() {
            return Ok(());
        }
        let Err(error) = RerankModels::load(&paths, vector, code) else { return Ok(()) };
        for path in [paths.ranker(), paths.explainer()] {
            if self.is_taken(&path)? {
                std::fs::remove_file(&path)
                    .with_context(|| format!("removing {}", path.display()))?;
                tracing::warn!(
                    "{} does not fit what was trained now and is left out; train it again: {error:#}",
                    path.file_name().unwrap_or_default().to_string_lossy()
                );
            } else if path == paths.ranker() && path.exists() {
                return Err(error);
            }
        }
        Ok(())
    }

    fn is_taken(&self, path: &Path) -> Result<bool> {
        if !path.exists() {
            return Ok(false);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (_, sha256) = files::digest(path)?;
        Ok(self.taken.get(&name).is_some_and(|(taken, _)| *taken == sha256))
    }

    /// Writes golden outputs and manifest, verifies, and moves the folder to its place. It is a version
    /// then, though not the live one; its id comes back.
    pub(crate) fn finish(mut self, golden: &Golden, settings: &Settings) -> Result<String> {
        let written = self.at.join(golden::GOLDEN);
        std::fs::write(&written, serde_json::to_vec(golden)?)
            .with_context(|| format!("writing {}", written.display()))?;
        let taken = std::mem::take(&mut self.taken);
        let from = |name: &str, sha256: &str| {
            taken.get(name).filter(|(hash, _)| hash == sha256).map(|(_, version)| version.clone())
        };
        let manifest = Manifest::of(&self.at, settings, now().as_secs(), from)?;
        if manifest.files.len() < 2 {
            bail!("nothing was trained, so there is no version to make");
        }
        let id = manifest.id()?;
        let path = self.at.join(MANIFEST);
        std::fs::write(&path, serde_json::to_vec_pretty(&manifest)?)
            .with_context(|| format!("writing {}", path.display()))?;
        for entry in manifest.files.iter().map(|entry| entry.name.as_str()).chain([MANIFEST]) {
            files::sync(&self.at.join(entry))?;
        }
        files::sync(&self.at)?;
        let unverified = ArtifactPaths::versioned(&self.at, &id);
        super::verify(&unverified, Dimensions::of(settings))
            .context("the new version does not verify and is dropped")?;
        let place = self.folder.versions().join(&id);
        std::fs::rename(&self.at, &place)
            .with_context(|| format!("moving the new version to {}", place.display()))?;
        files::sync(&self.folder.versions())?;
        Ok(id)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After `finish` it is not there any more.
        if self.at.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.at)
        {
            tracing::warn!("{} could not be removed: {error}", self.at.display());
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What a killed training left behind. Best effort: it costs room only.
fn remove_abandoned(versions: &Path) {
    let Ok(entries) = std::fs::read_dir(versions) else { return };
    for entry in entries.flatten() {
        let unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = age.and_then(|modified| modified.elapsed().ok());
        if unfinished && age.is_some_and(|age| age > ABANDONED) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
