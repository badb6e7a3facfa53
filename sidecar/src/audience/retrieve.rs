//! Which consumers Qdrant finds near the items or near the words of a campaign.

use std::collections::HashMap;

use anyhow::Context;
use serde_json::json;
use whyrank_plugin::records::{POSITIVE_VECTOR, USER_KEY, USER_VECTOR};
use whyrank_plugin::{
    ExplanationRecord, Filter, PointId, Scroll, Search, Selection, UserId, UserRecord,
};

use super::{AudienceRequest, Audiences, Limits, distinct};
use crate::http::{ApiError, Cause};
use crate::rerank::CampaignItem;

/// What is offered, and to whom it may be.
pub(super) struct RetrievedUsers {
    pub(super) items: Vec<CampaignItem>,
    /// Nearest first, each once.
    pub(super) users: Vec<UserId>,
    /// Of consumers whose reasons lie near the words: the nearest one.
    pub(super) reasons: HashMap<UserId, ExplanationRecord>,
}

impl Audiences {
    pub(super) async fn retrieve(
        &self,
        request: &AudienceRequest,
        limits: &Limits,
    ) -> Result<RetrievedUsers, ApiError> {
        let items = match (&request.items, &request.campaign) {
            (Some(items), None) => self.named(items).await?,
            (None, Some(text)) => {
                let vector = self.reranker.vector_of_text(text, "campaign").await?;
                vec![CampaignItem::described(text, vector)]
            }
            _ => {
                let message = "give either `items` or a `campaign`";
                return Err(ApiError::new(Cause::Invalid, message));
            }
        };
        let filter = user_filter(request, &items, limits.exclude_seen)?;
        let mut reasons = HashMap::new();
        let mut users = Vec::new();
        if let Some(text) = &request.campaign {
            let few = match &filter {
                Some(filter) => self.few(filter, limits.candidates).await?,
                None => None,
            };
            reasons = self.near_reasons(text, limits.candidates, few.as_deref()).await?;
            let ids: Vec<PointId> = reasons.keys().map(UserId::point).collect();
            if !ids.is_empty() {
                // The caller's filter is on consumers, so it is applied where they are.
                let those = Filter::with_ids(ids.iter().copied());
                let filter = match filter.clone() {
                    Some(given) => given.and(those),
                    None => those,
                };
                users = self.near(&items, ids.len(), Some(filter)).await?;
            }
        }
        let near = self.near(&items, limits.candidates, filter).await?;
        // One in turn of each way, so that a cut at the limit leaves none of them out.
        let (mut left, mut right) = (near.into_iter(), users.into_iter());
        let mut merged = Vec::new();
        loop {
            let pair = [left.next(), right.next()];
            if pair.iter().all(Option::is_none) {
                break;
            }
            merged.extend(pair.into_iter().flatten());
        }
        let mut users = distinct(merged);
        users.truncate(limits.candidates);
        Ok(RetrievedUsers { items, users, reasons })
    }

    /// Consumers by id, in the order asked, without those who are gone since.
    pub(super) async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>, ApiError> {
        let collection = &self.storage.settings().users;
        let points: Vec<PointId> = ids.iter().map(UserId::point).collect();
        let found = self.storage.store().read(collection, &points, &Selection::all()).await?;
        let records = found.into_iter().flatten().map(UserRecord::from_point);
        Ok(records.collect::<Result<_, _>>().map_err(anyhow::Error::from)?)
    }

    async fn named(&self, given: &[String]) -> Result<Vec<CampaignItem>, ApiError> {
        let most = self.settings.maximum_items;
        if given.is_empty() || given.len() > most {
            let message = format!(
                "`items` has {} entries; it must have from 1 to {most} (`audience.maximum_items`)",
                given.len()
            );
            return Err(ApiError::new(Cause::Invalid, message));
        }
        let unknown = |message: String| ApiError::new(Cause::UnknownItem, message);
        let ids = given
            .iter()
            .map(|item| self.storage.item_id(item).map_err(|error| unknown(error.to_string())));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let records = self.storage.items(&distinct(ids.iter().copied())).await?;
        let names: HashMap<_, _> = ids.iter().zip(given).collect();
        let mut items = Vec::with_capacity(records.len());
        for (id, record) in distinct(ids.iter().copied()).iter().zip(records) {
            let name = names.get(id).map_or("", |name| name.as_str());
            let record =
                record.ok_or_else(|| unknown(format!("item {name:?} is not in the store")))?;
            if record.vector.is_none() {
                let message =
                    format!("item {name:?} has no vector yet; run `whyrank train vectors`");
                return Err(ApiError::new(Cause::NotReady, message));
            }
            items.push(CampaignItem::stored(record));
        }
        Ok(items)
    }

