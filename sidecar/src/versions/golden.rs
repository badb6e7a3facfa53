//! Golden inputs: real rows with the outputs that the models gave at training. A build, a machine or a
//! file that gives others is not switched to.
//!
//! They hold vectors, ratings and embeddings of a few consumers, but no id and no text.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use whyrank_models::autoencoder::Encoder;
use whyrank_models::factorisation::Factorisation;
use whyrank_models::ranker::CandidateInput;
use whyrank_models::taste::Taste;
use whyrank_plugin::Statistics;

use crate::artifacts::{ArtifactPaths, RerankModels};
use crate::features::ConsumerState;

/// The file's name in a version's folder.
pub(super) const GOLDEN: &str = "golden.json";
/// How far an output may lie from the golden one, as a share of 1 plus its size. Kernels of other
/// processors add numbers in another order, which moves the sixth digit.
const TOLERANCE: f32 = 1e-3;

/// Inputs and what came out at training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Consumers with candidates.
    pub consumers: Vec<GoldenConsumer>,
    /// Explanation texts, as their embeddings.
    pub texts: Vec<GoldenText>,
}

/// A consumer, and what the models said of some candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenConsumer {
    /// User vector, `[d]`.
    pub user: Vec<f32>,
    /// Item vector and rating of the latest interactions, oldest first.
    pub history: Vec<(Vec<f32>, f32)>,
    /// What folding the history in gives; none where vectors are brought.
    pub folded: Option<Vec<f32>>,
    /// Candidates; none where there is no ranker yet.
    pub candidates: Vec<GoldenCandidate>,
}

/// A candidate, and what came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCandidate {
    /// Item vector, `[d]`.
    pub item: Vec<f32>,
    /// Context features.
    pub context: Vec<f32>,
    /// The code that the explainer predicted, `[k]`.
    pub positive: Vec<f32>,
    /// The code of the other side.
    pub negative: Vec<f32>,
    /// The predicted rating.
    pub rating: f32,
    /// The predicted probability of a like.
    pub like: f32,
}

/// A text's embedding, and its code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenText {
    /// The embedding, `[384]`.
    pub embedding: Vec<f32>,
    /// The code, `[k]`.
    pub code: Vec<f32>,
}

impl GoldenConsumer {
    /// The consumer as the ranker takes one.
    pub(crate) fn state(&self) -> ConsumerState {
        ConsumerState {
            vector: self.user.clone(),
            history: self.history.clone(),
            // The context features, which it goes into, are given.
            taste: Taste::default(),
            statistics: Statistics::of(self.history.iter().map(|(_, rating)| *rating)),
        }
    }

    /// What explainer and ranker say of candidates with these vectors and context features.
    pub(crate) fn candidates(
        &self,
        models: &RerankModels,
        given: Vec<(Vec<f32>, Vec<f32>)>,
    ) -> Result<Vec<GoldenCandidate>> {
        let Some(width) = given.first().map(|(item, _)| item.len()) else { return Ok(Vec::new()) };
        let values = given.iter().flat_map(|(item, _)| item.iter().copied()).collect();
        let table = Array2::from_shape_vec((given.len(), width), values)
            .context("item vectors are not all of one width")?;
        let codes = models.explainer.predict_for(&self.user, table.view())?;
        let (positive, negative) = (codes.positive.rows(), codes.negative.rows());
        let codes: Vec<(Vec<f32>, Vec<f32>)> =
            positive.into_iter().zip(negative).map(|(p, n)| (p.to_vec(), n.to_vec())).collect();
        let inputs = given.iter().zip(&codes).map(|((item, context), (positive, negative))| {
            let (positive, negative) = (Some(positive.as_slice()), Some(negative.as_slice()));
            CandidateInput { item, positive, negative, context }
        });
        let inputs: Vec<CandidateInput<'_>> = inputs.collect();
        let state = self.state();
        let scores = models.ranker.score(&state.input(&state.history_rows()), &inputs)?;
        let rows = given.into_iter().zip(codes).zip(scores);
        Ok(rows
            .map(|(((item, context), (positive, negative)), score)| GoldenCandidate {
                item,
                context,
                positive,
                negative,
                rating: score.rating,
                like: score.like,
            })
            .collect())
    }
}

