//! User and item vectors: a weighted matrix factorisation (iALS) with a text prior.
//!
//! A liked pair has target 1, an observed pair that was not liked a lower one, both with weight 1;
//! every other pair has target 0 with a small weight, which the Gram matrix of the other side
//! accounts for without visiting the pairs. Each vector is pulled to a linear image of its text, so
//! an item that nobody has met yet still gets a vector in the same space (`Factorisation::item_from_text`).
//! Source: Rendle et al., "Revisiting the Performance of iALS", 2021; the text prior is ours.

mod evaluate;
mod fold_in;
mod prior;
mod save;
mod solve;
mod train;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::settings::{CheckedSettings, Faults, SettingFault};

pub use evaluate::{RetrievalReport, popularity, retrieval};
pub use fold_in::FoldIn;
pub use prior::TextProjection;
pub use train::{Factorisation, FactorisationData, Interaction};

/// The `kind` that the contract of a saved factorisation states.
pub const KIND: &str = "factorisation";

/// How user and item vectors are learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FactorisationSettings {
    /// Width d of the vectors.
    pub dimension: usize,
    /// A rating of at least this is a like, in the units of the ratings.
    pub like_threshold: f32,
    /// Target of a pair that was observed and not liked, where a like is 1 and unobserved is 0.
    pub disliked_target: f32,
    /// Weight of an unobserved pair, where an observed pair has weight 1.
    pub unobserved_weight: f64,
    /// Pull of each vector to its text's image (or to zero), per unit of the weight of its pairs.
    pub regularisation: f64,
    /// Pull of the text's linear map to zero, as a share of the mean weight of a text feature.
    pub text_regularisation: f64,
    /// Rounds of solving all users, then all items, then the map from text.
    pub iterations: usize,
    /// Seed of the starting vectors.
    pub seed: u64,
}

impl Default for FactorisationSettings {
    fn default() -> Self {
        Self {
            dimension: 32,
            like_threshold: 4.0,
            disliked_target: 0.3,
            unobserved_weight: 0.4,
            regularisation: 0.012,
            text_regularisation: 1.0,
            iterations: 12,
            seed: 42,
        }
    }
}

impl CheckedSettings for FactorisationSettings {
    fn faults(&self) -> Vec<SettingFault> {
        let mut faults = Faults::default();
        let number = "a vector needs at least one number";
        faults.unless(self.dimension > 0, "dimension", self.dimension, number);
        let round = "at least one round is needed";
        faults.unless(self.iterations > 0, "iterations", self.iterations, round);
        let positive = [
            ("unobserved_weight", self.unobserved_weight),
            ("regularisation", self.regularisation),
            ("text_regularisation", self.text_regularisation),
        ];
        for (name, value) in positive {
            faults.unless_positive(name, value);
        }
        for (name, value) in
            [("like_threshold", self.like_threshold), ("disliked_target", self.disliked_target)]
        {
            faults.unless(value.is_finite(), name, value, "it must be a finite number");
        }
        faults.0
    }
}

impl FactorisationSettings {
    /// The target of an observed pair.
    fn target(&self, rating: f32) -> f64 {
        if rating >= self.like_threshold { 1.0 } else { f64::from(self.disliked_target) }
    }
}
