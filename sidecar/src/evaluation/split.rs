//! Holds the test part apart: each consumer's newest interactions, so that nothing is learned from what they
//! did later (what others did may be later than a test pair); a random choice of them, as much of the
//! literature does; or everything about a random choice of items, which are then as new as an item is on its
//! first day.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::import::{Dataset, ImportedInteraction};

/// Which interactions are held apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// The newest of each consumer.
    Time,
    /// A random choice of each consumer's.
    Random,
    /// All of a random choice of items.
    NewItems,
}

/// The data set without a `test` share of each consumer's interactions, or without those of that share of
/// the items, and these. With the first a consumer keeps at least one interaction to be known by. `seed`
/// decides a random choice.
pub fn divide(
    dataset: &Dataset,
    kind: SplitKind,
    test: f32,
    seed: u64,
) -> (Dataset, Vec<ImportedInteraction>) {
    let held = match kind {
        SplitKind::Time | SplitKind::Random => of_each_consumer(dataset, kind, test, seed),
        SplitKind::NewItems => of_new_items(dataset, test, seed),
    };
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

/// Whether each interaction is held apart: a share of each consumer's.
fn of_each_consumer(dataset: &Dataset, kind: SplitKind, test: f32, seed: u64) -> Vec<bool> {
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
    held
}

/// Whether each interaction is held apart: those of a share of the items that anybody rated.
fn of_new_items(dataset: &Dataset, test: f32, seed: u64) -> Vec<bool> {
    let rated: BTreeSet<&str> = dataset.interactions.iter().map(|row| row.item.as_str()).collect();
    let mut items: Vec<&str> = rated.into_iter().collect();
    items.shuffle(&mut StdRng::seed_from_u64(seed));
    items.truncate((test * items.len() as f32).floor() as usize);
    let new: HashSet<&str> = items.into_iter().collect();
    dataset.interactions.iter().map(|row| new.contains(row.item.as_str())).collect()
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
        fn nothing_is_known_of_a_new_item(
            rows in prop::collection::vec((0u8..5, any::<u8>(), 0i64..50), 1..200),
            seed in any::<u64>(),
        ) {
            let dataset = interactions(&rows);
            let (training, held) = divide(&dataset, SplitKind::NewItems, 0.3, seed);
            prop_assert_eq!(training.interactions.len() + held.len(), dataset.interactions.len());
            let items = |rows: &[ImportedInteraction]| -> BTreeSet<String> {
                rows.iter().map(|row| row.item.clone()).collect()
            };
            let (known, new) = (items(&training.interactions), items(&held));
            prop_assert!(known.is_disjoint(&new));
            prop_assert_eq!(new.len(), (0.3 * (known.len() + new.len()) as f32).floor() as usize);
            let again = divide(&dataset, SplitKind::NewItems, 0.3, seed);
            prop_assert_eq!(&again.1, &held);
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
