//! The rerank pipeline: retrieve, recall, complete, rank, account, answer. Each stage's result is a
//! type that the next one takes, so that they cannot run in another order.
//!
//! A fault or a missed deadline after retrieval gives the retrieval order, marked degraded: never an
//! error that plain Qdrant would not have given, never a lost or doubled item.

mod answer;
mod batch;
mod consumer;
mod feature_log;
mod gateway;
mod influence;
mod observe;
mod place;
mod rank;
mod request;
mod retrieve;
mod shadow;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use whyrank_plugin::{Candidate, Codes, ExplanationState, ItemId};

pub(crate) use batch::{CampaignItem, Response};
pub use feature_log::FeatureLogSettings;
pub(crate) use influence::Bound;
pub(crate) use place::{Placed, Reconsidered, Variant};
pub use request::{
    ContributionsView, Degradation, GivenInteraction, Reasons, RecommendRequest, RecommendResponse,
    Recommendation, StageReport,
};

use self::observe::Observers;
use crate::artifacts::RerankModels;
use crate::cold_start::ColdStart;
use crate::features::RatingScale;
use crate::http::{ApiError, Cause, deadline};
use crate::metrics::Metrics;
use crate::queue::MissingPairs;
use crate::staleness::Freshness;
use crate::storage::Storage;
use crate::telemetry;
use crate::versions::LiveModels;

/// Limits and choices of the rerank pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RerankSettings {
    /// How many candidates are retrieved and reranked.
    pub candidates: usize,
    /// The most candidates that a request may ask for.
    pub maximum_candidates: usize,
    /// How many results are returned.
    pub limit: usize,
    /// The most results that a request may ask for.
    pub maximum_limit: usize,
    /// The most interactions of a history given in a request.
    pub maximum_history: usize,
    /// Milliseconds after retrieval until the retrieval order is returned instead.
    pub deadline_milliseconds: u64,
    /// Whether items that the consumer already knows are left out.
    pub exclude_seen: bool,
    /// Whether texts and contributions come with the results.
    pub explain: bool,
    /// What candidates are ordered by: `response`, `like` or `rating`.
    pub score: ScoreKind,
    /// How far texts may move a score from what it is without them: the like-probability by this much, the
    /// rating by this share of twice the way from a dislike to a like. 1 is no bound.
    pub maximum_text_influence: f32,
}

/// The prediction that candidates are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreKind {
    /// The probability that the consumer takes the item up, times that of a like then. Where the ranker
    /// does not know who takes items up, the probability of a like.
    Response,
    /// The probability of a like, of an item that was taken up.
    Like,
    /// The predicted rating of an item that was taken up.
    Rating,
}

impl Default for RerankSettings {
    fn default() -> Self {
        Self {
            candidates: 200,
            maximum_candidates: 1_000,
            limit: 10,
            maximum_limit: 100,
            maximum_history: 500,
            deadline_milliseconds: 200,
            exclude_seen: true,
            explain: true,
            score: ScoreKind::Response,
            // On MovieLens-100k codes move the like-probability of honest candidates by 0.04 in the
            // median, 0.15 at 99 %, 0.20 at 99.9 % and 0.29 at most (8,000 candidates of 40 consumers;
            // 4 are beyond the bound), those of hostile texts by up to 0.60.
            maximum_text_influence: 0.25,
        }
    }
}

/// Why the retrieval order was returned.
#[derive(Debug)]
struct Fault {
    reason: &'static str,
    message: String,
}

impl Fault {
    fn model(error: impl std::fmt::Display) -> Self {
        Self { reason: "model", message: error.to_string() }
    }

    fn store(error: impl std::fmt::Display) -> Self {
        Self { reason: "store", message: error.to_string() }
    }
}

/// Measures the stages of one request.
#[derive(Debug)]
struct StageClock {
    metrics: Metrics,
    last: Instant,
    reports: Vec<StageReport>,
}

impl StageClock {
    fn start(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), last: Instant::now(), reports: Vec::with_capacity(6) }
    }

    /// The stage that began with the last lap is over.
    fn lap(&mut self, stage: &str, detail: String) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        self.last = now;
        self.metrics.stage_seconds.with_label_values(&[stage]).observe(seconds);
        telemetry::stage(stage, seconds);
        self.reports.push(StageReport {
            stage: stage.to_owned(),
            milliseconds: seconds * 1e3,
            detail,
        });
    }
}

