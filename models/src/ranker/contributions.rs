//! How much each input group moved a candidate's score: exact Shapley values over five groups.
//!
//! Every subset of the groups is scored with the absent groups at their training mean. A group's
//! share is its mean effect over all orders of adding the groups one by one, so the shares always
//! sum to the score minus the base score, at which every group is absent.

use serde::{Deserialize, Serialize};

use super::InputGroups;
use super::examples::{CandidateInput, ConsumerInput};
use super::run::{Ranker, Rows, Score};
use crate::error::Result;

/// The share of each input group in one number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupShares {
    /// User vector, item vector and their product.
    pub user_item: f32,
    /// Code of the positive explanation.
    pub positive: f32,
    /// Code of the negative explanation.
    pub negative: f32,
    /// Attention over the consumer's history.
    pub history: f32,
    /// Context features.
    pub context: f32,
}

impl GroupShares {
    /// The sum of all shares.
    pub fn sum(&self) -> f32 {
        self.user_item + self.positive + self.negative + self.history + self.context
    }
}

/// Why a candidate has its score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Contributions {
    /// The score with all groups present.
    pub score: Score,
    /// The score with all groups at their training mean; the same for every candidate.
    pub base: Score,
    /// Shares in the rating; they sum to the difference of the two ratings.
    pub rating: GroupShares,
    /// Shares in the like-probability; they sum to the difference of the two probabilities.
    pub like: GroupShares,
}

/// Subsets of the groups, as bits in the order of [`InputGroups::switches`].
const SUBSETS: usize = 1 << InputGroups::COUNT;

/// The history is the last switch: subsets from here on have it present.
const WITH_HISTORY: usize = SUBSETS / 2;

/// Candidates per run of the model, so that a run has at most 1024 rows.
const CANDIDATES_PER_RUN: usize = 1024 / WITH_HISTORY;

impl Ranker {
    /// The contributions of the input groups to each candidate's score, in the order given. Costs
    /// 32 rows of the model a candidate: meant for those that are shown.
    ///
    /// # Errors
    /// As [`Ranker::score`].
    pub fn contributions(
        &self,
        consumer: &ConsumerInput<'_>,
        candidates: &[CandidateInput<'_>],
    ) -> Result<Vec<Contributions>> {
        self.check(consumer, candidates)?;
        let mut contributions = Vec::with_capacity(candidates.len());
        for part in candidates.chunks(CANDIDATES_PER_RUN) {
            // All rows of one run share a history, so subsets with and without it run apart.
            let without = self.score_subsets(consumer, part, 0..WITH_HISTORY)?;
            let with = self.score_subsets(consumer, part, WITH_HISTORY..SUBSETS)?;
            for (without, with) in
                without.chunks_exact(WITH_HISTORY).zip(with.chunks_exact(WITH_HISTORY))
            {
                contributions.push(account(&[without, with].concat()));
            }
        }
        Ok(contributions)
    }

    fn score_subsets(
        &self,
        consumer: &ConsumerInput<'_>,
        candidates: &[CandidateInput<'_>],
        subsets: std::ops::Range<usize>,
    ) -> Result<Vec<Score>> {
        let history = self.history(consumer, groups_of(subsets.start).and(self.groups()));
        let mut rows = Rows::default();
        for candidate in candidates {
            for subset in subsets.clone() {
                let groups = groups_of(subset).and(self.groups());
                self.gather(&mut rows, consumer, candidate, groups);
            }
        }
        self.run(&rows, &history)
    }
}

fn groups_of(subset: usize) -> InputGroups {
    InputGroups::from_switches(std::array::from_fn(|group| subset >> group & 1 == 1))
}

/// Shapley values from the scores of all subsets.
fn account(scores: &[Score]) -> Contributions {
    let share = |group: usize, number: fn(&Score) -> f32| -> f32 {
        (0..SUBSETS)
            .filter(|subset| subset >> group & 1 == 0)
            .map(|subset| {
                let gain = number(&scores[subset | 1 << group]) - number(&scores[subset]);
                weight(subset.count_ones() as usize) * f64::from(gain)
            })
            .sum::<f64>() as f32
    };
    let shares = |number: fn(&Score) -> f32| GroupShares {
        user_item: share(0, number),
        positive: share(1, number),
        negative: share(2, number),
        context: share(3, number),
        history: share(4, number),
    };
    Contributions {
        score: scores[SUBSETS - 1],
        base: scores[0],
        rating: shares(|score| score.rating),
        like: shares(|score| score.like),
    }
}

/// The share of all orders in which exactly the `present` groups of a subset come before the next.
fn weight(present: usize) -> f64 {
    let factorial = |n: usize| (1..=n).product::<usize>() as f64;
    factorial(present) * factorial(InputGroups::COUNT - 1 - present) / factorial(InputGroups::COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_additive_score_gives_each_group_its_own_part() {
        let parts = [1.0, -2.0, 0.5, 4.0, 8.0];
        let scores: Vec<Score> = (0..SUBSETS)
            .map(|subset| {
                let rating = (0..5).filter(|g| subset >> g & 1 == 1).map(|g| parts[g]).sum();
                Score { rating, like: 0.0 }
            })
            .collect();
        let rating = account(&scores).rating;
        let found =
            [rating.user_item, rating.positive, rating.negative, rating.context, rating.history];
        for (found, part) in found.iter().zip(parts) {
            assert!((found - part).abs() < 1e-5, "{found} is not {part}");
        }
    }

    #[test]
    fn two_groups_that_only_count_together_share_evenly() {
        let scores: Vec<Score> = (0..SUBSETS)
            .map(|subset| Score {
                rating: if subset & 0b11 == 0b11 { 1.0 } else { 0.0 },
                like: 0.0,
            })
            .collect();
        let rating = account(&scores).rating;
        assert!((rating.user_item - 0.5).abs() < 1e-6 && (rating.positive - 0.5).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn shares_sum_to_score_minus_base(values in prop::collection::vec(-5f32..5.0, SUBSETS)) {
            let scores: Vec<Score> =
                values.iter().map(|v| Score { rating: *v, like: v / 10.0 }).collect();
            let account = account(&scores);
            let difference = account.score.rating - account.base.rating;
            prop_assert!((account.rating.sum() - difference).abs() < 1e-4);
            let difference = account.score.like - account.base.like;
            prop_assert!((account.like.sum() - difference).abs() < 1e-4);
        }
    }
}
