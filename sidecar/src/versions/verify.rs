//! Whether a version is whole: its hashes, its contracts, and its golden outputs.

use anyhow::Result;

use super::{Dimensions, Golden, Manifest, files};
use crate::artifacts::{ArtifactPaths, RerankModels, STORE_FILES, load_encoder};

/// A version that is whole: every hash fits, and the golden inputs give what they gave at training.
#[derive(Debug)]
pub struct Verified {
    /// What it says about itself; none of files that lie in the models folder itself.
    pub manifest: Option<Manifest>,
    /// Ranker and explainer, warm, if there are both.
    pub rerank: Option<RerankModels>,
    /// Golden outputs that were compared.
    pub compared: usize,
}

/// Compares the hashes of a version's files with its manifest; nothing is to compare where models lie
/// in the models folder itself.
///
/// # Errors
/// The file that is missing, damaged, or not of this version, and what to do.
pub fn check_files(paths: &ArtifactPaths) -> Result<Option<Manifest>> {
    let Some(version) = paths.version() else { return Ok(None) };
    let manifest = Manifest::read(paths.folder(), version)?;
    manifest.check_files(paths.folder())?;
    Ok(Some(manifest))
}

/// Name and digest of the files that decide what the store holds, as they lie there.
pub(crate) fn store_part(paths: &ArtifactPaths) -> Vec<(&'static str, Option<String>)> {
    let digest = |name: &str| files::digest(&paths.folder().join(name)).ok();
    STORE_FILES.iter().map(|name| (*name, digest(name).map(|(_, sha256)| sha256))).collect()
}

/// See [`ModelFolder::verify`].
///
/// # Errors
/// Whatever does not fit, by file, and what to do.
pub fn verify(paths: &ArtifactPaths, dimensions: Dimensions) -> Result<Verified> {
    let Dimensions { vector, code } = dimensions;
    let manifest = check_files(paths)?;
    let golden = if manifest.is_some() { Some(Golden::read(paths)?) } else { None };
    let mut compared = 0;
    if paths.factorisation().exists() {
        let factorisation = paths.load_factorisation(vector)?;
        if let Some(golden) = &golden {
            compared += golden.check_factorisation(&factorisation, &paths.factorisation())?;
        }
    }
    if paths.encoder().exists() {
        let embedding = golden.as_ref().and_then(Golden::embedding).unwrap_or(EMBEDDING);
        let encoder = load_encoder(paths, embedding, code)?;
        if let Some(golden) = &golden {
            compared += golden.check_encoder(&encoder, &paths.encoder())?;
        }
    }
    let mut rerank = None;
    if paths.ranker().exists() {
        let models = RerankModels::load(paths, vector, code)?;
        if let Some(golden) = &golden {
            compared += golden.check_rerank(&models, paths)?;
        }
        rerank = Some(models);
    }
    Ok(Verified { manifest, rerank, compared })
}

/// Width of the text embedding where no golden text tells it.
const EMBEDDING: usize = 384;
