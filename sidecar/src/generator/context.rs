//! What the generator is told about one consumer and one item.
//!
//! No type here can carry how the consumer rated the item: the generator must never see the label
//! of the pair that it explains.

use serde::{Deserialize, Serialize};

/// Everything known about a pair, as the store gives it. Its text is untrusted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PairContext {
    /// The consumer.
    #[serde(default)]
    pub consumer: ConsumerBrief,
    /// The candidate item.
    pub item: ItemBrief,
    /// The consumer's own items that are nearest to the candidate.
    #[serde(default)]
    pub evidence: Evidence,
}

/// The consumer, as told to the generator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConsumerBrief {
    /// Label and value, such as `occupation`, `technician`, in the order of the configuration.
    #[serde(default)]
    pub attributes: Vec<(String, String)>,
    /// Statistics over the consumer's history.
    #[serde(default)]
    pub statistics: Statistics,
}

/// Statistics over a consumer's history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Number of ratings.
    pub count: u64,
    /// Mean rating on the data's own scale.
    pub mean_rating: f32,
}

/// The candidate item, as told to the generator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemBrief {
    /// Its title.
    pub title: String,
    /// Its description; may be empty.
    #[serde(default)]
    pub text: String,
    /// Its genres, categories or features.
    #[serde(default)]
    pub attributes: Vec<String>,
}

/// The consumer's own items nearest to the candidate, nearest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Items that the consumer rated well.
    #[serde(default)]
    pub liked: Vec<EvidenceItem>,
    /// Items that the consumer rated badly.
    #[serde(default)]
    pub disliked: Vec<EvidenceItem>,
}

/// One item of the consumer's own history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EvidenceItem {
    /// Its title.
    pub title: String,
    /// Its genres, categories or features.
    #[serde(default)]
    pub attributes: Vec<String>,
    /// How the consumer rated it, on the data's own scale.
    #[serde(default)]
    pub rating: f32,
    /// Similarity of its vector to the candidate's.
    #[serde(default)]
    pub similarity: f32,
}
