//! Runs set side by side: the test pairs that all of them predicted, and paired comparisons on these.
//!
//! A difference stands on three kinds of chance: which consumers and which items are in the test, and how
//! a training happened to go. So the intervals draw seeds together with consumers, and seeds together with items,
//! and the wider one is told.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use whyrank_models::metrics::{Interval, Resampling, auc_values, clustered_bootstrap};

use super::FinishedRun;
use crate::import::ImportedInteraction;
use crate::training::Arm;

/// A paired comparison on the same test pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    /// How much smaller the RMSE is, in percent of the other's; below zero if it is greater.
    pub rmse_better_percent: f64,
    /// How much smaller the squared error of a test pair is, mean over seeds.
    pub squared_error_less: Interval,
    /// Whether that interval lies apart from zero.
    pub significant: bool,
    /// How much greater the area under the ROC curve is; none if all or none were liked.
    pub auc_more: Option<Interval>,
}

/// What predictions are judged by.
#[derive(Debug, Clone, Copy)]
enum Measure {
    SquaredError,
    Area,
}

impl Versus {
    /// Whether all of these comparisons are gains by one and the same measure, apart from chance, and none is a
    /// loss by the other.
    pub(super) fn are_gains(comparisons: &[&Self]) -> bool {
        let measures = [Measure::SquaredError, Measure::Area];
        let of = |measure: Measure| comparisons.iter().map(move |one| one.by(measure));
        let better = |one: Option<Interval>| one.is_some_and(|interval| interval.low > 0.0);
        let worse = |one: Option<Interval>| one.is_some_and(|interval| interval.high < 0.0);
        measures.into_iter().any(|measure| of(measure).all(better))
            && !measures.into_iter().any(|measure| of(measure).any(worse))
    }

    fn by(&self, measure: Measure) -> Option<Interval> {
        match measure {
            Measure::SquaredError => Some(self.squared_error_less),
            Measure::Area => self.auc_more,
        }
    }
}

/// The test pairs that all runs predicted.
#[derive(Debug)]
pub(super) struct Common {
    /// Their places among all test interactions.
    pub(super) places: Vec<usize>,
    /// What they were rated.
    pub(super) actual: Vec<f32>,
    /// Whether they were liked.
    pub(super) liked: Vec<bool>,
    consumers: Vec<usize>,
    items: Vec<usize>,
}

/// What each seed's ranker or model predicted of the common pairs.
#[derive(Debug)]
pub(super) struct Predicted {
    /// Ratings, by seed.
    pub(super) ratings: Vec<Vec<f32>>,
    /// What orders likes, by seed: their probabilities, or ratings where there are no others.
    pub(super) likes: Vec<Vec<f32>>,
}

impl Common {
    /// Of these runs, on this test part.
    pub(super) fn of(runs: &[&FinishedRun], test: &[ImportedInteraction]) -> Self {
        let mut counts: HashMap<usize, (usize, f32, bool)> = HashMap::new();
        for run in runs {
            let outcome = &run.outcome;
            let pairs = outcome.places.iter().zip(outcome.actual.iter().zip(&outcome.liked));
            for (place, (actual, liked)) in pairs {
                counts.entry(*place).or_insert((0, *actual, *liked)).0 += 1;
            }
        }
        let mut places: Vec<usize> = counts
            .iter()
            .filter(|(place, (count, ..))| *count == runs.len() && **place < test.len())
            .map(|(place, _)| *place)
            .collect();
        places.sort_unstable();
        let numbered = |name: fn(&ImportedInteraction) -> &str| -> Vec<usize> {
            let mut numbers = HashMap::new();
            let number = |place: &usize| {
                let next = numbers.len();
                *numbers.entry(name(&test[*place])).or_insert(next)
            };
            places.iter().map(number).collect()
        };
        Self {
            actual: places.iter().map(|place| counts[place].1).collect(),
            liked: places.iter().map(|place| counts[place].2).collect(),
            consumers: numbered(|row| &row.user),
            items: numbered(|row| &row.item),
            places,
        }
    }

