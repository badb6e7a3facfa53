//! What a caller asks of the reranker and what it answers, as they stand on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use whyrank_plugin::{Contributions, Explanation, ExplanationState, Provenance, Source};

/// A request for recommendations: for a consumer in the store, or for one given only by a history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecommendRequest {
    /// The consumer's id as the data gave it. With a `history` as well, the history counts.
    pub user: Option<String>,
    /// What a consumer who is not in the store did; enough to make a vector from.
    pub history: Option<Vec<GivenInteraction>>,
    /// How many results; the configured limit if absent.
    pub limit: Option<usize>,
    /// How many candidates are retrieved and reranked; the configured number if absent.
    pub candidates: Option<usize>,
    /// A filter on items, in Qdrant's JSON.
    #[schema(value_type = Option<Object>)]
    pub filter: Option<serde_json::Value>,
    /// Whether items the consumer already knows are left out; the configured choice if absent.
    pub exclude_seen: Option<bool>,
    /// Whether texts and contributions come with the results; the configured choice if absent.
    pub explain: Option<bool>,
}

/// One interaction of a consumer who is not in the store: with an item by id, or with something
/// described in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenInteraction {
    /// An item in the store, by the id the data gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// A description of something that is not in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The rating, on the scale of the data.
    pub rating: f32,
}

/// Recommendations, with an account of how they came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecommendResponse {
    /// The consumer, if one in the store was named.
    pub user: Option<String>,
    /// Present when the results are in retrieval order because reranking failed.
    pub degraded: Option<Degradation>,
    /// How many candidates were retrieved.
    pub candidates: usize,
    /// The results, best first.
    pub results: Vec<Recommendation>,
    /// What each stage did and how long it took, in order.
    pub stages: Vec<StageReport>,
}

/// Why results are in retrieval order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Degradation {
    /// One word: `deadline`, `store`, `model` or `no_model`.
    pub reason: String,
    /// What happened.
    pub message: String,
}

/// One recommended item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Recommendation {
    /// The item's id as the data gave it.
    pub item: String,
    /// Its title.
    pub title: String,
    /// Place in this answer, from 1.
    pub rank: u32,
    /// Place in the retrieval order, from 1.
    pub retrieval_rank: u32,
    /// The score results are ordered by; absent when degraded.
    pub score: Option<f32>,
    /// The predicted rating; absent when degraded.
    pub rating: Option<f32>,
    /// The predicted probability of a like, of an item that was taken up; absent when degraded.
    pub like: Option<f32>,
    /// The predicted probability that the consumer takes the item up in the next while; absent when
    /// degraded, or if the ranker was trained without.
    pub take_up: Option<f32>,
    /// Qdrant's score of the candidate.
    pub retrieval_score: f32,
    /// Where the explanation codes came from: `written`, `stale` (written, but profile, prompt or model
    /// have changed since), `predicted` or `absent`.
    #[schema(value_type = String)]
    pub state: ExplanationState,
    /// The written reasons, if any and asked for.
    pub explanation: Option<Reasons>,
    /// The account of the score, if asked for.
    pub contributions: Option<ContributionsView>,
}

/// The written reasons of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reasons {
    /// Why the consumer would like the item.
    pub positive: String,
    /// Why the consumer would not.
    pub negative: String,
    /// What wrote them: `llm`, or `template` where no accepted text came from an LLM.
    pub source: String,
    /// The generator and its model.
    pub generator: String,
    /// What has changed since they were written: `profile`, `prompt` or `model`; absent while they are
    /// current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
}

impl Reasons {
    /// The texts of a stored explanation.
    pub(crate) fn of(explanation: Explanation, provenance: Provenance) -> Self {
        Self {
            positive: explanation.positive,
            negative: explanation.negative,
            source: match provenance.source {
                Source::Llm => "llm".to_owned(),
                Source::Template => "template".to_owned(),
            },
            generator: provenance.generator,
            stale: None,
        }
    }

    /// The same, told to be stale if something has changed since.
    pub(crate) fn but_stale(self, stale: Option<String>) -> Self {
        Self { stale, ..self }
    }
}

/// The share of each input group in the score; `base` and the groups add up to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContributionsView {
    /// The score with every group at its mean, the same for all candidates.
    pub base: f32,
    /// The consumer's and the item's vector.
    pub user_item: f32,
    /// The reasons for.
    pub positive: f32,
    /// The reasons against.
    pub negative: f32,
    /// The consumer's latest items.
    pub history: f32,
    /// The context features.
    pub context: f32,
}

impl From<Contributions> for ContributionsView {
    fn from(account: Contributions) -> Self {
        let Contributions { base, user_item, positive, negative, history, context } = account;
        Self { base, user_item, positive, negative, history, context }
    }
}

impl ContributionsView {
    /// What each group adds, without the base.
    pub(crate) fn parts(&self) -> [f32; 5] {
        [self.user_item, self.positive, self.negative, self.history, self.context]
    }

    /// The part of all influence, positive or negative, that one group has: from 0 to 1.
    pub fn share(&self, group: f32) -> f32 {
        let sum: f32 = self.parts().iter().map(|value| value.abs()).sum();
        if sum > 0.0 { group.abs() / sum } else { 0.0 }
    }
}

/// What one stage did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StageReport {
    /// Its name: `retrieve`, `recall`, `complete`, `rank`, `account` or `answer`.
    pub stage: String,
    /// How long it took.
    pub milliseconds: f64,
    /// What it did, in words.
    pub detail: String,
}
