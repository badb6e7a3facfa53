//! What sellers are told about an item is made once and told for a while, by all processes alike.
//!
//! The noise in an answer hides single consumers in that answer. Were a new one made whenever the data
//! change, a seller who asks every minute would average the noise away; so the number of answers is
//! bounded by time instead.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use whyrank_plugin::{ItemId, ReleaseRecord, Selection};

use super::request::{Competitor, InsightsRequest, InsightsResponse};
use super::{Insights, Viewer};
use crate::http::{ApiError, Cause, known_item};

/// What was told about an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Release {
    /// The answer without competitors.
    answer: InsightsResponse,
    /// The competitors of each question: a named one, or "" for those that outrank the item most.
    competitors: BTreeMap<String, Vec<Competitor>>,
}

impl Insights {
    /// What a seller is told: what was told before in this span of time, or a new answer.
    pub(super) async fn released(
        &self,
        item: &str,
        request: &InsightsRequest,
    ) -> Result<InsightsResponse, ApiError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let span =
            i64::try_from(self.settings.release_hours).unwrap_or(i64::MAX).saturating_mul(3_600);
        let id = known_item(&self.storage, item).await?.id;
        let kept = self.kept(id).await?;
        // A clock that was set back must not end a release either.
        let kept = kept.filter(|(made, _)| now.saturating_sub(*made) < span);
        let asked = request.competitor.clone().unwrap_or_default();
        if let Some((made, release)) = &kept {
            if let Some(competitors) = release.competitors.get(&asked) {
                return Ok(told(*made, span, release, competitors.clone()));
            }
            let most = self.settings.released_competitors;
            if release.competitors.len() >= most {
                let message = format!(
                    "sellers have asked for {most} competitors of this item in {} hours \
                     (`insights.released_competitors`); ask for one of those, or later",
                    self.settings.release_hours
                );
                return Err(ApiError::new(Cause::Full, message));
            }
        }
        let mut answer = self.answered(item, request, Viewer::Seller).await?;
        let competitors = std::mem::take(&mut answer.competitors);
        let (made, mut release) =
            kept.unwrap_or_else(|| (now, Release { answer, competitors: BTreeMap::new() }));
        release.competitors.insert(asked, competitors.clone());
        self.keep(id, made, &release).await?;
        Ok(told(made, span, &release, competitors))
    }

    async fn kept(&self, item: ItemId) -> Result<Option<(i64, Release)>, ApiError> {
        let ids = [ReleaseRecord::point_id(item)];
        let collection = &self.storage.settings().queue;
        let found = self.storage.store().read(collection, &ids, &Selection::payload()).await?;
        let Some(point) = found.into_iter().next().flatten() else { return Ok(None) };
        let record = ReleaseRecord::from_point(point).map_err(anyhow::Error::from)?;
        // One of an earlier version that cannot be read is made anew.
        Ok(serde_json::from_str(&record.content).ok().map(|release| (record.made, release)))
    }

    async fn keep(&self, item: ItemId, made: i64, release: &Release) -> Result<(), ApiError> {
        let content = serde_json::to_string(release).context("writing a release")?;
        let point = ReleaseRecord::new(item, made, content).to_point();
        self.storage.store().upsert(&self.storage.settings().queue, vec![point]).await?;
        Ok(())
    }
}

/// The answer, with the span of time that it is told in.
fn told(made: i64, span: i64, release: &Release, competitors: Vec<Competitor>) -> InsightsResponse {
    let mut answer = InsightsResponse { competitors, ..release.answer.clone() };
    let time = |seconds| DateTime::from_timestamp(seconds, 0).map(|time| time.format("%F %R UTC"));
    if let (Some(anonymity), Some(from), Some(to)) =
        (&mut answer.anonymity, time(made), time(made.saturating_add(span)))
    {
        anonymity.note += &format!("; this is what was found at {from}, and is told until {to}");
    }
    answer
}
