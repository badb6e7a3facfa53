//! Whether an account of a score is faithful: taking away the inputs that it names first must change
//! the score more than taking away others (a deletion test).

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde::{Deserialize, Serialize};
use whyrank_models::metrics::{Interval, bootstrap};
use whyrank_models::ranker::{CandidateInput, InputGroups, Ranker, TrainedRanker};
use whyrank_plugin::Codes;

use super::Trainer;
use super::comparison::Examples;

/// Test pairs that are accounted for at most: an account costs as much as ranking 32 items.
const PAIRS: usize = 500;
/// Share of the samples that the interval holds.
const CONFIDENCE: f64 = 0.95;
/// Resamples of the bootstrap behind the interval.
const RESAMPLES: usize = 2_000;

/// What a deletion test found, over test pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Faithfulness {
    /// Test pairs that were accounted for.
    pub pairs: usize,
    /// How far the like-probability moves without the input group that the account names first, mean.
    pub named_first: f64,
    /// How far it moves without one of the other groups, chosen at random, mean.
    pub random_other: f64,
    /// The share of pairs in which the group named first moves it more.
    pub share: f64,
    /// How much more the group named first moves it, with the interval of a bootstrap over pairs.
    pub more: Interval,
}

impl Trainer {
    /// Deletes input groups from the test examples' scores.
    pub(super) fn faithfulness(
        &self,
        trained: &TrainedRanker,
        examples: &Examples,
        codes: &[Codes],
        seed: u64,
    ) -> Result<Option<Faithfulness>> {
        // The accounts are those of the exported ranker, as they are served.
        let path = self.paths.folder().join("faithfulness.onnx");
        trained.export(&path)?;
        let ranker = Ranker::load(&path)?;
        std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        let mut random = StdRng::seed_from_u64(seed);
        let mut moves = Vec::new();
        let mut places: Vec<usize> = (examples.test..examples.pairs.len()).collect();
        places.shuffle(&mut random);
        for place in places.into_iter().take(PAIRS) {
            let (consumer, item, context) =
                self.inputs(examples.known(place), &examples.pairs[place])?;
            let rows = consumer.history_rows();
            let consumer = consumer.input(&rows);
            let candidate = [CandidateInput {
                item: &item,
                positive: Some(&codes[place].positive),
                negative: Some(&codes[place].negative),
                context: &context,
            }];
            let account = ranker.contributions(&consumer, &candidate)?;
            let account = account.first().context("a candidate has an account")?;
            let without = |group: Group| -> Result<f64> {
                let score = ranker.score_with(&consumer, &candidate, group.removed())?;
                let score = score.first().context("a candidate has a score")?;
                Ok(f64::from((account.score.like - score.like).abs()))
            };
            let shares = account.like;
            let size = |group: Group| match group {
                Group::UserItem => shares.user_item.abs(),
                Group::Positive => shares.positive.abs(),
                Group::Negative => shares.negative.abs(),
                Group::History => shares.history.abs(),
                Group::Context => shares.context.abs(),
            };
            let first = Group::ALL.into_iter().max_by(|l, r| size(*l).total_cmp(&size(*r)));
            let first = first.context("there are groups")?;
            let others: Vec<Group> = Group::ALL.into_iter().filter(|one| *one != first).collect();
            let other = others.choose(&mut random).copied().context("there are others")?;
            moves.push((without(first)?, without(other)?));
        }
        Ok(summarise(&moves))
    }
}

fn summarise(moves: &[(f64, f64)]) -> Option<Faithfulness> {
    let more: Vec<f64> = moves.iter().map(|(first, other)| first - other).collect();
    let interval = bootstrap(&more, CONFIDENCE, RESAMPLES, 0)?;
    let count = moves.len() as f64;
    Some(Faithfulness {
        pairs: moves.len(),
        named_first: moves.iter().map(|(first, _)| first).sum::<f64>() / count,
        random_other: moves.iter().map(|(_, other)| other).sum::<f64>() / count,
        share: more.iter().filter(|more| **more > 0.0).count() as f64 / count,
        more: interval,
    })
}

/// An input group that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    UserItem,
    Positive,
    Negative,
    History,
    Context,
}

impl Group {
    const ALL: [Self; 5] =
        [Self::UserItem, Self::Positive, Self::Negative, Self::History, Self::Context];

    /// All groups but this one.
    fn removed(self) -> InputGroups {
        InputGroups {
            user_item: self != Self::UserItem,
            positive: self != Self::Positive,
            negative: self != Self::Negative,
            history: self != Self::History,
            context: self != Self::Context,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_and_their_moves_averaged() {
        let found = summarise(&[(0.3, 0.1), (0.1, 0.2), (0.2, 0.0)]).unwrap();
        assert_eq!(found.pairs, 3);
        assert!((found.share - 2.0 / 3.0).abs() < 1e-9, "{found:?}");
        assert!((found.named_first - 0.2).abs() < 1e-9, "{found:?}");
        assert!((found.more.mean - 0.1).abs() < 1e-9, "{found:?}");
        assert_eq!(summarise(&[]), None);
    }

    #[test]
    fn one_group_is_taken_away_at_a_time() {
        let removed = Group::Negative.removed();
        assert!(!removed.negative && removed.positive && removed.context && removed.history);
    }
}
