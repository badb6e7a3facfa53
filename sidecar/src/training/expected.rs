//! What an average consumer is expected to rate items: what ratings tell and, where these are few, what an
//! LLM has foreseen.

use std::collections::HashMap;

use anyhow::Result;
use whyrank_models::factorisation::Interaction;
use whyrank_models::taste::expected_ratings;
use whyrank_plugin::{HistoryEntry, ItemId, ItemRecord};

use super::Trainer;
use crate::rerank::Bound;

/// Rated items with a forecast from which on the forecasts of others are believed.
const LEAST: usize = 20;

/// What an average consumer is expected to rate items.
pub(super) struct ExpectedRatings {
    items: HashMap<ItemId, f32>,
    shifts: HashMap<ItemId, f32>,
    mean: Option<f32>,
}

impl ExpectedRatings {
    /// The rating to expect of an item; of one without any, the mean of all or what was foreseen. None if
    /// nobody rated anything.
    pub(super) fn of(&self, item: ItemId) -> Option<f32> {
        let rating = self.items.get(&item).copied().or(self.mean)?;
        Some(rating + self.shifts.get(&item).copied().unwrap_or(0.0))
    }
}

/// What an LLM foresees of items, from 1 to 10.
pub(super) type Forecasts = HashMap<ItemId, f32>;

/// The forecasts that items carry.
pub(super) fn forecasts(items: &[ItemRecord]) -> Forecasts {
    let told = items.iter().filter_map(|item| Some((item.id, item.statistics.forecast?.rating)));
    told.collect()
}

/// A rated item with a forecast.
struct Told {
    /// How much of what is expected comes from its ratings, from 0 to 1.
    weight: f64,
    forecast: f64,
    /// By how much its ratings exceed the mean of all, other tastes of their consumers taken out.
    residual: f64,
}

/// How far ratings bear forecasts out.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Trust {
    forecast: f64,
    residual: f64,
    /// Rating for each point of a forecast.
    slope: f64,
}

impl Trust {
    /// A weighted least-squares line through the items whose ratings are known. None where they are too few,
    /// or all forecasts are one.
    fn of(told: &[Told]) -> Option<Self> {
        let total: f64 = told.iter().map(|one| one.weight).sum();
        if told.len() < LEAST || total <= 0.0 {
            return None;
        }
        let mean =
            |of: fn(&Told) -> f64| told.iter().map(|one| one.weight * of(one)).sum::<f64>() / total;
        let (forecast, residual) = (mean(|one| one.forecast), mean(|one| one.residual));
        let spread: f64 =
            told.iter().map(|one| one.weight * (one.forecast - forecast).powi(2)).sum();
        let shared: f64 = told
            .iter()
            .map(|one| one.weight * (one.forecast - forecast) * (one.residual - residual))
            .sum();
        let slope = shared / spread;
        slope.is_finite().then_some(Self { forecast, residual, slope })
    }

    /// By how much an item with this forecast exceeds the mean of all.
    fn expects(self, forecast: f64) -> f64 {
        self.residual + self.slope * (forecast - self.forecast)
    }
}

impl Trainer {
    /// What is expected after these histories. Ratings are damped towards the mean of all, and by as much
    /// as they are damped the item is moved to what ratings of other items say of its forecast, within the
    /// bound on the influence of texts.
    pub(super) fn expected_ratings<'a>(
        &self,
        histories: impl Iterator<Item = &'a [HistoryEntry]>,
        forecasts: &Forecasts,
    ) -> Result<ExpectedRatings> {
        let mut rows: HashMap<ItemId, u32> = HashMap::new();
        let mut interactions = Vec::new();
        let mut users = 0;
        for (user, history) in histories.enumerate() {
            users = user + 1;
            for entry in history {
                let next = rows.len() as u32;
                let item = *rows.entry(entry.item).or_insert(next);
                interactions.push(Interaction { user: user as u32, item, rating: entry.rating });
            }
        }
        let settings = &self.settings.vectors.taste;
        let expected = expected_ratings(&interactions, users, rows.len(), settings)?;
        let sum: f64 = interactions.iter().map(|one| f64::from(one.rating)).sum();
        let mean = (!interactions.is_empty()).then(|| sum / interactions.len() as f64);
        let mut shifts = HashMap::new();
        if let Some(mean) = mean.filter(|_| !forecasts.is_empty()) {
            let mut counts = vec![0.0_f64; rows.len()];
            interactions.iter().for_each(|one| counts[one.item as usize] += 1.0);
            let weight = |row: u32| {
                let count = counts[row as usize];
                count / (count + settings.item_damping)
            };
            let told = rows.iter().filter_map(|(item, row)| {
                let weight = weight(*row);
                let deviation = f64::from(expected[*row as usize]) - mean;
                // The deviation is damped: it is its share of what the item's own ratings say.
                let residual = deviation / weight;
                Some(Told { weight, forecast: f64::from(*forecasts.get(item)?), residual })
            });
            if let Some(trust) = Trust::of(&told.collect::<Vec<_>>()) {
                let bound = Bound::new(
                    self.settings.rerank.maximum_text_influence,
                    self.settings.rating_scale(),
                );
                shifts.extend(forecasts.iter().map(|(item, forecast)| {
                    let open = rows.get(item).map_or(1.0, |row| 1.0 - weight(*row));
                    let shift = (open * trust.expects(f64::from(*forecast))) as f32;
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

    fn told(forecasts: impl Iterator<Item = f64>, slope: f64) -> Vec<Told> {
        forecasts
            .map(|forecast| Told { weight: 0.5, forecast, residual: slope * (forecast - 6.0) })
            .collect()
    }

    #[test]
    fn forecasts_are_believed_as_far_as_ratings_bear_them_out() {
        let spread = || (0..40).map(|place| 4.0 + f64::from(place) * 0.1);
        for slope in [0.3, 0.0, -0.2] {
            let trust = Trust::of(&told(spread(), slope)).expect("enough items");
            assert!((trust.slope - slope).abs() < 1e-9, "{trust:?}");
            assert!((trust.expects(8.0) - slope * 2.0).abs() < 1e-9, "{trust:?}");
        }
        assert_eq!(Trust::of(&told(spread().take(LEAST - 1), 0.3)), None, "too few");
        assert_eq!(Trust::of(&told([7.0; 40].into_iter(), 0.3)), None, "all the same");
    }
}
