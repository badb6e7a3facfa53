//! Divides every consumer's interactions: the newest part stops the training of networks, and what comes
//! before it trains them across folds, so that a pair is never among what is known of it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use whyrank_plugin::{HistoryEntry, ItemId, UserId};

/// Which part of a consumer's interactions serves which purpose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitSettings {
    /// Share of each consumer's interactions, the newest, kept to decide when training stops; above 0 and
    /// below 1.
    pub validation: f32,
    /// Folds of the interactions before it; at least 2. A pair of one fold is learned from what the other
    /// folds tell of its consumer and its item.
    pub folds: usize,
    /// Share of the items, from 0 to 1, that are learned about as if nobody had rated them: all their
    /// interactions of the training part are in one fold.
    pub unrated_items: f32,
}

impl Default for SplitSettings {
    fn default() -> Self {
        Self { validation: 0.1, folds: 5, unrated_items: 0.1 }
    }
}

/// A consumer's interactions, oldest first, and where the parts end.
#[derive(Debug, Clone, PartialEq)]
pub struct Divided {
    /// All interactions.
    pub sorted: Vec<HistoryEntry>,
    /// Interactions before this place are the training part, at least one wherever there is any; the rest
    /// is the validation part.
    pub training_end: usize,
    /// The fold of each interaction of the training part.
    pub folds: Vec<usize>,
}

impl SplitSettings {
    /// A consumer's interactions in the order of time, with the place where each part ends.
    ///
    /// Interactions of one second are ordered by chance, the same for the same consumer and items: a
    /// fixed order of items would teach from some items and test on others where times are not told.
    /// A share of a few interactions is rounded by chance as well, or the validation part of data with
    /// short histories would be empty.
    pub fn divide(&self, user: UserId, history: &[HistoryEntry]) -> Divided {
        let by_chance = |entry: &HistoryEntry| chance(&(user, Some(entry.item)));
        let mut sorted = history.to_vec();
        sorted.sort_by_cached_key(|entry| (entry.time, by_chance(entry)));
        let own = chance(&(user, None));
        let training_end = self.training_end(sorted.len(), own as f64 / u64::MAX as f64);
        let whole = sorted[..training_end].iter().map(|entry| self.fold_of_all(entry.item));
        let whole: Vec<Option<usize>> = whole.collect();
        // Dealt out in an order of chance: folds of one consumer are of one size, as far as can be.
        let mut order: Vec<usize> =
            (0..training_end).filter(|place| whole[*place].is_none()).collect();
        order.sort_by_cached_key(|place| by_chance(&sorted[*place]));
        let mut folds: Vec<usize> = whole.into_iter().map(Option::unwrap_or_default).collect();
        for (turn, place) in order.into_iter().enumerate() {
            folds[place] = (turn + (own % self.folds as u64) as usize) % self.folds;
        }
        Divided { sorted, training_end, folds }
    }

    /// The fold of everything about an item that is learned about as if nobody had rated it.
    fn fold_of_all(&self, item: ItemId) -> Option<usize> {
        let drawn = number(&item.point().to_string());
        let unrated = drawn as f64 / u64::MAX as f64 <= f64::from(self.unrated_items);
        // Other digits than those that chose the item.
        (unrated && self.unrated_items > 0.0)
            .then(|| (drawn.rotate_left(32) % self.folds as u64) as usize)
    }

    /// Where the training part of `count` interactions ends; `rounding`, from 0 to 1, decides how its
    /// share rounds.
    fn training_end(&self, count: usize, rounding: f64) -> usize {
        // Multiplied as 32 bits: 0.1 of 10 is 1 then, and not a little more.
        let validation = (f64::from(self.validation * count as f32) + rounding).floor() as usize;
        count - validation.min(count.saturating_sub(1))
    }
}

/// A number that looks random and is the same on every machine.
fn chance(of: &(UserId, Option<ItemId>)) -> u64 {
    let named = match of.1 {
        Some(item) => format!("{} {}", of.0.point(), item.point()),
        None => of.0.point().to_string(),
    };
    number(&named)
}

fn number(named: &str) -> u64 {
    let digest = Sha256::digest(named);
    u64::from_le_bytes(std::array::from_fn(|place| digest[place]))
}

