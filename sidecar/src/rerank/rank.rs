//! Stages 2 to 5: recall the stored codes, predict the missing ones, rank all candidates in one run,
//! and account for the score of those that will be shown.

use whyrank_models::ranker::{self, CandidateInput, Score};
use whyrank_plugin::{Code, Codes, Contributions, ExplanationState, ItemId, UserId, records};

use super::retrieve::{Retrieved, RetrievedItem};
use super::{Fault, Reranker, ScoreKind, StageClock};
use crate::artifacts::RerankModels;
use crate::features::{self, ConsumerState};

/// All candidates, scored and ordered.
#[derive(Debug)]
pub(super) struct Ranking {
    /// Places in `Retrieved::items`, best first: a permutation of them.
    pub(super) order: Vec<usize>,
    /// Predictions in retrieval order.
    pub(super) scores: Vec<Score>,
    /// The numbers that were ordered by, in retrieval order.
    pub(super) values: Vec<f32>,
    /// Where each candidate's codes came from, in retrieval order.
    pub(super) states: Vec<ExplanationState>,
    /// The account of the first places, in the order of the ranking; empty if not asked for.
    pub(super) contributions: Vec<Contributions>,
    /// The codes that each candidate was scored with, in retrieval order.
    pub(super) codes: Vec<Option<Codes>>,
    /// The probability that the consumer takes each candidate up, in retrieval order; none if the
    /// ranker does not know.
    pub(super) take_ups: Vec<Option<f32>>,
}

impl Ranking {
    /// The first places of the ranking.
    fn first(&self, count: usize) -> Vec<usize> {
        self.order.iter().take(count).copied().collect()
    }
}

pub(super) fn rank(
    reranker: &Reranker,
    models: &RerankModels,
    retrieved: &Retrieved,
    stored: Vec<Option<Codes>>,
    accounted: usize,
    clock: &mut StageClock,
) -> Result<Ranking, Fault> {
    let completed = complete(models, retrieved, stored)?;
    clock.lap("complete", format!("{} predicted", completed.predicted()));
    let mut ranking = score(reranker, models, retrieved, completed)?;
    clock.lap("rank", format!("{} candidates in one run", ranking.order.len()));
    ranking.contributions = accounts(reranker, models, retrieved, &ranking, accounted)?;
    clock.lap("account", format!("{} results", ranking.contributions.len()));
    reranker.observers.ranked(models, retrieved, &ranking);
    Ok(ranking)
}

/// Stages 3 to 5 for candidates whose stored codes were read already, by whoever reads those of
/// many consumers at once.
pub(super) fn rank_recalled(
    reranker: &Reranker,
    models: &RerankModels,
    retrieved: &Retrieved,
    stored: Vec<Option<Codes>>,
    accounted: usize,
) -> Result<Ranking, Fault> {
    let completed = complete(models, retrieved, stored)?;
    let mut ranking = score(reranker, models, retrieved, completed)?;
    ranking.contributions = accounts(reranker, models, retrieved, &ranking, accounted)?;
    Ok(ranking)
}

/// The account of the first places, of the score that was ordered by.
fn accounts(
    reranker: &Reranker,
    models: &RerankModels,
    retrieved: &Retrieved,
    ranking: &Ranking,
    accounted: usize,
) -> Result<Vec<Contributions>, Fault> {
    let kind = reranker.settings.score;
    account(reranker, models, retrieved, ranking, kind, ranking.first(accounted))
}

/// Stage 4: all candidates in one run.
fn score(
    reranker: &Reranker,
    models: &RerankModels,
    retrieved: &Retrieved,
    completed: Completed,
) -> Result<Ranking, Fault> {
    let Completed { codes, states } = completed;
    let contexts = contexts(reranker, retrieved);
    let inputs = retrieved.items.iter().zip(&codes).zip(&contexts);
    let inputs: Vec<CandidateInput<'_>> =
        inputs.map(|((item, codes), context)| input(item, codes.as_ref(), context)).collect();
    let rows = retrieved.consumer.history_rows();
    let consumer = retrieved.consumer.input(&rows);
    let scores = reranker.bound().scores(&models.ranker, &consumer, inputs)?;
    let kind = reranker.settings.score;
    let take_ups: Vec<Option<f32>> =
        contexts.iter().map(|context| models.ranker.take_up(context)).collect();
    let both = scores.iter().zip(&take_ups);
    let values: Vec<f32> = both.map(|(score, take_up)| kind.of(*score, *take_up)).collect();
    if let Some(place) = values.iter().position(|value| !value.is_finite()) {
        let item = &retrieved.items[place].external_id;
        return Err(Fault::model(format!("the score of item {item} is not a finite number")));
    }
    let order = order(&values);
    Ok(Ranking { order, scores, values, states, contributions: Vec::new(), codes, take_ups })
}