/// Answers requests for recommendations. Cheap to clone; keeps no state between requests.
#[derive(Debug, Clone)]
pub struct Reranker {
    storage: Storage,
    settings: RerankSettings,
    scale: RatingScale,
    code_dimension: usize,
    models: LiveModels,
    cold_start: Option<Arc<ColdStart>>,
    missing: Option<MissingPairs>,
    freshness: Freshness,
    observers: Observers,
    metrics: Metrics,
}

/// What a [`Reranker`] is made of.
#[derive(Debug)]
pub struct RerankerParts {
    /// The collections.
    pub storage: Storage,
    /// Limits and choices.
    pub settings: RerankSettings,
    /// What ratings mean in the data.
    pub scale: RatingScale,
    /// Width k of the codes.
    pub code_dimension: usize,
    /// Explainer and ranker; without them answers are in retrieval order, marked `no_model`.
    pub models: Option<Arc<RerankModels>>,
    /// Makes vectors for consumers who are only a history.
    pub cold_start: Option<Arc<ColdStart>>,
    /// Takes the pairs that a request would have liked to find written; none queues nothing.
    pub missing: Option<MissingPairs>,
    /// Knows which explanations are stale.
    pub freshness: Freshness,
    /// Where stage times and outcomes are counted.
    pub metrics: Metrics,
}

impl Reranker {
    /// Puts a reranker together.
    pub fn new(parts: RerankerParts) -> Self {
        let RerankerParts {
            storage,
            settings,
            scale,
            code_dimension,
            models,
            cold_start,
            missing,
            freshness,
            metrics,
        } = parts;
        Self {
            storage,
            settings,
            scale,
            code_dimension,
            models: LiveModels::new(models),
            cold_start,
            missing,
            freshness,
            observers: Observers::default(),
            metrics,
        }
    }

    /// What knows which explanations are stale.
    pub(crate) fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Whether explainer and ranker are loaded.
    pub fn has_models(&self) -> bool {
        self.models.current().is_some()
    }

    /// Whether consumers who are only a history can be served: there is a vector model.
    pub(crate) fn has_vectors(&self) -> bool {
        self.cold_start.is_some()
    }

    /// Hands the shown pairs that nothing is written for, or nothing current, to the queue, so that the
    /// next answer has their reasons. Never waits: a full queue leaves them out.
    fn offer_missing(
        &self,
        retrieved: &retrieve::Retrieved,
        shown: impl Iterator<Item = (ItemId, ExplanationState)>,
    ) {
        let (Some(missing), Some((user, _))) = (&self.missing, &retrieved.user) else { return };
        for (item, state) in shown {
            match state {
                ExplanationState::Predicted => missing.missing(*user, item),
                ExplanationState::Stale => missing.stale(*user, item),
                ExplanationState::Written | ExplanationState::Absent => {}
            }
        }
    }

    /// What candidates are ordered by.
    pub(crate) fn score(&self) -> ScoreKind {
        self.settings.score
    }

    /// How far texts may move a score.
    fn bound(&self) -> Bound {
        Bound::new(self.settings.maximum_text_influence, self.scale)
    }

    /// The lowest and the highest rating that the ranker learned from, if it says so.
    pub(crate) fn learned_ratings(&self) -> Option<[f32; 2]> {
        self.models.current().and_then(|models| models.ranker.ratings())
    }

    fn history_length(&self) -> usize {
        self.models.current().map_or(0, |models| models.ranker.history_length())
    }

    /// What makes vectors of histories, if there is a model for it.
    pub(crate) fn vectors_of_histories(&self) -> Option<Arc<ColdStart>> {
        self.cold_start.clone()
    }

    fn cold_start(&self) -> Result<Arc<ColdStart>, ApiError> {
        self.cold_start.clone().ok_or_else(|| {
            let message = "a history cannot be used yet: there is no vector model; run `whyrank train vectors`";
            ApiError::new(Cause::NotReady, message)
        })
    }

    /// Stages 2 to 5, with the models that there are.
    async fn rank(
        &self,
        retrieved: &retrieve::Retrieved,
        accounted: usize,
        clock: &mut StageClock,
    ) -> Result<rank::Ranking, Fault> {
        let Some(models) = self.models.current() else {
            let message = "there is no trained ranker; run `whyrank train`".to_owned();
            return Err(Fault { reason: "no_model", message });
        };
        let stored = rank::recall(self, retrieved.user_id(), retrieved.item_ids()).await?;
        clock.lap("recall", format!("{} written", stored.iter().flatten().count()));
        rank::rank(self, &models, retrieved, stored, accounted, clock)
    }

