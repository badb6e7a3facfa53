//! Brings the store up to date with the trained models: vectors for every user and item, codes for
//! every explanation, indexes for searching. Running it again changes nothing; killed in the middle,
//! the next run completes it.

use std::collections::HashMap;

use anyhow::Result;
use serde::Serialize;
use whyrank_models::factorisation::Factorisation;
use whyrank_models::taste::Rated;
use whyrank_plugin::{Explanation, ExplanationRecord, ItemId, ItemRecord, UserRecord};

use super::expected::Described;
use super::{Trainer, item_text};
use crate::artifacts::load_encoder;
use crate::cold_start::{self, ColdStart};
use crate::config::VectorSource;
use crate::writing::CodeMaker;

/// Records read, changed and written in one step.
const STEP: usize = 256;

/// What indexing did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IndexReport {
    /// Users whose vector and taste were written.
    pub users: usize,
    /// Items whose vector and expected rating were written.
    pub items: usize,
    /// Items that training had not met; their vector comes from their text.
    pub new_items: usize,
    /// Explanations that were encoded.
    pub encoded: usize,
    /// Explanations whose codes were current already.
    pub current: usize,
}

impl Trainer {
    /// Writes vectors and codes where they are missing or of an older model, then builds the search
    /// indexes.
    ///
    /// # Errors
    /// When a model file does not fit or the store refuses a write.
    pub async fn index(&self) -> Result<IndexReport> {
        let mut report = IndexReport::default();
        self.index_vectors(&mut report).await?;
        if self.paths.encoder().exists() {
            self.index_codes(&mut report).await?;
        }
        let settings = self.storage.settings();
        let names = [&settings.items, &settings.users, &settings.explanations];
        self.progress.begin("building search indexes", names.len() as u64);
        for (done, name) in names.into_iter().enumerate() {
            self.storage.store().optimize(name).await?;
            self.progress.advance(done as u64 + 1);
        }
        self.storage.store().flush().await?;
        self.progress.end();
        Ok(report)
    }

    async fn index_vectors(&self, report: &mut IndexReport) -> Result<()> {
        let users = self.storage.all_users().await?;
        let mut items = self.storage.all_items().await?;
        let vectors = &self.settings.vectors;
        let folder = match vectors.source {
            VectorSource::Imported => {
                let brought: Vec<_> = items.iter().filter_map(|item| item.vector.clone()).collect();
                ColdStart::brought(&brought, vectors)?
            }
            VectorSource::Learned => {
                let (factorisation, rows) = self.load_factorisation()?;
                self.place_items(&mut items, &factorisation, &rows, report)?;
                ColdStart::learned(factorisation, self.embedder()?, vectors)
            }
        };
        let histories = users.iter().map(|user| user.history.as_slice());
        let expected = self.expected_ratings(histories, &Described::of(&items))?;
        for item in &mut items {
            item.statistics.expected_rating = expected.of(item.id);
        }
        self.write_items(&items, report).await?;
        self.write_user_places(users, &items, &folder, report).await
    }

    /// Gives every item its learned vector, or the one its text predicts if training did not meet it.
    fn place_items(
        &self,
        items: &mut [ItemRecord],
        factorisation: &Factorisation,
        rows: &HashMap<ItemId, u32>,
        report: &mut IndexReport,
    ) -> Result<()> {
        for item in items.iter_mut() {
            item.vector = Some(match rows.get(&item.id) {
                Some(row) => factorisation.item_vectors().row(*row as usize).to_vec(),
                None => {
                    report.new_items += 1;
                    factorisation.item_from_text(&self.embedder()?.embed(&item_text(item))?)?
                }
            });
        }
        Ok(())
    }

    async fn write_items(&self, items: &[ItemRecord], report: &mut IndexReport) -> Result<()> {
        self.progress.begin("writing item vectors", items.len() as u64);
        for part in items.chunks(STEP) {
            self.storage.write_items(part).await?;
            report.items += part.len();
            self.progress.advance(report.items as u64);
        }
        self.progress.end();
        Ok(())
    }

