//! Where one item stands among the candidates of many consumers, and where it would stand if its
//! reasons were others. The other candidates keep theirs.

use std::sync::Arc;

use whyrank_plugin::records::ITEM_VECTOR;
use whyrank_plugin::{
    Candidate, Codes, Contributions, Filter, ItemId, ItemRecord, Search, UserId, UserRecord,
};

use super::retrieve::{Retrieved, RetrievedItem};
use super::{Fault, Reranker, ScoreKind, consumer, rank};
use crate::computation::{Waited, compute};
use crate::features::ConsumerState;
use crate::http::{ApiError, Cause};

/// An item among the candidates of one consumer, ranked as a request of theirs would be.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) user: UserId,
    /// What the item is ranked by.
    pub(crate) value: f32,
    /// What the consumer is predicted to think of it, which reasons move: the probability of a like, or
    /// the rating where that is ranked by.
    pub(crate) judgement: f32,
    /// Its place among the candidates, from 1.
    pub(crate) rank: usize,
    /// The codes that it was scored with.
    pub(crate) codes: Option<Codes>,
    /// The account of its score.
    pub(crate) contributions: Contributions,
    consumer: ConsumerState,
    item: Arc<RetrievedItem>,
    /// The other candidates: what they are ranked by, and whether they stand before the item in the
    /// retrieval order, which decides between equals.
    others: Vec<(ItemId, f32, bool)>,
}

/// What other reasons would make of an item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reconsidered {
    /// What it would be ranked by.
    pub(crate) value: f32,
    /// What the consumer would be predicted to think of it.
    pub(crate) judgement: f32,
}

/// The reasons that an item is scored with in place of its own; none is their training mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant<'a> {
    pub(crate) positive: Option<&'a [f32]>,
    pub(crate) negative: Option<&'a [f32]>,
}

impl Placed {
    /// The place that a score would have.
    pub(crate) fn rank_of(&self, value: f32) -> usize {
        let above = self.others.iter().filter(|(_, other, before)| {
            *other > value || (*before && other.total_cmp(&value).is_eq())
        });
        1 + above.count()
    }

    /// The other candidates that stand above the item.
    pub(crate) fn above(&self) -> impl Iterator<Item = ItemId> {
        let value = self.value;
        self.others.iter().filter_map(move |(item, other, before)| {
            (*other > value || (*before && other.total_cmp(&value).is_eq())).then_some(*item)
        })
    }

    /// How many candidates there are, the item among them.
    pub(crate) fn candidates(&self) -> usize {
        self.others.len() + 1
    }
}

impl Reranker {
    /// The least and the greatest judgement.
    pub(crate) fn judgement_bounds(&self) -> (f64, f64) {
        match self.settings.score {
            ScoreKind::Response | ScoreKind::Like => (0.0, 1.0),
            ScoreKind::Rating => {
                let (low, high) = (self.scale.dislike_to, self.scale.like_from);
                let margin = high - low;
                (f64::from(low - margin), f64::from(high + margin))
            }
        }
    }

    /// Candidates of one consumer.
    pub(crate) fn candidates(&self) -> usize {
        self.settings.candidates
    }

    /// The places of an item with these consumers, in order, without those for whom it is no
    /// candidate.
    ///
    /// # Errors
    /// When there is no trained ranker, the store cannot be read, or an input does not fit.
    pub(crate) async fn place(
        &self,
        users: Vec<UserRecord>,
        item: &ItemRecord,
    ) -> Result<Vec<Placed>, ApiError> {
        let models = self.models.current().ok_or_else(no_ranker)?;
        let mut retrieved = Vec::with_capacity(users.len());
        for consumer in consumer::of_records(self, users).await? {
            let items = self.candidates_of(&consumer).await?;
            if items.iter().any(|candidate| candidate.candidate.item == item.id) {
                retrieved.push(Retrieved { user: consumer.user, consumer: consumer.state, items });
            }
        }
        let pairs = retrieved.iter().filter_map(|one| Some((one.user_id()?, one)));
        let pairs = pairs.flat_map(|(user, one)| one.item_ids().map(move |item| (user, item)));
        let mut stored = rank::stored_codes(self, pairs.collect()).await?.into_iter();
        let (reranker, id) = (self.clone(), item.id);
        // Pure computation of up to seconds, which must not hold up other requests.
        let work = move |waited: &Waited| -> Result<Vec<Placed>, Fault> {
            let mut placed = Vec::with_capacity(retrieved.len());
            for one in retrieved {
                waited.check().map_err(Fault::model)?;
                let codes = stored.by_ref().take(one.items.len()).collect();
                let ranking = rank::rank_recalled(&reranker, &models, &one, codes, 0)?;
                let item = one.items.iter().position(|found| found.candidate.item == id);
                let (Some(user), Some(place)) = (one.user_id(), item) else { continue };
                let kind = reranker.settings.score;
                let account = rank::account(&reranker, &models, &one, &ranking, kind, vec![place])?;
                let Some(contributions) = account.first().copied() else { continue };
                let rank = ranking.order.iter().position(|found| *found == place).unwrap_or(0) + 1;
                let others = one.items.iter().zip(&ranking.values).enumerate();
                let others = others
                    .filter(|(found, _)| *found != place)
                    .map(|(found, (item, value))| (item.candidate.item, *value, found < place));
                placed.push(Placed {
                    user,
                    value: ranking.values[place],
                    judgement: kind.judgement(ranking.scores[place]),
                    rank,
                    codes: ranking.codes[place].clone(),
                    contributions,
                    others: others.collect(),
                    item: Arc::new(one.items[place].clone()),
                    consumer: one.consumer,
                });
            }
            Ok(placed)
        };
        Ok(compute("placing an item", work).await??)
    }

    /// What other reasons would make of the item, one answer a variant. Pure computation.
    ///
    /// # Errors
    /// When there is no trained ranker, or a code does not fit.
    pub(crate) fn with_reasons(
        &self,
        placed: &Placed,
        variants: &[Variant<'_>],
    ) -> Result<Vec<Reconsidered>, ApiError> {
        let models = self.models.current().ok_or_else(no_ranker)?;
        let kind = self.settings.score;
        let codes = variants.iter().map(|variant| (variant.positive, variant.negative));
        let (scores, take_up) =
            rank::with_codes(self, &models, &placed.consumer, &placed.item, codes)?;
        let reconsidered = scores.into_iter().map(|score| Reconsidered {
            value: kind.of(score, take_up),
            judgement: kind.judgement(score),
        });
        Ok(reconsidered.collect())
    }

    /// What a recommendation for this consumer would have as candidates.
    async fn candidates_of(
        &self,
        consumer: &consumer::Consumer,
    ) -> Result<Vec<RetrievedItem>, ApiError> {
        let settings = &self.settings;
        let seen = settings.exclude_seen && !consumer.seen.is_empty();
        let search = Search {
            filter: seen.then(|| Filter::without_ids(consumer.seen.iter().map(ItemId::point))),
            selection: RetrievedItem::selection(),
            ..Search::new(ITEM_VECTOR, consumer.state.vector.clone(), settings.candidates)
        };
        let found = self.storage.store().search(&self.storage.settings().items, search).await?;
        let items = found.into_iter().zip(1..).map(|(hit, retrieval_rank)| {
            let item = ItemId(hit.point.id);
            let candidate = Candidate { item, retrieval_score: hit.score, retrieval_rank };
            RetrievedItem::new(candidate, hit.point)
        });
        Ok(items.collect())
    }
}

fn no_ranker() -> ApiError {
    ApiError::new(Cause::NotReady, "there is no trained ranker; run `whyrank train`")
}
