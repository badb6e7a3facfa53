//! What a caller asks of two audiences and what is answered, as they stand on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::compare::in_one_sentence;
use super::request::FEW;
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
    /// Takes away the texts and the words of segments of fewer than `minimum` consumers; who is in both audiences is one.
    pub fn withhold_texts(&mut self, minimum: usize) {
        for segment in &mut self.segments {
            if segment.first + segment.second - segment.both < minimum {
                segment.typical = None;
                segment.objection = None;
                segment.name = FEW.to_owned();
            }
        }
        // The sentence names a segment too.
        self.summary = in_one_sentence(&self.overlap, &self.segments, &self.differences);
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
    /// Consumers of both audiences in it, who are counted in `first` and in `second`.
    pub both: usize,
    /// Its share of the first audience less its share of the second.
    pub share_difference: f64,
    /// The written reason for that lies nearest to the segment's centre.
    pub typical: Option<SegmentText>,
    /// The written reason against that lies nearest to the centre: the objection to answer.
    pub objection: Option<SegmentText>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::ExpectedSize;

    fn segment(name: &str, [first, second, both]: [usize; 3]) -> ComparedSegment {
        let text = || {
            Some(SegmentText { text: format!("{name} is what they like"), item: "1".to_owned() })
        };
        ComparedSegment {
            name: name.to_owned(),
            first,
            second,
            both,
            share_difference: 0.01,
            typical: text(),
            objection: text(),
        }
    }

    /// Regression: who was in both audiences counted twice, so that half as many were enough.
    #[test]
    fn texts_of_fewer_consumers_are_withheld_however_often_each_is_counted() {
        let summary = AudienceSummary {
            items: Vec::new(),
            campaign: None,
            candidates: 9,
            consumers: 9,
            mean_probability: None,
            expected: ExpectedSize {
                threshold: 0.5,
                consumers: 0,
                responses: 0.0,
                responses_of_all: 0.0,
            },
        };
        let mut response = AudienceComparisonResponse {
            first: summary.clone(),
            second: summary,
            overlap: AudienceOverlap {
                consumers: 9,
                share_of_first: 1.0,
                share_of_second: 1.0,
                share_of_either: 1.0,
                probability_difference: None,
            },
            segments: vec![segment("space", [9, 9, 9]), segment("war", [6, 6, 2])],
            differences: Vec::new(),
            summary: "the first has more of \"space\" (+1 points).".to_owned(),
            stages: Vec::new(),
        };
        response.withhold_texts(10);
        let told = serde_json::to_string(&response).unwrap();
        assert!(!told.contains("space") && told.contains("war is what they like"), "{told}");
    }
}
