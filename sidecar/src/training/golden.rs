//! Golden inputs of a version: real consumers, candidates and texts with what the models make of them.

use anyhow::Result;
use whyrank_models::factorisation::Factorisation;
use whyrank_plugin::{ItemId, ItemRecord, UserRecord};

use super::Trainer;
use crate::artifacts::{RerankModels, load_encoder};
use crate::cold_start;
use crate::config::VectorSource;
use crate::features::{self, ConsumerState};
use crate::versions::{Golden, GoldenConsumer, GoldenText};

/// Consumers, and candidates of each: 40 rows.
const CONSUMERS: usize = 4;
const CANDIDATES: usize = 10;
/// Interactions of each consumer.
const HISTORY: usize = 8;
/// Explanations, two texts each.
const EXPLANATIONS: usize = 16;

impl Trainer {
    /// Runs the models that there are on rows of the store.
    ///
    /// # Errors
    /// When the store cannot be read, or a model does not fit.
    pub(crate) async fn golden(&self) -> Result<Golden> {
        let users: Vec<UserRecord> = self.storage.all_users().await?;
        let users: Vec<UserRecord> =
            users.into_iter().filter(|user| user.vector.is_some()).collect();
        let items: Vec<ItemRecord> = self.storage.all_items().await?;
        let items: Vec<ItemRecord> =
            items.into_iter().filter(|item| item.vector.is_some()).collect();
        let dimension = self.settings.vectors.factorisation.dimension;
        let code = self.settings.autoencoder.code;
        let learned = self.settings.vectors.source == VectorSource::Learned;
        let factorisation = if learned && self.paths.factorisation().exists() {
            Some(Factorisation::load(&self.paths.factorisation(), dimension)?)
        } else {
            None
        };
        let models = if self.paths.ranker().exists() {
            Some(RerankModels::load(&self.paths, dimension, code)?)
        } else {
            None
        };
        let mut golden = Golden::default();
        for (place, user) in spread(&users, CONSUMERS).enumerate() {
            let rows = spread(&items, CANDIDATES * CONSUMERS);
            let rows = rows.skip(place).step_by(CONSUMERS).take(CANDIDATES);
            let rows: Vec<&ItemRecord> = rows.collect();
            golden.consumers.push(self.golden_consumer(
                user,
                &items,
                &rows,
                factorisation.as_ref(),
                models.as_ref(),
            )?);
        }
        if self.paths.encoder().exists() {
            golden.texts = self.golden_texts().await?;
        }
        Ok(golden)
    }

    fn golden_consumer(
        &self,
        user: &UserRecord,
        items: &[ItemRecord],
        candidates: &[&ItemRecord],
        factorisation: Option<&Factorisation>,
        models: Option<&RerankModels>,
    ) -> Result<GoldenConsumer> {
        let vector = |id: ItemId| items.iter().find(|item| item.id == id)?.vector.clone();
        let latest = user.history.iter().take(HISTORY).rev();
        let history: Vec<(Vec<f32>, f32)> =
            latest.filter_map(|entry| Some((vector(entry.item)?, entry.rating))).collect();
        let folded = match factorisation {
            Some(factorisation) if !history.is_empty() => {
                let rows: Vec<_> =
                    history.iter().map(|(item, rating)| (item.as_slice(), *rating)).collect();
                Some(factorisation.fold_in(&rows, None)?)
            }
            _ => None,
        };
        let own = user.vector.clone().unwrap_or_default();
        let state = ConsumerState {
            vector: own.clone(),
            history: history.clone(),
            taste: cold_start::known(user.taste.clone()),
            statistics: user.statistics,
        };
        let mut golden = GoldenConsumer { user: own, history, folded, candidates: Vec::new() };
        if let Some(models) = models {
            let scale = self.settings.rating_scale();
            let given = candidates.iter().filter_map(|item| {
                let vector = item.vector.clone()?;
                let context = features::context(&state, &vector, item.statistics, scale);
                Some((vector, context))
            });
            golden.candidates = golden.candidates(models, given.collect())?;
        }
        Ok(golden)
    }

    async fn golden_texts(&self) -> Result<Vec<GoldenText>> {
        let explanations = self.storage.all_explanations(None).await?;
        let texts: Vec<&str> = spread(&explanations, EXPLANATIONS)
            .map(|record| &record.explanation)
            .flat_map(|both| [both.positive.as_str(), both.negative.as_str()])
            .collect();
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let embedder = self.embedder()?;
        let code = self.settings.autoencoder.code;
        let encoder = load_encoder(&self.paths, embedder.dimension(), code)?;
        let embeddings = self.embed_quietly(&texts)?;
        let codes = encoder.encode(embeddings.view())?;
        let rows = embeddings.rows().into_iter().zip(codes.rows());
        Ok(rows
            .map(|(embedding, code)| GoldenText {
                embedding: embedding.to_vec(),
                code: code.to_vec(),
            })
            .collect())
    }
}

/// So many of all, from the first to the last at equal distances.
fn spread<T>(all: &[T], count: usize) -> impl Iterator<Item = &T> {
    let count = count.min(all.len());
    (0..count).map(move |place| &all[place * all.len() / count])
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn rows_come_from_all_parts() {
        let all: Vec<usize> = (0..10).collect();
        assert_eq!(spread(&all, 4).copied().collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(&all, 20).count(), 10);
        assert_eq!(spread::<usize>(&[], 4).count(), 0);
    }
}
