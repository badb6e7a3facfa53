//! The same ranking the other way round: a few items, many consumers. Every consumer is ranked as a
//! request of their own would be, over codes and histories that were read for all of them at once.

use whyrank_models::ranker::Score;
use whyrank_plugin::{
    Candidate, Codes, Contributions, ExplanationState, ItemId, ItemRecord, Statistics, UserId,
    UserRecord,
};

use super::retrieve::{Retrieved, RetrievedItem};
use super::{Fault, Reranker, ScoreKind, consumer, rank};
use crate::computation::{Waited, compute};
use crate::http::{ApiError, Cause};

/// Something to be shown to consumers: a stored item, or one that is only described.
#[derive(Debug, Clone)]
pub(crate) struct CampaignItem(RetrievedItem);

/// How one consumer is predicted to respond to the item of the campaign that suits them best.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) user: UserId,
    /// The consumer's id as the data gave it.
    pub(crate) external_id: String,
    /// The place of the item among those of the campaign.
    pub(crate) item: usize,
    pub(crate) score: Score,
    /// The calibrated probability of a like.
    pub(crate) probability: f32,
    /// The probability that the consumer takes the item up at all; none if the ranker does not know.
    pub(crate) take_up: Option<f32>,
    pub(crate) state: ExplanationState,
    pub(crate) codes: Option<Codes>,
    pub(crate) contributions: Option<Contributions>,
}

impl Response {
    /// What consumers are ordered by: how likely they take the item up and like it; where take-up cannot
    /// be told, how likely they like it.
    pub(crate) fn likelihood(&self) -> f32 {
        self.probability * self.take_up.unwrap_or(1.0)
    }
}

impl CampaignItem {
    /// A stored item.
    pub(crate) fn stored(record: ItemRecord) -> Self {
        Self(RetrievedItem::of_record(candidate(record.id), record))
    }

    /// An item that is only a text; nobody has rated it, and nothing is written about it.
    pub(crate) fn described(text: &str, vector: Vec<f32>) -> Self {
        Self(RetrievedItem {
            candidate: candidate(ItemId::from_external(&format!("campaign: {text}"))),
            external_id: String::new(),
            title: text.to_owned(),
            vector,
            statistics: Statistics::default(),
        })
    }

    pub(crate) fn id(&self) -> ItemId {
        self.0.candidate.item
    }

    /// The id as the data gave it; empty for a description.
    pub(crate) fn external_id(&self) -> &str {
        &self.0.external_id
    }

    pub(crate) fn title(&self) -> &str {
        &self.0.title
    }

    pub(crate) fn vector(&self) -> &[f32] {
        &self.0.vector
    }
}

fn candidate(item: ItemId) -> Candidate {
    Candidate { item, retrieval_score: 0.0, retrieval_rank: 1 }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        let cause = match fault.reason {
            "store" | "no_model" => Cause::NotReady,
            _ => Cause::Internal,
        };
        Self::new(cause, fault.message)
    }
}

impl Reranker {
    /// The item vector of a text.
    ///
    /// # Errors
    /// When it is empty, or there is no model that places texts among the items.
    pub(crate) async fn vector_of_text(
        &self,
        text: &str,
        field: &str,
    ) -> Result<Vec<f32>, ApiError> {
        consumer::described_vector(self, text, field).await
    }

    /// The responses of these consumers, in order, without those who have no vector, with the account of
    /// a kind of score where one is asked for. It costs as much as ranking 32 items, so it is meant for
    /// those who are shown.
    ///
    /// # Errors
    /// When there is no trained ranker, the store cannot be read, or an input does not fit.
    pub(crate) async fn responses(
        &self,
        users: Vec<UserRecord>,
        items: &[CampaignItem],
        accounted: Option<ScoreKind>,
    ) -> Result<Vec<Response>, ApiError> {
        let models = self.models.current().ok_or_else(|| {
            let message = "there is no trained ranker; run `whyrank train`";
            ApiError::new(Cause::NotReady, message)
        })?;
        let items: Vec<RetrievedItem> = items.iter().map(|item| item.0.clone()).collect();
        let consumers = consumer::of_records(self, users).await?;
        let known: Vec<UserId> = consumers
            .iter()
            .filter_map(|consumer| consumer.user.as_ref().map(|(id, _)| *id))
            .collect();
        let pairs = known
            .iter()
            .flat_map(|user| items.iter().map(move |item| (*user, item.candidate.item)));
        let mut stored = rank::stored_codes(self, pairs.collect()).await?.into_iter();
        let reranker = self.clone();
        // Pure computation of up to seconds, which must not hold up other requests.
        let work = move |waited: &Waited| -> Result<Vec<Response>, Fault> {
            let mut responses = Vec::with_capacity(consumers.len());
            for consumer in consumers {
                waited.check().map_err(Fault::model)?;
                let codes = stored.by_ref().take(items.len()).collect();
                let Some((user, external_id)) = consumer.user.clone() else { continue };
                let retrieved = Retrieved {
                    user: consumer.user,
                    consumer: consumer.state,
                    items: items.clone(),
                };
                let ranked = rank::rank_recalled(&reranker, &models, &retrieved, codes, 0)?;
                // Nobody has taken up what is only described, so that the model cannot tell how many will.
                let take_up = |place: usize| {
                    ranked.take_ups[place].filter(|_| !items[place].external_id.is_empty())
                };
                let response = |place: usize| {
                    models.ranker.probability(ranked.scores[place]) * take_up(place).unwrap_or(1.0)
                };
                // The first of equal ones, which retrieval found nearer.
                let best =
                    (0..items.len()).rev().max_by(|l, r| response(*l).total_cmp(&response(*r)));
                let Some(best) = best else { continue };
                let contributions = match accounted {
                    Some(kind) => {
                        rank::account(&reranker, &models, &retrieved, &ranked, kind, vec![best])?
                            .pop()
                    }
                    None => None,
                };
                responses.push(Response {
                    user,
                    external_id,
                    item: best,
                    score: ranked.scores[best],
                    probability: models.ranker.probability(ranked.scores[best]),
                    take_up: take_up(best),
                    state: ranked.states[best],
                    codes: ranked.codes[best].clone(),
                    contributions,
                });
            }
            Ok(responses)
        };
        Ok(compute("ranking an audience", work).await??)
    }
}
