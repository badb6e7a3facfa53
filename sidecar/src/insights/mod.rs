//! Insights: why an item ranks where it ranks, over the consumers for whom it is a candidate. What
//! consumers say is grouped into themes, and what would change is computed with the real ranker.

mod request;

use serde::{Deserialize, Serialize};
use whyrank_plugin::secret::Secret;

pub use request::{
    Anonymity, Bucket, Competitor, Distribution, Effect, Estimate, Influence, InsightsRequest,
    InsightsResponse, SampleReport, Theme, TrendPeriod, WhatIf,
};

use crate::http::{ApiError, Cause};
use crate::rerank::Reranker;
use crate::storage::Storage;

/// Limits and choices of insights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InsightsSettings {
    /// The most consumers of the sample: for whom the item is a candidate.
    pub consumers: usize,
    /// The most consumers that a request may ask for.
    pub maximum_consumers: usize,
    /// The consumers nearest to the item that the sample is drawn from.
    pub pool: usize,
    /// The most written explanations of an item that are read.
    pub explanations: usize,
    /// The most themes of each side.
    pub themes: usize,
    /// The most themes that a request may ask for.
    pub maximum_themes: usize,
    /// Competitors that are shown.
    pub competitors: usize,
    /// Spans of time of a trend.
    pub periods: usize,
    /// Objections of others that are tried in the place of one that is answered.
    pub answers: usize,
    /// Resamples of the bootstrap behind the interval of an estimate.
    pub resamples: usize,
    /// What fewer consumers have in common is not told to a seller.
    pub minimum_consumers: usize,
    /// How much a number told to a seller may depend on one consumer: the epsilon of differential
    /// privacy. Less hides more.
    pub epsilon: f64,
    /// What the noise in numbers told to sellers is made from; needed where a key has the role `seller`.
    pub noise_secret: Option<Secret>,
    /// Seconds after which a request is given up.
    pub timeout_seconds: u64,
}

impl Default for InsightsSettings {
    fn default() -> Self {
        Self {
            consumers: 200,
            maximum_consumers: 2_000,
            pool: 1_000,
            explanations: 2_000,
            themes: 4,
            maximum_themes: 20,
            competitors: 3,
            periods: 6,
            answers: 8,
            resamples: 1_000,
            minimum_consumers: 10,
            epsilon: 0.5,
            noise_secret: None,
            timeout_seconds: 60,
        }
    }
}

/// For whom an answer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Somebody who may see everything.
    Operator,
    /// A seller, from whom single consumers are hidden.
    Seller,
}

/// Answers questions about items. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Insights {
    reranker: Reranker,
    storage: Storage,
    settings: InsightsSettings,
}

impl Insights {
    /// Over the reranker's models.
    pub fn new(reranker: Reranker, storage: Storage, settings: InsightsSettings) -> Self {
        Self { reranker, storage, settings }
    }

    /// Seconds after which a request is given up.
    pub fn timeout_seconds(&self) -> u64 {
        self.settings.timeout_seconds
    }

    /// Why an item ranks where it ranks.
    ///
    /// # Errors
    /// When an item is unknown or has no vector, a number is out of its limits, there is no trained
    /// ranker, or the store cannot be read.
    pub async fn insights(
        &self,
        _item: &str,
        _request: &InsightsRequest,
        _viewer: Viewer,
    ) -> Result<InsightsResponse, ApiError> {
        Err(ApiError::new(Cause::NotReady, "insights are not computed yet"))
    }
}