    /// The consumers nearest to the items' mean vector.
    async fn near(
        &self,
        items: &[CampaignItem],
        limit: usize,
        filter: Option<Filter>,
    ) -> Result<Vec<UserId>, ApiError> {
        let search = Search { filter, ..Search::new(USER_VECTOR, mean(items), limit) };
        let found = self.storage.store().search(&self.storage.settings().users, search).await?;
        Ok(found.into_iter().map(|hit| UserId(hit.point.id)).collect())
    }

    /// All consumers of a filter, if they are not more than this.
    async fn few(&self, filter: &Filter, most: usize) -> Result<Option<Vec<UserId>>, ApiError> {
        let selection = Selection::none();
        let scroll = Scroll { filter: Some(filter.clone()), from: None, limit: most, selection };
        let page = self.storage.store().scroll(&self.storage.settings().users, scroll).await?;
        let all = page.next.is_none();
        Ok(all.then(|| page.points.iter().map(|point| UserId(point.id)).collect()))
    }

    /// The consumers with a written reason near the words, each with the nearest one. Among `few` consumers
    /// only theirs are looked at, which would be lost among those of everybody.
    async fn near_reasons(
        &self,
        text: &str,
        limit: usize,
        few: Option<&[UserId]>,
    ) -> Result<HashMap<UserId, ExplanationRecord>, ApiError> {
        let Some(codes) = self.codes.clone() else { return Ok(HashMap::new()) };
        if few.is_some_and(<[_]>::is_empty) {
            return Ok(HashMap::new());
        }
        let text = text.to_owned();
        // Embedding is pure computation, which must not hold up other requests.
        let code = tokio::task::spawn_blocking(move || codes.code_of_text(&text))
            .await
            .context("encoding the campaign")??;
        let theirs = few.map(|users| {
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            Filter::from_json(json!({ "must": [{ "key": USER_KEY, "match": { "any": users } }] }))
        });
        let search = Search {
            selection: Selection::payload(),
            filter: theirs.transpose().map_err(anyhow::Error::from)?,
            ..Search::new(POSITIVE_VECTOR, code, limit)
        };
        let collection = &self.storage.settings().explanations;
        let found = self.storage.store().search(collection, search).await?;
        let mut nearest = HashMap::new();
        for hit in found {
            let record = ExplanationRecord::from_point(hit.point).map_err(anyhow::Error::from)?;
            nearest.entry(record.user).or_insert(record);
        }
        Ok(nearest)
    }
}

/// The mean of the items' vectors.
fn mean(items: &[CampaignItem]) -> Vec<f32> {
    let width = items.first().map_or(0, |item| item.vector().len());
    let share = 1.0 / items.len().max(1) as f32;
    let mut mean = vec![0.0; width];
    for item in items {
        mean.iter_mut().zip(item.vector()).for_each(|(sum, value)| *sum += share * value);
    }
    mean
}

/// The caller's filter and those who know an item already, as one filter.
fn user_filter(
    request: &AudienceRequest,
    items: &[CampaignItem],
    exclude_seen: bool,
) -> Result<Option<Filter>, ApiError> {
    let invalid = |error: &dyn std::fmt::Display| {
        ApiError::new(Cause::Invalid, format!("`filter` cannot be used: {error}"))
    };
    let given =
        request.filter.clone().map(Filter::from_json).transpose().map_err(|e| invalid(&e))?;
    let stored = items.iter().filter(|item| !item.external_id().is_empty());
    let seen: Vec<_> =
        stored.map(|item| json!({ "key": "seen", "match": { "value": item.id() } })).collect();
    if !exclude_seen || seen.is_empty() {
        return Ok(given);
    }
    let unseen = Filter::from_json(json!({ "must_not": seen })).map_err(|e| invalid(&e))?;
    Ok(Some(match given {
        Some(given) => given.and(unseen),
        None => unseen,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_vectors_is_taken_number_by_number() {
        let items = [vec![1.0, 0.0], vec![3.0, 4.0]].map(|v| CampaignItem::described("a", v));
        assert_eq!(mean(&items), [2.0, 2.0]);
    }

    #[test]
    fn a_bad_filter_is_named() {
        let request =
            AudienceRequest { filter: Some(json!({ "must": 3 })), ..AudienceRequest::default() };
        let error = user_filter(&request, &[], true).unwrap_err();
        assert!(error.message.starts_with("`filter` cannot be used"), "{error}");
    }
}
