//! Bounds what texts may do to a score: explanation codes move it away from the score without codes
//! by no more than `rerank.maximum_text_influence`, whatever a seller has written.

use whyrank_models::ranker::{CandidateInput, ConsumerInput, Ranker, Score};

use super::{Fault, ScoreKind};

/// The bound, in the unit that candidates are ordered by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) kind: ScoreKind,
    pub(super) most: f32,
}

impl Bound {
    /// Whether no score can pass the bound: a probability cannot move by more than 1.
    fn is_open(self) -> bool {
        matches!(self.kind, ScoreKind::Like) && self.most >= 1.0
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
        for (score, without) in scores.iter_mut().zip(&without) {
            *score = self.limited(*score, *without);
        }
        Ok(scores)
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
        Ok(scores.into_iter().map(|score| self.limited(score, without)).collect())
    }

    /// A score drawn back to the bound. The number that is not ordered by is drawn back by the same
    /// share, so that both tell of the same texts.
    fn limited(self, score: Score, without: Score) -> Score {
        let (moved, from) = (self.kind.of(score), self.kind.of(without));
        let distance = (moved - from).abs();
        // A number that is not finite is not hidden here: whoever asked refuses it.
        if self.is_open() || !distance.is_finite() || distance <= self.most {
            return score;
        }
        let share = self.most / distance;
        let back = |moved: f32, from: f32| from + (moved - from) * share;
        let bounded = moved.clamp(from - self.most, from + self.most);
        match self.kind {
            ScoreKind::Like => Score { like: bounded, rating: back(score.rating, without.rating) },
            ScoreKind::Rating => Score { rating: bounded, like: back(score.like, without.like) },
        }
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
            most in 0.0_f32..2.0,
            by_rating in any::<bool>(),
        ) {
            let kind = if by_rating { ScoreKind::Rating } else { ScoreKind::Like };
            let (with, without) = (
                Score { rating: with.0, like: with.1 },
                Score { rating: without.0, like: without.1 },
            );
            let bounded = Bound { kind, most }.limited(with, without);
            let (raw, from, found) = (kind.of(with), kind.of(without), kind.of(bounded));
            prop_assert!((found - from).abs() <= most + 1e-5, "{found} from {from}");
            prop_assert!((0.0..=1.0).contains(&bounded.like), "{bounded:?}");
            // The direction stays, and what is within the bound is not touched.
            prop_assert!((found - from) * (raw - from) >= 0.0);
            if (raw - from).abs() <= most {
                prop_assert_eq!(bounded, with);
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_visible() {
        let bound = Bound { kind: ScoreKind::Like, most: 0.1 };
        let plain = Score { rating: 3.0, like: 0.5 };
        assert!(bound.limited(Score { rating: 3.0, like: f32::NAN }, plain).like.is_nan());
    }
}