    /// The vector of a consumer who is only a history.
    ///
    /// # Errors
    /// When the history is empty, too long, or names what is not in the store.
    pub async fn vector_of_history(
        &self,
        history: &[GivenInteraction],
    ) -> Result<Vec<f32>, ApiError> {
        Ok(consumer::from_history(self, history).await?.state.vector)
    }

    /// The vector of a stored consumer.
    ///
    /// # Errors
    /// When the consumer is not in the store, or has no vector yet.
    pub async fn vector_of_user(&self, external: &str) -> Result<Vec<f32>, ApiError> {
        Ok(consumer::by_name(self, external).await?.state.vector)
    }

    /// The codes of a pair: those that are written, or those that are predicted.
    ///
    /// # Errors
    /// When consumer or item are not in the store, or there is no explainer.
    pub async fn codes_of_pair(&self, user: &str, item: &str) -> Result<Codes, ApiError> {
        let consumer = consumer::by_name(self, user).await?;
        let unknown = |message: String| ApiError::new(Cause::UnknownItem, message);
        let id = self.storage.item_id(item).map_err(|error| unknown(error.to_string()))?;
        let record = self.storage.items(&[id]).await?.pop().flatten();
        let record = record.ok_or_else(|| unknown(format!("item {item:?} is not in the store")))?;
        let not_ready = |message: &str| ApiError::new(Cause::NotReady, message);
        let models = self.models.current();
        let models = models.ok_or_else(|| not_ready("there is no trained explainer yet"))?;
        let candidate = Candidate { item: id, retrieval_score: 0.0, retrieval_rank: 1 };
        let items = vec![retrieve::RetrievedItem::of_record(candidate, record)];
        let retrieved =
            retrieve::Retrieved { user: consumer.user, consumer: consumer.state, items };
        let codes = rank::codes(self, &models, &retrieved).await;
        codes
            .map_err(|fault| ApiError::new(Cause::Internal, fault.message))?
            .ok_or_else(|| not_ready("there are no codes for this pair yet"))
    }

    /// Recommends items: reranked candidates, or the retrieval order marked degraded.
    ///
    /// # Errors
    /// Only what plain retrieval would also refuse: an unknown consumer, a request that makes no
    /// sense, a store that cannot be read.
    pub async fn recommend(
        &self,
        request: &RecommendRequest,
    ) -> Result<RecommendResponse, ApiError> {
        let mut clock = StageClock::start(&self.metrics);
        let retrieved = retrieve::retrieve(self, request, &mut clock).await?;
        let limit = request.limit.unwrap_or(self.settings.limit);
        let explain = request.explain.unwrap_or(self.settings.explain);
        let accounted = if explain { limit } else { 0 };
        let deadline = deadline::within(Duration::from_millis(self.settings.deadline_milliseconds));
        let ranking = self.rank(&retrieved, accounted, &mut clock);
        let ranked = tokio::time::timeout(deadline, ranking).await.unwrap_or_else(|_| {
            let message = format!("reranking took longer than {} ms", deadline.as_millis());
            Err(Fault { reason: "deadline", message })
        });
        let mut results = match &ranked {
            Ok(ranking) => answer::ranked(&retrieved, ranking, limit),
            Err(_) => answer::in_retrieval_order(&retrieved, limit),
        };
        if explain {
            answer::add_reasons(self, &retrieved, &mut results).await;
        }
        results.iter().for_each(|(_, result)| self.metrics.shown(result.state));
        clock.lap("answer", format!("{} results", results.len()));
        let degraded = ranked.err().map(|fault| {
            self.metrics.degraded.with_label_values(&[fault.reason]).inc();
            tracing::warn!(
                reason = fault.reason,
                message = fault.message,
                "answered in retrieval order"
            );
            Degradation { reason: fault.reason.to_owned(), message: fault.message }
        });
        let shown = results.iter().map(|(item, result)| (*item, result.state));
        self.offer_missing(&retrieved, shown);
        Ok(RecommendResponse {
            user: retrieved.user.map(|(_, external)| external),
            degraded,
            candidates: retrieved.items.len(),
            results: results.into_iter().map(|(_, result)| result).collect(),
            stages: clock.reports,
        })
    }
}
