//! What ratings say before any network is trained: how an average consumer rates an item, how a
//! consumer rates an average item, and which directions among the item vectors the consumer rates
//! better or worse than that.
//!
//! The first two are the damped deviations of the literature's baseline predictors (Koren, "Factor in
//! the Neighbors", 2010). The third is a ridge regression of what they leave over on the item vectors,
//! each of length 1: a consumer's taste, solved in closed form from the whole history, so that a new
//! interaction counts at once and without training.

use nalgebra::{Cholesky, DMatrix, DVector};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::factorisation::Interaction;
use crate::network::check;
use crate::settings::{CheckedSettings, Faults, SettingFault};

/// How strongly expectations and tastes are drawn to the average.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TasteSettings {
    /// As many ratings of the average pull an item's expected rating to the mean of all ratings.
    pub item_damping: f64,
    /// As many well-known items of the average pull what an attribute says of items' ratings to zero.
    pub attribute_damping: f64,
    /// As many ratings of the average pull a consumer's deviation to zero.
    pub user_damping: f64,
    /// Pull of a taste to zero, in ratings of one direction.
    pub ridge: f64,
    /// Rounds of solving all items, then all consumers.
    pub rounds: usize,
}

impl Default for TasteSettings {
    fn default() -> Self {
        Self {
            item_damping: 3.0,
            attribute_damping: 5.0,
            user_damping: 5.0,
            ridge: 5.0,
            rounds: 10,
        }
    }
}

impl CheckedSettings for TasteSettings {
    fn faults(&self) -> Vec<SettingFault> {
        let mut faults = Faults::default();
        let pulls = [
            ("item_damping", self.item_damping),
            ("attribute_damping", self.attribute_damping),
            ("user_damping", self.user_damping),
            ("ridge", self.ridge),
        ];
        for (name, value) in pulls {
            faults.unless_positive(name, value);
        }
        faults.unless(self.rounds > 0, "rounds", self.rounds, "at least one round is needed");
        faults.0
    }
}

/// The rating to expect of an average consumer for each of `items` items: the mean of all ratings for
/// one without any, and drawn to it the more the fewer there are. Which consumers rated an item is
/// taken into account. Empty if there is no rating at all.
///
/// # Errors
/// [`Error::Setting`]; [`Error::Shape`] if an interaction is of a row beyond `users` or `items`.
pub fn expected_ratings(
    interactions: &[Interaction],
    users: usize,
    items: usize,
    settings: &TasteSettings,
) -> Result<Vec<f32>> {
    settings.check()?;
    if interactions.is_empty() {
        return Ok(Vec::new());
    }
    let beyond = |one: &&Interaction| one.user as usize >= users || one.item as usize >= items;
    if let Some(one) = interactions.iter().find(beyond) {
        let got = format!("user {} and item {}", one.user, one.item);
        return Err(Error::shape("an interaction", format!("{users} users, {items} items"), got));
    }
    let mean = interactions.iter().map(|one| f64::from(one.rating)).sum::<f64>()
        / interactions.len() as f64;
    let (mut of_users, mut of_items) = (vec![0.0; users], vec![0.0; items]);
    for _ in 0..settings.rounds {
        let (mut sums, mut counts) = (vec![0.0; items], vec![0.0; items]);
        for one in interactions {
            let (user, item) = (one.user as usize, one.item as usize);
            sums[item] += f64::from(one.rating) - mean - of_users[user];
            counts[item] += 1.0;
        }
        for (item, deviation) in of_items.iter_mut().enumerate() {
            *deviation = sums[item] / (counts[item] + settings.item_damping);
        }
        let (mut sums, mut counts) = (vec![0.0; users], vec![0.0; users]);
        for one in interactions {
            let (user, item) = (one.user as usize, one.item as usize);
            sums[user] += f64::from(one.rating) - mean - of_items[item];
            counts[user] += 1.0;
        }
        for (user, deviation) in of_users.iter_mut().enumerate() {
            *deviation = sums[user] / (counts[user] + settings.user_damping);
        }
    }
    Ok(of_items.into_iter().map(|deviation| (mean + deviation) as f32).collect())
}

/// A rated item of a consumer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rated<'a> {
    /// The item's vector, `[d]`.
    pub vector: &'a [f32],
    /// What an average consumer would rate it.
    pub expected: f32,
    /// What this consumer rated it.
    pub rating: f32,
}

/// How a consumer's ratings differ from those of an average consumer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Taste {
    /// Deviation from what is expected, over all items; in units of the ratings.
    pub bias: f32,
    /// Deviation beyond that for each axis of the item vectors, `[d]`; empty if nothing is known.
    pub weights: Vec<f32>,
}

