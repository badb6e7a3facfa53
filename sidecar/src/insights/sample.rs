//! Whom and what insights stand on: consumers for whom the item is a candidate, and what is written
//! about it. Both are bounded, and the same data give the same choice.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use whyrank_plugin::records::{ITEM_KEY, USER_VECTOR};
use whyrank_plugin::{
    ExplanationRecord, Filter, ItemId, ItemRecord, PointId, Scroll, Search, Selection, UserId,
    UserRecord,
};

use super::Insights;
use crate::http::ApiError;
use crate::rerank::Placed;

/// Consumers whose candidates are held in memory at once.
const BLOCK: usize = 50;
/// Explanations read in one page.
const PAGE: usize = 500;
/// Explanations of other items that are read.
const OTHERS: usize = 500;

/// Consumers for whom an item is a candidate.
#[derive(Debug)]
pub(super) struct Sample {
    /// Consumers that were looked at.
    pub(super) drawn: usize,
    /// The item's places, in the order of `users`.
    pub(super) placed: Vec<Placed>,
    /// The consumers, by their ids.
    pub(super) users: Vec<UserRecord>,
}

impl Insights {
    /// Draws consumers from those nearest to the item until there are enough for whom it is a
    /// candidate. They are drawn in the order of a digest, which says nothing about them, so that one
    /// consumer more or less changes the sample by at most that one and the one who takes the place.
    pub(super) async fn sample(
        &self,
        item: &ItemRecord,
        wanted: usize,
    ) -> Result<Sample, ApiError> {
        let storage = &self.storage;
        let collection = &storage.settings().users;
        let near =
            Search::new(USER_VECTOR, item.vector.clone().unwrap_or_default(), self.settings.pool);
        let found = storage.store().search(collection, near).await?;
        let mut ids: Vec<UserId> = found.into_iter().map(|hit| UserId(hit.point.id)).collect();
        ids.sort_by_cached_key(|user| lot(item.id, *user));
        let mut sample = Sample { drawn: 0, placed: Vec::new(), users: Vec::new() };
        for block in ids.chunks(BLOCK) {
            let points: Vec<PointId> = block.iter().map(UserId::point).collect();
            let read = storage.store().read(collection, &points, &Selection::all()).await?;
            let users: Vec<UserRecord> = read
                .into_iter()
                .flatten()
                .map(UserRecord::from_point)
                .collect::<Result<_, _>>()
                .map_err(anyhow::Error::from)?;
            sample.drawn += users.len();
            sample.placed.extend(self.reranker.place(users.clone(), item).await?);
            sample.users.extend(users);
            if sample.placed.len() >= wanted {
                break;
            }
        }
        sample.placed.truncate(wanted);
        sample.placed.sort_by_key(|placed| placed.user);
        let chosen = |user: &UserRecord| {
            sample.placed.binary_search_by_key(&user.id, |placed| placed.user).is_ok()
        };
        sample.users.retain(chosen);
        sample.users.sort_by_key(|user| user.id);
        Ok(sample)
    }

    /// What is written about an item, up to the limit, by consumer.
    pub(super) async fn written(&self, item: ItemId) -> Result<Vec<ExplanationRecord>, ApiError> {
        let filter = json!({ "must": [about(item)] });
        self.explanations(filter, self.settings.explanations).await
    }

    /// Some of what is written about other items. Point ids are digests, so that the first of them are
    /// a choice that depends on nothing else.
    pub(super) async fn written_of_others(
        &self,
        item: ItemId,
    ) -> Result<Vec<ExplanationRecord>, ApiError> {
        let filter = json!({ "must_not": [about(item)] });
        self.explanations(filter, OTHERS.min(self.settings.explanations)).await
    }

    async fn explanations(
        &self,
        filter: Value,
        most: usize,
    ) -> Result<Vec<ExplanationRecord>, ApiError> {
        let filter = Filter::from_json(filter)
            .map_err(|error| ApiError::from(anyhow::Error::from(error)))?;
        let mut found: Vec<ExplanationRecord> = Vec::new();
        let mut from = None;
        while found.len() < most {
            let limit = PAGE.min(most - found.len());
            let selection = Selection::all();
            let scroll = Scroll { filter: Some(filter.clone()), from, limit, selection };
            let page =
                self.storage.store().scroll(&self.storage.settings().explanations, scroll).await?;
            for point in page.points {
                found.push(ExplanationRecord::from_point(point).map_err(anyhow::Error::from)?);
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        found.sort_by_key(|record| (record.user, record.item));
        Ok(found)
    }
}

/// A condition on explanations.
fn about(item: ItemId) -> Value {
    json!({ "key": ITEM_KEY, "match": { "value": item.to_string() } })
}

/// Decides the order in which consumers are drawn.
fn lot(item: ItemId, user: UserId) -> [u8; 32] {
    Sha256::digest(format!("{item} {user}")).into()
}

/// Digest of everything that an answer stands on.
pub(super) fn digest(item: ItemId, sample: &Sample, written: &[ExplanationRecord]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(item.to_string());
    for placed in &sample.placed {
        hash.update(format!("|{} {} {:x}", placed.user, placed.rank, placed.value.to_bits()));
        placed.above().for_each(|item| hash.update(item.to_string()));
    }
    for record in written {
        let explanation = &record.explanation;
        let (user, time) = (record.user, record.provenance.written_at);
        hash.update(format!("|{user} {time} {:?}", (&explanation.positive, &explanation.negative)));
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lot_depends_on_both_and_repeats() {
        let (item, user) = (ItemId::from_external("a"), UserId::from_external("1"));
        assert_eq!(lot(item, user), lot(item, user));
        assert_ne!(lot(item, user), lot(ItemId::from_external("b"), user));
        assert_ne!(lot(item, user), lot(item, UserId::from_external("2")));
    }
}
