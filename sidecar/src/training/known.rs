//! What is known of consumers and items when a pair is asked about: everything but the pair itself and
//! what came after the training part.
//!
//! The ranker learns from pairs across folds: what it sees of a pair of one fold was found without the
//! interactions of that fold. So every interaction of the training part teaches, and examples see about as
//! much of a consumer as answers will. (Cross-fitting, as stacking does it: Wolpert, "Stacked
//! generalization", 1992.)

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use ndarray::Array2;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use whyrank_models::factorisation::{Factorisation, Interaction};
use whyrank_models::taste::{Rated, Taste};
use whyrank_plugin::{HistoryEntry, ItemId, Statistics, UserRecord};

use super::Trainer;
use super::expected::{Described, ExpectedRatings};
use crate::cold_start::ColdStart;
use crate::config::VectorSource;
use crate::split::Divided;

/// Which interactions are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The training part without one of its folds.
    WithoutFold(usize),
    /// The training part.
    Training,
    /// All of them: what answers are given from.
    Everything,
}

/// All consumers, with their interactions divided, and all items that have a vector.
pub(super) struct Population {
    pub(super) people: Vec<Person>,
    vectors: Arc<HashMap<ItemId, Vec<f32>>>,
    pub(super) described: Described,
    /// Of vectors that were learned here, so that they can forget a fold.
    learned: Option<(Factorisation, HashMap<ItemId, u32>)>,
    folder: ColdStart,
    /// Embedded profiles, a row for each consumer.
    profiles: Option<Array2<f32>>,
}

/// One consumer of the population.
pub(super) struct Person {
    pub(super) record: Arc<UserRecord>,
    pub(super) divided: Divided,
}

/// What some interactions tell of all consumers and items.
pub(super) struct Known {
    /// In the order of [`Population::people`].
    pub(super) learners: Vec<Learner>,
    vectors: Arc<HashMap<ItemId, Vec<f32>>>,
    /// Of items that somebody rated.
    statistics: HashMap<ItemId, Statistics>,
    expected: ExpectedRatings,
}

/// What is known of one consumer.
pub(super) struct Learner {
    pub(super) record: Arc<UserRecord>,
    /// The known interactions, oldest first.
    pub(super) history: Vec<HistoryEntry>,
    /// None for a consumer without any place among the items.
    pub(super) vector: Option<Vec<f32>>,
    pub(super) taste: Taste,
    pub(super) statistics: Statistics,
}

/// A rated pair, and which [`Known`] of a list tells what was known before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Example {
    pub(super) known: usize,
    pub(super) user: usize,
    pub(super) entry: HistoryEntry,
    pub(super) validation: bool,
}

impl Example {
    /// A pair whose rating nobody knows; nothing that predicts looks at it.
    pub(super) fn unrated(known: usize, user: usize, item: ItemId) -> Self {
        let entry = HistoryEntry { item, rating: 0.0, time: 0 };
        Self { known, user, entry, validation: false }
    }
}

impl Known {
    /// The item's vector, and what ratings say of it; none for an item without a vector.
    pub(super) fn item(&self, id: ItemId) -> Option<(&[f32], Statistics)> {
        let vector = self.vectors.get(&id)?;
        let statistics = self.statistics.get(&id).copied().unwrap_or_default();
        Some((vector, Statistics { expected_rating: self.expected.of(id), ..statistics }))
    }

    /// All items that have a vector, with it.
    pub(super) fn items(&self) -> impl Iterator<Item = (ItemId, &[f32])> {
        self.vectors.iter().map(|(id, vector)| (*id, vector.as_slice()))
    }
}

impl Trainer {
    /// Reads consumers and items, and divides the interactions.
    pub(super) async fn population(&self) -> Result<Population> {
        let users = self.storage.all_users().await?;
        let items = self.storage.all_items().await?;
        let described = Described::of(&items);
        let vectors: HashMap<ItemId, Vec<f32>> =
            items.into_iter().filter_map(|item| Some((item.id, item.vector?))).collect();
        if vectors.is_empty() {
            bail!("no item has a vector yet: run `whyrank train vectors` and `whyrank index`");
        }
        let settings = &self.settings.vectors;
        let (folder, learned) = if settings.source == VectorSource::Imported {
            let table: Vec<_> = vectors.values().cloned().collect();
            (ColdStart::brought(&table, settings)?, None)
        } else {
            let (factorisation, rows) = self.load_factorisation()?;
            let folder = ColdStart::learned(factorisation.clone(), self.embedder()?, settings);
            (folder, Some((factorisation, rows)))
        };
        let profiles = self.embed_profiles(&folder, &users)?;
        let people = users.into_iter().map(|record| {
            let divided = self.settings.split.divide(record.id, &record.history);
            Person { record: Arc::new(record), divided }
        });
        let people = people.collect();
        Ok(Population { people, vectors: Arc::new(vectors), described, learned, folder, profiles })
    }

    /// What is known without each fold, in their order, and last what the whole training part tells.
    pub(super) fn across_folds(&self, population: &Population) -> Result<Vec<Known>> {
        let folds = self.settings.split.folds;
        let seen = (0..folds).map(Seen::WithoutFold).chain([Seen::Training]);
        self.progress.begin("finding what is known without each fold", folds as u64 + 1);
        let known = seen.enumerate().map(|(done, seen)| {
            let known = self.known(population, seen);
            self.progress.advance(done as u64 + 1);
            known
        });
        let known = known.collect();
        self.progress.end();
        known
    }

