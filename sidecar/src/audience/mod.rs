//! Audiences: the consumers most likely to respond to items or to a campaign in words. Qdrant
//! retrieves them, the ranker of recommendations ranks them, and the reasons say why.

mod compare;
mod compare_request;
pub mod export;
mod request;
mod retrieve;
mod segments;

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use whyrank_plugin::{ExplanationRecord, UserId};

pub use compare_request::{
    AudienceComparisonRequest, AudienceComparisonResponse, AudienceOverlap, AudienceSummary,
    ComparedSegment,
};
pub use request::{
    AudienceItem, AudienceMember, AudienceRequest, AudienceResponse, ExpectedSize, Segment,
    SegmentText,
};

use crate::http::{ApiError, Cause};
use crate::rerank::{CampaignItem, Reasons, Reranker, Response, ScoreKind, StageReport};
use crate::storage::Storage;
use crate::writing::CodeMaker;

use self::retrieve::RetrievedUsers;

/// Consumers whose histories are held in memory at once.
const BLOCK: usize = 1_000;

/// Limits and choices of audiences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudienceSettings {
    /// How many consumers are retrieved and ranked.
    pub candidates: usize,
    /// The most consumers that a request may have ranked.
    pub maximum_candidates: usize,
    /// How many consumers are returned.
    pub limit: usize,
    /// The most consumers that a request may have returned.
    pub maximum_limit: usize,
    /// The most items of one request.
    pub maximum_items: usize,
    /// The probability of a like from which on a consumer counts to the expected size.
    pub threshold: f32,
    /// Consumers that a segment must have for a key of the role campaign to see its texts.
    pub minimum_consumers: usize,
    /// Whether consumers who have interacted with an item of the request are left out.
    pub exclude_seen: bool,
    /// Groups that the audience is divided into by its reasons; small audiences have fewer.
    pub segments: usize,
    /// The most groups that a request may ask for.
    pub maximum_segments: usize,
    /// Seconds after which a request is given up.
    pub timeout_seconds: u64,
}

impl Default for AudienceSettings {
    fn default() -> Self {
        Self {
            candidates: 1_000,
            maximum_candidates: 10_000,
            limit: 100,
            maximum_limit: 10_000,
            maximum_items: 20,
            threshold: 0.5,
            minimum_consumers: 10,
            exclude_seen: true,
            segments: 4,
            maximum_segments: 20,
            timeout_seconds: 60,
        }
    }
}

/// Answers requests for audiences. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audiences {
    reranker: Reranker,
    storage: Storage,
    codes: Option<CodeMaker>,
    settings: AudienceSettings,
}

impl Audiences {
    /// Over the reranker's models; without an encoder a campaign's words are only compared with
    /// items, not with reasons.
    pub fn new(
        reranker: Reranker,
        storage: Storage,
        codes: Option<CodeMaker>,
        settings: AudienceSettings,
    ) -> Self {
        Self { reranker, storage, codes, settings }
    }

    /// Seconds after which a request is given up.
    pub fn timeout_seconds(&self) -> u64 {
        self.settings.timeout_seconds
    }

    /// Consumers that a segment must have for a campaign's planner to see its texts.
    pub fn minimum_consumers(&self) -> usize {
        self.settings.minimum_consumers
    }

    /// Whether the autoencoder is trained, which gives texts their codes.
    pub(crate) fn has_encoder(&self) -> bool {
        self.codes.is_some()
    }

