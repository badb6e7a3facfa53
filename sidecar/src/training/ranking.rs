//! Trains the ranker on the part of the interactions that came after those the vectors were learned
//! from: every input of an example was known before the consumer met the item.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use ndarray::ArrayView2;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;
use whyrank_models::explainer::Explainer;
use whyrank_models::ranker::{CandidateInput, RankerExamples, RankerReport, TrainedRanker};
use whyrank_models::taste::{Rated, Taste};
use whyrank_plugin::{Codes, HistoryEntry, ItemId, Statistics, UserId, UserRecord};

use super::{TakeUpOutcome, Trainer};
use crate::artifacts::{self, load_encoder};
use crate::cold_start::ColdStart;
use crate::config::VectorSource;
use crate::features::{self, ConsumerState};
use crate::split::{Divided, Parts, SplitSettings};

/// What training the ranker used and reached.
#[derive(Debug, Clone, Serialize)]
pub struct RankerOutcome {
    /// Examples whose codes come from a written explanation.
    pub written: usize,
    /// Examples whose codes the explainer predicted.
    pub predicted: usize,
    /// Who takes items up; none where that cannot be told.
    pub take_up: Option<TakeUpOutcome>,
    /// What training reached.
    pub report: RankerReport,
}

/// A rated pair of the ranking or validation part, with all that came before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Example<'a> {
    pub(super) user: usize,
    pub(super) before: &'a [HistoryEntry],
    pub(super) entry: HistoryEntry,
    pub(super) validation: bool,
}

/// One consumer while examples are made.
pub(super) struct Learner {
    pub(super) record: UserRecord,
    pub(super) sorted: Vec<HistoryEntry>,
    pub(super) parts: Parts,
    /// From the history part only; none for a consumer without any place among the items.
    pub(super) vector: Option<Vec<f32>>,
    /// From the history part only.
    pub(super) taste: Taste,
    pub(super) statistics: Statistics,
}

/// What is known of consumers and items when an example's consumer meets its item.
pub(super) struct Known {
    pub(super) learners: Vec<Learner>,
    pub(super) items: HashMap<ItemId, (Vec<f32>, Statistics)>,
}

/// What the examples are made from.
struct Material {
    known: Known,
    written: HashMap<(UserId, ItemId), Codes>,
    explainer: Explainer,
}

impl Trainer {
    /// Trains and exports the ranker.
    ///
    /// # Errors
    /// When vectors, codes or rated pairs are missing.
    pub async fn train_ranker(&self) -> Result<RankerOutcome> {
        let material = self.material().await?;
        let examples = self.examples(&material.known);
        let code = self.settings.autoencoder.code;
        let shape = features::shape(self.settings.vectors.factorisation.dimension, code);
        let length = self.settings.ranker.history_length;
        let mut training = RankerExamples::new(shape.clone(), length);
        let mut validation = RankerExamples::new(shape, length);
        let (mut written, mut predicted) = (0, 0);
        self.progress.begin("gathering rated pairs", examples.len() as u64);
        for (done, example) in examples.iter().enumerate() {
            let part = if example.validation { &mut validation } else { &mut training };
            if self.add(part, &material, example)? {
                written += 1;
            } else {
                predicted += 1;
            }
            self.progress.advance(done as u64 + 1);
        }
        self.progress.end();
        if training.is_empty() || validation.is_empty() {
            bail!(
                "there are {} rated pairs to train the ranker on and {} to stop it: consumers have too \
                 few interactions for the `split` settings",
                training.len(),
                validation.len()
            );
        }
        let progress = self.progress.as_ref();
        let mut trained =
            TrainedRanker::train(&training, &validation, &self.settings.ranker, progress)?;
        let take_up = self.learn_take_up(&material.known, &examples)?;
        let take_up = take_up.map(|(model, outcome)| {
            trained.set_take_up(model);
            outcome
        });
        trained.export(&self.paths.ranker())?;
        Ok(RankerOutcome { written, predicted, take_up, report: trained.report().clone() })
    }

