//! Trains the ranker on every interaction of the training part, each seen across folds: no input of an
//! example comes from the example itself.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use ndarray::ArrayView2;
use serde::Serialize;
use whyrank_models::explainer::Explainer;
use whyrank_models::ranker::{CandidateInput, RankerExamples, RankerReport, TrainedRanker};
use whyrank_plugin::{Codes, ItemId, UserId};

use super::known::{Example, Known, Population, Seen};
use super::{TakeUpOutcome, Trainer};
use crate::artifacts::{self, load_encoder};
use crate::features::{self, ConsumerState};

/// Why an example cannot be: [`Trainer::examples`] makes none of such an item.
pub(super) const NO_VECTOR: &str = "examples are of items that have a vector";

/// What training the ranker used and reached.
#[derive(Debug, Clone, Serialize)]
pub struct RankerOutcome {
    /// Examples whose codes come from a written explanation.
    pub written: usize,
    /// Examples whose codes the explainer predicted.
    pub predicted: usize,
    /// Who takes items up; none where that cannot be told.
    pub take_up: Option<TakeUpOutcome>,
    /// What training reached.
    pub report: RankerReport,
}

/// What the examples are made from.
struct Material {
    known: Vec<Known>,
    written: HashMap<(UserId, ItemId), Codes>,
    explainer: Explainer,
}

impl Trainer {
    /// Trains and exports the ranker.
    ///
    /// # Errors
    /// When vectors, codes or rated pairs are missing.
    pub async fn train_ranker(&self) -> Result<RankerOutcome> {
        let population = self.population().await?;
        let material = self.material(&population).await?;
        let (examples, validation_kept) = self.examples(&population, &material.known);
        let code = self.settings.autoencoder.code;
        let shape = features::shape(self.settings.vectors.factorisation.dimension, code);
        let length = self.settings.ranker.history_length;
        let mut training = RankerExamples::new(shape.clone(), length);
        let mut validation = RankerExamples::new(shape, length);
        let (mut written, mut predicted) = (0, 0);
        self.progress.begin("gathering rated pairs", examples.len() as u64);
        for (done, example) in examples.iter().enumerate() {
            let part = if example.validation { &mut validation } else { &mut training };
            if self.add(part, &material, example)? {
                written += 1;
            } else {
                predicted += 1;
            }
            self.progress.advance(done as u64 + 1);
        }
        self.progress.end();
        if training.is_empty() || validation.is_empty() {
            bail!(
                "there are {} rated pairs to train the ranker on and {} to stop it: consumers have too \
                 few interactions for the `split` settings",
                training.len(),
                validation.len()
            );
        }
        let progress = self.progress.as_ref();
        let mut trained =
            TrainedRanker::train(&training, &validation, &self.settings.ranker, progress)?;
        let latest = material.known.last().context("the training part is always known")?;
        let complete = self.known(&population, Seen::Everything)?;
        let take_up = self.learn_take_up(latest, &complete, &examples, validation_kept)?;
        let take_up = take_up.map(|(model, outcome)| {
            trained.set_take_up(model);
            outcome
        });
        trained.export(&self.paths.ranker())?;
        Ok(RankerOutcome { written, predicted, take_up, report: trained.report().clone() })
    }

    async fn material(&self, population: &Population) -> Result<Material> {
        let dimension = self.settings.vectors.factorisation.dimension;
        let code = self.settings.autoencoder.code;
        let explainer = Explainer::load(&self.paths.explainer(), dimension, code)?;
        let known = self.across_folds(population)?;
        let encoder = load_encoder(&self.paths, self.embedder()?.dimension(), code)?;
        let version = artifacts::version(encoder.contract());
        let written = self
            .storage
            .all_explanations(None)
            .await?
            .into_iter()
            .filter(|record| record.code_version.as_deref() == Some(version.as_str()))
            .filter_map(|record| Some(((record.user, record.item), record.codes?)))
            .collect();
        Ok(Material { known, written, explainer })
    }

    /// Adds one example; true if its codes come from a written explanation.
    fn add(
        &self,
        examples: &mut RankerExamples,
        material: &Material,
        example: &Example,
    ) -> Result<bool> {
        let known = &material.known[example.known];
        let learner = &known.learners[example.user];
        let written = material.written.get(&(learner.record.id, example.entry.item));
        let codes = match written {
            Some(codes) => codes.clone(),
            None => {
                let vector = learner.vector.as_deref().context("examples have a user vector")?;
                let (item, _) = known.item(example.entry.item).context(NO_VECTOR)?;
                predict(&material.explainer, vector, item)?
            }
        };
        self.push(examples, known, example, Some(&codes))?;
        Ok(written.is_some())
    }

    /// The consumer, the item's vector and the context features of an example.
    pub(super) fn inputs(
        &self,
        known: &Known,
        example: &Example,
    ) -> Result<(ConsumerState, Vec<f32>, Vec<f32>)> {
        let learner = &known.learners[example.user];
        let (item, statistics) = known.item(example.entry.item).context(NO_VECTOR)?;
        let length = self.settings.ranker.history_length;
        let recent = &learner.history[learner.history.len().saturating_sub(length)..];
        let vector = learner.vector.clone().context("examples have a user vector")?;
        let history = recent.iter().filter_map(|entry| {
            known.item(entry.item).map(|(vector, _)| (vector.to_vec(), entry.rating))
        });
        let consumer = ConsumerState {
            vector,
            history: history.collect(),
            taste: learner.taste.clone(),
            statistics: learner.statistics,
        };
        let scale = self.settings.rating_scale();
        let context = features::context(&consumer, item, statistics, scale);
        Ok((consumer, item.to_vec(), context))
    }

    /// Adds one example with these codes, or without any.
    pub(super) fn push(
        &self,
        examples: &mut RankerExamples,
        known: &Known,
        example: &Example,
        codes: Option<&Codes>,
    ) -> Result<()> {
        let (consumer, item, context) = self.inputs(known, example)?;
        let rows = consumer.history_rows();
        let scale = self.settings.rating_scale();
        let candidate = CandidateInput {
            item: &item,
            positive: codes.map(|codes| codes.positive.as_slice()),
            negative: codes.map(|codes| codes.negative.as_slice()),
            context: &context,
        };
        let rating = example.entry.rating;
        examples.push(&consumer.input(&rows), &candidate, rating, rating >= scale.like_from)?;
        Ok(())
    }
}

pub(super) fn predict(explainer: &Explainer, user: &[f32], item: &[f32]) -> Result<Codes> {
    let table = ArrayView2::from_shape((1, item.len()), item)?;
    let codes = explainer.predict_for(user, table)?;
    let row = |table: &ndarray::Array2<f32>| table.row(0).to_vec();
    Ok(Codes { positive: row(&codes.positive), negative: row(&codes.negative) })
}