/// What of a sorted history was there before an interaction of this time. Where all interactions are of
/// one time it tells nothing, and all of them were.
pub fn earlier(sorted: &[HistoryEntry], time: i64) -> &[HistoryEntry] {
    if sorted.iter().all(|entry| entry.time == time) {
        return sorted;
    }
    &sorted[..sorted.partition_point(|entry| entry.time < time)]
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::*;

    fn entries(times: &[i64]) -> Vec<HistoryEntry> {
        let entry = |(item, time): (usize, &i64)| HistoryEntry {
            item: ItemId((item as u64).into()),
            rating: 3.0,
            time: *time,
        };
        times.iter().enumerate().map(entry).collect()
    }

    proptest! {
        #[test]
        fn the_parts_cover_everything_once_in_the_order_of_time(
            times in prop::collection::vec(0_i64..50, 0..300), user in any::<u64>(),
            validation in 0.01_f32..0.9, folds in 2_usize..9,
            unrated_items in 0.0_f32..1.0,
        ) {
            let settings = SplitSettings { validation, folds, unrated_items };
            let count = times.len();
            let mut given = entries(&times);
            let divided = settings.divide(UserId(user.into()), &given);
            prop_assert!(divided.training_end <= count && divided.sorted.len() == count);
            prop_assert!(count == 0 || divided.training_end >= 1);
            prop_assert!(divided.sorted.is_sorted_by_key(|entry| entry.time));
            prop_assert_eq!(divided.folds.len(), divided.training_end);
            prop_assert!(divided.folds.iter().all(|fold| *fold < folds));
            let dealt = |place: usize| settings.fold_of_all(divided.sorted[place].item).is_none();
            let dealt: Vec<usize> = (0..divided.training_end)
                .filter(|place| dealt(*place))
                .map(|place| divided.folds[place])
                .collect();
            let sizes: Vec<usize> = (0..folds)
                .map(|fold| dealt.iter().filter(|own| **own == fold).count())
                .collect();
            let (least, most) = (sizes.iter().min(), sizes.iter().max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1, "{:?}", sizes);
            given.reverse();
            prop_assert_eq!(settings.divide(UserId(user.into()), &given), divided, "any order read");
        }
    }

    #[test]
    fn a_share_of_the_items_is_in_one_fold_for_everybody() {
        let folds_of = |unrated_items: f32| {
            let settings = SplitSettings { folds: 3, unrated_items, ..SplitSettings::default() };
            let mut folds: HashMap<ItemId, BTreeSet<usize>> = HashMap::new();
            for user in 0..40_u64 {
                let divided = settings.divide(UserId(user.into()), &entries(&[0; 300]));
                for (entry, fold) in divided.sorted.iter().zip(divided.folds) {
                    folds.entry(entry.item).or_default().insert(fold);
                }
            }
            folds
        };
        let whole = |folds: &HashMap<ItemId, BTreeSet<usize>>| {
            folds.values().filter(|folds| folds.len() == 1).count()
        };
        assert_eq!(whole(&folds_of(0.0)), 0);
        let some = whole(&folds_of(0.2));
        assert!((30..90).contains(&some), "{some} of 300 items");
        let all = folds_of(1.0);
        assert_eq!(whole(&all), 300);
        for fold in 0..3 {
            let held = all.values().filter(|folds| folds.contains(&fold)).count();
            assert!((60..140).contains(&held), "{held} of 300 items in a third of the folds");
        }
    }

    #[test]
    fn ten_interactions_are_about_nine_and_one() {
        let settings = SplitSettings::default();
        for rounding in [0.0, 0.5, 0.999] {
            assert!((8..=9).contains(&settings.training_end(10, rounding)));
        }
        assert_eq!(settings.training_end(0, 0.999), 0);
        assert_eq!(settings.training_end(1, 0.999), 1, "one interaction is always known");
    }

    #[test]
    fn short_histories_validate_too() {
        let history = entries(&[1, 2, 3, 4, 5]);
        let settings = SplitSettings::default();
        let held = (0..1_000_u64).map(|user| {
            let divided = settings.divide(UserId(user.into()), &history);
            5 - divided.training_end
        });
        let held: usize = held.sum();
        assert!((400..600).contains(&held), "{held} of 5000 instead of a tenth");
    }

    #[test]
    fn consumers_without_times_learn_from_different_items() {
        let history = entries(&[0; 10]);
        let settings = SplitSettings { validation: 0.3, ..SplitSettings::default() };
        let mut first: Vec<usize> = vec![0; 10];
        for user in 0..1_000_u64 {
            let divided = settings.divide(UserId(user.into()), &history);
            for entry in &divided.sorted[..divided.training_end] {
                let place = history.iter().position(|one| one.item == entry.item);
                first[place.expect("one of the history")] += 1;
            }
        }
        assert!(first.iter().all(|count| (600..900).contains(count)), "{first:?}");
    }

    #[test]
    fn what_came_before_is_told_by_time_or_else_is_everything() {
        let history = entries(&[1, 2, 2, 3]);
        assert_eq!(earlier(&history, 2).len(), 1);
        assert_eq!(earlier(&history, 9).len(), 4);
        assert_eq!(earlier(&entries(&[0, 0]), 0).len(), 2);
    }
}
