//! Finds what the explanation of a pair stands on: the consumer's own liked and disliked items
//! nearest to the candidate, and nothing that happened at or after the pair's own time.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use whyrank_models::metrics::cosine;
use whyrank_plugin::{HistoryEntry, ItemId, ItemRecord, UserRecord};

use crate::features::RatingScale;
use crate::generator::{ConsumerBrief, Evidence, EvidenceItem, ItemBrief, PairContext, Statistics};
use crate::storage::Storage;

/// How much evidence is looked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvidenceSettings {
    /// How many liked items nearest to the candidate are shown.
    pub liked: usize,
    /// How many disliked items nearest to the candidate are shown.
    pub disliked: usize,
    /// How many of the consumer's latest interactions are searched.
    pub history_limit: usize,
}

impl Default for EvidenceSettings {
    fn default() -> Self {
        Self { liked: 3, disliked: 2, history_limit: 300 }
    }
}

/// The part of a consumer's history that may be told when explaining `item`: older than `before`
/// and never the item itself, whose rating would be the label. Newest first. Where all interactions are
/// of one time it tells nothing, and all but the item may be told.
fn tellable(user: &UserRecord, item: ItemId, before: Option<i64>) -> Vec<&HistoryEntry> {
    let before = before.filter(|time| user.history.iter().any(|entry| entry.time != *time));
    let mut entries: Vec<_> = user
        .history
        .iter()
        .filter(|entry| entry.item != item && before.is_none_or(|time| entry.time < time))
        .collect();
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.time, entry.item)));
    entries
}

/// The attributes of an item one by one, each with its label: lists are kept joined by commas in the store.
pub(crate) fn attribute_values(
    attributes: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&str, &str)> {
    let all = attributes
        .iter()
        .flat_map(|(label, joined)| joined.split(", ").map(move |value| (label.as_str(), value)));
    all.filter(|(_, value)| !value.is_empty())
}

fn values(attributes: &BTreeMap<String, String>) -> Vec<String> {
    attribute_values(attributes).map(|(_, value)| value.to_owned()).collect()
}

/// Gathers everything the generator is told of a pair.
///
/// `before` is the pair's own time where it has one; statistics and evidence then come from earlier
/// interactions only.
///
/// # Errors
/// When the store cannot be read.
pub async fn pair_context(
    storage: &Storage,
    settings: &EvidenceSettings,
    scale: RatingScale,
    user: &UserRecord,
    item: &ItemRecord,
    before: Option<i64>,
) -> anyhow::Result<PairContext> {
    let told = tellable(user, item.id, before);
    let count = told.len() as u64;
    let mean_rating = told.iter().map(|entry| entry.rating).sum::<f32>() / (count.max(1)) as f32;
    let searched: Vec<_> = told
        .into_iter()
        .filter(|entry| entry.rating >= scale.like_from || entry.rating <= scale.dislike_to)
        .take(settings.history_limit)
        .collect();
    let ids: Vec<_> = searched.iter().map(|entry| entry.item).collect();
    let records = storage.items(&ids).await?;
    let mut found: Vec<(EvidenceItem, usize)> = searched
        .iter()
        .zip(records)
        .enumerate()
        .filter_map(|(age, (entry, record))| {
            let record = record?;
            let similarity = match (&item.vector, &record.vector) {
                (Some(candidate), Some(known)) => cosine(candidate, known) as f32,
                _ => 0.0,
            };
            let evidence = EvidenceItem {
                title: record.title,
                attributes: values(&record.attributes),
                rating: entry.rating,
                similarity,
            };
            Some((evidence, age))
        })
        .collect();
    // Nearest first; where nothing tells them apart, the newest.
    found.sort_by(|(left, left_age), (right, right_age)| {
        right
            .similarity
            .partial_cmp(&left.similarity)
            .unwrap_or(Ordering::Equal)
            .then(left_age.cmp(right_age))
    });
    let take = |wanted: &dyn Fn(f32) -> bool, limit: usize| -> Vec<EvidenceItem> {
        let kind = found.iter().filter(|(evidence, _)| wanted(evidence.rating));
        kind.take(limit).map(|(evidence, _)| evidence.clone()).collect()
    };
    Ok(PairContext {
        consumer: ConsumerBrief {
            attributes: user.attributes.clone().into_iter().collect(),
            statistics: Statistics { count, mean_rating },
        },
        item: ItemBrief {
            title: item.title.clone(),
            text: item.text.clone(),
            attributes: values(&item.attributes),
        },
        evidence: Evidence {
            liked: take(&|rating| rating >= scale.like_from, settings.liked),
            disliked: take(&|rating| rating <= scale.dislike_to, settings.disliked),
        },
    })
}
