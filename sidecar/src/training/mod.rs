//! Trains the models on what the store holds, stage by stage, and brings the store up to date with
//! the trained models. Every stage reads its input from the store and leaves a file or points behind,
//! so that each can be run again by itself.

mod codes;
mod comparison;
mod embeddings;
mod expected;
mod faithfulness;
mod golden;
mod index;
mod known;
mod ordering;
mod ranking;
mod take_up;
mod told;
mod vectors;
mod versus;

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use ndarray::Array2;
use whyrank_models::progress::{Progress, Silent};
use whyrank_models::text::TextEmbedder;
use whyrank_models::weights::Weights;
use whyrank_plugin::{ItemRecord, UserRecord};

pub use codes::{AutoencoderOutcome, ExplainerOutcome};
pub use comparison::{Arm, ArmOutcome, ComparisonOutcome};
pub use faithfulness::Faithfulness;
pub use index::IndexReport;
pub use ordering::{OrderOutcome, OrderingOutcome, OrderingSettings};
pub use ranking::RankerOutcome;
pub use take_up::TakeUpOutcome;
pub use vectors::VectorsOutcome;
pub(crate) use versus::VersionComparison;

use self::embeddings::EmbeddingCache;
use crate::artifacts::ArtifactPaths;
use crate::cold_start::ColdStart;
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
    embeddings: Arc<EmbeddingCache>,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trainer").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Trainer {
    /// A trainer over this store; models lie in `paths` and go there.
    pub fn new(
        settings: Arc<Settings>,
        storage: Storage,
        weights: Weights,
        progress: Arc<dyn Progress>,
        paths: ArtifactPaths,
    ) -> Self {
        let embeddings = Arc::new(EmbeddingCache::new(settings.training.embedding_cache));
        Self { settings, storage, paths, weights, progress, embedder: OnceLock::new(), embeddings }
    }

    /// A trainer over another store, which embeds no text again that this one has embedded. Its models
    /// lie in the configured folder itself.
    pub fn over(&self, settings: Arc<Settings>, storage: Storage) -> Self {
        Self {
            paths: ArtifactPaths::new(&settings.models_folder),
            settings,
            storage,
            weights: self.weights.clone(),
            progress: self.progress.clone(),
            embedder: self.embedder.clone(),
            embeddings: self.embeddings.clone(),
        }
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

    /// The text embeddings `[n, 384]`, computed once for each text in the life of the trainer.
    fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Array2<f32>> {
        self.embeddings.embed(&*self.embedder()?, texts, self.progress.as_ref())
    }

    /// The same inside a stage that shows its own progress.
    fn embed_quietly<T: AsRef<str>>(&self, texts: &[T]) -> Result<Array2<f32>> {
        self.embeddings.embed(&*self.embedder()?, texts, &Silent)
    }

    /// The text embeddings of consumers' profiles, if vectors were learned from profiles.
    fn embed_profiles(
        &self,
        folder: &ColdStart,
        users: &[UserRecord],
    ) -> Result<Option<Array2<f32>>> {
        if !folder.takes_profiles() {
            return Ok(None);
        }
        let texts: Vec<String> = users.iter().map(user_text).collect();
        self.embed(&texts).map(Some)
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
pub(crate) fn user_text(user: &UserRecord) -> String {
    let attributes = user.attributes.iter();
    attributes.map(|(label, value)| format!("{label}: {value}")).collect::<Vec<_>>().join(", ")
}
