//! What a version says about itself: its files with their hashes, and the settings they were made with.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files;
use crate::artifacts::STORE_FILES;
use crate::config::Settings;

/// The file's name in a version's folder.
pub(super) const MANIFEST: &str = "manifest.json";
/// Layout of the manifest.
const LAYOUT: u32 = 1;
/// Hexadecimal digits of the manifest's digest that end a version's id.
const DIGITS: usize = 12;

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name in the folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// The version that it was taken over from; none if it was made with this one.
    pub from: Option<String>,
}

/// What a version says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout of this structure.
    pub layout: u32,
    /// Version of the program that made it.
    pub program: String,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub created: u64,
    /// Digest of the settings that training reads.
    pub settings: String,
    /// The files, by name.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// The manifest of the files that lie in a folder.
    pub(super) fn of(
        folder: &Path,
        settings: &Settings,
        created: u64,
        from: impl Fn(&str, &str) -> Option<String>,
    ) -> Result<Self> {
        let mut entries = Vec::new();
        let reading = || format!("reading {}", folder.display());
        for entry in std::fs::read_dir(folder).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let (size, sha256) = files::digest(&entry.path())
                .with_context(|| format!("reading {}", entry.path().display()))?;
            let from = from(&name, &sha256);
            entries.push(FileEntry { name, size, sha256, from });
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(Self {
            layout: LAYOUT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            created,
            settings: settings_fingerprint(settings)?,
            files: entries,
        })
    }

    /// The id of the version: its time and the digest of this manifest, so that a changed manifest is
    /// noticed by the folder's name.
    pub(super) fn id(&self) -> Result<String> {
        let digest = format!("{:x}", Sha256::digest(serde_json::to_vec(self)?));
        let seconds = i64::try_from(self.created).unwrap_or_default();
        let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        Ok(format!("{}-{}", time.format("%Y%m%dT%H%M%SZ"), &digest[..DIGITS]))
    }

    /// The manifest in a version's folder.
    ///
    /// # Errors
    /// When it is missing, damaged, or not that of this version.
    pub(super) fn read(folder: &Path, version: &str) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let todo = "activate another version (`whyrank models list`), or run `whyrank train`";
        let bytes =
            std::fs::read(&path).with_context(|| format!("reading {}; {todo}", path.display()))?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; {todo}", path.display()))?;
        ensure!(
            manifest.layout == LAYOUT,
            "{} has the layout {}, this build reads {LAYOUT}; {todo}",
            path.display(),
            manifest.layout
        );
        ensure!(
            manifest.id()? == version,
            "{} is not that of version {version}: it was changed; {todo}",
            path.display()
        );
        Ok(manifest)
    }

    /// Compares size and hash of every file.
    pub(super) fn check_files(&self, folder: &Path) -> Result<()> {
        let todo = "activate another version (`whyrank models rollback`), or run `whyrank train`";
        for entry in &self.files {
            let path = folder.join(&entry.name);
            let (size, sha256) = files::digest(&path)
                .with_context(|| format!("reading the model file {}; {todo}", path.display()))?;
            ensure!(
                size == entry.size,
                "{} has {size} bytes, its manifest says {}: it is damaged; {todo}",
                path.display(),
                entry.size
            );
            ensure!(
                sha256 == entry.sha256,
                "{} has the SHA-256 {sha256}, its manifest says {}: it is damaged; {todo}",
                path.display(),
                entry.sha256
            );
        }
        Ok(())
    }

    /// The models that were trained with this version, by file name.
    pub fn trained(&self) -> impl Iterator<Item = &str> {
        let own = self.files.iter().filter(|entry| entry.from.is_none());
        own.map(|entry| entry.name.as_str()).filter(|name| *name != super::golden::GOLDEN)
    }

    /// Name and hash of the files that decide what the store holds: vectors and codes.
    pub(crate) fn store_part(&self) -> Vec<(&str, &str)> {
        let own = self.files.iter().filter(|entry| STORE_FILES.contains(&entry.name.as_str()));
        own.map(|entry| (entry.name.as_str(), entry.sha256.as_str())).collect()
    }

    /// Whether vectors and codes that one version brought into the store are those of the other.
    pub fn same_store(&self, other: &Self) -> bool {
        self.store_part() == other.store_part()
    }
}

/// Digest of the settings that training reads.
///
/// # Errors
/// When they cannot be serialised.
pub(crate) fn settings_fingerprint(settings: &Settings) -> Result<String> {
    let Settings { ratings, split, text, vectors, autoencoder, explainer, ranker, .. } = settings;
    let read = (ratings, split, text, vectors, autoencoder, explainer, ranker);
    Ok(format!("{:x}", Sha256::digest(serde_json::to_vec(&read)?)))
}
