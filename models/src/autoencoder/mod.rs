//! The autoencoder: text embedding to explanation code and back.
//!
//! Pretrained on the embeddings of any texts at hand, then fine-tuned on those of the explanations.
//! The code has length 1, so that cosine and dot product agree in the store.

mod network;
mod run;
#[cfg(test)]
mod tests;
mod train;

use serde::{Deserialize, Serialize};

use crate::network::TrainingSettings;
use crate::settings::{CheckedSettings, Faults, NO_WIDTH, SettingFault};

pub use run::{Decoder, Encoder};
pub use train::{Autoencoder, AutoencoderReport};

/// The `kind` that an encoder's contract states.
pub const ENCODER_KIND: &str = "encoder";
/// The `kind` that a decoder's contract states.
pub const DECODER_KIND: &str = "decoder";

/// How the autoencoder is built and trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoencoderSettings {
    /// Width k of the code.
    pub code: usize,
    /// Width of the hidden layer on each side of the code.
    pub hidden: usize,
    /// Share of the embeddings that decide when to stop, between 0 and 1.
    pub validation_share: f64,
    /// The training loop of the first round, on any texts.
    pub pretrain: TrainingSettings,
    /// The training loop of the second round, on explanations.
    pub fine_tune: TrainingSettings,
}

impl Default for AutoencoderSettings {
    fn default() -> Self {
        Self {
            code: 32,
            hidden: 256,
            validation_share: 0.1,
            pretrain: TrainingSettings { batch: 128, weight_decay: 0.01, ..Default::default() },
            fine_tune: TrainingSettings {
                batch: 128,
                weight_decay: 0.01,
                learning_rate: 1e-3,
                ..Default::default()
            },
        }
    }
}

impl CheckedSettings for AutoencoderSettings {
    fn faults(&self) -> Vec<SettingFault> {
        let mut faults = Faults::default();
        faults.unless(self.code > 0, "code", self.code, NO_WIDTH);
        faults.unless(self.hidden > 0, "hidden", self.hidden, NO_WIDTH);
        faults.unless_parting("validation_share", self.validation_share);
        faults.of_group("pretrain", &self.pretrain);
        faults.of_group("fine_tune", &self.fine_tune);
        faults.0
    }
}
