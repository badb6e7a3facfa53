//! Divides every consumer's interactions in the order of time, so that nothing is learned from what
//! comes later: the oldest part makes vectors, statistics and evidence; the next trains the ranker;
//! the last stops its training.

use serde::{Deserialize, Serialize};
use whyrank_plugin::HistoryEntry;

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

impl SplitSettings {
    /// Everything is history: what serving knows, and what a later test is judged from.
    pub const ALL_HISTORY: Self = Self { history: 1.0, validation: 0.0 };

    /// Where the parts of `count` interactions end.
    pub fn parts(&self, count: usize) -> Parts {
        let share = |fraction: f32| (fraction * count as f32).floor() as usize;
        let history_end = share(self.history).max(1).min(count);
        let validation = share(self.validation).min(count - history_end);
        Parts { history_end, ranking_end: count - validation }
    }
}

/// A consumer's interactions, oldest first; those of one second keep an order that does not depend
/// on how they were read.
pub fn oldest_first(history: &[HistoryEntry]) -> Vec<HistoryEntry> {
    let mut sorted = history.to_vec();
    sorted.sort_by_key(|entry| (entry.time, entry.item));
    sorted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_parts_cover_everything_once(
            count in 0_usize..2000, history in 0.01_f32..0.99, validation in 0.0_f32..0.5
        ) {
            let parts = SplitSettings { history, validation }.parts(count);
            prop_assert!(parts.history_end <= parts.ranking_end && parts.ranking_end <= count);
            prop_assert!(count == 0 || parts.history_end >= 1);
        }
    }

    #[test]
    fn ten_interactions_are_seven_two_one() {
        let parts = SplitSettings::default().parts(10);
        assert_eq!(parts, Parts { history_end: 7, ranking_end: 9 });
    }
}
