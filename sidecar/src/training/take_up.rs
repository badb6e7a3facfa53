//! Who takes items up: learned from the validation part, the newest interactions, as the training part knows
//! consumers and items before it. So the probability is that of taking an item up within a time as long as
//! the one that the validation part spans.
//!
//! Against these stand pairs that never met, drawn evenly over all consumers and items, so that those who
//! take up much are told from those who do not.

use anyhow::Result;
use ndarray::Array2;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use whyrank_models::metrics::auc;
use whyrank_models::ranker::{TakeUp, TakeUpExamples};
use whyrank_plugin::ItemId;

use super::Trainer;
use super::known::{Example, Known};
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
    /// Learns take-up from the examples of the validation part, before which `known` is what is known and of
    /// which the share `kept` is here; none where consumers have met all items, or there are too few examples.
    pub(super) fn learn_take_up(
        &self,
        known: &Known,
        examples: &[Example],
        kept: f64,
    ) -> Result<Option<(TakeUp, TakeUpOutcome)>> {
        let newest: Vec<Example> = examples.iter().filter(|one| one.validation).copied().collect();
        // One half learns and the other chooses the features; then both learn.
        let (learning, choosing) = newest.split_at(newest.len() / 2);
        let Some(half) = self.take_ups(known, learning, kept / 2.0)? else { return Ok(None) };
        let Some(other) = self.take_ups(known, choosing, kept / 2.0)? else { return Ok(None) };
        let Some(all) = self.take_ups(known, &newest, kept)? else { return Ok(None) };
        let few: Vec<usize> = (0..CONTEXT.len()).filter(|at| FEW.contains(&CONTEXT[*at])).collect();
        let mut best: Option<(Vec<usize>, f64)> = None;
        for columns in [few, (0..CONTEXT.len()).collect()] {
            let model = TakeUp::learn(&half, &columns)?;
            let rows = other.features.rows().into_iter();
            let predicted: Vec<f32> = rows.map(|row| model.probability(&row.to_vec())).collect();
            let auc = auc(&predicted, &other.taken).unwrap_or(0.5);
            if best.as_ref().is_none_or(|(_, before)| auc > *before) {
                best = Some((columns, auc));
            }
        }
        let Some((columns, auc)) = best else { return Ok(None) };
        let features = columns.iter().map(|column| CONTEXT[*column]).collect();
        Ok(Some((TakeUp::learn(&all, &columns)?, TakeUpOutcome { features, auc })))
    }

    fn take_ups(
        &self,
        known: &Known,
        examples: &[Example],
        kept: f64,
    ) -> Result<Option<TakeUpExamples>> {
        if examples.is_empty() {
            return Ok(None);
        }
        let mut items: Vec<ItemId> = known.items().map(|(id, _)| id).collect();
        items.sort_unstable();
        let mut random = StdRng::seed_from_u64(self.settings.ranker.training.seed);
        let (mut rows, mut taken) = (Vec::new(), Vec::new());
        for example in examples {
            rows.extend(self.inputs(known, example)?.2);
            taken.push(true);
        }
        let consumers: Vec<usize> = (0..known.learners.len())
            .filter(|user| known.learners[*user].vector.is_some())
            .collect();
        if consumers.is_empty() || items.is_empty() {
            return Ok(None);
        }
        let mut others = 0_usize;
        for _ in 0..OTHERS * examples.len() {
            let user = consumers[random.random_range(0..consumers.len())];
            let item = items[random.random_range(0..items.len())];
            let learner = &known.learners[user];
            if learner.record.history.iter().any(|entry| entry.item == item) {
                continue;
            }
            let pair = Example::unrated(examples[0].known, user, item);
            rows.extend(self.inputs(known, &pair)?.2);
            taken.push(false);
            others += 1;
        }
        let unmet =
            |user: &usize| items.len().saturating_sub(known.learners[*user].record.history.len());
        let all: usize = consumers.iter().map(unmet).sum();
        if others == 0 || all == 0 {
            return Ok(None);
        }
        let features = Array2::from_shape_vec((taken.len(), CONTEXT.len()), rows)?;
        // More than all are drawn where consumers and items are few.
        let sampled = (others as f64 / all as f64).min(1.0);
        Ok(Some(TakeUpExamples { features, taken, sampled, kept }))
    }
}
