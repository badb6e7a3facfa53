//! Stage 6: the results as the caller sees them, with the written reasons of those that are shown.

use whyrank_plugin::{ExplanationState, ItemId};

use super::Reranker;
use super::rank::Ranking;
use super::request::{Reasons, Recommendation};
use super::retrieve::{Retrieved, RetrievedItem};

/// The ranking, cut at the limit.
pub(super) fn ranked(
    retrieved: &Retrieved,
    ranking: &Ranking,
    limit: usize,
) -> Vec<(ItemId, Recommendation)> {
    let places = ranking.order.iter().take(limit).enumerate();
    places
        .map(|(rank, place)| {
            let item = &retrieved.items[*place];
            let score = ranking.scores[*place];
            let mut result = plain(item, rank, ranking.states[*place]);
            result.score = Some(ranking.values[*place]);
            result.rating = Some(score.rating);
            result.like = Some(score.like);
            result.take_up = ranking.take_ups[*place];
            result.contributions = ranking.contributions.get(rank).copied().map(Into::into);
            (item.candidate.item, result)
        })
        .collect()
}

/// Qdrant's order, cut at the limit: what the caller would have had without Whyrank.
pub(super) fn in_retrieval_order(
    retrieved: &Retrieved,
    limit: usize,
) -> Vec<(ItemId, Recommendation)> {
    let items = retrieved.items.iter().take(limit).enumerate();
    items
        .map(|(rank, item)| (item.candidate.item, plain(item, rank, ExplanationState::Absent)))
        .collect()
}

fn plain(item: &RetrievedItem, rank: usize, state: ExplanationState) -> Recommendation {
    Recommendation {
        item: item.external_id.clone(),
        title: item.title.clone(),
        rank: rank as u32 + 1,
        retrieval_rank: item.candidate.retrieval_rank,
        score: None,
        rating: None,
        like: None,
        take_up: None,
        retrieval_score: item.candidate.retrieval_score,
        state,
        explanation: None,
        contributions: None,
    }
}

/// Reads the texts of the results that have any. A store that fails here costs the texts, not the
/// answer.
pub(super) async fn add_reasons(
    reranker: &Reranker,
    retrieved: &Retrieved,
    results: &mut [(ItemId, Recommendation)],
) {
    let Some((user, _)) = retrieved.user else { return };
    let written = results.iter_mut().filter(|(_, r)| r.state != ExplanationState::Predicted);
    let mut written: Vec<_> = written.collect();
    let pairs: Vec<_> = written.iter().map(|(item, _)| (user, *item)).collect();
    if pairs.is_empty() {
        return;
    }
    let records = match reranker.storage.explanations(&pairs).await {
        Ok(records) => records,
        Err(error) => {
            tracing::warn!(%error, "the written reasons could not be read");
            return;
        }
    };
    for ((_, result), record) in written.iter_mut().zip(records) {
        let stale = record.as_ref().and_then(|record| reranker.freshness.stale(record));
        if stale.is_some() && result.state == ExplanationState::Written {
            result.state = ExplanationState::Stale;
        }
        result.explanation = record
            .map(|record| Reasons::of(record.explanation, record.provenance).but_stale(stale));
    }
}
