//! `whyrank eval`: whether explanations make predictions better, on the user's own data, with controls
//! and intervals. What is judged is held apart before anything is learned or written.

mod forecasts;
mod page;
mod paired;
mod peers;
mod report;
mod split;

use serde::{Deserialize, Serialize};

pub use forecasts::forecasts;
pub use page::page;
pub use paired::Versus;
pub use peers::{PeerAnswers, PeerSummary, read_answers, write_split};
pub use report::{
    ArmSummary, CalibrationBin, EvaluationReport, OrderSummary, OrderingSummary, PeerComparison,
    ShareSummary,
};
pub use split::{SplitKind, divide, share_of};

use crate::quality::QualityReport;
use crate::training::{Arm, ComparisonOutcome, OrderingSettings};

/// What is compared, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSettings {
    /// Which interactions are held apart as the test part: each consumer's newest (`time`), a random
    /// choice of each consumer's (`random`), or all of a random choice of items (`new_items`).
    pub split: SplitKind,
    /// Decides a random split.
    pub split_seed: u64,
    /// Share of each consumer's interactions, or of the items, that is held apart; above 0 and below 1.
    pub test: f32,
    /// Shares of the training interactions to learn from, each above 0 and at most 1.
    pub shares: Vec<f32>,
    /// The seeds; each decides what a share takes, how networks start, and what is shuffled.
    pub seeds: Vec<u64>,
    /// What is compared; the features alone must be among it, which the others are measured against.
    pub arms: Vec<Arm>,
    /// Pairs of the test part that are predicted at most: whole consumers, in a random order of a fixed seed,
    /// as long as they fit. 0 is all.
    pub maximum_test_pairs: usize,
    /// Pairs that explanations are written for at most, among those that are learned from; the codes of all
    /// others are predicted from these, as they are in answers. 0 writes for all pairs, those of the test too.
    pub written_pairs: usize,
    /// Resamples of the bootstrap behind intervals.
    pub resamples: usize,
    /// What is asked of the order of retrieved candidates.
    pub ordering: OrderingSettings,
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self {
            split: SplitKind::Time,
            split_seed: 0,
            test: 0.2,
            shares: vec![0.12, 0.25, 0.5, 1.0],
            seeds: vec![1, 2, 3, 4, 5],
            arms: Arm::ALL.to_vec(),
            maximum_test_pairs: 0,
            written_pairs: 0,
            resamples: 2_000,
            ordering: OrderingSettings::default(),
        }
    }
}

/// One training part of one seed, finished: the unit in which an evaluation is resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedRun {
    /// Digest of data and settings; a run of others is not taken up again.
    pub fingerprint: String,
    /// Digest of the program that made it.
    pub program: String,
    /// Share of the training interactions.
    pub share: f32,
    /// The seed.
    pub seed: u64,
    /// What came of it.
    pub outcome: ComparisonOutcome,
    /// How good the explanations are that an LLM was asked for; none where none was.
    #[serde(default)]
    pub quality: Option<QualityReport>,
}