    /// What the interactions that are seen tell.
    pub(super) fn known(&self, population: &Population, seen: Seen) -> Result<Known> {
        let histories: Vec<Vec<HistoryEntry>> =
            population.people.iter().map(|person| person.divided.seen(seen)).collect();
        let all: usize = population.people.iter().map(|person| person.divided.sorted.len()).sum();
        let known: usize = histories.iter().map(Vec::len).sum();
        // Counts are told as they will be once everything is known, or all would look better known in
        // answers than they ever did in learning.
        let scale = if known == 0 { 1.0 } else { all as f64 / known as f64 };
        let counted = |statistics: Statistics| Statistics {
            count: (statistics.count as f64 * scale).round() as u64,
            ..statistics
        };
        let mut ratings: HashMap<ItemId, Vec<f32>> = HashMap::new();
        for entry in histories.iter().flatten() {
            ratings.entry(entry.item).or_default().push(entry.rating);
        }
        let expected =
            self.expected_ratings(histories.iter().map(Vec::as_slice), &population.described)?;
        let statistics: HashMap<ItemId, Statistics> = ratings
            .into_iter()
            .map(|(id, ratings)| (id, counted(Statistics::of(ratings))))
            .collect();
        let vectors = match seen {
            Seen::WithoutFold(_) => population.vectors_from(&histories)?,
            Seen::Training | Seen::Everything => population.vectors.clone(),
        };
        let mut known = Known { learners: Vec::new(), vectors, statistics, expected };
        for (row, (person, history)) in population.people.iter().zip(histories).enumerate() {
            let profile = population.profiles.as_ref().map(|table| table.row(row).to_vec());
            let learner = self.learner(population, &known, person, history, profile)?;
            known.learners.push(Learner { statistics: counted(learner.statistics), ..learner });
        }
        Ok(known)
    }

    /// One consumer, as this history tells of them.
    fn learner(
        &self,
        population: &Population,
        known: &Known,
        person: &Person,
        history: Vec<HistoryEntry>,
        profile: Option<Vec<f32>>,
    ) -> Result<Learner> {
        let scale = self.settings.rating_scale();
        let (mut rated, mut rows) = (Vec::new(), Vec::new());
        for entry in &history {
            if let Some((vector, statistics)) = known.item(entry.item) {
                let expected = scale.expected(statistics);
                rated.push(Rated { vector, expected, rating: entry.rating });
                rows.push((vector.to_vec(), entry.rating));
            }
        }
        let vector = if rows.is_empty() && profile.is_none() {
            None
        } else {
            Some(population.folder.fold_in_with(&rows, profile.as_deref())?)
        };
        let taste = population.folder.taste(&rated)?;
        let statistics = Statistics::of(history.iter().map(|entry| entry.rating));
        Ok(Learner { record: person.record.clone(), history, vector, taste, statistics })
    }

    /// All rated pairs that [`Trainer::across_folds`] tells of, in a random order of a fixed seed, cut at
    /// the limit, and the share of the validation part that is left. Where only what the whole training part
    /// tells is given, those of the validation part alone: nothing else was unknown to it.
    pub(super) fn examples(&self, population: &Population, known: &[Known]) -> (Vec<Example>, f64) {
        let mut examples = Vec::new();
        for (user, person) in population.people.iter().enumerate() {
            let Divided { sorted, training_end, folds } = &person.divided;
            for (place, entry) in sorted.iter().enumerate() {
                let validation = place >= *training_end;
                if !validation && known.len() == 1 {
                    continue;
                }
                let at = if validation { known.len() - 1 } else { folds[place] };
                if known[at].learners[user].vector.is_some() && known[at].item(entry.item).is_some()
                {
                    examples.push(Example { known: at, user, entry: *entry, validation });
                }
            }
        }
        let mut random = StdRng::seed_from_u64(self.settings.ranker.training.seed);
        examples.shuffle(&mut random);
        let validation =
            |examples: &[Example]| examples.iter().filter(|one| one.validation).count() as f64;
        let all = validation(&examples);
        examples.truncate(self.settings.training.maximum_pairs);
        let kept = if all == 0.0 { 1.0 } else { validation(&examples) / all };
        (examples, kept)
    }
}

impl Population {
    /// The items' vectors as if only these histories were known; brought vectors are what they are.
    fn vectors_from(
        &self,
        histories: &[Vec<HistoryEntry>],
    ) -> Result<Arc<HashMap<ItemId, Vec<f32>>>> {
        let Some((factorisation, rows)) = &self.learned else { return Ok(self.vectors.clone()) };
        let mut interactions = Vec::new();
        for (user, history) in histories.iter().enumerate() {
            interactions.extend(history.iter().filter_map(|entry| {
                let item = *rows.get(&entry.item)?;
                Some(Interaction { user: user as u32, item, rating: entry.rating })
            }));
        }
        let profiles = self.profiles.as_ref().map(|profiles| profiles.view());
        let table = factorisation.items_as_known_from(histories.len(), &interactions, profiles)?;
        let mut vectors = HashMap::clone(&self.vectors);
        for (item, row) in rows {
            if let Some(vector) = vectors.get_mut(item) {
                *vector = table.row(*row as usize).to_vec();
            }
        }
        Ok(Arc::new(vectors))
    }
}

impl Divided {
    /// The interactions that are seen, oldest first.
    fn seen(&self, seen: Seen) -> Vec<HistoryEntry> {
        let training = &self.sorted[..self.training_end];
        match seen {
            Seen::Everything => {
                let mut all = self.sorted.clone();
                // Stable, so that nothing changes where it is in this order already.
                all.sort_by_key(|entry| entry.time);
                all
            }
            Seen::Training => training.to_vec(),
            Seen::WithoutFold(fold) => {
                let others = training.iter().zip(&self.folds).filter(|(_, own)| **own != fold);
                others.map(|(entry, _)| *entry).collect()
            }
        }
    }
}
