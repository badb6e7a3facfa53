//! What an average consumer is expected to rate items: what ratings tell and, where these are few, what items
//! of the same attributes are rated and what an LLM has foreseen.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Result;
use whyrank_models::factorisation::Interaction;
use whyrank_models::side_information::{KnownItem, SideInformation, SideRegression};
use whyrank_models::taste::expected_ratings;
use whyrank_plugin::{HistoryEntry, ItemId, ItemRecord};

use super::Trainer;
use crate::evidence::attribute_values;
use crate::rerank::Bound;

/// What an average consumer is expected to rate items.
pub(super) struct ExpectedRatings {
    items: HashMap<ItemId, f32>,
    shifts: HashMap<ItemId, f32>,
    mean: Option<f32>,
}

impl ExpectedRatings {
    /// The rating to expect of an item; of one without any, the mean of all or what else is known of it. None
    /// if nobody rated anything.
    pub(super) fn of(&self, item: ItemId) -> Option<f32> {
        let rating = self.items.get(&item).copied().or(self.mean)?;
        Some(rating + self.shifts.get(&item).copied().unwrap_or(0.0))
    }
}

/// What an LLM foresees of items, from 1 to 10.
pub(super) type Forecasts = HashMap<ItemId, f32>;

/// What is known of items beside their ratings.
#[derive(Clone)]
pub(super) struct Described {
    pub(super) forecasts: Forecasts,
    /// The attributes of every item by number, each once.
    attributes: Arc<HashMap<ItemId, Vec<u32>>>,
}

impl Described {
    /// What the items' records tell.
    pub(super) fn of(items: &[ItemRecord]) -> Self {
        let told = |item: &ItemRecord| Some((item.id, item.statistics.forecast?.rating));
        let forecasts = items.iter().filter_map(told).collect();
        let mut numbers: HashMap<(&str, &str), u32> = HashMap::new();
        let mut attributes = HashMap::with_capacity(items.len());
        for item in items {
            let mut held = BTreeSet::new();
            for attribute in attribute_values(&item.attributes) {
                let next = numbers.len() as u32;
                held.insert(*numbers.entry(attribute).or_insert(next));
            }
            attributes.insert(item.id, held.into_iter().collect());
        }
        Self { forecasts, attributes: Arc::new(attributes) }
    }

    fn item(&self, item: ItemId) -> SideInformation<'_> {
        let attributes = self.attributes.get(&item).map_or(&[][..], Vec::as_slice);
        SideInformation { forecast: self.forecasts.get(&item).copied(), attributes }
    }
}

impl Trainer {
    /// What is expected after these histories. Ratings are damped towards the mean of all, and by as much
    /// as they are damped the item is moved to what ratings of other items say of its attributes and its
    /// forecast, within the bound on the influence of texts.
    pub(super) fn expected_ratings<'a>(
        &self,
        histories: impl Iterator<Item = &'a [HistoryEntry]>,
        described: &Described,
    ) -> Result<ExpectedRatings> {
        let mut rows: HashMap<ItemId, u32> = HashMap::new();
        // In the order of the rows, so that sums are the same each time.
        let mut rated = Vec::new();
        let mut interactions = Vec::new();
        let mut users = 0;
        for (user, history) in histories.enumerate() {
            users = user + 1;
            for entry in history {
                let item = *rows.entry(entry.item).or_insert_with(|| {
                    rated.push((entry.item, 0.0));
                    rated.len() as u32 - 1
                });
                rated[item as usize].1 += 1.0;
                interactions.push(Interaction { user: user as u32, item, rating: entry.rating });
            }
        }
        let settings = &self.settings.vectors.taste;
        let expected = expected_ratings(&interactions, users, rows.len(), settings)?;
        let sum: f64 = interactions.iter().map(|one| f64::from(one.rating)).sum();
        let mean = (!interactions.is_empty()).then(|| sum / interactions.len() as f64);
        let mut shifts = HashMap::new();
        if let Some(mean) = mean {
            let weight = |count: f64| count / (count + settings.item_damping);
            let known = rated.iter().zip(&expected).map(|((item, count), expected)| {
                let weight = weight(*count);
                // The deviation is damped: it is its share of what the item's own ratings say.
                let deviation = (f64::from(*expected) - mean) / weight;
                KnownItem { known: described.item(*item), deviation, weight }
            });
            let known: Vec<_> = known.collect();
            if let Some(learned) = SideRegression::learn(&known, settings.attribute_damping)? {
                let bound = Bound::new(
                    self.settings.rerank.maximum_text_influence,
                    self.settings.rating_scale(),
                );
                shifts.extend(described.attributes.keys().map(|item| {
                    let open = rows.get(item).map_or(1.0, |row| 1.0 - known[*row as usize].weight);
                    let shift = (open * learned.deviation(described.item(*item))) as f32;
                    (*item, bound.shift(shift))
                }));
            }
        }
        let items = rows.into_iter().map(|(item, row)| (item, expected[row as usize])).collect();
        Ok(ExpectedRatings { items, shifts, mean: mean.map(|mean| mean as f32) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: u64, attributes: &[(&str, &str)]) -> ItemRecord {
        let attributes =
            attributes.iter().map(|(label, joined)| ((*label).to_owned(), (*joined).to_owned()));
        ItemRecord {
            id: ItemId(id.into()),
            external_id: id.to_string(),
            title: String::new(),
            attributes: attributes.collect(),
            text: String::new(),
            statistics: whyrank_plugin::Statistics::default(),
            vector: None,
        }
    }

    #[test]
    fn attributes_are_told_apart_by_label_and_value_and_counted_once() {
        let items = [
            item(1, &[("genres", "Drama, War, Drama"), ("mood", "Drama")]),
            item(2, &[("genres", "War, ")]),
            item(3, &[]),
        ];
        let described = Described::of(&items);
        let of = |id: u64| described.item(ItemId(id.into())).attributes.to_vec();
        assert_eq!((of(1).len(), of(2).len(), of(3).len(), of(4).len()), (3, 1, 0, 0));
        assert_eq!(of(1).iter().filter(|one| of(2).contains(one)).count(), 1, "both are of war");
        assert_eq!(described.item(ItemId(1.into())).forecast, None);
    }
}
