//! Text embeddings that were computed already: the stages of one training run read the same texts.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use ndarray::{Array1, Array2};
use whyrank_models::progress::Progress;
use whyrank_models::text::TextEmbedder;

/// Keeps the embeddings of up to a number of texts; further texts are embedded and not kept.
#[derive(Debug)]
pub(super) struct EmbeddingCache {
    capacity: usize,
    kept: Mutex<HashMap<String, Array1<f32>>>,
}

impl EmbeddingCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, kept: Mutex::default() }
    }

    /// The embeddings `[n, dimension]` of the texts, in their order.
    pub(super) fn embed<T: AsRef<str>>(
        &self,
        embedder: &TextEmbedder,
        texts: &[T],
        progress: &dyn Progress,
    ) -> Result<Array2<f32>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<&str> =
            texts.iter().map(AsRef::as_ref).filter(|text| !kept.contains_key(*text)).collect();
        let computed = embedder.embed_all(&new, progress)?;
        let computed: HashMap<&str, _> = new.into_iter().zip(computed.rows()).collect();
        let mut table = Array2::zeros((texts.len(), embedder.dimension()));
        for (mut row, text) in table.rows_mut().into_iter().zip(texts) {
            match computed.get(text.as_ref()) {
                Some(embedding) => row.assign(embedding),
                None => row.assign(&kept[text.as_ref()]),
            }
        }
        let room = self.capacity.saturating_sub(kept.len());
        let fresh = computed.into_iter().take(room);
        kept.extend(fresh.map(|(text, row)| (text.to_owned(), row.to_owned())));
        Ok(table)
    }
}
