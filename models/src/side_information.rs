//! What to expect of an item that few have rated: how far what is known of it beside its ratings told the
//! ratings of others.
//!
//! A weighted ridge regression of items' deviations from the mean rating on an LLM's forecast and on the
//! items' attributes. Each item counts by how much is known of its deviation.

use std::collections::BTreeMap;

use nalgebra::{Cholesky, DMatrix, DVector};

use crate::error::{Error, Result};

/// Rated items that must tell something before it counts for others.
const LEAST_ITEMS: usize = 20;
/// The most common attributes that take part; others are left out.
const MOST_ATTRIBUTES: usize = 300;

/// What is known of an item beside its ratings.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SideInformation<'a> {
    /// How an LLM foresees that people rate it, in any unit that is the same for all.
    pub forecast: Option<f32>,
    /// Its attributes by number, each once.
    pub attributes: &'a [u32],
}

/// An item that has been rated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KnownItem<'a> {
    /// What else is known of it.
    pub known: SideInformation<'a>,
    /// By how much its ratings exceed the mean of all, in their unit.
    pub deviation: f64,
    /// How certain that is, from 0 to 1.
    pub weight: f64,
}

/// What items' deviations from the mean rating can be told from.
#[derive(Debug, Clone, PartialEq)]
pub struct SideRegression {
    /// Deviation of an item of which nothing is known.
    offset: f64,
    /// The forecast that tells nothing, and the deviation for each point above it.
    forecast: Option<(f64, f64)>,
    attributes: BTreeMap<u32, f64>,
}

impl SideRegression {
    /// Learns from rated items. An attribute's effect is drawn to zero by as many certain items of the
    /// average as `damping` says; a forecast's is not. None where the items are fewer than 20, or nothing is
    /// certain of any; what fewer than 20 of them have is left out.
    ///
    /// # Errors
    /// [`Error::Singular`] if the deviations are not finite numbers.
    pub fn learn(items: &[KnownItem<'_>], damping: f64) -> Result<Option<Self>> {
        let items: Vec<_> = items.iter().filter(|item| item.weight > 0.0).collect();
        if items.len() < LEAST_ITEMS {
            return Ok(None);
        }
        let middle = middle_forecast(&items);
        let attributes = common_attributes(&items);
        // One column for each attribute, then the forecast's if it tells items apart, then the offset's.
        let columns: BTreeMap<u32, usize> = attributes.into_iter().zip(0..).collect();
        let offset = columns.len() + usize::from(middle.is_some());
        let mut system = DMatrix::<f64>::zeros(offset + 1, offset + 1);
        let mut right = DVector::<f64>::zeros(offset + 1);
        for item in items {
            let mut row: Vec<(usize, f64)> = Vec::with_capacity(item.known.attributes.len() + 2);
            let held = item.known.attributes.iter().filter_map(|one| columns.get(one));
            row.extend(held.map(|column| (*column, 1.0)));
            if let (Some(middle), Some(told)) = (middle, item.known.forecast) {
                row.push((columns.len(), f64::from(told) - middle));
            }
            row.push((offset, 1.0));
            for (column, value) in &row {
                right[*column] += item.weight * value * item.deviation;
                for (other, another) in &row {
                    system[(*column, *other)] += item.weight * value * another;
                }
            }
        }
        columns.values().for_each(|column| system[(*column, *column)] += damping);
        let solved = Cholesky::new(system).map(|factor| factor.solve(&right));
        let solved = solved.filter(|solved| solved.iter().all(|effect| effect.is_finite()));
        let solved = solved.ok_or_else(|| Error::Singular {
            what: "what ratings can be told from beside ratings".to_owned(),
        })?;
        Ok(Some(Self {
            offset: solved[offset],
            forecast: middle.map(|middle| (middle, solved[columns.len()])),
            attributes: columns.into_iter().map(|(one, column)| (one, solved[column])).collect(),
        }))
    }

    /// By how much an item of which this is known is expected to exceed the mean of all ratings.
    pub fn deviation(&self, known: SideInformation<'_>) -> f64 {
        let told = self.forecast.zip(known.forecast);
        let foreseen =
            told.map_or(0.0, |((middle, slope), told)| slope * (f64::from(told) - middle));
        let effects = known.attributes.iter().filter_map(|one| self.attributes.get(one));
        self.offset + foreseen + effects.sum::<f64>()
    }
}

/// The mean of the forecasts; none if too few items have one, or all are the same.
fn middle_forecast(items: &[&KnownItem<'_>]) -> Option<f64> {
    let told = items.iter().filter_map(|item| Some((item.weight, f64::from(item.known.forecast?))));
    let told: Vec<(f64, f64)> = told.collect();
    let differ = told.iter().any(|(_, forecast)| *forecast != told[0].1);
    let total: f64 = told.iter().map(|(weight, _)| weight).sum();
    let middle = told.iter().map(|(weight, forecast)| weight * forecast).sum::<f64>() / total;
    (told.len() >= LEAST_ITEMS && differ).then_some(middle)
}

/// The attributes that enough items have, the most common of them.
fn common_attributes(items: &[&KnownItem<'_>]) -> Vec<u32> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    items.iter().flat_map(|item| item.known.attributes).for_each(|one| {
        *counts.entry(*one).or_default() += 1;
    });
    let mut common: Vec<(u32, usize)> =
        counts.into_iter().filter(|(_, count)| *count >= LEAST_ITEMS).collect();
    common.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    common.into_iter().take(MOST_ATTRIBUTES).map(|(one, _)| one).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(forecast: Option<f32>, attributes: &[u32], deviation: f64) -> KnownItem<'_> {
        KnownItem { known: SideInformation { forecast, attributes }, deviation, weight: 0.5 }
    }