    async fn material(&self) -> Result<Material> {
        let dimension = self.settings.vectors.factorisation.dimension;
        let code = self.settings.autoencoder.code;
        let explainer = Explainer::load(&self.paths.explainer(), dimension, code)?;
        let known = self.known(&self.settings.split).await?;
        let encoder = load_encoder(&self.paths, self.embedder()?.dimension(), code)?;
        let version = artifacts::version(encoder.contract());
        let written = self
            .storage
            .all_explanations(None)
            .await?
            .into_iter()
            .filter(|record| record.code_version.as_deref() == Some(version.as_str()))
            .filter_map(|record| Some(((record.user, record.item), record.codes?)))
            .collect();
        Ok(Material { known, written, explainer })
    }

    /// Consumers and items as the history parts of `split` know them.
    pub(super) async fn known(&self, split: &SplitSettings) -> Result<Known> {
        let users = self.storage.all_users().await?;
        let items = self.storage.all_items().await?;
        let vectors: HashMap<ItemId, Vec<f32>> =
            items.into_iter().filter_map(|item| Some((item.id, item.vector?))).collect();
        if vectors.is_empty() {
            bail!("no item has a vector yet: run `whyrank train vectors` and `whyrank index`");
        }
        let mut learners = self.learners(users, &vectors, split)?;
        // Of items, too, only what the history parts say may be known.
        let mut ratings: HashMap<ItemId, Vec<f32>> = HashMap::new();
        for learner in &learners {
            for entry in &learner.sorted[..learner.parts.history_end] {
                ratings.entry(entry.item).or_default().push(entry.rating);
            }
        }
        let histories = learners.iter().map(|learner| &learner.sorted[..learner.parts.history_end]);
        let expected = self.expected_ratings(histories)?;
        let items: HashMap<ItemId, (Vec<f32>, Statistics)> = vectors
            .into_iter()
            .map(|(id, vector)| {
                let statistics = Statistics {
                    expected_rating: expected.of(id),
                    ..Statistics::of(ratings.remove(&id).unwrap_or_default())
                };
                (id, (vector, statistics))
            })
            .collect();
        for learner in &mut learners {
            learner.taste = self.taste(&learner.sorted[..learner.parts.history_end], &items)?;
        }
        Ok(Known { learners, items })
    }

    /// The taste behind a history, as indexing finds it.
    fn taste(
        &self,
        history: &[HistoryEntry],
        items: &HashMap<ItemId, (Vec<f32>, Statistics)>,
    ) -> Result<Taste> {
        let scale = self.settings.rating_scale();
        let rated: Vec<Rated<'_>> = history
            .iter()
            .filter_map(|entry| {
                let (vector, statistics) = items.get(&entry.item)?;
                let expected = scale.expected(*statistics);
                Some(Rated { vector, expected, rating: entry.rating })
            })
            .collect();
        Ok(Taste::learn(&rated, &self.settings.vectors.taste)?)
    }

    fn learners(
        &self,
        users: Vec<UserRecord>,
        vectors: &HashMap<ItemId, Vec<f32>>,
        split: &SplitSettings,
    ) -> Result<Vec<Learner>> {
        let settings = &self.settings.vectors;
        let brought = settings.source == VectorSource::Imported;
        let folder = if brought {
            let table: Vec<_> = vectors.values().cloned().collect();
            ColdStart::brought(&table, settings)?
        } else {
            let path = self.paths.factorisation();
            let dimension = settings.factorisation.dimension;
            let factorisation =
                whyrank_models::factorisation::Factorisation::load(&path, dimension)?;
            ColdStart::learned(factorisation, self.embedder()?, settings)
        };
        let profiles = self.embed_profiles(&folder, &users)?;
        let mut learners = Vec::with_capacity(users.len());
        for (row, record) in users.into_iter().enumerate() {
            let Divided { sorted, parts } = split.divide(record.id, &record.history);
            let known = &sorted[..parts.history_end];
            let history: Vec<(Vec<f32>, f32)> = known
                .iter()
                .filter_map(|entry| Some((vectors.get(&entry.item)?.clone(), entry.rating)))
                .collect();
            let profile = profiles.as_ref().map(|table| table.row(row).to_vec());
            let vector = if history.is_empty() && profile.is_none() {
                None
            } else {
                Some(folder.fold_in_with(&history, profile.as_deref())?)
            };
            let statistics = Statistics::of(known.iter().map(|entry| entry.rating));
            let taste = Taste::default();
            learners.push(Learner { record, sorted, parts, vector, taste, statistics });
        }
        Ok(learners)
    }

