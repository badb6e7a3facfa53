//! The amortized explainer: predicts both explanation codes of a pair that nobody has written yet.
//!
//! It learns from the written pairs and stands in for the LLM while a request waits. The report
//! puts its held-out cosine beside that of always answering the mean code.

mod network;
mod run;
#[cfg(test)]
mod tests;
mod train;

use serde::{Deserialize, Serialize};

use crate::network::TrainingSettings;
use crate::settings::{CheckedSettings, Faults, NO_WIDTH, SettingFault};

pub use run::{Codes, Explainer};
pub use train::{ExplainerExamples, ExplainerReport, TrainedExplainer};

/// The `kind` that an explainer's contract states.
pub const KIND: &str = "explainer";

/// How the amortized explainer is built and trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExplainerSettings {
    /// Widths of the two hidden layers.
    pub hidden: [usize; 2],
    /// Share of hidden numbers set to zero in each training step, from 0 up to below 1.
    pub dropout: f32,
    /// Share of the pairs that decide when to stop and give the report, between 0 and 1.
    pub validation_share: f64,
    /// The training loop.
    pub training: TrainingSettings,
}

impl Default for ExplainerSettings {
    fn default() -> Self {
        Self {
            hidden: [128, 128],
            dropout: 0.1,
            validation_share: 0.1,
            training: TrainingSettings { batch: 128, ..Default::default() },
        }
    }
}

impl CheckedSettings for ExplainerSettings {
    fn faults(&self) -> Vec<SettingFault> {
        let mut faults = Faults::default();
        faults.unless(!self.hidden.contains(&0), "hidden", self.hidden, NO_WIDTH);
        faults.unless_dropout("dropout", self.dropout);
        faults.unless_parting("validation_share", self.validation_share);
        faults.of_group("training", &self.training);
        faults.0
    }
}
