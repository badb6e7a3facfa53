//! Vectors and tastes for what was not there at training: consumers who are only a history, items that
//! are only a text.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ndarray::Array2;
use whyrank_models::factorisation::{Factorisation, FoldIn};
use whyrank_models::taste::{Rated, Taste, TasteSettings};
use whyrank_models::text::TextEmbedder;
use whyrank_plugin::StoredTaste;

use crate::config::VectorSettings;

/// Makes vectors in the space of the stored ones.
#[derive(Debug)]
pub struct ColdStart {
    fold_in: FoldIn,
    taste: TasteSettings,
    /// Only learned vectors know what a text stands for; those a search team brings do not.
    texts: Option<(Factorisation, Arc<TextEmbedder>)>,
}

impl ColdStart {
    /// From the learned factorisation.
    pub fn learned(
        factorisation: Factorisation,
        embedder: Arc<TextEmbedder>,
        settings: &VectorSettings,
    ) -> Self {
        Self {
            fold_in: factorisation.folder().clone(),
            taste: settings.taste.clone(),
            texts: Some((factorisation, embedder)),
        }
    }

    /// From item vectors that were brought, all of one width.
    ///
    /// # Errors
    /// When there are none, or they are not all of one width.
    pub fn brought(vectors: &[Vec<f32>], settings: &VectorSettings) -> Result<Self> {
        let width = vectors.first().map_or(0, Vec::len);
        ensure!(width > 0, "no item has a vector; check `import.items.vector`");
        let table = Array2::from_shape_vec((vectors.len(), width), vectors.concat())
            .context("the items' vectors are not all of one width")?;
        let fold_in = FoldIn::new(table.view(), &settings.factorisation)?;
        Ok(Self { fold_in, taste: settings.taste.clone(), texts: None })
    }

    /// The vector of a consumer with these items `[d]` and ratings.
    ///
    /// # Errors
    /// When the history is empty or a vector is of another width.
    pub fn fold_in(&self, history: &[(Vec<f32>, f32)]) -> Result<Vec<f32>> {
        self.fold_in_with(history, None)
    }

    /// The same, pulled to what the profile's text embedding stands for.
    ///
    /// # Errors
    /// When there is neither a history nor a profile, or a vector is of another width.
    pub fn fold_in_with(
        &self,
        history: &[(Vec<f32>, f32)],
        profile: Option<&[f32]>,
    ) -> Result<Vec<f32>> {
        let rows: Vec<_> =
            history.iter().map(|(item, rating)| (item.as_slice(), *rating)).collect();
        Ok(match &self.texts {
            Some((factorisation, _)) => factorisation.fold_in(&rows, profile)?,
            None => self.fold_in.fold_in(&rows, None)?,
        })
    }

    /// The taste behind a whole history.
    ///
    /// # Errors
    /// When vectors are not all of one width, or a number is not finite.
    pub fn taste(&self, history: &[Rated<'_>]) -> Result<Taste> {
        Ok(Taste::learn(history, &self.taste)?)
    }

    /// Whether vectors were learned from profiles, so that [`Self::fold_in_with`] uses one.
    pub fn takes_profiles(&self) -> bool {
        self.texts.as_ref().is_some_and(|(factorisation, _)| factorisation.knows_user_texts())
    }

    /// The vector of an item that is only a text.
    ///
    /// # Errors
    /// When the vectors were brought rather than learned, or the text cannot be embedded.
    pub fn item_from_text(&self, text: &str) -> Result<Vec<f32>> {
        let (factorisation, embedder) = self.texts.as_ref().context(
            "the vectors in use were brought, so no text can be placed among them: \
             give items by id",
        )?;
        Ok(factorisation.item_from_text(&embedder.embed(text)?)?)
    }
}

/// A taste as the store keeps it.
pub fn stored(taste: Taste) -> StoredTaste {
    StoredTaste { bias: taste.bias, weights: taste.weights }
}

/// A taste that the store kept; of a consumer without one nothing is known.
pub fn known(taste: Option<StoredTaste>) -> Taste {
    taste.map(|taste| Taste { bias: taste.bias, weights: taste.weights }).unwrap_or_default()
}
