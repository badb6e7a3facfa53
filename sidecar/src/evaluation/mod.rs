//! `whyrank eval`: whether explanations make predictions better, on the user's own data, with controls
//! and intervals. What is judged is held apart before anything is learned or written.

mod report;
mod split;

use serde::{Deserialize, Serialize};

pub use report::{ArmSummary, EvaluationReport, ShareSummary, Versus};
pub use split::{divide, share_of};

use crate::training::ComparisonOutcome;

/// What is compared, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSettings {
    /// Share of each consumer's interactions, the newest, that is held apart as the test part; above 0
    /// and below 1.
    pub test: f32,
    /// Shares of the training interactions to learn from, each above 0 and at most 1.
    pub shares: Vec<f32>,
    /// The seeds; each decides what a share takes, how networks start, and what is shuffled.
    pub seeds: Vec<u64>,
    /// Pairs of the test part that are predicted at most; a random choice of a fixed seed. 0 is all.
    pub maximum_test_pairs: usize,
    /// Resamples of the bootstrap behind intervals over test pairs.
    pub resamples: usize,
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self {
            test: 0.2,
            shares: vec![0.12, 0.25, 0.5, 1.0],
            seeds: vec![1, 2, 3, 4, 5],
            maximum_test_pairs: 0,
            resamples: 2_000,
        }
    }
}

/// One training part of one seed, finished: the unit in which an evaluation is resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedRun {
    /// Digest of data and settings; a run of others is not taken up again.
    pub fingerprint: String,
    /// Share of the training interactions.
    pub share: f32,
    /// The seed.
    pub seed: u64,
    /// What came of it.
    pub outcome: ComparisonOutcome,
}
