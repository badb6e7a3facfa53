//! Puts an imported data set into the store: items and consumers as points, interactions as the
//! histories of the consumers. Vectors that are there already stay; running it again changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use whyrank_models::progress::Progress;
use whyrank_plugin::{
    HistoryEntry, ItemId, ItemRecord, PointId, Selection, Statistics, UserId, UserRecord,
};

use crate::import::{Attribute, Dataset, ImportedInteraction};
use crate::interactions;
use crate::staleness;
use crate::storage::Storage;

/// Records written in one step.
const STEP: usize = 256;

/// What was put into the store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IngestReport {
    /// Items written.
    pub items: usize,
    /// Consumers written.
    pub users: usize,
    /// Interactions in the histories.
    pub interactions: usize,
    /// Interactions left out, because the existing items collection has no such item.
    pub unknown_items: usize,
}

/// Writes the data set.
///
/// # Errors
/// When an id is not one under the configured scheme, or the store refuses a write.
pub async fn ingest(
    storage: &Storage,
    dataset: &Dataset,
    progress: &dyn Progress,
) -> Result<IngestReport> {
    let (existing, unknown_items);
    let dataset = if storage.settings().existing_items.is_some() {
        (existing, unknown_items) = only_existing(storage, dataset).await?;
        &existing
    } else {
        unknown_items = 0;
        dataset
    };
    let items = item_records(storage, dataset)?;
    let users = user_records(storage, dataset)?;
    let report = IngestReport {
        unknown_items,
        items: items.len(),
        users: users.len(),
        interactions: users.iter().map(|user| user.history.len()).sum(),
    };
    progress.begin("storing items and consumers", (items.len() + users.len()) as u64);
    let mut done = 0;
    let settings = storage.settings();
    for part in items.chunks(STEP) {
        let mut part = part.to_vec();
        let ids: Vec<ItemId> = part.iter().map(|item| item.id).collect();
        let known = storage.items(&ids).await?;
        for (item, known) in part.iter_mut().zip(known) {
            let Some(known) = known else { continue };
            item.vector = item.vector.take().or(known.vector);
            item.statistics.expected_rating = known.statistics.expected_rating;
            item.statistics.forecast = known.statistics.forecast;
        }
        storage.write_items(&part).await?;
        done += part.len();
        progress.advance(done as u64);
    }
    for part in users.chunks(STEP) {
        let mut part = part.to_vec();
        let ids: Vec<PointId> = part.iter().map(|user| user.id.point()).collect();
        let known = storage.store().read(&settings.users, &ids, &Selection::all()).await?;
        let mut changed = Vec::new();
        for (user, known) in part.iter_mut().zip(known) {
            let Some(known) = known.map(UserRecord::from_point).transpose()? else { continue };
            if keep_known(user, known) {
                changed.push(user.id);
            }
        }
        storage.write_users(&part).await?;
        for user in changed {
            staleness::mark_profile(storage, user).await?;
        }
        done += part.len();
        progress.advance(done as u64);
    }
    progress.end();
    Ok(report)
}

/// Keeps of a consumer who is there already what the table does not have: the vector, and the
/// interactions that came since. True if the profile is another one than before.
fn keep_known(user: &mut UserRecord, known: UserRecord) -> bool {
    user.vector = user.vector.take().or(known.vector);
    user.taste = known.taste;
    for posted in &known.posted {
        interactions::add(user, posted.entry);
    }
    user.posted = known.posted;
    user.revision = known.revision;
    user.settled = known.settled;
    user.statistics = Statistics::of(user.history.iter().map(|entry| entry.rating));
    user.history != known.history || user.attributes != known.attributes
}