/// Stage 5: the account of one kind of score of some candidates, by their places in the retrieval order.
pub(super) fn account(
    reranker: &Reranker,
    models: &RerankModels,
    retrieved: &Retrieved,
    ranking: &Ranking,
    kind: ScoreKind,
    places: Vec<usize>,
) -> Result<Vec<Contributions>, Fault> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let contexts = contexts(reranker, retrieved);
    let first: Vec<CandidateInput<'_>> = places
        .iter()
        .map(|place| {
            input(&retrieved.items[*place], ranking.codes[*place].as_ref(), &contexts[*place])
        })
        .collect();
    let rows = retrieved.consumer.history_rows();
    let consumer = retrieved.consumer.input(&rows);
    let contributions = models.ranker.contributions(&consumer, &first).map_err(Fault::model)?;
    let usual = models.ranker.usual_take_up();
    let accounts = contributions.iter().zip(&places).map(|(account, place)| {
        let take_up = ranking.take_ups[*place].zip(usual);
        kind.account(account, ranking.scores[*place], take_up)
    });
    Ok(accounts.collect())
}

/// The scores of one item with several codes, and whether the consumer takes it up, which codes do not
/// change. An absent code is the training mean. The bound on the influence of texts holds for them too.
pub(super) fn with_codes<'a>(
    reranker: &Reranker,
    models: &RerankModels,
    consumer: &ConsumerState,
    item: &'a RetrievedItem,
    codes: impl Iterator<Item = (Option<&'a [f32]>, Option<&'a [f32]>)>,
) -> Result<(Vec<Score>, Option<f32>), Fault> {
    let context = features::context(consumer, &item.vector, item.statistics, reranker.scale);
    let inputs: Vec<CandidateInput<'_>> = codes
        .map(|(positive, negative)| CandidateInput {
            item: &item.vector,
            positive,
            negative,
            context: &context,
        })
        .collect();
    let rows = consumer.history_rows();
    let scores = reranker.bound().scores_of_one(&models.ranker, &consumer.input(&rows), inputs)?;
    Ok((scores, models.ranker.take_up(&context)))
}

fn contexts(reranker: &Reranker, retrieved: &Retrieved) -> Vec<Vec<f32>> {
    let (consumer, scale) = (&retrieved.consumer, reranker.scale);
    let items = retrieved.items.iter();
    items.map(|item| features::context(consumer, &item.vector, item.statistics, scale)).collect()
}

/// The codes of the first candidate, written or predicted.
pub(super) async fn codes(
    reranker: &Reranker,
    models: &RerankModels,
    retrieved: &Retrieved,
) -> Result<Option<Codes>, Fault> {
    let stored = recall(reranker, retrieved.user_id(), retrieved.item_ids()).await?;
    let mut completed = complete(models, retrieved, stored)?;
    Ok(completed.codes.pop().flatten())
}

fn input<'a>(
    item: &'a RetrievedItem,
    codes: Option<&'a Codes>,
    context: &'a [f32],
) -> CandidateInput<'a> {
    CandidateInput {
        item: &item.vector,
        positive: codes.map(|codes| codes.positive.as_slice()),
        negative: codes.map(|codes| codes.negative.as_slice()),
        context,
    }
}

/// The places from best to worst; equal scores keep the retrieval order.
fn order(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|left, right| scores[*right].total_cmp(&scores[*left]));
    order
}

/// Stage 2: the stored codes of all pairs, in one batched read. It needs the ids alone, so that it may
/// run beside what else is read.
pub(super) async fn recall(
    reranker: &Reranker,
    user: Option<UserId>,
    items: impl ExactSizeIterator<Item = ItemId>,
) -> Result<Vec<Option<Codes>>, Fault> {
    let Some(user) = user else { return Ok(vec![None; items.len()]) };
    stored_codes(reranker, items.map(|item| (user, item)).collect()).await
}

/// The stored codes of these pairs, in one batched read.
pub(super) async fn stored_codes(
    reranker: &Reranker,
    pairs: Vec<(UserId, ItemId)>,
) -> Result<Vec<Option<Codes>>, Fault> {
    let storage = &reranker.storage;
    let collection = &storage.settings().explanations;
    let found = records::read_pair_codes(storage.store().as_ref(), collection, pairs)
        .await
        .map_err(Fault::store)?;
    // A code of another width was made by another autoencoder and has not been indexed again yet.
    let dimension = reranker.code_dimension;
    let fits = |code: &Code| code.len() == dimension;
    let codes = found
        .into_iter()
        .map(|pair| pair?.codes.filter(|codes| fits(&codes.positive) && fits(&codes.negative)));
    Ok(codes.collect())
}

/// The codes of all candidates and where they came from.
struct Completed {
    codes: Vec<Option<Codes>>,
    states: Vec<ExplanationState>,
}

impl Completed {
    fn predicted(&self) -> usize {
        self.states.iter().filter(|state| **state == ExplanationState::Predicted).count()
    }
}

