//! What a seller asks about an item and what is answered, as they stand on the wire.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::compare::Difference;
use crate::rerank::StageReport;

/// What is asked about an item, besides which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct InsightsRequest {
    /// An item to compare with, by the id that the data gave it; absent, those that outrank it most.
    pub competitor: Option<String>,
    /// The most consumers of the sample; the configured number if absent. Not for sellers.
    pub consumers: Option<usize>,
    /// The most themes of each side; the configured number if absent. Not for sellers.
    pub themes: Option<usize>,
}

/// Why an item ranks where it ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InsightsResponse {
    /// The item's id as the data gave it.
    pub item: String,
    /// Its title.
    pub title: String,
    /// Present where the answer is made for a seller: how single consumers are hidden in it.
    pub anonymity: Option<Anonymity>,
    /// Whom and what the answer stands on.
    pub sample: SampleReport,
    /// Its rank among the candidates, from 1, over the consumers for whom it is one.
    pub rank: Distribution,
    /// What consumers are predicted to think of it, which reasons move: the probability of a like, from 0
    /// to 1, or the rating where `rerank.score` is that.
    pub score: Distribution,
    /// What the reasons do to its place.
    pub influence: Influence,
    /// What speaks for it, what moves the score most first.
    pub themes_for: Vec<Theme>,
    /// What speaks against it, what moves the score most first, each with what would change if it were
    /// answered.
    pub themes_against: Vec<Theme>,
    /// The named competitor, or those that outrank it most often, most often first.
    pub competitors: Vec<Competitor>,
    /// What each stage did and how long it took, in order. Empty for a seller.
    pub stages: Vec<StageReport>,
}

/// How single consumers are hidden in an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Anonymity {
    /// Nothing is told that fewer consumers have in common; counts are multiples of it.
    pub minimum_consumers: usize,
    /// How the numbers are to be read.
    pub note: String,
}

/// Whom and what an answer stands on. A number that is withheld is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SampleReport {
    /// Consumers that were looked at: drawn from those nearest to the item.
    pub drawn: Option<usize>,
    /// Those of them for whom the item is a candidate.
    pub consumers: Option<usize>,
    /// Candidates of one consumer.
    pub candidates: usize,
    /// Written explanations of the item that were read.
    pub explanations: Option<usize>,
}

/// How a number is distributed over consumers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Distribution {
    /// The mean; absent where it is withheld or there is none.
    pub mean: Option<f64>,
    /// The quarter, the half and the three-quarter point; absent for a seller.
    pub quartiles: Option<[f64; 3]>,
    /// Neighbouring ranges with the consumers in them; withheld ones are left out.
    pub buckets: Vec<Bucket>,
}

/// A range of a distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Bucket {
    /// The least number in it.
    pub from: f64,
    /// The end of the range: in it for ranks, outside of it for scores except the last.
    pub to: f64,
    /// Consumers in it.
    pub consumers: usize,
}

/// What the reasons do to an item's place: as it is, less without them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Influence {
    /// The reasons for.
    pub positive: Effect,
    /// The reasons against.
    pub negative: Effect,
    /// Both together.
    pub both: Effect,
}

/// A mean change of score and place. Absent where it is withheld or there is nobody to measure it on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Effect {
    /// How much greater the score is for it; below zero if it is smaller.
    pub score: Option<f64>,
    /// How many places better the rank is for it; below zero if it is worse.
    pub places: Option<f64>,
}

/// Reasons that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Theme {
    /// The words that set its reasons apart.
    pub name: String,
    /// These words one by one, the most telling first.
    pub terms: Vec<String>,
    /// Consumers who hold it, by a written or a predicted reason.
    pub consumers: usize,
    /// Those of them whose reason is written; absent where it is withheld.
    pub written: Option<usize>,
    /// The share of the consumers with a reason on this side who hold it.
    pub share: f64,
    /// The written sentence nearest to its centre; never given to a seller.
    pub representative: Option<String>,
    /// How much the reasons on this side move the score of those who hold it, in the mean.
    pub effect: Option<f64>,
    /// How its share of the written reasons moved, oldest first; empty where too little is written.
    pub trend: Vec<TrendPeriod>,
    /// `rising`, `falling` or `steady`; absent where too little is written.
    pub direction: Option<String>,
    /// What would change if it were answered; only of what speaks against.
    pub if_answered: Option<WhatIf>,
}

/// A theme in a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrendPeriod {
    /// Its beginning, in seconds since 1970.
    pub from: i64,
    /// Its end, in seconds since 1970.
    pub until: i64,
    /// Written reasons of the theme in it.
    pub reasons: usize,
    /// Their share of all written reasons of the item in it.
    pub share: f64,
}

/// What would change if an objection were answered: an estimate. The consumers who hold it are ranked
/// again by the real ranker as if they had, in its place, objections that others have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhatIf {
    /// Consumers of the sample who hold the objection.
    pub consumers: usize,
    /// How many places the item would gain with them.
    pub places: Estimate,
    /// How much the score would grow with them.
    pub score: Estimate,
    /// The answer in words.
    pub summary: String,
}

/// A mean with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
    /// The share of bootstrap samples in the interval, such as 0.95.
    pub confidence: f64,
}

/// Another item, against the one asked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Competitor {
    /// Its id as the data gave it.
    pub item: String,
    /// Its title.
    pub title: String,
    /// Consumers with whom it stands above; absent where it is withheld.
    pub above: Option<usize>,
    /// The share of the compared consumers with whom it stands above; absent where it is withheld.
    pub share_above: Option<f64>,
    /// What each input group adds to the item's score, less what it adds to the competitor's; the
    /// largest first. Empty where it is withheld.
    pub differences: Vec<Difference>,
    /// What speaks for the competitor more than for the item.
    pub they_win_on: Vec<String>,
    /// What speaks for the item more than for the competitor.
    pub you_win_on: Vec<String>,
    /// The answer in words.
    pub summary: String,
}
