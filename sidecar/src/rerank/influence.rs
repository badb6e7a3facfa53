//! Bounds what texts may do to a score: explanation codes move it away from the score without codes
//! by no more than `rerank.maximum_text_influence`, whatever a seller has written. Probability and rating
//! are bounded both, so that search and audiences tell the same of the same texts.

use whyrank_models::ranker::{CandidateInput, ConsumerInput, Ranker, Score};

use super::Fault;
use crate::features::RatingScale;

/// The bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// The most that the like-probability moves; the rating moves by this share of its scale.
    most: f32,
    /// The width of the scale of ratings.
    scale: f32,
}

impl Bound {
    /// The bound of `rerank.maximum_text_influence`.
    pub(crate) fn new(most: f32, scale: RatingScale) -> Self {
        Self { most, scale: 2.0 * (scale.like_from - scale.dislike_to) }
    }

    /// A change of an expected rating that a text alone makes, drawn back to the bound.
    pub(crate) fn shift(self, shift: f32) -> f32 {
        let most = self.most * self.scale;
        shift.clamp(-most, most)
    }

    /// Whether it is switched off: a probability cannot move by more than 1.
    fn is_open(self) -> bool {
        self.most >= 1.0
    }

    /// The scores of candidates, each within the bound of its own score without codes; all of them
    /// in one run.
    pub(super) fn scores(
        self,
        ranker: &Ranker,
        consumer: &ConsumerInput<'_>,
        inputs: Vec<CandidateInput<'_>>,
    ) -> Result<Vec<Score>, Fault> {
        let count = inputs.len();
        let mut rows = inputs;
        if !self.is_open() {
            let without: Vec<_> = rows.iter().map(without_codes).collect();
            rows.extend(without);
        }
        let mut scores = ranker.score(consumer, &rows).map_err(Fault::model)?;
        let without = scores.split_off(count);
        Ok(self.all_limited(scores, &without))
    }

    /// Scores drawn back to the bound, each from its own without codes.
    pub(crate) fn all_limited(self, scores: Vec<Score>, without: &[Score]) -> Vec<Score> {
        if self.is_open() {
            return scores;
        }
        let both = scores.into_iter().zip(without);
        both.map(|(score, without)| self.limited(score, *without)).collect()
    }

    /// The same for one candidate with several codes, whose score without codes is one.
    pub(super) fn scores_of_one(
        self,
        ranker: &Ranker,
        consumer: &ConsumerInput<'_>,
        inputs: Vec<CandidateInput<'_>>,
    ) -> Result<Vec<Score>, Fault> {
        let Some(without) = inputs.first().map(without_codes) else { return Ok(Vec::new()) };
        let mut rows = inputs;
        rows.push(without);
        let mut scores = ranker.score(consumer, &rows).map_err(Fault::model)?;
        let Some(without) = scores.pop() else { return Ok(scores) };
        let without = vec![without; scores.len()];
        Ok(self.all_limited(scores, &without))
    }

    /// A score drawn back to the bound: both numbers by the same share of their way, the smaller of what
    /// either needs.
    fn limited(self, score: Score, without: Score) -> Score {
        let share = |moved: f32, from: f32, most: f32| {
            let distance = (moved - from).abs();
            // A number that is not finite is not hidden here: whoever asked refuses it.
            if distance.is_finite() && distance > most { most / distance } else { 1.0 }
        };
        let like = share(score.like, without.like, self.most);
        let rating = share(score.rating, without.rating, self.most * self.scale);
        let share = like.min(rating);
        if share >= 1.0 {
            return score;
        }
        let back = |moved: f32, from: f32| from + (moved - from) * share;
        Score { like: back(score.like, without.like), rating: back(score.rating, without.rating) }
    }
}

fn without_codes<'a>(input: &CandidateInput<'a>) -> CandidateInput<'a> {
    CandidateInput { item: input.item, positive: None, negative: None, context: input.context }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_codes_move_a_score_beyond_the_bound_or_across_its_origin(
            with in (-10.0_f32..10.0, 0.0_f32..1.0),
            without in (-10.0_f32..10.0, 0.0_f32..1.0),
            most in 0.0_f32..1.0,
        ) {
            let (with, without) = (
                Score { rating: with.0, like: with.1 },
                Score { rating: without.0, like: without.1 },
            );
            let bounded = Bound { most, scale: 4.0 }.limited(with, without);
            prop_assert!((0.0..=1.0).contains(&bounded.like), "{bounded:?}");
            let numbers = [
                (with.like, without.like, bounded.like, most),
                (with.rating, without.rating, bounded.rating, most * 4.0),
            ];
            for (raw, from, found, most) in numbers {
                prop_assert!((found - from).abs() <= most + 1e-4, "{found} from {from}");
                // The direction stays.
                prop_assert!((found - from) * (raw - from) >= 0.0);
            }
            // What is within the bound is not touched.
            if numbers.iter().all(|(raw, from, _, most)| (raw - from).abs() <= *most) {
                prop_assert_eq!(bounded, with);
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_visible() {
        let bound = Bound { most: 0.1, scale: 4.0 };
        let plain = Score { rating: 3.0, like: 0.5 };
        assert!(bound.limited(Score { rating: 3.0, like: f32::NAN }, plain).like.is_nan());
    }
}