    /// The audience of items or of a campaign.
    ///
    /// # Errors
    /// When the request makes no sense or names an unknown item, there is no trained ranker, or the
    /// store cannot be read.
    pub async fn audience(&self, request: &AudienceRequest) -> Result<AudienceResponse, ApiError> {
        let mut clock = Clock::start();
        let found = self.found(request, &mut clock).await?;
        let Found { items, candidates, places, expected, shown, nearest, limits } = &found;
        let mut reasons = self.reasons(shown, items).await;
        let mut consumers: Vec<AudienceMember> = shown
            .iter()
            .zip(1..)
            .map(|(response, rank)| {
                let item = items[response.item].external_id();
                let own = reasons.remove(&response.user);
                let about = if own.is_none() { nearest.get(&response.user) } else { None };
                let reasons_about = about.map(|record| record.item_external_id.clone());
                let written = own.or_else(|| about.cloned());
                AudienceMember {
                    user: response.external_id.clone(),
                    rank,
                    retrieval_rank: places.get(&response.user).copied().unwrap_or_default(),
                    probability: response.probability,
                    take_up: response.take_up,
                    score: response.score.like,
                    rating: response.score.rating,
                    item: (!item.is_empty()).then(|| item.to_owned()),
                    segment: None,
                    state: response.state,
                    explanation: written.map(|record| {
                        let stale = self.reranker.freshness().stale(&record);
                        Reasons::of(record.explanation, record.provenance).but_stale(stale)
                    }),
                    reasons_about,
                    contributions: response.contributions.map(Into::into),
                }
            })
            .collect();
        let segments = self.segments(shown, items, limits.segments, &mut consumers).await?;
        clock.lap("answer", format!("{} consumers", consumers.len()));
        Ok(AudienceResponse {
            items: found.named(),
            campaign: request.campaign.clone(),
            candidates: *candidates,
            expected: *expected,
            consumers,
            segments,
            stages: clock.reports,
        })
    }

    /// Retrieves and ranks; those in the audience come back with the account of their scores.
    async fn found(&self, request: &AudienceRequest, clock: &mut Clock) -> Result<Found, ApiError> {
        let limits = self.limits(request)?;
        let retrieved = self.retrieve(request, &limits).await?;
        clock.lap("retrieve", format!("{} consumers", retrieved.users.len()));
        let RetrievedUsers { items, users: retrieved, reasons: nearest } = retrieved;
        let candidates = retrieved.len();
        let places: HashMap<UserId, u32> =
            retrieved.iter().zip(1..).map(|(id, place)| (*id, place)).collect();
        let mut responses = Vec::with_capacity(candidates);
        // All blocks are compared with each other, so that one version of the models must rank them.
        let reranker = self.reranker.pinned();
        // Where nobody will be cut, everybody's account is taken at once.
        let all_shown = candidates <= limits.limit;
        let at_once = all_shown.then_some(ScoreKind::Like);
        for block in retrieved.chunks(BLOCK) {
            let users = self.users(block).await?;
            responses.extend(reranker.responses(users, &items, at_once).await?);
        }
        let expected = expected(&responses, limits.threshold);
        // A stable sort: equal predictions keep the retrieval order.
        responses.sort_by(|left, right| right.likelihood().total_cmp(&left.likelihood()));
        responses.truncate(limits.limit);
        clock.lap("rank", format!("{candidates} consumers, {} items", items.len()));
        let shown = if all_shown {
            responses
        } else {
            let mut shown = Vec::with_capacity(responses.len());
            let order: Vec<UserId> = responses.iter().map(|response| response.user).collect();
            for block in order.chunks(BLOCK) {
                let users = self.users(block).await?;
                shown.extend(reranker.responses(users, &items, Some(ScoreKind::Like)).await?);
            }
            clock.lap("account", format!("{} consumers", shown.len()));
            shown
        };
        Ok(Found { items, candidates, places, expected, shown, nearest, limits })
    }

    /// How many segments, if that many are allowed.
    fn bounded_segments(&self, wanted: Option<usize>) -> Result<usize, ApiError> {
        let most = self.settings.maximum_segments;
        let wanted = wanted.unwrap_or(self.settings.segments);
        bound("segments", wanted, 0, most, "audience.maximum_segments")
    }