    /// What an arm predicted in these runs; none unless all have it.
    pub(super) fn of_arm(&self, runs: &[&FinishedRun], arm: Arm) -> Option<Predicted> {
        let mut found = Predicted { ratings: Vec::new(), likes: Vec::new() };
        for run in runs {
            let outcome = run.outcome.arms.iter().find(|outcome| outcome.arm == arm)?;
            let numbered = run.outcome.places.iter().enumerate();
            let at: HashMap<usize, usize> = numbered.map(|(n, place)| (*place, n)).collect();
            let chosen = |values: &[f32]| -> Vec<f32> {
                self.places.iter().map(|place| values[at[place]]).collect()
            };
            found.ratings.push(chosen(&outcome.ratings));
            found.likes.push(chosen(&outcome.likes));
        }
        (!found.ratings.is_empty()).then_some(found)
    }

    /// How much better the one predicts than the other. Where both have as many seeds, each is set against
    /// the other's same one, because these learned from the same pairs.
    pub(super) fn versus(
        &self,
        ours: &Predicted,
        theirs: &Predicted,
        resampling: Resampling,
    ) -> Option<Versus> {
        // Squared errors below zero, so that more is better, as of areas.
        let errors = |predicted: &Predicted| -> Vec<Vec<f64>> {
            let of_seed = |ratings: &Vec<f32>| -> Vec<f64> {
                let pairs = ratings.iter().zip(&self.actual);
                pairs.map(|(rating, actual)| -f64::from(rating - actual).powi(2)).collect()
            };
            predicted.ratings.iter().map(of_seed).collect()
        };
        let (our_errors, their_errors) = (errors(ours), errors(theirs));
        let squared_error_less = self.interval(&over(&our_errors, &their_errors), resampling)?;
        let areas = |predicted: &Predicted| -> Option<Vec<Vec<f64>>> {
            predicted.likes.iter().map(|likes| auc_values(likes, &self.liked)).collect()
        };
        let both = areas(ours).zip(areas(theirs));
        let auc_more =
            both.and_then(|(ours, theirs)| self.interval(&over(&ours, &theirs), resampling));
        let (ours, theirs) = (root_of_means(&our_errors), root_of_means(&their_errors));
        Some(Versus {
            rmse_better_percent: 100.0 * (theirs - ours) / theirs,
            significant: squared_error_less.is_apart(),
            squared_error_less,
            auc_more,
        })
    }

    /// The wider of the intervals over consumers and over items.
    fn interval(&self, values: &[Vec<f64>], resampling: Resampling) -> Option<Interval> {
        let by_consumer = clustered_bootstrap(values, &self.consumers, resampling)?;
        let by_item = clustered_bootstrap(values, &self.items, resampling)?;
        Some(if by_item.width() > by_consumer.width() { by_item } else { by_consumer })
    }
}

/// By how much ours exceed theirs, seed by seed; their mean where they have other seeds.
pub(super) fn over(ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mean: Vec<f64> = (0..theirs.first().map_or(0, Vec::len))
        .map(|pair| theirs.iter().map(|values| values[pair]).sum::<f64>() / theirs.len() as f64)
        .collect();
    let other = |seed: usize| if ours.len() == theirs.len() { &theirs[seed] } else { &mean };
    let differences = ours.iter().enumerate().map(|(seed, values)| {
        values.iter().zip(other(seed)).map(|(our, their)| our - their).collect()
    });
    differences.collect()
}

/// The mean over seeds of the root of each one's mean squared error.
fn root_of_means(errors: &[Vec<f64>]) -> f64 {
    let roots = errors.iter().map(|of_seed| {
        let mean = of_seed.iter().sum::<f64>() / of_seed.len() as f64;
        (-mean).sqrt()
    });
    roots.sum::<f64>() / errors.len() as f64
}
