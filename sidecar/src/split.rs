//! Divides every consumer's interactions in the order of time, so that nothing is learned from what
//! comes later: the oldest part makes vectors, statistics and evidence; the next trains the ranker;
//! the last stops its training.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use whyrank_plugin::{HistoryEntry, ItemId, UserId};

/// Which part of a consumer's interactions serves which purpose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitSettings {
    /// Share of each consumer's interactions, the oldest, that vectors and statistics are learned
    /// from; above 0 and below 1.
    pub history: f32,
    /// Share, the newest, kept to decide when training stops; the rest between trains the ranker.
    pub validation: f32,
}

impl Default for SplitSettings {
    fn default() -> Self {
        Self { history: 0.7, validation: 0.1 }
    }
}

/// The parts of one consumer's interactions, as ranges of a list in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Interactions before this place are the history part; at least one wherever there is any.
    pub history_end: usize,
    /// Interactions from `history_end` to here train the ranker; the rest is the validation part.
    pub ranking_end: usize,
}

/// A consumer's interactions, oldest first, and where the parts end.
#[derive(Debug, Clone, PartialEq)]
pub struct Divided {
    /// All interactions.
    pub sorted: Vec<HistoryEntry>,
    /// Where the parts end.
    pub parts: Parts,
}

impl SplitSettings {
    /// Everything is history: what serving knows, and what a later test is judged from.
    pub const ALL_HISTORY: Self = Self { history: 1.0, validation: 0.0 };

    /// A consumer's interactions in the order of time, with the place where each part ends.
    ///
    /// Interactions of one second are ordered by chance, the same for the same consumer and items: a
    /// fixed order of items would teach from some items and test on others where times are not told.
    /// A share of a few interactions is rounded by chance as well, or the validation part of data with
    /// short histories would be empty.
    pub fn divide(&self, user: UserId, history: &[HistoryEntry]) -> Divided {
        let mut sorted = history.to_vec();
        sorted.sort_by_cached_key(|entry| (entry.time, chance(&(user, Some(entry.item)))));
        let parts = self.parts(sorted.len(), chance(&(user, None)) as f64 / u64::MAX as f64);
        Divided { sorted, parts }
    }

    /// Where the parts of `count` interactions end; `rounding`, from 0 to 1, decides how shares round.
    fn parts(&self, count: usize, rounding: f64) -> Parts {
        // Multiplied as 32 bits: 0.7 of 10 is 7 then, and not a little less.
        let share =
            |fraction: f32| (f64::from(fraction * count as f32) + rounding).floor() as usize;
        let history_end = share(self.history).clamp(1, count.max(1)).min(count);
        let validation = share(self.validation).min(count - history_end);
        Parts { history_end, ranking_end: count - validation }
    }
}

/// A number that looks random and is the same on every machine.
fn chance(of: &(UserId, Option<ItemId>)) -> u64 {
    let named = match of.1 {
        Some(item) => format!("{} {}", of.0.point(), item.point()),
        None => of.0.point().to_string(),
    };
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
            history in 0.01_f32..0.99, validation in 0.0_f32..0.5,
        ) {
            let (settings, count) = (SplitSettings { history, validation }, times.len());
            let mut given = entries(&times);
            let divided = settings.divide(UserId(user.into()), &given);
            let Parts { history_end, ranking_end } = divided.parts;
            prop_assert!(history_end <= ranking_end && ranking_end <= count);
            prop_assert!(count == 0 || history_end >= 1);
            prop_assert!(divided.sorted.is_sorted_by_key(|entry| entry.time));
            given.reverse();
            prop_assert_eq!(settings.divide(UserId(user.into()), &given), divided, "any order read");
        }
    }

    #[test]
    fn ten_interactions_are_about_seven_two_one() {
        let settings = SplitSettings::default();
        for rounding in [0.0, 0.5, 0.999] {
            let Parts { history_end, ranking_end } = settings.parts(10, rounding);
            assert!((7..=8).contains(&history_end) && (8..=9).contains(&ranking_end));
        }
        let all = SplitSettings::ALL_HISTORY;
        assert_eq!(all.parts(10, 0.999), Parts { history_end: 10, ranking_end: 10 });
    }

    #[test]
    fn short_histories_validate_too() {
        let history = entries(&[1, 2, 3, 4, 5]);
        let settings = SplitSettings::default();
        let held = (0..1_000_u64).map(|user| {
            let divided = settings.divide(UserId(user.into()), &history);
            5 - divided.parts.ranking_end
        });
        let held: usize = held.sum();
        assert!((400..600).contains(&held), "{held} of 5000 instead of a tenth");
    }

    #[test]
    fn consumers_without_times_learn_from_different_items() {
        let history = entries(&[0; 10]);
        let settings = SplitSettings::default();
        let mut first: Vec<usize> = vec![0; 10];
        for user in 0..1_000_u64 {
            let divided = settings.divide(UserId(user.into()), &history);
            for entry in &divided.sorted[..divided.parts.history_end] {
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