impl Taste {
    /// The taste behind a history; [`Taste::default`] for an empty one.
    ///
    /// # Errors
    /// [`Error::Setting`]; [`Error::Shape`] or [`Error::NotFinite`] naming the item at fault.
    pub fn learn(history: &[Rated<'_>], settings: &TasteSettings) -> Result<Self> {
        settings.check()?;
        let Some(first) = history.first() else { return Ok(Self::default()) };
        let dimension = first.vector.len();
        for (position, rated) in history.iter().enumerate() {
            check::vector(&format!("history item {position}"), rated.vector, dimension)?;
            let numbers = [rated.expected, rated.rating];
            check::vector(&format!("the rating of history item {position}"), &numbers, 2)?;
        }
        let surprise = |rated: &Rated<'_>| f64::from(rated.rating) - f64::from(rated.expected);
        let sum = history.iter().map(surprise).sum::<f64>();
        let bias = sum / (history.len() as f64 + settings.user_damping);
        let mut system = DMatrix::from_diagonal_element(dimension, dimension, settings.ridge);
        let mut right = DVector::zeros(dimension);
        for rated in history {
            let direction = DVector::from_vec(direction(rated.vector));
            system.syger(1.0, &direction, &direction, 1.0);
            right.axpy(surprise(rated) - bias, &direction, 1.0);
        }
        let factor = Cholesky::new(system)
            .ok_or_else(|| Error::Singular { what: "a consumer's taste".to_owned() })?;
        factor.solve_mut(&mut right);
        let weights = right.iter().map(|weight| *weight as f32).collect();
        Ok(Self { bias: bias as f32, weights })
    }

    /// How much better than [`Taste::bias`] says the consumer would rate an item `[d]`. Zero where
    /// nothing is known of the consumer, or the item has no vector of that width.
    pub fn deviation(&self, item: &[f32]) -> f32 {
        if self.weights.len() != item.len() {
            return 0.0;
        }
        let direction = direction(item);
        let products = self.weights.iter().zip(direction);
        products.map(|(weight, part)| f64::from(*weight) * part).sum::<f64>() as f32
    }
}

/// The vector at length 1; a vector of zeros stays one.
fn direction(vector: &[f32]) -> Vec<f64> {
    let length = vector.iter().map(|part| f64::from(*part).powi(2)).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter().map(|part| f64::from(*part) * scale).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rating(user: u32, item: u32, rating: f32) -> Interaction {
        Interaction { user, item, rating }
    }

    #[test]
    fn an_item_rated_by_strict_consumers_is_expected_better_than_its_mean() {
        // Consumer 0 is strict, consumer 1 is generous; both rate items 2 and 3 to show it.
        let mut interactions = vec![rating(0, 0, 3.0), rating(1, 1, 3.0)];
        for item in 2..30 {
            interactions.extend([rating(0, item, 2.0), rating(1, item, 5.0)]);
        }
        let expected = expected_ratings(&interactions, 2, 31, &TasteSettings::default()).unwrap();
        assert!(expected[0] > expected[1] + 0.3, "{expected:?}");
        let mean =
            interactions.iter().map(|one| one.rating).sum::<f32>() / interactions.len() as f32;
        assert!((expected[30] - mean).abs() < 1e-4, "without a rating: {}", expected[30]);
    }

    #[test]
    fn nothing_known_expects_nothing() {
        let settings = TasteSettings::default();
        assert_eq!(expected_ratings(&[], 3, 3, &settings).unwrap(), Vec::<f32>::new());
        let nobody = Taste::learn(&[], &settings).unwrap();
        assert_eq!((nobody.bias, nobody.deviation(&[1.0, 2.0])), (0.0, 0.0));
    }

    #[test]
    fn a_consumer_who_likes_one_direction_only_is_told_by_it() {
        let rated = |vector: &'static [f32], rating| Rated { vector, expected: 3.0, rating };
        let mut history = Vec::new();
        for _ in 0..20 {
            history.extend([rated(&[2.0, 0.0], 5.0), rated(&[0.0, 0.5], 1.0)]);
        }
        let taste = Taste::learn(&history, &TasteSettings::default()).unwrap();
        assert!(taste.bias.abs() < 1e-6);
        // 20 ratings of 2 above, against a pull of 5 ratings of the average.
        assert!((taste.deviation(&[7.0, 0.0]) - 2.0 * 20.0 / 25.0).abs() < 1e-5);
        assert!((taste.deviation(&[0.0, 7.0]) + 2.0 * 20.0 / 25.0).abs() < 1e-5);
        assert_eq!(taste.deviation(&[1.0]), 0.0, "another width");
    }

    #[test]
    fn settings_and_input_that_cannot_work_are_refused() {
        let settings = TasteSettings { ridge: 0.0, ..TasteSettings::default() };
        assert!(Taste::learn(&[], &settings).unwrap_err().to_string().contains("ridge"));
        let settings = TasteSettings::default();
        let beyond = expected_ratings(&[rating(0, 3, 1.0)], 1, 3, &settings).unwrap_err();
        assert!(beyond.to_string().contains("item 3"), "{beyond}");
        let bad = [Rated { vector: &[f32::NAN], expected: 3.0, rating: 1.0 }];
        let bad = Taste::learn(&bad, &settings).unwrap_err().to_string();
        assert!(bad.contains("history item 0"), "{bad}");
    }

    proptest! {
        #[test]
        fn expectations_stay_within_the_ratings_and_do_not_depend_on_order(
            rows in prop::collection::vec((0_u32..5, 0_u32..5, 1_u8..6), 1..60)
        ) {
            let settings = TasteSettings::default();
            let of = |rows: &[(u32, u32, u8)]| {
                let all: Vec<Interaction> =
                    rows.iter().map(|(u, i, r)| rating(*u, *i, f32::from(*r))).collect();
                expected_ratings(&all, 5, 5, &settings).unwrap()
            };
            let expected = of(&rows);
            let reversed: Vec<_> = rows.iter().rev().copied().collect();
            for (one, other) in expected.iter().zip(of(&reversed)) {
                prop_assert!((one - other).abs() < 1e-4);
                prop_assert!((0.0..=6.0).contains(one), "{one}");
            }
        }
    }
}
