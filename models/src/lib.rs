//! Everything of Whyrank that is a neural network or the vectors around one: factorisation, text
//! embedding, autoencoder, explainer, ranker, the measures to judge them by, and their weights.

pub mod autoencoder;
pub mod error;
pub mod explainer;
pub mod factorisation;
pub mod metrics;
mod network;
pub mod onnx;
pub mod progress;
pub mod ranker;
mod settings;
pub mod side_information;
pub mod taste;
#[cfg(test)]
mod testing;
pub mod text;
pub mod weights;

pub use error::{Error, Result};
pub use network::{TrainingReport, TrainingSettings};
pub use settings::{CheckedSettings, SettingFault};
