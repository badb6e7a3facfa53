//! What is done with rankings off the request's path: a candidate model ranks some of them too, and
//! some are logged for training. A request hands over a copy and never waits.

use std::sync::Arc;

use whyrank_plugin::{Codes, ExplanationState};

use super::Reranker;
use super::feature_log::FeatureLog;
use super::rank::Ranking;
use super::retrieve::Retrieved;
use super::shadow::Shadow;
use crate::artifacts::RerankModels;
use crate::versions::{LiveModels, ModelSettings};

/// A ranking that was answered, with its inputs.
#[derive(Debug)]
pub(super) struct Observed {
    /// The version of the models.
    pub(super) version: String,
    pub(super) retrieved: Retrieved,
    /// The written codes, in retrieval order; none for pairs that nothing is written for.
    pub(super) stored: Vec<Option<Codes>>,
    pub(super) states: Vec<ExplanationState>,
    /// What was ordered by, in retrieval order.
    pub(super) values: Vec<f32>,
    /// Places in retrieval order, best first.
    pub(super) order: Vec<usize>,
}

impl Observed {
    fn new(models: &RerankModels, retrieved: &Retrieved, ranking: &Ranking) -> Self {
        let written = ranking.codes.iter().zip(&ranking.states).map(|(codes, state)| match state {
            ExplanationState::Written | ExplanationState::Stale => codes.clone(),
            ExplanationState::Predicted | ExplanationState::Absent => None,
        });
        Self {
            version: models.version.clone(),
            retrieved: retrieved.clone(),
            stored: written.collect(),
            states: ranking.states.clone(),
            values: ranking.values.clone(),
            order: ranking.order.clone(),
        }
    }
}

/// Those who look at rankings. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observers {
    pub(super) shadow: Option<Shadow>,
    pub(super) log: Option<FeatureLog>,
}

impl Observers {
    /// Hands a ranking to those who drew it. Never waits.
    pub(super) fn ranked(&self, models: &RerankModels, retrieved: &Retrieved, ranking: &Ranking) {
        let shadow = self.shadow.as_ref().filter(|shadow| shadow.draws(&models.version));
        let log = self.log.as_ref().filter(|log| log.draws());
        if shadow.is_none() && log.is_none() {
            return;
        }
        let observed = Arc::new(Observed::new(models, retrieved, ranking));
        if let Some(shadow) = shadow {
            shadow.offer(observed.clone());
        }
        if let Some(log) = log {
            log.offer(observed);
        }
    }
}

impl Reranker {
    /// The same, a share of whose rankings the candidate makes too, and a share of which is logged.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub(crate) fn observed(
        self,
        settings: &ModelSettings,
        candidate: Option<RerankModels>,
    ) -> anyhow::Result<Self> {
        let log = FeatureLog::start(&settings.feature_log, self.scale, &self.metrics)?;
        let (share, length) = (settings.shadow_share, settings.shadow_queue);
        let shadow =
            candidate.map(|candidate| Shadow::start(self.clone(), candidate, share, length));
        Ok(Self { observers: Observers { shadow, log }, ..self })
    }

    /// The models that are switched under it.
    pub(crate) fn live_models(&self) -> &LiveModels {
        &self.models
    }

    /// The same with the models that are live now, whatever is switched meanwhile: for requests of many
    /// steps, which must not meet two versions.
    pub(crate) fn pinned(&self) -> Self {
        Self { models: self.models.pinned(), ..self.clone() }
    }
}

/// Whether a request is among this share of all.
pub(super) fn drawn(share: f32) -> bool {
    share >= 1.0 || rand::random::<f32>() < share
}
