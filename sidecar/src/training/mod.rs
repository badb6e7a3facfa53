//! Trains the models on what the store holds, stage by stage, and brings the store up to date with
//! the trained models. Every stage reads its input from the store and leaves a file or points behind,
//! so that each can be run again by itself.

mod codes;
mod index;
mod ranking;
mod vectors;

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use whyrank_models::progress::Progress;
use whyrank_models::text::TextEmbedder;
use whyrank_models::weights::Weights;
use whyrank_plugin::{ItemRecord, UserRecord};

pub use codes::{AutoencoderOutcome, ExplainerOutcome};
pub use index::IndexReport;
pub use ranking::RankerOutcome;
pub use vectors::VectorsOutcome;

use crate::artifacts::ArtifactPaths;
use crate::config::Settings;
use crate::storage::Storage;

/// All that the stages share.
pub struct Trainer {
    settings: Arc<Settings>,
    storage: Storage,
    paths: ArtifactPaths,
    weights: Weights,
    progress: Arc<dyn Progress>,
    embedder: OnceLock<Arc<TextEmbedder>>,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trainer").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Trainer {
    /// A trainer over this store; models go to `paths`.
    pub fn new(
        settings: Arc<Settings>,
        storage: Storage,
        weights: Weights,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let paths = settings.artifact_paths();
        Self { settings, storage, paths, weights, progress, embedder: OnceLock::new() }
    }

    /// The text embedder, loaded when first needed.
    ///
    /// # Errors
    /// When its files or ONNX Runtime are missing.
    pub fn embedder(&self) -> Result<Arc<TextEmbedder>> {
        if let Some(embedder) = self.embedder.get() {
            return Ok(embedder.clone());
        }
        let loaded = Arc::new(TextEmbedder::load(&self.weights, self.settings.text.clone())?);
        Ok(self.embedder.get_or_init(|| loaded).clone())
    }
}

/// What the text embedding of an item is made from.
fn item_text(item: &ItemRecord) -> String {
    let attributes = item.attributes.values().map(String::as_str);
    let parts = std::iter::once(item.title.as_str()).chain(attributes);
    let parts: Vec<&str> =
        parts.chain([item.text.as_str()]).filter(|part| !part.is_empty()).collect();
    parts.join(". ")
}

/// What the text embedding of a consumer is made from; empty for one without a profile.
fn user_text(user: &UserRecord) -> String {
    let attributes = user.attributes.iter();
    attributes.map(|(label, value)| format!("{label}: {value}")).collect::<Vec<_>>().join(", ")
}
