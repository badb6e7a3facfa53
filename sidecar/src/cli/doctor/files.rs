//! What lies in folders: weights, models, and the room that is left.

use std::path::{Path, PathBuf};

use whyrank_models::progress::Silent;
use whyrank_models::weights::Weights;

use super::Findings;
use crate::artifacts;
use crate::cli::runtime::WEIGHTS_PREFIX;
use crate::config::Settings;
use crate::generator::GeneratorKind;
use crate::storage::Backend;
use crate::versions::{self, Dimensions, settings_fingerprint};

/// Embeds texts.
const EMBEDDER: &str = "minilm-int8";
/// Runs the embedder; the variable names another one.
const RUNTIME: &str = "onnxruntime";
const RUNTIME_VARIABLE: &str = "ORT_DYLIB_PATH";
/// Less room than this is worth a word.
const LITTLE: u64 = 1 << 30;

/// The weights that this configuration needs, read and hashed.
pub(super) fn weights(settings: &Settings, findings: &mut Findings) {
    let weights = match settings.open_weights() {
        Ok(weights) => weights,
        Err(error) => {
            let todo = "correct `weights.folder` and `weights.manifest`";
            return findings.fault("weights", error.to_string(), todo);
        }
    };
    let mut needed = vec![EMBEDDER];
    match std::env::var_os(RUNTIME_VARIABLE).filter(|path| !path.is_empty()) {
        None => needed.push(RUNTIME),
        Some(path) if Path::new(&path).exists() => {
            findings.ok(format!("weights {RUNTIME}"), path.to_string_lossy());
        }
        Some(path) => findings.fault(
            format!("weights {RUNTIME}"),
            format!("{} does not exist", path.to_string_lossy()),
            format!("correct the variable {RUNTIME_VARIABLE}, or unset it"),
        ),
    }
    let model = settings.generator.mistralrs.model.strip_prefix(WEIGHTS_PREFIX);
    if settings.generator.kind == GeneratorKind::Mistralrs {
        match model {
            Some(name) => needed.push(name),
            None if settings.generator.mistralrs.model.is_empty() => findings.fault(
                "generator.mistralrs.model",
                "no model is named",
                "name a GGUF file, or `weights:NAME` of one that `whyrank fetch` brings",
            ),
            None => {}
        }
    }
    for name in needed {
        fetched(&weights, name, findings);
    }
}

fn fetched(weights: &Weights, name: &str, findings: &mut Findings) {
    let what = format!("weights {name}");
    match weights.verify(&[name], &Silent) {
        Ok(verified) => {
            let wrong = verified.iter().find_map(|one| Some((one, one.fault.as_ref()?)));
            match wrong {
                None => findings.ok(what, format!("{} files with the right hash", verified.len())),
                Some((one, error)) => {
                    let force = if one.path.exists() { " --force" } else { "" };
                    findings.fault(what, error.to_string(), format!("whyrank fetch {name}{force}"));
                }
            }
        }
        Err(error) => findings.fault(what, error.to_string(), format!("whyrank fetch {name}")),
    }
}

/// The live models; the version of their encoder comes back.
pub(super) fn models(settings: &Settings, findings: &mut Findings) -> Option<String> {
    let what = "models";
    let folder = settings.model_folder();
    let paths = match folder.live() {
        Ok(paths) => paths,
        Err(error) => {
            let todo = "whyrank models list, then whyrank models activate VERSION";
            findings.fault(what, format!("{error:#}"), todo);
            return None;
        }
    };
    let verified = match versions::verify(&paths, Dimensions::of(settings)) {
        Ok(verified) => verified,
        Err(error) => {
            let todo = "whyrank models rollback, or whyrank train; a running server keeps what it has loaded";
            findings.fault(what, format!("{error:#}"), todo);
            return None;
        }
    };
    match (&verified.rerank, &verified.manifest) {
        (None, _) => findings.fault(
            what,
            format!("{} has no ranker: answers are in retrieval order", paths.folder().display()),
            "whyrank train",
        ),
        (Some(_), None) => findings.warning(
            what,
            "they are of no version, so that damage to them is not noticed",
            "whyrank models adopt",
        ),
        (Some(_), Some(manifest)) => {
            findings.ok(
                what,
                format!(
                    "{}: {} files, {} golden outputs",
                    paths.version().unwrap_or_default(),
                    manifest.files.len(),
                    verified.compared
                ),
            );
            if settings_fingerprint(settings).is_ok_and(|now| now != manifest.settings) {
                findings.warning(
                    "models and settings",
                    "the settings of training have changed since the live version was made",
                    "whyrank train, if the change is meant; else take the settings back",
                );
            }
        }
    }
    if let Some(shadow) = &settings.models.shadow {
        match folder.verify(shadow, Dimensions::of(settings)) {
            Ok(_) => findings.ok("models.shadow", shadow.clone()),
            Err(error) => findings.warning(
                "models.shadow",
                format!("{error:#}"),
                "name another version, or remove the setting",
            ),
        }
    }
    let embedding = 384;
    let encoder = artifacts::load_encoder(&paths, embedding, settings.autoencoder.code).ok()?;
    Some(artifacts::version(encoder.contract()))
}

/// The room on the disks that are written to.
pub(super) fn disks(settings: &Settings, findings: &mut Findings) {
    let embedded = &settings.store.embedded;
    let mut folders = vec![("models", settings.models_folder.clone(), 0)];
    if settings.store.backend == Backend::Embedded {
        folders.push(("store", embedded.folder.clone(), embedded.minimum_free_bytes));
    }
    if let Some(folder) = settings.models.feature_log.path.as_deref().and_then(Path::parent) {
        folders.push(("feature log", folder.to_owned(), 0));
    }
    for (name, folder, least) in folders {
        let what = format!("disk of the {name}");
        let place = existing(&folder);
        match fs4::available_space(&place) {
            Err(error) => findings.fault(
                what,
                format!("{}: {error}", place.display()),
                "make the folder readable for this user",
            ),
            Ok(free) if free < least => findings.fault(
                what,
                format!(
                    "{free} bytes are free, `minimum_free_bytes` is {least}: nothing is written"
                ),
                "make room",
            ),
            Ok(free) if free < LITTLE => {
                findings.warning(what, format!("{} MiB are free", free >> 20), "make room");
            }
            Ok(free) => findings.ok(what, format!("{} GiB are free", free >> 30)),
        }
    }
}

/// The folder, or the nearest above it that there is.
fn existing(folder: &Path) -> PathBuf {
    let above = folder.ancestors().find(|one| one.exists());
    above.map_or_else(|| PathBuf::from("."), Path::to_owned)
}