    fn forecasts() -> impl Iterator<Item = f32> {
        (0..40).map(|place| 4.0 + place as f32 * 0.1)
    }

    #[test]
    fn forecasts_are_believed_as_far_as_ratings_bear_them_out() {
        for slope in [0.3, 0.0, -0.2] {
            let deviation = |forecast: f32| slope * (f64::from(forecast) - 6.0);
            let items: Vec<_> =
                forecasts().map(|told| item(Some(told), &[], deviation(told))).collect();
            let learned = SideRegression::learn(&items, 5.0).unwrap().expect("enough items");
            let told = SideInformation { forecast: Some(8.0), attributes: &[] };
            assert!((learned.deviation(told) - slope * 2.0).abs() < 1e-6, "{learned:?}");
            assert_eq!(SideRegression::learn(&items[..LEAST_ITEMS - 1], 5.0).unwrap(), None);
        }
    }

    #[test]
    fn an_attribute_counts_by_how_many_items_bear_it_out() {
        let mut items = vec![item(None, &[], 0.0); 4_000];
        items.extend(vec![item(None, &[7], 1.0); 40]);
        items.extend(vec![item(None, &[8], 1.0); LEAST_ITEMS - 1]);
        let learned = SideRegression::learn(&items, 5.0).unwrap().expect("enough items");
        let of = |attributes| learned.deviation(SideInformation { forecast: None, attributes });
        // 40 items of half a certainty against a pull of 5.
        assert!((of(&[7]) - of(&[]) - 20.0 / 25.0).abs() < 0.01, "{learned:?}");
        assert_eq!(of(&[8]), of(&[]), "too few have it");
        assert_eq!(of(&[7, 99]), of(&[7]), "nobody has it");
        assert!(of(&[]).abs() < 0.01);
    }

    #[test]
    fn forecasts_that_are_all_the_same_tell_nothing() {
        let items: Vec<_> = (0..40).map(|place| item(Some(7.0), &[], f64::from(place))).collect();
        let learned = SideRegression::learn(&items, 5.0).unwrap().expect("enough items");
        let told = |forecast| learned.deviation(SideInformation { forecast, attributes: &[] });
        assert_eq!(told(Some(3.0)), told(None));
        assert!((told(None) - 19.5).abs() < 1e-9);
        assert_eq!(SideRegression::learn(&[item(None, &[], 1.0); 19], 5.0).unwrap(), None);
        let unknown = KnownItem { weight: 0.0, ..item(None, &[], 1.0) };
        assert_eq!(SideRegression::learn(&[unknown; 100], 5.0).unwrap(), None);
    }

    proptest! {
        #[test]
        fn what_is_expected_lies_near_what_was_seen(
            told in prop::collection::vec(
                (prop::option::of(1.0_f32..10.0), prop::collection::btree_set(0..6_u32, 0..4), -2.0..2.0_f64, 0.01..1.0_f64),
                20..80,
            ),
        ) {
            let sets: Vec<Vec<u32>> =
                told.iter().map(|(_, attributes, ..)| attributes.iter().copied().collect()).collect();
            let items: Vec<_> = told.iter().zip(&sets).map(|((forecast, _, deviation, weight), attributes)| {
                let known = SideInformation { forecast: *forecast, attributes };
                KnownItem { known, deviation: *deviation, weight: *weight }
            }).collect();
            let learned = SideRegression::learn(&items, 5.0).unwrap().unwrap();
            let error = |expected: &dyn Fn(&KnownItem<'_>) -> f64| items.iter()
                .map(|item| item.weight * (item.deviation - expected(item)).powi(2)).sum::<f64>();
            let total: f64 = items.iter().map(|item| item.weight).sum();
            let mean = items.iter().map(|item| item.weight * item.deviation).sum::<f64>() / total;
            // Least squares: never worse than the mean on what it learned from.
            prop_assert!(error(&|item| learned.deviation(item.known)) <= error(&|_| mean) + 1e-6);
        }
    }
}
