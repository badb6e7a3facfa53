//! The same pipeline for candidates that a client's own query found: what the gateway asks of it.

use async_trait::async_trait;
use whyrank_plugin::gateway::{CandidateReranker, ConsumerReference, RerankFault, RerankTask};
use whyrank_plugin::{Candidate, Explanation, ExplanationState, ItemId, PointId, Ranked, UserId};

use super::consumer;
use super::rank::{self, Ranking};
use super::retrieve::{Retrieved, RetrievedItem};
use super::{Fault, Reranker, StageClock};
use crate::http::{ApiError, Cause};

#[async_trait]
impl CandidateReranker for Reranker {
    async fn rerank(&self, task: RerankTask) -> Result<Vec<Ranked>, RerankFault> {
        let Some(models) = self.models.current() else {
            return Err(RerankFault::new("no_model", "there is no trained ranker"));
        };
        let mut clock = StageClock::start(&self.metrics);
        let (user, called) = known(self, &task.consumer).map_err(refused)?;
        let ids = task.candidates.iter().map(|candidate| candidate.item);
        let (consumer, items, stored) = tokio::join!(
            consumer::by_id(self, user, &called),
            items_of(self, &task.candidates),
            rank::recall(self, Some(user), ids)
        );
        let (consumer, items, stored) =
            (consumer.map_err(refused)?, items?, stored.map_err(fault)?);
        clock.lap("retrieve", format!("{} candidates", items.len()));
        // The codes came beside the candidates; what is left of their stage is to count them.
        clock.lap("recall", format!("{} written", stored.iter().flatten().count()));
        let retrieved = Retrieved { user: consumer.user, consumer: consumer.state, items };
        let accounted = if task.explain { task.shown.end } else { 0 };
        let ranking = rank::rank(self, &models, &retrieved, stored, accounted, &mut clock);
        let ranking = ranking.map_err(fault)?;
        let mut ranked = in_order(&retrieved, &ranking);
        let shown = ranked.get_mut(task.shown).unwrap_or_default();
        if task.explain {
            add_texts(self, &retrieved, shown).await;
        }
        shown.iter().for_each(|ranked| self.metrics.shown(ranked.state));
        clock.lap("answer", format!("{} results", shown.len()));
        let states = shown.iter().map(|ranked| (ranked.candidate.item, ranked.state));
        self.offer_missing(&retrieved, states);
        Ok(ranked)
    }
}

/// The point of the consumer, and how an error speaks of them.
fn known(reranker: &Reranker, reference: &ConsumerReference) -> Result<(UserId, String), ApiError> {
    match reference {
        ConsumerReference::Point(id) => Ok((UserId(*id), id.to_string())),
        ConsumerReference::External(name) => {
            let id = reranker.storage.user_id(name);
            let id = id.map_err(|error| ApiError::new(Cause::UnknownUser, error.to_string()))?;
            Ok((id, name.clone()))
        }
    }
}

/// What the ranker needs of the candidates, in one batched read.
async fn items_of(
    reranker: &Reranker,
    candidates: &[Candidate],
) -> Result<Vec<RetrievedItem>, RerankFault> {
    let ids: Vec<PointId> = candidates.iter().map(|candidate| candidate.item.point()).collect();
    let storage = &reranker.storage;
    let points = storage
        .store()
        .read(&storage.settings().items, &ids, &RetrievedItem::selection())
        .await
        .map_err(|error| RerankFault::new("store", error.to_string()))?;
    let items = candidates.iter().zip(points).map(|(candidate, point)| {
        let point = point.ok_or_else(|| {
            let message = format!("item {} is not in the store", candidate.item);
            RerankFault::new("store", message)
        })?;
        Ok(RetrievedItem::new(*candidate, point))
    });
    items.collect()
}

fn in_order(retrieved: &Retrieved, ranking: &Ranking) -> Vec<Ranked> {
    let ranked = ranking.order.iter().enumerate().map(|(rank, place)| Ranked {
        candidate: retrieved.items[*place].candidate,
        score: Some(ranking.values[*place]),
        rank: rank as u32 + 1,
        state: ranking.states[*place],
        explanation: None,
        contributions: ranking.contributions.get(rank).copied(),
    });
    ranked.collect()
}

/// Reads the texts of what is shown. A store that fails here costs the texts, not the answer.
async fn add_texts(reranker: &Reranker, retrieved: &Retrieved, shown: &mut [Ranked]) {
    let Some((user, _)) = retrieved.user else { return };
    let mut written: Vec<&mut Ranked> =
        shown.iter_mut().filter(|ranked| ranked.state == ExplanationState::Written).collect();
    let pairs: Vec<(UserId, ItemId)> =
        written.iter().map(|ranked| (user, ranked.candidate.item)).collect();
    if pairs.is_empty() {
        return;
    }
    match reranker.storage.explanations(&pairs).await {
        Ok(records) => {
            for (ranked, record) in written.iter_mut().zip(records) {
                if record.as_ref().is_some_and(|record| reranker.freshness.stale(record).is_some())
                {
                    ranked.state = ExplanationState::Stale;
                }
                ranked.explanation = record.map(|record| -> Explanation { record.explanation });
            }
        }
        Err(error) => tracing::warn!(%error, "the written reasons could not be read"),
    }
}

/// The gateway's word for a consumer that cannot be used.
fn refused(error: ApiError) -> RerankFault {
    let reason = match error.cause {
        Cause::UnknownUser | Cause::NotReady => "unknown_user",
        _ => "store",
    };
    RerankFault::new(reason, error.message)
}

fn fault(fault: Fault) -> RerankFault {
    RerankFault::new(fault.reason, fault.message)
}
