//! Stage 1: who the consumer is, and which items Qdrant finds near.

use anyhow::Context;
use ndarray::Array2;
use whyrank_plugin::records::{EXTERNAL_ID_KEY, ITEM_VECTOR};
use whyrank_plugin::{
    Candidate, Filter, ItemId, PayloadSelection, ScoredPoint, Search, Selection, Statistics,
    UserId, UserRecord, VectorSelection,
};

use super::request::{GivenInteraction, RecommendRequest};
use super::{Reranker, StageClock};
use crate::features::ConsumerState;
use crate::http::{ApiError, Cause};

/// A candidate with what the later stages need of it.
#[derive(Debug, Clone)]
pub(super) struct RetrievedItem {
    pub(super) candidate: Candidate,
    pub(super) external_id: String,
    pub(super) title: String,
    pub(super) vector: Vec<f32>,
    pub(super) statistics: Statistics,
}

/// What retrieval found for a consumer, in Qdrant's order.
#[derive(Debug, Clone)]
pub(super) struct Retrieved {
    /// The consumer in the store, if one was named.
    pub(super) user: Option<(UserId, String)>,
    pub(super) consumer: ConsumerState,
    pub(super) items: Vec<RetrievedItem>,
}

/// A consumer, known or made from a given history.
struct Consumer {
    user: Option<(UserId, String)>,
    state: ConsumerState,
    seen: Vec<ItemId>,
}

pub(super) async fn retrieve(
    reranker: &Reranker,
    request: &RecommendRequest,
    clock: &mut StageClock,
) -> Result<Retrieved, ApiError> {
    let settings = &reranker.settings;
    let limit = request.candidates.unwrap_or(settings.candidates);
    let wanted = request.limit.unwrap_or(settings.limit);
    let bound = |what: &str, value: usize, most: usize, setting: &str| {
        if (1..=most).contains(&value) {
            return Ok(());
        }
        let message = format!("`{what}` is {value}; it must be from 1 to {most} (`{setting}`)");
        Err(ApiError::new(Cause::Invalid, message))
    };
    bound("limit", wanted, settings.maximum_limit, "rerank.maximum_limit")?;
    bound("candidates", limit, settings.maximum_candidates, "rerank.maximum_candidates")?;
    let consumer = match (&request.history, &request.user) {
        (Some(history), _) => from_history(reranker, history).await?,
        (None, Some(user)) => from_store(reranker, user).await?,
        (None, None) => {
            let message = "give a `user`, or a `history` of at least one interaction";
            return Err(ApiError::new(Cause::Invalid, message));
        }
    };
    let exclude = request.exclude_seen.unwrap_or(settings.exclude_seen);
    let filter = item_filter(request, if exclude { &consumer.seen } else { &[] })?;
    let search = Search {
        filter,
        selection: Selection {
            vectors: VectorSelection::Named(vec![ITEM_VECTOR.to_owned()]),
            payload: PayloadSelection::Include(
                [EXTERNAL_ID_KEY, "title", "statistics"].map(str::to_owned).to_vec(),
            ),
        },
        ..Search::new(ITEM_VECTOR, consumer.state.vector.clone(), limit.max(wanted))
    };
    let storage = &reranker.storage;
    let found = storage.store().search(&storage.settings().items, search).await?;
    let items: Vec<RetrievedItem> =
        found.into_iter().enumerate().map(|(place, point)| retrieved_item(place, point)).collect();
    clock.lap("retrieve", format!("{} candidates", items.len()));
    Ok(Retrieved { user: consumer.user, consumer: consumer.state, items })
}

fn retrieved_item(place: usize, found: ScoredPoint) -> RetrievedItem {
    let ScoredPoint { score, mut point } = found;
    let mut text = |key: &str| match point.payload.remove(key) {
        Some(serde_json::Value::String(text)) => Some(text),
        _ => None,
    };
    let (external_id, title) = (text(EXTERNAL_ID_KEY), text("title"));
    let statistics =
        point.payload.remove("statistics").and_then(|v| serde_json::from_value(v).ok());
    RetrievedItem {
        candidate: Candidate {
            item: ItemId(point.id),
            retrieval_score: score,
            retrieval_rank: place as u32 + 1,
        },
        external_id: external_id.unwrap_or_else(|| point.id.to_string()),
        title: title.unwrap_or_default(),
        vector: point.vectors.remove(ITEM_VECTOR).unwrap_or_default(),
        statistics: statistics.unwrap_or_default(),
    }
}

/// The caller's filter and the items to leave out, as one filter in Qdrant's JSON.
fn item_filter(request: &RecommendRequest, exclude: &[ItemId]) -> Result<Option<Filter>, ApiError> {
    let invalid = |error: &dyn std::fmt::Display| {
        ApiError::new(Cause::Invalid, format!("`filter` cannot be used: {error}"))
    };
    let given =
        request.filter.clone().map(Filter::from_json).transpose().map_err(|e| invalid(&e))?;
    if exclude.is_empty() {
        return Ok(given);
    }
    let unseen = Filter::without_ids(exclude.iter().map(ItemId::point));
    let Some(given) = given else { return Ok(Some(unseen)) };
    let both = serde_json::json!({ "must": [given.to_json(), unseen.to_json()] });
    Filter::from_json(both).map(Some).map_err(|error| invalid(&error))
}