    /// All rated pairs after the history parts, in a random order of a fixed seed, cut at the limit.
    pub(super) fn examples<'a>(&self, known: &'a Known) -> Vec<Example<'a>> {
        let mut examples = Vec::new();
        for (user, learner) in known.learners.iter().enumerate() {
            if learner.vector.is_none() {
                continue;
            }
            for place in learner.parts.history_end..learner.sorted.len() {
                let entry = learner.sorted[place];
                if known.items.contains_key(&entry.item) {
                    examples.push(Example {
                        user,
                        before: &learner.sorted[..place],
                        entry,
                        validation: place >= learner.parts.ranking_end,
                    });
                }
            }
        }
        let mut random = StdRng::seed_from_u64(self.settings.ranker.training.seed);
        examples.shuffle(&mut random);
        examples.truncate(self.settings.training.maximum_pairs);
        examples
    }

    /// Adds one example; true if its codes come from a written explanation.
    fn add(
        &self,
        examples: &mut RankerExamples,
        material: &Material,
        example: &Example<'_>,
    ) -> Result<bool> {
        let Known { learners, items } = &material.known;
        let learner = &learners[example.user];
        let written = material.written.get(&(learner.record.id, example.entry.item));
        let codes = match written {
            Some(codes) => codes.clone(),
            None => {
                let vector = learner.vector.as_deref().context("examples have a user vector")?;
                predict(&material.explainer, vector, &items[&example.entry.item].0)?
            }
        };
        self.push(examples, &material.known, example, Some(&codes))?;
        Ok(written.is_some())
    }

    /// The consumer, the item's vector and the context features of an example.
    pub(super) fn inputs(
        &self,
        known: &Known,
        example: &Example<'_>,
    ) -> Result<(ConsumerState, Vec<f32>, Vec<f32>)> {
        let learner = &known.learners[example.user];
        let (item, statistics) = &known.items[&example.entry.item];
        let length = self.settings.ranker.history_length;
        let recent = &example.before[example.before.len().saturating_sub(length)..];
        let vector = learner.vector.clone().context("examples have a user vector")?;
        let history = recent.iter().filter_map(|entry| {
            known.items.get(&entry.item).map(|(vector, _)| (vector.clone(), entry.rating))
        });
        let consumer = ConsumerState {
            vector,
            history: history.collect(),
            taste: learner.taste.clone(),
            statistics: learner.statistics,
        };
        let scale = self.settings.rating_scale();
        let context = features::context(&consumer, item, *statistics, scale);
        Ok((consumer, item.clone(), context))
    }

    /// Adds one example with these codes, or without any.
    pub(super) fn push(
        &self,
        examples: &mut RankerExamples,
        known: &Known,
        example: &Example<'_>,
        codes: Option<&Codes>,
    ) -> Result<()> {
        let (consumer, item, context) = self.inputs(known, example)?;
        let rows = consumer.history_rows();
        let scale = self.settings.rating_scale();
        let candidate = CandidateInput {
            item: &item,
            positive: codes.map(|codes| codes.positive.as_slice()),
            negative: codes.map(|codes| codes.negative.as_slice()),
            context: &context,
        };
        let rating = example.entry.rating;
        examples.push(&consumer.input(&rows), &candidate, rating, rating >= scale.like_from)?;
        Ok(())
    }
}

pub(super) fn predict(explainer: &Explainer, user: &[f32], item: &[f32]) -> Result<Codes> {
    let table = ArrayView2::from_shape((1, item.len()), item)?;
    let codes = explainer.predict_for(user, table)?;
    let row = |table: &ndarray::Array2<f32>| table.row(0).to_vec();
    Ok(Codes { positive: row(&codes.positive), negative: row(&codes.negative) })
}
