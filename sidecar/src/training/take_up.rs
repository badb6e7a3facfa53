//! Who takes items up: learned from the pairs that the ranker learns from, against pairs that never met,
//! drawn evenly over all consumers and items, so that those who take up much are told from those who do not.

use anyhow::Result;
use ndarray::Array2;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use whyrank_models::metrics::auc;
use whyrank_models::ranker::{TakeUp, TakeUpExamples};
use whyrank_plugin::{HistoryEntry, ItemId};

use super::Trainer;
use super::ranking::{Example, Known};
use crate::features::CONTEXT;

/// Pairs that were not taken up for each that was.
const OTHERS: usize = 5;
/// Context features that tell of take-up most directly.
const FEW: [&str; 3] = ["dot_product", "item_count_log", "user_count_log"];

/// What learning take-up reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TakeUpOutcome {
    /// The context features that it uses: those that did best on the validation part.
    pub features: Vec<&'static str>,
    /// Area under the ROC curve on the validation part: taken up, against sampled others.
    pub auc: f64,
}

impl Trainer {
    /// Learns take-up; none where consumers have met all items, or nobody met any.
    pub(super) fn learn_take_up(
        &self,
        known: &Known,
        examples: &[Example<'_>],
    ) -> Result<Option<(TakeUp, TakeUpOutcome)>> {
        let (training, validation): (Vec<&Example<'_>>, Vec<&Example<'_>>) =
            examples.iter().partition(|example| !example.validation);
        let Some(training) = self.take_ups(known, &training)? else { return Ok(None) };
        let Some(validation) = self.take_ups(known, &validation)? else { return Ok(None) };
        let few: Vec<usize> = (0..CONTEXT.len()).filter(|at| FEW.contains(&CONTEXT[*at])).collect();
        let mut best: Option<(TakeUp, TakeUpOutcome)> = None;
        for columns in [few, (0..CONTEXT.len()).collect()] {
            let model = TakeUp::learn(&training, &columns)?;
            let rows = validation.features.rows().into_iter();
            let predicted: Vec<f32> = rows.map(|row| model.probability(&row.to_vec())).collect();
            let auc = auc(&predicted, &validation.taken).unwrap_or(0.5);
            if best.as_ref().is_none_or(|(_, before)| auc > before.auc) {
                let features = columns.iter().map(|column| CONTEXT[*column]).collect();
                best = Some((model, TakeUpOutcome { features, auc }));
            }
        }
        Ok(best)
    }

    fn take_ups(&self, known: &Known, examples: &[&Example<'_>]) -> Result<Option<TakeUpExamples>> {
        let mut items: Vec<ItemId> = known.items.keys().copied().collect();
        items.sort_unstable();
        let mut random = StdRng::seed_from_u64(self.settings.ranker.training.seed);
        let (mut rows, mut taken) = (Vec::new(), Vec::new());
        for example in examples {
            rows.extend(self.inputs(known, example)?.2);
            taken.push(true);
        }
        let consumers: Vec<usize> = (0..known.learners.len())
            .filter(|user| known.learners[*user].vector.is_some())
            .filter(|user| !known.learners[*user].sorted.is_empty())
            .collect();
        if consumers.is_empty() || items.is_empty() {
            return Ok(None);
        }
        let mut others = 0_usize;
        for _ in 0..OTHERS * examples.len() {
            let user = consumers[random.random_range(0..consumers.len())];
            let item = items[random.random_range(0..items.len())];
            let learner = &known.learners[user];
            if learner.sorted.iter().any(|entry| entry.item == item) {
                continue;
            }
            let before = &learner.sorted[..learner.parts.history_end];
            let entry = HistoryEntry { item, ..learner.sorted[0] };
            let pair = Example { user, before, entry, validation: false };
            rows.extend(self.inputs(known, &pair)?.2);
            taken.push(false);
            others += 1;
        }
        let unmet = |user: &usize| items.len().saturating_sub(known.learners[*user].sorted.len());
        let all: usize = consumers.iter().map(unmet).sum();
        if others == 0 || all == 0 {
            return Ok(None);
        }
        let features = Array2::from_shape_vec((taken.len(), CONTEXT.len()), rows)?;
        // More than all are drawn where consumers and items are few.
        let sampled = (others as f64 / all as f64).min(1.0);
        Ok(Some(TakeUpExamples { features, taken, sampled }))
    }
}