impl Golden {
    /// The golden inputs of a version.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn read(paths: &ArtifactPaths) -> Result<Self> {
        let path = paths.folder().join(GOLDEN);
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; run `whyrank train`", path.display()))
    }

    /// Width of the text embeddings, if there is one.
    pub(super) fn embedding(&self) -> Option<usize> {
        self.texts.first().map(|text| text.embedding.len())
    }

    /// Compares what the factorisation makes of histories; how many numbers were compared.
    ///
    /// # Errors
    /// The first output that differs.
    pub fn check_factorisation(&self, factorisation: &Factorisation, path: &Path) -> Result<usize> {
        let mut compared = 0;
        for (place, consumer) in self.consumers.iter().enumerate() {
            let Some(expected) = &consumer.folded else { continue };
            let rows: Vec<_> =
                consumer.history.iter().map(|(item, rating)| (item.as_slice(), *rating)).collect();
            let folded = factorisation.fold_in(&rows, None)?;
            compared +=
                same(&folded, expected).with_context(|| of(path, &format!("history {place}")))?;
        }
        Ok(compared)
    }

    /// Compares the codes of the texts.
    ///
    /// # Errors
    /// The first output that differs.
    pub fn check_encoder(&self, encoder: &Encoder, path: &Path) -> Result<usize> {
        let mut compared = 0;
        for (place, text) in self.texts.iter().enumerate() {
            let table = ArrayView2::from_shape((1, text.embedding.len()), &text.embedding)?;
            let code = encoder.encode(table)?;
            compared += same(&code.row(0).to_vec(), &text.code)
                .with_context(|| of(path, &format!("text {place}")))?;
        }
        Ok(compared)
    }

    /// Compares predicted codes and scores.
    ///
    /// # Errors
    /// The first output that differs.
    pub fn check_rerank(&self, models: &RerankModels, paths: &ArtifactPaths) -> Result<usize> {
        let mut compared = 0;
        for (place, consumer) in self.consumers.iter().enumerate() {
            let given = consumer.candidates.iter();
            let given = given.map(|one| (one.item.clone(), one.context.clone())).collect();
            let found = consumer.candidates(models, given)?;
            for (row, (found, expected)) in found.iter().zip(&consumer.candidates).enumerate() {
                let what = format!("consumer {place}, candidate {row}");
                for (side, found, expected) in [
                    ("positive", &found.positive, &expected.positive),
                    ("negative", &found.negative, &expected.negative),
                ] {
                    compared += same(found, expected)
                        .with_context(|| of(&paths.explainer(), &format!("{what}, {side} code")))?;
                }
                let found = [found.rating, found.like];
                compared += same(&found, &[expected.rating, expected.like])
                    .with_context(|| of(&paths.ranker(), &what))?;
            }
        }
        Ok(compared)
    }
}

fn of(path: &Path, input: &str) -> String {
    format!(
        "{} does not give what it gave when it was trained (golden {input}); do not use it on this \
         machine with this build, or run `whyrank train`",
        path.display()
    )
}

/// Compares outputs; how many there were.
fn same(found: &[f32], expected: &[f32]) -> Result<usize> {
    ensure!(found.len() == expected.len(), "{} numbers instead of {}", found.len(), expected.len());
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let near = (found - expected).abs() <= TOLERANCE * (1.0 + expected.abs());
        // What is not a number is near nothing.
        ensure!(near, "number {place} is {found} instead of {expected}");
    }
    Ok(found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_the_same_within_the_tolerance_only() {
        assert_eq!(same(&[1.0, -200.0], &[1.0005, -200.1]).unwrap(), 2);
        for (found, expected) in
            [(1.0, 1.01), (f32::NAN, 1.0), (1.0, f32::NAN), (0.0, 0.01), (f32::INFINITY, 1.0)]
        {
            assert!(same(&[found], &[expected]).is_err(), "{found} and {expected}");
        }
        assert!(same(&[1.0], &[1.0, 1.0]).is_err());
    }
}
