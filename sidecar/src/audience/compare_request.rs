//! What a caller asks of two audiences and what is answered, as they stand on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AudienceItem, AudienceRequest, ExpectedSize, SegmentText};
use crate::compare::Difference;
use crate::rerank::StageReport;

/// A request to compare two campaigns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AudienceComparisonRequest {
    /// One campaign.
    pub first: AudienceRequest,
    /// The other.
    pub second: AudienceRequest,
    /// How many groups the consumers of both are divided into by their reasons; the configured number
    /// if absent, 0 for none.
    #[serde(default)]
    pub segments: Option<usize>,
}

/// How two audiences overlap, and what differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AudienceComparisonResponse {
    /// One audience.
    pub first: AudienceSummary,
    /// The other.
    pub second: AudienceSummary,
    /// The consumers of both.
    pub overlap: AudienceOverlap,
    /// The consumers of both audiences grouped by their reasons, largest difference first.
    pub segments: Vec<ComparedSegment>,
    /// What each input group adds to the scores of the first audience, less what it adds to those of
    /// the second, in the mean; the largest first.
    pub differences: Vec<Difference>,
    /// The answer in words.
    pub summary: String,
    /// What each stage did and how long it took, in order.
    pub stages: Vec<StageReport>,
}

impl AudienceComparisonResponse {
    /// Takes away the texts of segments of fewer than `minimum` consumers.
    pub fn withhold_texts(&mut self, minimum: usize) {
        let small = |segment: &&mut ComparedSegment| segment.first + segment.second < minimum;
        for segment in self.segments.iter_mut().filter(small) {
            segment.typical = None;
            segment.objection = None;
        }
    }
}

/// One of two audiences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AudienceSummary {
    /// The items that were asked for.
    pub items: Vec<AudienceItem>,
    /// The campaign, if one was described.
    pub campaign: Option<String>,
    /// How many consumers were retrieved and ranked.
    pub candidates: usize,
    /// How many are in the audience.
    pub consumers: usize,
    /// Their mean probability of a like; absent for an empty audience.
    pub mean_probability: Option<f64>,
    /// How large a response is expected among the candidates.
    pub expected: ExpectedSize,
}

/// The consumers of both audiences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AudienceOverlap {
    /// How many there are.
    pub consumers: usize,
    /// Their share of the first audience.
    pub share_of_first: f64,
    /// Their share of the second audience.
    pub share_of_second: f64,
    /// Their share of all consumers of either (Jaccard index).
    pub share_of_either: f64,
    /// Their mean probability less in the second campaign than in the first; absent without any.
    pub probability_difference: Option<f64>,
}

/// Consumers with like reasons, counted in both audiences. A consumer of both counts in both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparedSegment {
    /// The words that set its reasons apart from those of the other segments.
    pub name: String,
    /// Consumers of the first audience in it.
    pub first: usize,
    /// Consumers of the second audience in it.
    pub second: usize,
    /// Its share of the first audience less its share of the second.
    pub share_difference: f64,
    /// The written reason for that lies nearest to the segment's centre.
    pub typical: Option<SegmentText>,
    /// The written reason against that lies nearest to the centre: the objection to answer.
    pub objection: Option<SegmentText>,
}
