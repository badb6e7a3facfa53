//! What the method is about: interactions, explanations and their codes, candidates and the ranked
//! answer. Plain data, shared by every room that touches Qdrant.

use serde::{Deserialize, Serialize};

use crate::id::{ItemId, UserId};

/// One consumer's rating of one item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interaction {
    /// Who rated.
    pub user: UserId,
    /// What was rated.
    pub item: ItemId,
    /// The rating, on the scale of the data set (MovieLens: 0.5 to 5).
    pub rating: f32,
    /// When, in seconds since the Unix epoch.
    pub time: i64,
}

/// The two texts written for a pair, whatever its label: why the consumer would like the item and
/// why not (LR-Recsys, arXiv 2502.16759).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Why the consumer would like the item.
    pub positive: String,
    /// Why the consumer would not like the item.
    pub negative: String,
}

/// The latent code of one side of an explanation, `[k]` (k = 32 by default).
pub type Code = Vec<f32>;

/// The codes of both sides of an explanation, `[k]` each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Codes {
    /// The code of the positive text.
    pub positive: Code,
    /// The code of the negative text.
    pub negative: Code,
}

/// An item as retrieval returned it, before reranking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The item.
    pub item: ItemId,
    /// Qdrant's score: the dot product of the user's and the item's vector by default.
    pub retrieval_score: f32,
    /// Place in the retrieval order, from 1.
    pub retrieval_rank: u32,
}

/// Where the explanation codes of a candidate came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExplanationState {
    /// An explanation is stored and its codes were used.
    Written,
    /// The same, but the profile, the prompt or the model has changed since it was written.
    Stale,
    /// No explanation is stored; the amortized explainer predicted the codes.
    Predicted,
    /// There are no codes: the score does not depend on an explanation.
    Absent,
}

/// The share of each input group in a score. `base` and the groups add up to the score.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Contributions {
    /// The score of the base input, from which the groups account the difference.
    pub base: f32,
    /// The user's and the item's vector.
    pub user_item: f32,
    /// The positive explanation's code.
    pub positive: f32,
    /// The negative explanation's code.
    pub negative: f32,
    /// The consumer's recent items.
    pub history: f32,
    /// The context features.
    pub context: f32,
}

impl Contributions {
    /// The score that the contributions add up to.
    pub fn total(&self) -> f32 {
        self.base + self.user_item + self.positive + self.negative + self.history + self.context
    }
}

/// A reranked candidate with all that accounts for its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The candidate with its retrieval score and rank, which are never mixed with the new ones.
    pub candidate: Candidate,
    /// The ranker's score; absent when the answer is the retrieval order (degraded).
    pub score: Option<f32>,
    /// Place after reranking, from 1.
    pub rank: u32,
    /// Where the codes came from.
    pub state: ExplanationState,
    /// The texts, where they are written and were asked for.
    pub explanation: Option<Explanation>,
    /// The account of the score, where it was asked for.
    pub contributions: Option<Contributions>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_a_lower_case_word() {
        let check = |state: ExplanationState, expected: &str| {
            assert_eq!(serde_json::to_string(&state).unwrap(), expected);
        };
        check(ExplanationState::Written, "\"written\"");
        check(ExplanationState::Stale, "\"stale\"");
        check(ExplanationState::Predicted, "\"predicted\"");
        check(ExplanationState::Absent, "\"absent\"");
    }

    #[test]
    fn contributions_add_up() {
        let contributions = Contributions {
            base: 1.0,
            user_item: 2.0,
            positive: 4.0,
            negative: -8.0,
            history: 16.0,
            context: 32.0,
        };
        assert_eq!(contributions.total(), 47.0);
    }
}
