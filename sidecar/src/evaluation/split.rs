//! Holds the test part apart: each consumer's newest interactions, so that nothing is learned from what
//! comes later, or a random choice of them, as much of the literature does.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::import::{Dataset, ImportedInteraction};

/// Which of a consumer's interactions are held apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitKind {
    /// The newest.
    Time,
    /// A random choice.
    Random,
}

/// The data set without a `test` share of each consumer's interactions, and these. A consumer keeps at
/// least one interaction to be known by. `seed` decides a random choice.
pub fn divide(
    dataset: &Dataset,
    kind: SplitKind,
    test: f32,
    seed: u64,
) -> (Dataset, Vec<ImportedInteraction>) {
    let mut by_user: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, interaction) in dataset.interactions.iter().enumerate() {
        by_user.entry(&interaction.user).or_default().push(place);
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut held = vec![false; dataset.interactions.len()];
    for places in by_user.values_mut() {
        // The file's order decides nothing, and neither do the items' names: interactions of one second
        // are ordered by chance, or data without times would be tested on some items only.
        places.sort_by_key(|place| &dataset.interactions[*place].item);
        places.shuffle(&mut random);
        if kind == SplitKind::Time {
            places.sort_by_key(|place| dataset.interactions[*place].time);
        }
        let count = (test * places.len() as f32).floor() as usize;
        for place in places.iter().rev().take(count.min(places.len() - 1)) {
            held[*place] = true;
        }
    }
    let part = |wanted: bool| -> Vec<ImportedInteraction> {
        let rows = dataset.interactions.iter().zip(&held).filter(|(_, held)| **held == wanted);
        rows.map(|(interaction, _)| interaction.clone()).collect()
    };
    let training = Dataset {
        interactions: part(false),
        items: dataset.items.clone(),
        users: dataset.users.clone(),
    };
    (training, part(true))
}

/// The data set with a random share of its interactions, the same for the same seed. A smaller share
/// of one seed is contained in a larger one.
pub fn share_of(training: &Dataset, share: f32, seed: u64) -> Dataset {
    let mut places: Vec<usize> = (0..training.interactions.len()).collect();
    places.shuffle(&mut StdRng::seed_from_u64(seed));
    places.truncate((f64::from(share) * places.len() as f64).round() as usize);
    places.sort_unstable();
    let interactions = places.iter().map(|place| training.interactions[*place].clone()).collect();
    Dataset { interactions, items: training.items.clone(), users: training.users.clone() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn interactions(rows: &[(u8, u8, i64)]) -> Dataset {
        let mut seen = std::collections::HashSet::new();
        let rows = rows.iter().filter(|(user, item, _)| seen.insert((*user, *item)));
        let interactions = rows.map(|(user, item, time)| ImportedInteraction {
            user: user.to_string(),
            item: item.to_string(),
            rating: 3.0,
            time: *time,
        });
        Dataset { interactions: interactions.collect(), ..Dataset::default() }
    }

    proptest! {
        #[test]
        fn the_test_part_is_never_older_and_nothing_is_lost(
            rows in prop::collection::vec((0u8..5, any::<u8>(), 0i64..50), 1..200),
            test in 0.05f32..0.9,
        ) {
            let dataset = interactions(&rows);
            let (training, held) = divide(&dataset, SplitKind::Time, test, 0);
            prop_assert_eq!(training.interactions.len() + held.len(), dataset.interactions.len());
            let mut newest: HashMap<&str, i64> = HashMap::new();
            for interaction in &training.interactions {
                let time = newest.entry(&interaction.user).or_insert(i64::MIN);
                *time = (*time).max(interaction.time);
            }
            for interaction in &held {
                prop_assert!(interaction.time >= newest[interaction.user.as_str()]);
            }
        }

        #[test]
        fn a_random_split_loses_nothing_and_repeats_for_its_seed(
            rows in prop::collection::vec((0u8..5, any::<u8>(), 0i64..50), 1..200),
            seed in any::<u64>(),
        ) {
            let dataset = interactions(&rows);
            let split = || divide(&dataset, SplitKind::Random, 0.3, seed);
            let (training, held) = split();
            prop_assert_eq!(training.interactions.len() + held.len(), dataset.interactions.len());
            let again = split();
            prop_assert_eq!((&again.0.interactions, &again.1), (&training.interactions, &held));
            let counts = |rows: &[ImportedInteraction]| rows.iter().fold(
                HashMap::new(),
                |mut counts: HashMap<String, usize>, row| {
                    *counts.entry(row.user.clone()).or_default() += 1;
                    counts
                },
            );
            let newest = divide(&dataset, SplitKind::Time, 0.3, seed);
            prop_assert_eq!(counts(&held), counts(&newest.1));
        }

        #[test]
        fn a_smaller_share_is_part_of_a_larger_one(seed in any::<u64>()) {
            let rows: Vec<_> = (0..100).map(|n| (n % 5, n, i64::from(n))).collect();
            let dataset = interactions(&rows);
            let (less, more) = (share_of(&dataset, 0.12, seed), share_of(&dataset, 0.5, seed));
            prop_assert_eq!((less.interactions.len(), more.interactions.len()), (12, 50));
            prop_assert!(less.interactions.iter().all(|row| more.interactions.contains(row)));
        }
    }
}