    /// Folds every user in from the whole history, and finds the taste behind it. A vector that was
    /// brought stays as it is.
    async fn write_user_places(
        &self,
        users: Vec<UserRecord>,
        items: &[ItemRecord],
        folder: &ColdStart,
        report: &mut IndexReport,
    ) -> Result<()> {
        let scale = self.settings.rating_scale();
        let known: HashMap<ItemId, (&Vec<f32>, f32)> = items
            .iter()
            .filter_map(|item| {
                let expected = scale.expected(item.statistics);
                Some((item.id, (item.vector.as_ref()?, expected)))
            })
            .collect();
        let profiles = self.embed_profiles(folder, &users)?;
        self.progress.begin("writing user vectors", users.len() as u64);
        let brought = self.settings.vectors.source == VectorSource::Imported;
        let mut changed = Vec::with_capacity(STEP);
        for (row, mut user) in users.into_iter().enumerate() {
            let rated: Vec<Rated<'_>> = user
                .history
                .iter()
                .filter_map(|entry| {
                    let (vector, expected) = known.get(&entry.item)?;
                    Some(Rated { vector, expected: *expected, rating: entry.rating })
                })
                .collect();
            user.taste = Some(cold_start::stored(folder.taste(&rated)?));
            let history: Vec<(Vec<f32>, f32)> =
                rated.iter().map(|rated| (rated.vector.to_vec(), rated.rating)).collect();
            let profile = profiles.as_ref().map(|table| table.row(row).to_vec());
            // A user without history and profile has no place among the items yet.
            if brought && user.vector.is_some() {
                // Not written again: it is theirs.
                user.vector = None;
            } else if history.is_empty() && profile.is_none() {
                continue;
            } else {
                user.vector = Some(folder.fold_in_with(&history, profile.as_deref())?);
            }
            changed.push(user);
            if changed.len() == STEP {
                self.write_places(&mut changed, report).await?;
            }
        }
        self.write_places(&mut changed, report).await?;
        self.progress.end();
        Ok(())
    }

    async fn write_places(
        &self,
        changed: &mut Vec<UserRecord>,
        report: &mut IndexReport,
    ) -> Result<()> {
        self.storage.write_places(changed).await?;
        report.users += changed.len();
        self.progress.advance(report.users as u64);
        changed.clear();
        Ok(())
    }

    async fn index_codes(&self, report: &mut IndexReport) -> Result<()> {
        let embedder = self.embedder()?;
        let code = self.settings.autoencoder.code;
        let encoder = load_encoder(&self.paths, embedder.dimension(), code)?;
        let maker = CodeMaker::new(embedder, encoder);
        let explanations = self.storage.all_explanations(None).await?;
        let (current, mut stale): (Vec<ExplanationRecord>, Vec<_>) =
            explanations.into_iter().partition(|record| {
                record.codes.is_some() && record.code_version.as_deref() == Some(maker.version())
            });
        report.current = current.len();
        self.progress.begin("encoding explanations", stale.len() as u64);
        for part in stale.chunks_mut(STEP) {
            let texts: Vec<_> = part.iter().map(|record| &record.explanation).collect();
            let texts: Vec<&str> = texts
                .iter()
                .flat_map(|both: &&Explanation| [both.positive.as_str(), both.negative.as_str()])
                .collect();
            let codes = maker.encode(self.embed_quietly(&texts)?.view())?;
            for (record, codes) in part.iter_mut().zip(codes) {
                record.codes = Some(codes);
                record.code_version = Some(maker.version().to_owned());
            }
            self.storage.write_explanations(part).await?;
            report.encoded += part.len();
            self.progress.advance(report.encoded as u64);
        }
        self.progress.end();
        Ok(())
    }
}
