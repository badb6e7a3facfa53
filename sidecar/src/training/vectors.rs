//! User and item vectors: learned from the training part of the interactions, or brought by the
//! search team.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use whyrank_models::factorisation::{Factorisation, FactorisationData, Interaction};
use whyrank_plugin::{ItemId, ItemRecord, UserRecord};

use super::{Trainer, item_text, user_text};
use crate::config::VectorSource;

/// Which row of a learned table belongs to which item, kept beside the factorisation.
#[derive(Debug, Serialize, Deserialize)]
struct RowIds {
    /// The fingerprint of the factorisation that these rows are of.
    fingerprint: String,
    /// The item of each row.
    items: Vec<ItemId>,
}

/// What learning vectors used.
#[derive(Debug, Clone, Serialize)]
pub struct VectorsOutcome {
    /// `learned` or `imported`.
    pub source: VectorSource,
    /// Consumers in the store.
    pub users: usize,
    /// Items in the store.
    pub items: usize,
    /// Interactions of the training part that were learned from.
    pub interactions: usize,
}

impl Trainer {
    /// Learns user and item vectors from the training part, unless they are brought.
    ///
    /// # Errors
    /// When there is nothing to learn from, or brought vectors are missing.
    pub async fn train_vectors(&self) -> Result<VectorsOutcome> {
        let users = self.storage.all_users().await?;
        let items = self.storage.all_items().await?;
        let source = self.settings.vectors.source;
        let mut outcome =
            VectorsOutcome { source, users: users.len(), items: items.len(), interactions: 0 };
        if source == VectorSource::Imported {
            let missing = items.iter().filter(|item| item.vector.is_none()).count();
            let existing = self.settings.store.existing_items.as_ref();
            if let Some(existing) = existing.filter(|_| missing > 0 && missing < items.len()) {
                // Theirs to complete; such an item is not retrieved by this vector either.
                tracing::warn!(
                    missing,
                    vector = existing.vector,
                    "items without the vector are left out"
                );
            } else if missing > 0 {
                bail!(
                    "{missing} of {} items have no vector, but `vectors.source` is \"imported\": \
                     name their column in `import.items.vector`, or set it to \"learned\"",
                    items.len()
                );
            }
            return Ok(outcome);
        }
        let interactions = self.training_part(&users, &items);
        outcome.interactions = interactions.len();
        let progress = self.progress.as_ref();
        let item_texts: Vec<String> = items.iter().map(item_text).collect();
        let user_texts: Vec<String> = users.iter().map(user_text).collect();
        let item_texts = self.embed(&item_texts)?;
        let has_profiles = user_texts.iter().any(|text| !text.is_empty());
        let user_texts = has_profiles.then(|| self.embed(&user_texts)).transpose()?;
        let data = FactorisationData {
            users: users.len(),
            items: items.len(),
            interactions: &interactions,
            item_texts: Some(item_texts.view()),
            user_texts: user_texts.as_ref().map(|texts| texts.view()),
        };
        let settings = &self.settings.vectors.factorisation;
        let factorisation = Factorisation::train(&data, settings, progress)?;
        let rows = RowIds {
            fingerprint: factorisation.fingerprint().to_owned(),
            items: items.iter().map(|item| item.id).collect(),
        };
        std::fs::create_dir_all(self.paths.folder())
            .with_context(|| format!("making the folder {}", self.paths.folder().display()))?;
        let ids = self.paths.factorisation_rows();
        std::fs::write(&ids, serde_json::to_vec(&rows)?)
            .with_context(|| format!("writing {}", ids.display()))?;
        factorisation.save(&self.paths.factorisation())?;
        Ok(outcome)
    }

    /// Refuses a stage that needs vectors before there are any.
    pub(super) fn require_vectors(&self) -> Result<()> {
        let learned = self.settings.vectors.source == VectorSource::Learned;
        ensure!(
            !learned || self.paths.factorisation().exists(),
            "there are no vectors yet: run `whyrank train vectors`"
        );
        Ok(())
    }

    /// The factorisation that was learned, and the row of each item in it.
    ///
    /// # Errors
    /// When it is missing, damaged or of another width.
    pub(super) fn load_factorisation(&self) -> Result<(Factorisation, HashMap<ItemId, u32>)> {
        let dimension = self.settings.vectors.factorisation.dimension;
        let factorisation = Factorisation::load(&self.paths.factorisation(), dimension)?;
        let path = self.paths.factorisation_rows();
        let text = std::fs::read(&path)
            .with_context(|| format!("reading {}; run `whyrank train vectors`", path.display()))?;
        let rows: RowIds = serde_json::from_slice(&text).with_context(|| {
            format!("{} is damaged; run `whyrank train vectors`", path.display())
        })?;
        ensure!(
            rows.fingerprint == factorisation.fingerprint()
                && rows.items.len() == factorisation.item_vectors().nrows(),
            "{} belongs to another factorisation; run `whyrank train vectors`",
            path.display()
        );
        let rows = rows.items.into_iter().enumerate().map(|(row, item)| (item, row as u32));
        Ok((factorisation, rows.collect()))
    }

    /// The training part of every consumer's interactions, by row of the given lists.
    fn training_part(&self, users: &[UserRecord], items: &[ItemRecord]) -> Vec<Interaction> {
        let rows: HashMap<ItemId, usize> =
            items.iter().enumerate().map(|(row, item)| (item.id, row)).collect();
        let mut interactions = Vec::new();
        for (user, record) in users.iter().enumerate() {
            let divided = self.settings.split.divide(record.id, &record.history);
            for entry in &divided.sorted[..divided.training_end] {
                if let Some(item) = rows.get(&entry.item) {
                    let (user, item) = (user as u32, *item as u32);
                    interactions.push(Interaction { user, item, rating: entry.rating });
                }
            }
        }
        interactions
    }
}
