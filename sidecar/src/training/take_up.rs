//! Who takes items up: learned from the validation part, the newest interactions, as the training part knows
//! consumers and items before it. So the probability is that of taking an item up within a time as long as
//! the one that the validation part spans.
//!
//! Against these stand pairs that never met, drawn evenly over all consumers and items, so that those who
//! take up much are told from those who do not.
//!
//! When answers are given, the validation part is known too: consumers stand nearer to what they take up than
//! they did before it. As many are expected to be taken up from then on as were in the validation part.

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

/// Pairs that never met.
struct Strangers {
    /// A sample of them.
    pairs: Vec<Example>,
    /// How many there are in all.
    all: usize,
}

impl Trainer {
    /// Learns take-up from the examples of the validation part, before which `known` is what is known and of
    /// which the share `kept` is here; `complete` is what is known when answers are given. None where
    /// consumers have met all items, or there are too few examples.
    pub(super) fn learn_take_up(
        &self,
        known: &Known,
        complete: &Known,
        examples: &[Example],
        kept: f64,
    ) -> Result<Option<(TakeUp, TakeUpOutcome)>> {
        let newest: Vec<Example> = examples.iter().filter(|one| one.validation).copied().collect();
        let Some(strangers) = self.strangers(known, &newest) else { return Ok(None) };
        // One half learns and the other chooses the features; then both learn.
        let (learning, choosing) = newest.split_at(newest.len() / 2);
        let (of_learning, of_choosing) = strangers.pairs.split_at(strangers.pairs.len() / 2);
        if learning.is_empty() || of_learning.is_empty() {
            return Ok(None);
        }
        let part = |taken: &[Example], others: &[Example]| {
            let kept = kept * taken.len() as f64 / newest.len() as f64;
            self.take_ups(known, taken, others, strangers.all, kept)
        };
        let half = part(learning, of_learning)?;
        let other = part(choosing, of_choosing)?;
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
        let model = TakeUp::learn(&part(&newest, &strangers.pairs)?, &columns)?;
        let now = self.contexts(complete, &strangers.pairs)?;
        let model =
            model.expecting(newest.len() as f64 / kept, strangers.all as f64, now.view())?;
        Ok(Some((model, TakeUpOutcome { features, auc })))
    }

    /// Pairs that never met, a number of them for each of the examples; none where there are none.
    fn strangers(&self, known: &Known, examples: &[Example]) -> Option<Strangers> {
        let first = examples.first()?;
        let mut items: Vec<ItemId> = known.items().map(|(id, _)| id).collect();
        items.sort_unstable();
        let consumers: Vec<usize> = (0..known.learners.len())
            .filter(|user| known.learners[*user].vector.is_some())
            .collect();
        if consumers.is_empty() || items.is_empty() {
            return None;
        }
        let mut random = StdRng::seed_from_u64(self.settings.ranker.training.seed);
        let mut pairs = Vec::new();
        for _ in 0..OTHERS * examples.len() {
            let user = consumers[random.random_range(0..consumers.len())];
            let item = items[random.random_range(0..items.len())];
            if known.learners[user].record.history.iter().all(|entry| entry.item != item) {
                pairs.push(Example::unrated(first.known, user, item));
            }
        }
        let unmet =
            |user: &usize| items.len().saturating_sub(known.learners[*user].record.history.len());
        let all = consumers.iter().map(unmet).sum();
        (!pairs.is_empty() && all > 0).then_some(Strangers { pairs, all })
    }

    fn take_ups(
        &self,
        known: &Known,
        taken: &[Example],
        others: &[Example],
        all: usize,
        kept: f64,
    ) -> Result<TakeUpExamples> {
        let pairs: Vec<Example> = taken.iter().chain(others).copied().collect();
        let taken = (0..pairs.len()).map(|place| place < taken.len()).collect();
        // More than all are drawn where consumers and items are few.
        let sampled = (others.len() as f64 / all as f64).min(1.0);
        Ok(TakeUpExamples { features: self.contexts(known, &pairs)?, taken, sampled, kept })
    }

    /// The context features of the pairs, `[pairs, features]`.
    fn contexts(&self, known: &Known, pairs: &[Example]) -> Result<Array2<f32>> {
        let mut rows = Vec::with_capacity(pairs.len() * CONTEXT.len());
        for pair in pairs {
            rows.extend(self.inputs(known, pair)?.2);
        }
        Ok(Array2::from_shape_vec((pairs.len(), CONTEXT.len()), rows)?)
    }
}
