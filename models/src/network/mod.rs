//! What all trained networks share: layers, the training loop, input checks, fingerprints.

pub(crate) mod check;
pub(crate) mod layers;
pub(crate) mod training;

pub use training::{TrainingReport, TrainingSettings};
