//! Who the consumer of a request is: one in the store, or one who is only a history.

use std::collections::HashMap;

use anyhow::Context;
use whyrank_models::taste::Rated;
use whyrank_plugin::records::ITEM_VECTOR;
use whyrank_plugin::{ItemId, PointId, Selection, Statistics, UserId, UserRecord};

use super::Reranker;
use super::request::GivenInteraction;
use crate::cold_start;
use crate::features::ConsumerState;
use crate::http::{ApiError, Cause};

/// A consumer, known or made from a given history.
pub(super) struct Consumer {
    pub(super) user: Option<(UserId, String)>,
    pub(super) state: ConsumerState,
    pub(super) seen: Vec<ItemId>,
}

/// The consumer whom the data calls `external`.
pub(super) async fn by_name(reranker: &Reranker, external: &str) -> Result<Consumer, ApiError> {
    let id = reranker
        .storage
        .user_id(external)
        .map_err(|error| ApiError::new(Cause::UnknownUser, error.to_string()))?;
    by_id(reranker, id, external).await
}

/// The consumer with this point id; `called` is how an error speaks of them.
pub(super) async fn by_id(
    reranker: &Reranker,
    id: UserId,
    called: &str,
) -> Result<Consumer, ApiError> {
    let record = reranker.storage.user(id).await?.ok_or_else(|| {
        let message = format!(
            "consumer {called:?} is not in the store; give a `history` instead, or import the consumer"
        );
        ApiError::new(Cause::UnknownUser, message)
    })?;
    if record.vector.is_none() {
        let message = format!("consumer {called:?} has no vector yet; run `whyrank train vectors`");
        return Err(ApiError::new(Cause::NotReady, message));
    }
    let consumer = of_records(reranker, vec![record]).await?.pop();
    Ok(consumer.context("a consumer with a vector")?)
}

/// The consumers of these records, in order, without those who have no vector. The items of all
/// histories are read in one call, each once; those that are gone are left out.
pub(super) async fn of_records(
    reranker: &Reranker,
    records: Vec<UserRecord>,
) -> anyhow::Result<Vec<Consumer>> {
    let length = reranker.history_length();
    let entries = records.iter().flat_map(|record| record.history.iter().take(length));
    let mut ids: Vec<PointId> = entries.map(|entry| entry.item.point()).collect();
    ids.sort_unstable();
    ids.dedup();
    let storage = &reranker.storage;
    let selection = Selection::vectors([ITEM_VECTOR]);
    let points = if ids.is_empty() {
        Vec::new()
    } else {
        storage.store().read(&storage.settings().items, &ids, &selection).await?
    };
    let vectors: HashMap<PointId, Vec<f32>> = points
        .into_iter()
        .flatten()
        .filter_map(|mut point| Some((point.id, point.vectors.remove(ITEM_VECTOR)?)))
        .collect();
    let consumers = records.into_iter().filter_map(|record| {
        let latest = record.history.iter().take(length).rev();
        let history = latest
            .filter_map(|entry| Some((vectors.get(&entry.item.point())?.clone(), entry.rating)))
            .collect();
        let state = ConsumerState {
            vector: record.vector?,
            history,
            taste: cold_start::known(record.taste),
            statistics: record.statistics,
        };
        Some(Consumer { user: Some((record.id, record.external_id)), state, seen: record.seen })
    });
    Ok(consumers.collect())
}

/// A consumer who is only a history: the vector is folded in from the items' vectors, or from those
/// that the items' texts predict.
pub(super) async fn from_history(
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
    let learned = reranker.learned_ratings();
    let mut history = Vec::with_capacity(given.len());
    let mut expected = Vec::with_capacity(given.len());
    let mut seen = Vec::new();
    for (place, interaction) in given.iter().enumerate() {
        if let Some(why) = reranker.scale.refusal(interaction.rating, learned) {
            return Err(invalid(format!("`history[{place}].rating` is {why}")));
        }
        let (vector, statistics) = match (&interaction.item, &interaction.text) {
            (Some(item), None) => {
                let id = reranker
                    .storage
                    .item_id(item)
                    .map_err(|error| ApiError::new(Cause::UnknownItem, error.to_string()))?;
                seen.push(id);
                known_item(reranker, id, item, place).await?
            }
            (None, Some(text)) => {
                let field = format!("history[{place}].text");
                (described_vector(reranker, text, &field).await?, Statistics::default())
            }
            _ => {
                let message = format!("`history[{place}]` needs either `item` or `text`");
                return Err(invalid(message));
            }
        };
        history.push((vector, interaction.rating));
        expected.push(reranker.scale.expected(statistics));
    }
    let cold_start = reranker.cold_start()?;
    let vector = cold_start.fold_in(&history)?;
    let rated: Vec<Rated<'_>> = history
        .iter()
        .zip(expected)
        .map(|((vector, rating), expected)| Rated { vector, expected, rating: *rating })
        .collect();
    let taste = cold_start.taste(&rated)?;
    let statistics = Statistics::of(history.iter().map(|(_, rating)| *rating));
    let first = history.len().saturating_sub(reranker.history_length());
    history.drain(..first);
    Ok(Consumer { user: None, state: ConsumerState { vector, history, taste, statistics }, seen })
}

async fn known_item(
    reranker: &Reranker,
    id: ItemId,
    external: &str,
    place: usize,
) -> Result<(Vec<f32>, Statistics), ApiError> {
    let record = reranker.storage.items(&[id]).await?.pop().flatten().ok_or_else(|| {
        let message = format!("`history[{place}].item` {external:?} is not in the store");
        ApiError::new(Cause::UnknownItem, message)
    })?;
    let vector = record.vector.ok_or_else(|| {
        let message = format!("item {external:?} has no vector yet; run `whyrank train vectors`");
        ApiError::new(Cause::NotReady, message)
    })?;
    Ok((vector, record.statistics))
}

/// The item vector of a text; `field` is how an error names where it was given.
pub(super) async fn described_vector(
    reranker: &Reranker,
    text: &str,
    field: &str,
) -> Result<Vec<f32>, ApiError> {
    if text.trim().is_empty() {
        let message = format!("`{field}` is empty");
        return Err(ApiError::new(Cause::Invalid, message));
    }
    let (cold_start, text) = (reranker.cold_start()?, text.to_owned());
    // Embedding takes milliseconds of pure computation, which must not hold up other requests.
    let vector = tokio::task::spawn_blocking(move || cold_start.item_from_text(&text))
        .await
        .context("embedding a text")??;
    Ok(vector)
}