/// The data set without the interactions whose item the existing collection does not have, and how many
/// these were. Histories and statistics are then of items that can be shown.
async fn only_existing(storage: &Storage, dataset: &Dataset) -> Result<(Dataset, usize)> {
    let names: BTreeSet<&str> =
        dataset.interactions.iter().map(|interaction| interaction.item.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let mut existing = HashSet::new();
    for part in names.chunks(STEP) {
        let ids: Vec<PointId> =
            part.iter().map(|name| Ok(storage.item_id(name)?.point())).collect::<Result<_>>()?;
        let items = &storage.settings().items;
        let found = storage.store().read(items, &ids, &Selection::none()).await?;
        existing.extend(part.iter().zip(found).filter_map(|(name, point)| point.map(|_| *name)));
    }
    let mut kept = dataset.clone();
    kept.interactions.retain(|interaction| existing.contains(interaction.item.as_str()));
    let unknown = dataset.interactions.len() - kept.interactions.len();
    Ok((kept, unknown))
}

fn attributes(given: &[Attribute]) -> BTreeMap<String, String> {
    given.iter().map(|attribute| (attribute.label.clone(), attribute.joined())).collect()
}

/// All items of the table, and those that only the interactions name.
fn item_records(storage: &Storage, dataset: &Dataset) -> Result<Vec<ItemRecord>> {
    let mut ratings: HashMap<&str, Vec<f32>> = HashMap::new();
    for interaction in &dataset.interactions {
        ratings.entry(&interaction.item).or_default().push(interaction.rating);
    }
    let mut found = Vec::new();
    for item in &dataset.items {
        found.push(ItemRecord {
            id: storage.item_id(&item.id)?,
            external_id: item.id.clone(),
            title: item.title.clone(),
            attributes: attributes(&item.attributes),
            text: item.text.clone(),
            statistics: Statistics::of(ratings.remove(item.id.as_str()).unwrap_or_default()),
            vector: item.vector.clone(),
        });
    }
    let mut unlisted: Vec<_> = ratings.into_iter().collect();
    unlisted.sort_unstable_by_key(|(id, _)| *id);
    for (id, ratings) in unlisted {
        found.push(ItemRecord {
            id: storage.item_id(id)?,
            external_id: id.to_owned(),
            title: id.to_owned(),
            attributes: BTreeMap::new(),
            text: String::new(),
            statistics: Statistics::of(ratings),
            vector: None,
        });
    }
    Ok(found)
}

/// All consumers of the table, and those that only the interactions name, with their histories.
fn user_records(storage: &Storage, dataset: &Dataset) -> Result<Vec<UserRecord>> {
    let mut histories: BTreeMap<&str, Vec<&ImportedInteraction>> = BTreeMap::new();
    for interaction in &dataset.interactions {
        histories.entry(&interaction.user).or_default().push(interaction);
    }
    let mut found = Vec::new();
    for user in &dataset.users {
        let history = histories.remove(user.id.as_str()).unwrap_or_default();
        let mut record = user_record(storage, &user.id, &history)?;
        record.attributes = attributes(&user.attributes);
        record.vector.clone_from(&user.vector);
        found.push(record);
    }
    for (id, history) in histories {
        found.push(user_record(storage, id, &history)?);
    }
    Ok(found)
}

fn user_record(
    storage: &Storage,
    external: &str,
    interactions: &[&ImportedInteraction],
) -> Result<UserRecord> {
    let id: UserId = storage.user_id(external)?;
    let mut history = Vec::with_capacity(interactions.len());
    for interaction in interactions {
        let item: ItemId = storage.item_id(&interaction.item)?;
        history.push(HistoryEntry { item, rating: interaction.rating, time: interaction.time });
    }
    history.sort_by_key(|entry| std::cmp::Reverse((entry.time, entry.item)));
    Ok(UserRecord {
        id,
        external_id: external.to_owned(),
        attributes: BTreeMap::new(),
        seen: history.iter().map(|entry| entry.item).collect(),
        statistics: Statistics::of(history.iter().map(|entry| entry.rating)),
        history,
        vector: None,
        taste: None,
        posted: Vec::new(),
        revision: None,
        settled: None,
    })
}