/// Stage 3: codes for the pairs that nothing is written for.
fn complete(
    models: &RerankModels,
    retrieved: &Retrieved,
    stored: Vec<Option<Codes>>,
) -> Result<Completed, Fault> {
    let missing: Vec<RetrievedItem> = retrieved
        .items
        .iter()
        .zip(&stored)
        .filter(|(_, codes)| codes.is_none())
        .map(|(item, _)| item.clone())
        .collect();
    let dimension = retrieved.consumer.vector.len();
    let table = RetrievedItem::table(&missing, dimension).map_err(Fault::model)?;
    let mut predicted = Vec::new();
    if !missing.is_empty() {
        let codes = models
            .explainer
            .predict_for(&retrieved.consumer.vector, table.view())
            .map_err(Fault::model)?;
        let rows = codes.positive.rows().into_iter().zip(codes.negative.rows());
        predicted.extend(rows.map(|(p, n)| Codes { positive: p.to_vec(), negative: n.to_vec() }));
    }
    let mut predicted = predicted.into_iter();
    let completed = stored.into_iter().map(|codes| match codes {
        Some(codes) => (Some(codes), ExplanationState::Written),
        None => match predicted.next() {
            Some(codes) => (Some(codes), ExplanationState::Predicted),
            None => (None, ExplanationState::Absent),
        },
    });
    let (codes, states) = completed.unzip();
    Ok(Completed { codes, states })
}

impl ScoreKind {
    /// The number that candidates are ordered by.
    pub(crate) fn of(self, score: Score, take_up: Option<f32>) -> f32 {
        match self {
            Self::Response => score.like * take_up.unwrap_or(1.0),
            Self::Like | Self::Rating => self.judgement(score),
        }
    }

    /// What the consumer is predicted to think of the item once it is taken up, which is all that
    /// reasons have a say in.
    pub(super) fn judgement(self, score: Score) -> f32 {
        match self {
            Self::Response | Self::Like => score.like,
            Self::Rating => score.rating,
        }
    }

    /// The account of a bounded score, with its take-up and the usual one. What the bound took off is
    /// taken off the two sides of the explanation, by their weight, so that base and shares still add up.
    ///
    /// Take-up is a factor on the whole: every share is multiplied by it. It is known from the context
    /// features, so that the context also has what an unusual take-up does to the base.
    fn account(
        self,
        account: &ranker::Contributions,
        score: Score,
        take_up: Option<(f32, f32)>,
    ) -> Contributions {
        let shares = match self {
            Self::Response | Self::Like => account.like,
            Self::Rating => account.rating,
        };
        let (factor, usual) = match self {
            Self::Response => take_up.unwrap_or((1.0, 1.0)),
            Self::Like | Self::Rating => (1.0, 1.0),
        };
        let base = self.judgement(account.base);
        let drawn_back = self.judgement(score) - self.judgement(account.score);
        let (positive, negative) = (shares.positive.abs(), shares.negative.abs());
        let weight = if positive + negative > 0.0 { positive / (positive + negative) } else { 0.5 };
        Contributions {
            base: base * usual,
            user_item: shares.user_item * factor,
            positive: (shares.positive + drawn_back * weight) * factor,
            negative: (shares.negative + drawn_back * (1.0 - weight)) * factor,
            history: shares.history * factor,
            context: shares.context * factor + base * (factor - usual),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_order_is_a_permutation_from_best_to_worst(
            scores in prop::collection::vec(-10.0_f32..10.0, 0..300)
        ) {
            let order = order(&scores);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..scores.len()).collect::<Vec<_>>());
            prop_assert!(order.windows(2).all(|pair| scores[pair[0]] >= scores[pair[1]]));
        }
    }

    proptest! {
        #[test]
        fn an_account_adds_up_to_what_was_ordered_by(
            shares in prop::array::uniform5(-0.2_f32..0.2), base in 0.0_f32..1.0,
            like in 0.0_f32..1.0, take_up in 0.0_f32..1.0, usual in 0.0_f32..1.0,
        ) {
            let [user_item, positive, negative, history, context] = shares;
            let own = ranker::GroupShares { user_item, positive, negative, history, context };
            let sum = base + shares.iter().sum::<f32>();
            let account = ranker::Contributions {
                score: Score { rating: sum, like: sum },
                base: Score { rating: base, like: base },
                rating: own,
                like: own,
            };
            let score = Score { rating: like, like };
            for kind in [ScoreKind::Response, ScoreKind::Like, ScoreKind::Rating] {
                for take_up in [None, Some((take_up, usual))] {
                    let told = kind.account(&account, score, take_up);
                    let parts = [told.user_item, told.positive, told.negative, told.history, told.context];
                    let wanted = kind.of(score, take_up.map(|(own, _)| own));
                    let sum = told.base + parts.iter().sum::<f32>();
                    prop_assert!((sum - wanted).abs() < 1e-5, "{kind:?}: {sum} of {wanted}");
                }
            }
        }
    }

    #[test]
    fn equal_scores_keep_the_retrieval_order() {
        assert_eq!(order(&[1.0, 2.0, 1.0, 2.0]), [1, 3, 0, 2]);
    }
}
