//! The rerank pipeline: retrieve, recall, complete, rank, account, answer. Each stage's result is a
//! type that the next one takes, so that they cannot run in another order.
//!
//! A fault or a missed deadline after retrieval gives the retrieval order, marked degraded: never an
//! error that plain Qdrant would not have given, never a lost or doubled item.

mod answer;
mod rank;
mod request;
mod retrieve;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use request::{
    ContributionsView, Degradation, GivenInteraction, Reasons, RecommendRequest, RecommendResponse,
    Recommendation, StageReport,
};

use crate::artifacts::RerankModels;
use crate::cold_start::ColdStart;
use crate::features::RatingScale;
use crate::http::{ApiError, Cause};
use crate::metrics::Metrics;
use crate::queue::MissingPairs;
use crate::storage::Storage;

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
    /// What candidates are ordered by.
    pub score: ScoreKind,
}

/// The prediction that candidates are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreKind {
    /// The probability of a like.
    Like,
    /// The predicted rating.
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
            score: ScoreKind::Like,
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
    models: Option<Arc<RerankModels>>,
    cold_start: Option<Arc<ColdStart>>,
    missing: Option<MissingPairs>,
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
            metrics,
        } = parts;
        Self { storage, settings, scale, code_dimension, models, cold_start, missing, metrics }
    }

    /// Whether explainer and ranker are loaded.
    pub fn has_models(&self) -> bool {
        self.models.is_some()
    }

    /// Hands the shown pairs that nothing is written for to the queue, so that the next answer has
    /// their reasons. Never waits: a full queue leaves them out.
    fn offer_missing(
        &self,
        retrieved: &retrieve::Retrieved,
        results: &[(whyrank_plugin::ItemId, Recommendation)],
    ) {
        let (Some(missing), Some((user, _))) = (&self.missing, &retrieved.user) else { return };
        for (item, result) in results {
            if result.state == whyrank_plugin::ExplanationState::Predicted {
                missing.offer(*user, *item);
            }
        }
    }

    fn history_length(&self) -> usize {
        self.models.as_ref().map_or(0, |models| models.ranker.history_length())
    }

    fn cold_start(&self) -> Result<Arc<ColdStart>, ApiError> {
        self.cold_start.clone().ok_or_else(|| {
            let message = "a history cannot be used yet: there is no vector model; run `whyrank train vectors`";
            ApiError::new(Cause::NotReady, message)
        })
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
        let ranked = match &self.models {
            None => Err(Fault {
                reason: "no_model",
                message: "there is no trained ranker; run `whyrank train`".to_owned(),
            }),
            Some(models) => {
                let deadline = Duration::from_millis(self.settings.deadline_milliseconds);
                let accounted = if explain { limit } else { 0 };
                let ranking = rank::rank(self, models, &retrieved, accounted, &mut clock);
                tokio::time::timeout(deadline, ranking).await.unwrap_or_else(|_| {
                    Err(Fault {
                        reason: "deadline",
                        message: format!("reranking took longer than {} ms", deadline.as_millis()),
                    })
                })
            }
        };
        let mut results = match &ranked {
            Ok(ranking) => answer::ranked(&retrieved, ranking, limit),
            Err(_) => answer::in_retrieval_order(&retrieved, limit),
        };
        if explain {
            answer::add_reasons(self, &retrieved, &mut results).await;
        }
        for (_, result) in &results {
            let state = match result.state {
                whyrank_plugin::ExplanationState::Written => "written",
                whyrank_plugin::ExplanationState::Predicted => "predicted",
                whyrank_plugin::ExplanationState::Absent => "absent",
            };
            self.metrics.candidates.with_label_values(&[state]).inc();
        }
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
        self.offer_missing(&retrieved, &results);
        Ok(RecommendResponse {
            user: retrieved.user.map(|(_, external)| external),
            degraded,
            candidates: retrieved.items.len(),
            results: results.into_iter().map(|(_, result)| result).collect(),
            stages: clock.reports,
        })
    }
}
