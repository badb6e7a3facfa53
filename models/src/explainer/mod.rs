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

use crate::error::{Error, Result};
use crate::network::TrainingSettings;

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

impl ExplainerSettings {
    fn check(&self) -> Result<()> {
        if self.hidden.contains(&0) {
            let reason = "a layer needs a width above 0";
            return Err(Error::Setting {
                name: "hidden",
                value: format!("{:?}", self.hidden),
                reason,
            });
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::Setting {
                name: "dropout",
                value: self.dropout.to_string(),
                reason: "it must be at least 0 and below 1",
            });
        }
        Ok(())
    }
}