    fn limits(&self, request: &AudienceRequest) -> Result<Limits, ApiError> {
        let settings = &self.settings;
        let limit = request.limit.unwrap_or(settings.limit);
        let limit = bound("limit", limit, 1, settings.maximum_limit, "audience.maximum_limit")?;
        let most = settings.maximum_candidates;
        let candidates = request.candidates.unwrap_or_else(|| settings.candidates.max(limit));
        let candidates = bound("candidates", candidates, 1, most, "audience.maximum_candidates")?;
        let segments = self.bounded_segments(request.segments)?;
        let threshold = request.threshold.unwrap_or(settings.threshold);
        if !(0.0..=1.0).contains(&threshold) {
            let message = format!("`threshold` is {threshold}; it must be from 0 to 1");
            return Err(ApiError::new(Cause::Invalid, message));
        }
        let exclude_seen = request.exclude_seen.unwrap_or(settings.exclude_seen);
        Ok(Limits { limit, candidates, segments, threshold, exclude_seen })
    }

    /// The written reasons of those who are shown. A store that fails here costs the texts, not the
    /// answer.
    async fn reasons(
        &self,
        shown: &[Response],
        items: &[CampaignItem],
    ) -> HashMap<UserId, ExplanationRecord> {
        let pairs: Vec<_> = shown.iter().map(|r| (r.user, items[r.item].id())).collect();
        let mut found = HashMap::new();
        for block in pairs.chunks(BLOCK) {
            match self.storage.explanations(block).await {
                Ok(records) => found.extend(records.into_iter().flatten().map(|r| (r.user, r))),
                Err(error) => tracing::warn!(%error, "the written reasons could not be read"),
            }
        }
        found
    }
}

/// An audience before it is told.
struct Found {
    items: Vec<CampaignItem>,
    candidates: usize,
    /// Places in the retrieval order, from 1.
    places: HashMap<UserId, u32>,
    expected: ExpectedSize,
    /// Those in the audience, most likely first.
    shown: Vec<Response>,
    /// Of consumers whose reasons lie near a campaign's words: the nearest one.
    nearest: HashMap<UserId, ExplanationRecord>,
    limits: Limits,
}

impl Found {
    /// The stored items of the request.
    fn named(&self) -> Vec<AudienceItem> {
        let named = self.items.iter().filter(|item| !item.external_id().is_empty());
        let named = named.map(|item| AudienceItem {
            item: item.external_id().to_owned(),
            title: item.title().to_owned(),
        });
        named.collect()
    }
}

/// A number of the request, if it lies within its bounds.
fn bound(
    what: &str,
    value: usize,
    least: usize,
    most: usize,
    setting: &str,
) -> Result<usize, ApiError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let message = format!("`{what}` is {value}; it must be from {least} to {most} (`{setting}`)");
    Err(ApiError::new(Cause::Invalid, message))
}

/// The request's numbers, checked.
#[derive(Debug, Clone, Copy)]
struct Limits {
    limit: usize,
    candidates: usize,
    segments: usize,
    threshold: f32,
    exclude_seen: bool,
}

fn expected(responses: &[Response], threshold: f32) -> ExpectedSize {
    let above = || responses.iter().filter(|response| response.probability >= threshold);
    let likelihood = |response: &Response| f64::from(response.likelihood());
    ExpectedSize {
        threshold,
        consumers: above().count(),
        responses: above().map(likelihood).sum(),
        responses_of_all: responses.iter().map(likelihood).sum(),
    }
}

/// Keeps the first of each.
fn distinct<T: Copy + Eq + std::hash::Hash>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    values.into_iter().filter(|value| seen.insert(*value)).collect()
}

/// Measures the stages of one request.
pub(crate) struct Clock {
    last: Instant,
    pub(crate) reports: Vec<StageReport>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { last: Instant::now(), reports: Vec::new() }
    }

    pub(crate) fn lap(&mut self, stage: &str, detail: String) {
        let now = Instant::now();
        let milliseconds = (now - self.last).as_secs_f64() * 1e3;
        self.last = now;
        self.reports.push(StageReport { stage: stage.to_owned(), milliseconds, detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_is_kept() {
        assert_eq!(distinct([3, 1, 3, 2, 1]), [3, 1, 2]);
    }
}