async fn from_store(reranker: &Reranker, external: &str) -> Result<Consumer, ApiError> {
    let unknown = |message: String| ApiError::new(Cause::UnknownUser, message);
    let id = reranker.storage.user_id(external).map_err(|error| unknown(error.to_string()))?;
    let record = reranker.storage.user(id).await?.ok_or_else(|| {
        unknown(format!(
            "consumer {external:?} is not in the store; give a `history` instead, or import the consumer"
        ))
    })?;
    let Some(vector) = record.vector.clone() else {
        let message =
            format!("consumer {external:?} has no vector yet; run `whyrank train vectors`");
        return Err(ApiError::new(Cause::NotReady, message));
    };
    let state = ConsumerState {
        vector,
        history: history_vectors(reranker, &record).await?,
        statistics: record.statistics,
    };
    Ok(Consumer { user: Some((id, record.external_id)), state, seen: record.seen })
}

/// The latest items of a consumer with their vectors, oldest first; items that are gone are left out.
async fn history_vectors(
    reranker: &Reranker,
    record: &UserRecord,
) -> anyhow::Result<Vec<(Vec<f32>, f32)>> {
    let length = reranker.history_length();
    let latest: Vec<_> = record.history.iter().take(length).rev().collect();
    let ids: Vec<_> = latest.iter().map(|entry| entry.item.point()).collect();
    let storage = &reranker.storage;
    let selection = Selection::vectors([ITEM_VECTOR]);
    let points = storage.store().read(&storage.settings().items, &ids, &selection).await?;
    let pairs = latest.iter().zip(points).filter_map(|(entry, point)| {
        point?.vectors.remove(ITEM_VECTOR).map(|vector| (vector, entry.rating))
    });
    Ok(pairs.collect())
}

/// A consumer who is only a history: the vector is folded in from the items' vectors, or from those
/// that the items' texts predict.
async fn from_history(
    reranker: &Reranker,
    given: &[GivenInteraction],
) -> Result<Consumer, ApiError> {
    let invalid = |message: String| ApiError::new(Cause::Invalid, message);
    if given.is_empty() {
        return Err(invalid("`history` is empty; give at least one interaction".to_owned()));
    }
    let most = reranker.settings.maximum_history;
    if given.len() > most {
        let count = given.len();
        return Err(invalid(format!(
            "`history` has {count} interactions, more than {most} (`rerank.maximum_history`)"
        )));
    }
    let mut history = Vec::with_capacity(given.len());
    let mut seen = Vec::new();
    for (place, interaction) in given.iter().enumerate() {
        if !interaction.rating.is_finite() {
            return Err(invalid(format!("`history[{place}].rating` is not a finite number")));
        }
        let vector = match (&interaction.item, &interaction.text) {
            (Some(item), None) => {
                let id = reranker
                    .storage
                    .item_id(item)
                    .map_err(|error| ApiError::new(Cause::UnknownItem, error.to_string()))?;
                seen.push(id);
                known_vector(reranker, id, item, place).await?
            }
            (None, Some(text)) => described_vector(reranker, text, place).await?,
            _ => {
                let message = format!("`history[{place}]` needs either `item` or `text`");
                return Err(invalid(message));
            }
        };
        history.push((vector, interaction.rating));
    }
    let vector = reranker.cold_start()?.fold_in(&history)?;
    let statistics = Statistics::of(history.iter().map(|(_, rating)| *rating));
    let first = history.len().saturating_sub(reranker.history_length());
    history.drain(..first);
    Ok(Consumer { user: None, state: ConsumerState { vector, history, statistics }, seen })
}

async fn known_vector(
    reranker: &Reranker,
    id: ItemId,
    external: &str,
    place: usize,
) -> Result<Vec<f32>, ApiError> {
    let record = reranker.storage.items(&[id]).await?.pop().flatten().ok_or_else(|| {
        let message = format!("`history[{place}].item` {external:?} is not in the store");
        ApiError::new(Cause::UnknownItem, message)
    })?;
    record.vector.ok_or_else(|| {
        let message = format!("item {external:?} has no vector yet; run `whyrank train vectors`");
        ApiError::new(Cause::NotReady, message)
    })
}

async fn described_vector(
    reranker: &Reranker,
    text: &str,
    place: usize,
) -> Result<Vec<f32>, ApiError> {
    if text.trim().is_empty() {
        let message = format!("`history[{place}].text` is empty");
        return Err(ApiError::new(Cause::Invalid, message));
    }
    let (cold_start, text) = (reranker.cold_start()?, text.to_owned());
    // Embedding takes milliseconds of pure computation, which must not hold up other requests.
    let vector = tokio::task::spawn_blocking(move || cold_start.item_from_text(&text))
        .await
        .context("embedding a history text")??;
    Ok(vector)
}

impl RetrievedItem {
    /// The vectors of all items as one table `[n, d]`.
    pub(super) fn table(items: &[Self], dimension: usize) -> Result<Array2<f32>, String> {
        let mut values = Vec::with_capacity(items.len() * dimension);
        for item in items {
            if item.vector.len() != dimension {
                let (id, width) = (&item.external_id, item.vector.len());
                return Err(format!("item {id} has a vector of {width} numbers, not {dimension}"));
            }
            values.extend_from_slice(&item.vector);
        }
        Array2::from_shape_vec((items.len(), dimension), values).map_err(|error| error.to_string())
    }
}
