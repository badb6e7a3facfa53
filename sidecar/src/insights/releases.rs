//! What sellers are told about an item is made once and told for a while, by all processes alike.
//!
//! The noise in an answer hides single consumers in that answer. Were a new one made whenever the data
//! change, a seller who asks every minute would average the noise away; so the number of answers is
//! bounded by time instead. Whatever a seller asks is cut out of the same answer. Two processes that are
//! asked at the same moment may each make one; the later is kept.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::json;
use whyrank_plugin::records::{KIND_KEY, RELEASE_KIND};
use whyrank_plugin::{Filter, ItemId, ReleaseRecord, Scroll, Selection};

use super::request::{InsightsRequest, InsightsResponse};
use super::{Insights, LOCKS, Viewer};
use crate::http::{ApiError, Cause, known_item};

/// Releases whose time is over that are cleared away at once.
const CLEARED: usize = 100;

/// What was told about an item, and how single consumers were hidden in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Release {
    answer: InsightsResponse,
    minimum_consumers: usize,
    epsilon: f64,
}

impl Insights {
    /// What a seller is told: what was told before in this span of time, or a new answer.
    pub(super) async fn released(
        &self,
        item: &str,
        request: &InsightsRequest,
    ) -> Result<InsightsResponse, ApiError> {
        let span = i64::try_from(self.settings.release_hours).unwrap_or(i64::MAX);
        let span = span.saturating_mul(3_600);
        let id = known_item(&self.storage, item).await?.id;
        // Requests of one moment wait for one answer, instead of making one each.
        let lock = &self.releasing[place(id) % LOCKS];
        let _releasing = lock.lock().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let (made, release) = match self.kept(id, now, span).await? {
            Some(kept) => kept,
            None => {
                let asked = InsightsRequest { competitor: None, ..request.clone() };
                let answer = self.answered(item, &asked, Viewer::Seller).await?;
                let (minimum_consumers, epsilon) =
                    (self.settings.minimum_consumers, self.settings.epsilon);
                let release = Release { answer, minimum_consumers, epsilon };
                if span > 0 {
                    self.keep(id, now, span, &release).await?;
                }
                (now, release)
            }
        };
        let mut answer = release.answer;
        if let Some(named) = &request.competitor {
            answer.competitors.retain(|competitor| competitor.item == *named);
            if answer.competitors.is_empty() {
                let message = format!(
                    "{named:?} is not among the competitors that a seller is told about: those that \
                     outrank the item most often; leave `competitor` out to see them"
                );
                return Err(ApiError::new(Cause::Forbidden, message));
            }
        }
        Ok(dated(answer, made, span))
    }

    /// What is told in this span of time, unless less is to be told by now.
    async fn kept(
        &self,
        item: ItemId,
        now: i64,
        span: i64,
    ) -> Result<Option<(i64, Release)>, ApiError> {
        let ids = [ReleaseRecord::point_id(item)];
        let collection = &self.storage.settings().queue;
        let found = self.storage.store().read(collection, &ids, &Selection::payload()).await?;
        let Some(point) = found.into_iter().next().flatten() else { return Ok(None) };
        let record = ReleaseRecord::from_point(point).map_err(anyhow::Error::from)?;
        // One of an earlier version that cannot be read is made anew.
        let Ok(release) = serde_json::from_str::<Release>(&record.content) else { return Ok(None) };
        // One that was made by a clock which was ahead ends as well.
        let current = now.saturating_sub(record.made).saturating_abs() < span;
        let private = release.minimum_consumers >= self.settings.minimum_consumers
            && release.epsilon <= self.settings.epsilon;
        Ok((current && private).then_some((record.made, release)))
    }

    /// Keeps a release, and clears away those whose time is over.
    async fn keep(
        &self,
        item: ItemId,
        made: i64,
        span: i64,
        release: &Release,
    ) -> Result<(), ApiError> {
        let (store, collection) = (self.storage.store(), &self.storage.settings().queue);
        let content = serde_json::to_string(release).context("writing a release")?;
        let point = ReleaseRecord::new(item, made, content).to_point();
        store.upsert(collection, vec![point]).await?;
        let over = Filter::from_json(json!({ "must": [
            { "key": KIND_KEY, "match": { "value": RELEASE_KIND } },
            { "key": "made", "range": { "lt": made.saturating_sub(span) } },
        ] }))
        .map_err(anyhow::Error::from)?;
        let selection = Selection::payload();
        let scroll = Scroll { filter: Some(over), from: None, limit: CLEARED, selection };
        let ids: Vec<_> =
            store.scroll(collection, scroll).await?.points.iter().map(|point| point.id).collect();
        store.delete(collection, &ids).await?;
        Ok(())
    }
}

/// A number that is the same for the same item.
fn place(item: ItemId) -> usize {
    let mut hasher = DefaultHasher::new();
    item.hash(&mut hasher);
    hasher.finish() as usize
}

/// The answer, with the span of time that it is told in.
fn dated(mut answer: InsightsResponse, made: i64, span: i64) -> InsightsResponse {
    let time = |seconds| DateTime::from_timestamp(seconds, 0).map(|time| time.format("%F %R UTC"));
    if let (Some(anonymity), Some(from), Some(to), true) =
        (&mut answer.anonymity, time(made), time(made.saturating_add(span)), span > 0)
    {
        anonymity.note += &format!("; this is what was found at {from}, and is told until {to}");
    }
    answer
}
