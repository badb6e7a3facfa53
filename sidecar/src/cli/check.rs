//! `whyrank check`: says what would be used, and what is missing.

use std::collections::HashMap;

use anyhow::{Result, bail};
use serde::Serialize;
use whyrank_models::onnx::Contract;
use whyrank_models::progress::Silent;

use super::output::print;
use crate::artifacts::{self, RerankModels, load_encoder};
use crate::config::Settings;
use crate::import::check_heads;
use crate::versions;

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    found: String,
    fault: bool,
}

pub(super) async fn check(settings: &Settings, hashes: bool, json: bool) -> Result<()> {
    let mut findings = vec![
        finding(
            "store",
            format!("{:?}, {}", settings.store.backend, settings.store.embedded.folder.display()),
        ),
        finding("server", settings.server.address.clone()),
        finding(
            "generator",
            format!("{:?} {}", settings.generator.kind, settings.generator.mistralrs.model),
        ),
    ];
    check_weights(settings, hashes, &mut findings)?;
    check_models(settings, &mut findings);
    check_tables(settings, &mut findings);
    let faults = findings.iter().filter(|finding| finding.fault).count();
    print(json, &findings, || {
        let lines = findings.iter().map(|finding| {
            let mark = if finding.fault { "FAULT" } else { "ok" };
            format!("{mark:<6}{:<40} {}", finding.what, finding.found)
        });
        lines.collect::<Vec<_>>().join("\n")
    })?;
    if faults > 0 {
        bail!("{faults} of {} checks found a fault", findings.len());
    }
    Ok(())
}

/// Prints every setting in force.
pub(super) fn effective(settings: &Settings, json: bool) -> Result<()> {
    let text = toml_edit::ser::to_string_pretty(settings)?;
    print(json, settings, || text)
}

fn finding(what: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { what: what.into(), found: found.into(), fault: false }
}

fn fault(what: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { fault: true, ..finding(what, found) }
}

/// A weight that is not there is no fault: no command may need it. One that is wrong is.
fn check_weights(settings: &Settings, hashes: bool, findings: &mut Vec<Finding>) -> Result<()> {
    let weights = settings.open_weights()?;
    for name in weights.manifest.names() {
        let Ok(artifact) = weights.manifest.artifact(name) else { continue };
        for file in &artifact.files {
            let what = format!("weights {name}/{}", file.name);
            let path = weights.folder.join(name).join(&file.name);
            if !path.exists() {
                findings.push(finding(what, format!("not fetched; `whyrank fetch {name}`")));
                continue;
            }
            let outcome = if hashes {
                let verified = weights.verify(&[name], &Silent)?;
                let found = verified.into_iter().find(|one| one.path == path);
                found.and_then(|one| one.fault).map_or(Ok(()), Err)
            } else {
                weights.require(name, &file.name).map(drop)
            };
            findings.push(match outcome {
                Ok(()) => finding(what, format!("{} bytes, {}", file.size, &file.sha256[..12])),
                Err(error) => fault(what, error.to_string()),
            });
        }
    }
    Ok(())
}

fn check_models(settings: &Settings, findings: &mut Vec<Finding>) {
    let paths = match settings.live_models() {
        Ok(paths) => paths,
        Err(error) => {
            findings.push(fault("models", format!("{error:#}")));
            return;
        }
    };
    findings.push(match versions::check_files(&paths) {
        Ok(Some(_)) => finding("models version", paths.version().unwrap_or_default()),
        Ok(None) => finding("models version", versions::UNVERSIONED),
        Err(error) => fault("models version", format!("{error:#}")),
    });
    let (vector, code) = (settings.vectors.factorisation.dimension, settings.autoencoder.code);
    let describe = |contract: &Contract| {
        let sizes = contract.dimensions.iter().map(|(name, size)| format!("{name} {size}"));
        format!("{} ({})", artifacts::version(contract), sizes.collect::<Vec<_>>().join(", "))
    };
    if paths.ranker().exists() {
        findings.push(match RerankModels::load(&paths, vector, code) {
            Ok(models) => finding(
                "models ranker, explainer",
                format!(
                    "{}; {}",
                    describe(models.ranker.contract()),
                    describe(models.explainer.contract())
                ),
            ),
            Err(error) => fault("models ranker, explainer", format!("{error:#}")),
        });
    } else {
        findings.push(finding("models ranker", "not trained; `whyrank train`"));
    }
    if paths.encoder().exists() {
        let embedding = 384;
        findings.push(match load_encoder(&paths, embedding, code) {
            Ok(encoder) => finding("models encoder", describe(encoder.contract())),
            Err(error) => fault("models encoder", format!("{error:#}")),
        });
    }
}

/// What a table's rows hold is told by an import.
fn check_tables(settings: &Settings, findings: &mut Vec<Finding>) {
    let import = &settings.import;
    let mut heads: HashMap<&str, _> = check_heads(import).into_iter().collect();
    let tables = [
        ("interactions", &import.interactions.path),
        ("items", &import.items.path),
        ("users", &import.users.path),
    ];
    for (name, path) in tables {
        let what = format!("import {name}");
        findings.push(match path {
            None => finding(what, "no file configured"),
            Some(path) if path.to_string_lossy().starts_with(super::runtime::WEIGHTS_PREFIX) => {
                finding(what, path.display().to_string())
            }
            Some(path) if path.exists() => match heads.remove(name) {
                Some(Err(error)) => fault(what, format!("{:#}", anyhow::Error::from(error))),
                _ => finding(what, path.display().to_string()),
            },
            Some(path) => fault(what, format!("{} does not exist", path.display())),
        });
    }
}
