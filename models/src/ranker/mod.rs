//! The ranker: predicts the rating and the like-probability of a consumer for a candidate from
//! vectors, both explanation codes, attention over the consumer's history, and context features.
//! A linear part over the context features stands beside the network ("Wide & Deep", Cheng et al.
//! 2016): with few examples it is most of what can be learned.
//!
//! Training builds a candle network over complete examples; the exported file takes the history of
//! one consumer once for all rows of a run, because a rerank has one consumer and many candidates.
//! That turns the attention of the whole batch into two plain matrix products.

mod calibration;
mod contributions;
mod examples;
mod export;
mod linear;
mod network;
mod run;
mod take_up;
#[cfg(test)]
mod tests;
mod train;

use serde::{Deserialize, Serialize};

use crate::network::TrainingSettings;
use crate::settings::{CheckedSettings, Faults, NO_WIDTH, SettingFault};

pub use calibration::{Calibration, CalibrationReport, calibration_error};
pub use contributions::{Contributions, GroupShares};
pub use examples::{CandidateInput, ConsumerInput, RankerExamples, RankerShape};
pub use run::{Ranker, Score};
pub use take_up::{TakeUp, TakeUpExamples};
pub use train::{RankerReport, TrainedRanker};

/// The `kind` that a ranker's contract states.
pub const KIND: &str = "ranker";

/// How the ranker is built and trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RankerSettings {
    /// Most items of the consumer's history that the attention sees; older ones are left out.
    pub history_length: usize,
    /// Widths of the two hidden layers.
    pub hidden: [usize; 2],
    /// Share of hidden numbers set to zero in each training step, from 0 up to below 1.
    pub dropout: f32,
    /// Weight of the like-probability's cross-entropy beside the rating's squared error, which is
    /// measured in units of the ratings' variance.
    pub like_weight: f64,
    /// Which input groups the network may see; the others are held at their training mean.
    pub groups: InputGroups,
    /// Networks that are trained from different starts; the one that does best on the validation part is
    /// kept, for some starts end far from what others find.
    pub starts: usize,
    /// The training loop.
    pub training: TrainingSettings,
}

impl Default for RankerSettings {
    fn default() -> Self {
        Self {
            history_length: 20,
            hidden: [128, 64],
            dropout: 0.2,
            like_weight: 1.0,
            groups: InputGroups::default(),
            starts: 3,
            training: TrainingSettings::default(),
        }
    }
}

impl CheckedSettings for RankerSettings {
    fn faults(&self) -> Vec<SettingFault> {
        let mut faults = Faults::default();
        let room = "the attention needs room for one item";
        faults.unless(self.history_length > 0, "history_length", self.history_length, room);
        faults.unless(self.starts > 0, "starts", self.starts, "at least one network is needed");
        faults.unless(!self.hidden.contains(&0), "hidden", self.hidden, NO_WIDTH);
        faults.unless_dropout("dropout", self.dropout);
        faults.unless_weight("like_weight", self.like_weight);
        faults.of_group("training", &self.training);
        faults.0
    }
}

/// Which groups of inputs a ranker sees. Switching one off keeps the network's size, so that
/// comparisons with and without a group spend the same budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InputGroups {
    /// User vector, item vector and their product.
    pub user_item: bool,
    /// Code of the positive explanation.
    pub positive: bool,
    /// Code of the negative explanation.
    pub negative: bool,
    /// Attention over the consumer's history.
    pub history: bool,
    /// Context features.
    pub context: bool,
}

impl InputGroups {
    /// How many groups there are.
    pub(crate) const COUNT: usize = 5;

    /// The switches in the order user-item, positive, negative, context, history.
    pub(crate) fn switches(self) -> [bool; Self::COUNT] {
        [self.user_item, self.positive, self.negative, self.context, self.history]
    }

    /// The groups with their switches in the order of [`InputGroups::switches`].
    pub(crate) fn from_switches(switches: [bool; Self::COUNT]) -> Self {
        let [user_item, positive, negative, context, history] = switches;
        Self { user_item, positive, negative, history, context }
    }

    /// The groups that are on in both.
    pub(crate) fn and(self, other: Self) -> Self {
        let (mine, others) = (self.switches(), other.switches());
        Self::from_switches(std::array::from_fn(|i| mine[i] && others[i]))
    }
}

impl Default for InputGroups {
    fn default() -> Self {
        Self { user_item: true, positive: true, negative: true, history: true, context: true }
    }
}
