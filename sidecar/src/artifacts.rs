//! The trained models of an installation: where their files are, and loading them with their
//! contracts checked against each other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use whyrank_models::autoencoder::Encoder;
use whyrank_models::explainer::Explainer;
use whyrank_models::factorisation::Factorisation;
use whyrank_models::onnx::Contract;
use whyrank_models::ranker::Ranker;

use crate::features;
use crate::versions::UNVERSIONED;

/// Item vectors and what folds consumers in.
const FACTORISATION: &str = "factorisation.safetensors";
/// The items of the factorisation's rows.
const ROWS: &str = "factorisation.rows.json";
/// Text embedding to code.
const ENCODER: &str = "encoder.onnx";
/// Code to text embedding.
const DECODER: &str = "decoder.onnx";
/// User and item to codes.
const EXPLAINER: &str = "explainer.onnx";
/// The ranker.
const RANKER: &str = "ranker.onnx";

/// All files that training writes.
pub(crate) const FILES: [&str; 6] = [FACTORISATION, ROWS, ENCODER, DECODER, EXPLAINER, RANKER];
/// Those that decide what the store holds: `whyrank index` writes their vectors and codes.
pub(crate) const STORE_FILES: [&str; 3] = [FACTORISATION, ROWS, ENCODER];

/// The files of the trained models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactPaths {
    folder: PathBuf,
    version: Option<String>,
}

impl ArtifactPaths {
    /// The models in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), version: None }
    }

    /// The models of a version, in its folder.
    pub(crate) fn versioned(folder: impl Into<PathBuf>, version: &str) -> Self {
        Self { folder: folder.into(), version: Some(version.to_owned()) }
    }

    /// The version that the files are of; none for files in the models folder itself.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The factorisation that gives users and items their vectors.
    pub fn factorisation(&self) -> PathBuf {
        self.folder.join(FACTORISATION)
    }

    /// Which row of the factorisation belongs to which item.
    pub fn factorisation_rows(&self) -> PathBuf {
        self.folder.join(ROWS)
    }

    /// Text embedding to code.
    pub fn encoder(&self) -> PathBuf {
        self.folder.join(ENCODER)
    }

    /// Code to text embedding.
    pub fn decoder(&self) -> PathBuf {
        self.folder.join(DECODER)
    }

    /// User and item to the codes of both sides.
    pub fn explainer(&self) -> PathBuf {
        self.folder.join(EXPLAINER)
    }

    /// The ranker.
    pub fn ranker(&self) -> PathBuf {
        self.folder.join(RANKER)
    }

    /// Loads the factorisation.
    ///
    /// # Errors
    /// A missing, truncated or foreign file; one of another dimension.
    pub(crate) fn load_factorisation(&self, dimension: usize) -> Result<Factorisation> {
        Ok(Factorisation::load(&self.factorisation(), dimension)?)
    }
}

/// A short name for one trained model: what it learned from and when.
pub fn version(contract: &Contract) -> String {
    let fingerprint = &contract.fingerprint[..contract.fingerprint.len().min(8)];
    format!("{}-{fingerprint}-{}", contract.kind, contract.created)
}

/// The models that a rerank needs.
#[derive(Debug)]
pub struct RerankModels {
    /// Predicts the codes of pairs that nothing is written for.
    pub explainer: Explainer,
    /// Scores the candidates.
    pub ranker: Ranker,
    /// The version that both are of, or [`UNVERSIONED`].
    pub version: String,
}

impl RerankModels {
    /// Loads ranker and explainer and checks that they fit the vectors, each other and the features
    /// that this build computes.
    ///
    /// # Errors
    /// A missing, truncated or foreign file; one that was made for other dimensions.
    pub fn load(paths: &ArtifactPaths, vector: usize, code: usize) -> Result<Self> {
        let ranker = Ranker::load(&paths.ranker())?;
        ranker.require(&features::shape(vector, code))?;
        let explainer = Explainer::load(&paths.explainer(), vector, code)?;
        let version = paths.version().unwrap_or(UNVERSIONED).to_owned();
        Ok(Self { explainer, ranker, version })
    }
}

/// Loads the encoder and checks its code width.
///
/// # Errors
/// A missing, truncated or foreign file; one with another embedding or code width.
pub fn load_encoder(paths: &ArtifactPaths, embedding: usize, code: usize) -> Result<Encoder> {
    let path = paths.encoder();
    let encoder = Encoder::load(&path, embedding)?;
    ensure!(
        encoder.code() == code,
        "{} makes codes of {} numbers, but `autoencoder.code` is {code}; run `whyrank train autoencoder`",
        path.display(),
        encoder.code()
    );
    Ok(encoder)
}

/// Loads what may not be there yet: `None` where the file is missing, an error where it is bad.
///
/// # Errors
/// Whatever `load` finds wrong with a file that exists.
pub fn if_present<Model>(
    path: &Path,
    load: impl FnOnce() -> Result<Model>,
) -> Result<Option<Model>> {
    if !path.exists() {
        return Ok(None);
    }
    load().map(Some).with_context(|| format!("loading {}", path.display()))
}
