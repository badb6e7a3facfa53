//! Two versions of the models on the same held-back pairs: how much better one predicts and orders.
//!
//! The pairs are those of each consumer that come last (`split`): no network has learned from them,
//! though they decided when its training stopped. The intervals are over pairs, or over consumers.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use whyrank_models::metrics::{Interval, auc, bootstrap, mae, ndcg_at, rmse};
use whyrank_models::ranker::CandidateInput;
use whyrank_plugin::{Codes, ItemId, UserId};

use super::Trainer;
use super::known::{Example, Known, Seen};
use super::ranking::predict;
use crate::artifacts::{self, RerankModels, load_encoder};

/// Share of the samples that an interval holds.
const CONFIDENCE: f64 = 0.95;
/// Decides the bootstrap's samples, so that a comparison can be made again.
const SEED: u64 = 2_502;
/// Places at the top that NDCG looks at.
const CUTOFF: usize = 10;
/// Keeps the logarithm of a probability of 0 finite.
const LEAST: f64 = 1e-6;

/// How two versions did on the same pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct VersionComparison {
    /// Held-back pairs.
    pub(crate) pairs: usize,
    /// Consumers with a liked and another pair, whose orders are compared.
    pub(crate) consumers: usize,
    /// The version that is compared with.
    pub(crate) first: VersionMetrics,
    /// The other one.
    pub(crate) second: VersionMetrics,
    /// How much better the second is.
    pub(crate) differences: Vec<MetricDifference>,
}

/// How one version did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct VersionMetrics {
    /// Which one.
    pub(crate) version: String,
    /// Root of the mean squared error of the ratings.
    pub(crate) rmse: f64,
    /// Their mean absolute error.
    pub(crate) mae: f64,
    /// Area under the ROC curve of the likes; none if all or none were liked.
    pub(crate) auc: Option<f64>,
    /// Mean negative logarithm of the probability given to what happened.
    pub(crate) log_loss: f64,
    /// Mean NDCG of the consumers' own pairs; none without a consumer who can be ordered.
    pub(crate) ndcg: Option<f64>,
}

/// A paired difference; above zero the second version is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MetricDifference {
    /// Of what.
    pub(crate) metric: &'static str,
    /// Mean and 95 % interval of a bootstrap.
    pub(crate) better: Interval,
    /// Whether the interval lies apart from zero.
    pub(crate) apart: bool,
}

/// What one version predicted, in the order of the pairs.
struct Predicted {
    ratings: Vec<f32>,
    likes: Vec<f32>,
    losses: Vec<f64>,
}

impl Trainer {
    /// Predicts the held-back pairs with both. Written codes are used where they are current; each
    /// version predicts the others by itself.
    ///
    /// # Errors
    /// When there are too few pairs, the store cannot be read, or an input does not fit.
    pub(crate) async fn compare_versions(
        &self,
        models: [&RerankModels; 2],
    ) -> Result<VersionComparison> {
        let population = self.population().await?;
        let known = [self.known(&population, Seen::Training)?];
        let (pairs, _) = self.examples(&population, &known);
        let [known] = known;
        ensure!(
            pairs.len() > 1,
            "there are {} held-back pairs: consumers have too few interactions for `split`",
            pairs.len()
        );
        let written = self.written_codes().await?;
        let scale = self.settings.rating_scale();
        let actual: Vec<f32> = pairs.iter().map(|pair| pair.entry.rating).collect();
        let liked: Vec<bool> = actual.iter().map(|rating| *rating >= scale.like_from).collect();
        let first = self.predicted(models[0], &known, &pairs, &written, &liked)?;
        let second = self.predicted(models[1], &known, &pairs, &written, &liked)?;
        let (first_order, second_order) =
            (orders(&pairs, &first.likes, &liked), orders(&pairs, &second.likes, &liked));
        let metrics = |models: &RerankModels, predicted: &Predicted, order: &[f64]| {
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            VersionMetrics {
                version: models.version.clone(),
                rmse: rmse(&predicted.ratings, &actual),
                mae: mae(&predicted.ratings, &actual),
                auc: auc(&predicted.likes, &liked),
                log_loss: mean(&predicted.losses),
                ndcg: (!order.is_empty()).then(|| mean(order)),
            }
        };
        let errors = |predicted: &Predicted| -> Vec<f64> {
            let pairs = predicted.ratings.iter().zip(&actual);
            pairs.map(|(predicted, actual)| f64::from(predicted - actual)).collect()
        };
        let less = |of: &dyn Fn(f64) -> f64| -> Vec<f64> {
            let pairs = errors(&first).into_iter().zip(errors(&second));
            pairs.map(|(first, second)| of(first) - of(second)).collect()
        };
        let minus = |left: &[f64], right: &[f64]| -> Vec<f64> {
            left.iter().zip(right).map(|(left, right)| left - right).collect()
        };
        let differences = [
            ("squared error of a rating, less", less(&|error| error * error)),
            ("absolute error of a rating, less", less(&f64::abs)),
            ("log loss of a like, less", minus(&first.losses, &second.losses)),
            ("NDCG@10 of a consumer, more", minus(&second_order, &first_order)),
        ];
        let resamples = self.settings.evaluation.resamples;
        let differences = differences.into_iter().filter_map(|(metric, values)| {
            let better = bootstrap(&values, CONFIDENCE, resamples, SEED)?;
            Some(MetricDifference { metric, better, apart: better.low > 0.0 || better.high < 0.0 })
        });
        Ok(VersionComparison {
            pairs: pairs.len(),
            consumers: first_order.len(),
            first: metrics(models[0], &first, &first_order),
            second: metrics(models[1], &second, &second_order),
            differences: differences.collect(),
        })
    }

    /// The written codes that the encoder in use made.
    async fn written_codes(&self) -> Result<HashMap<(UserId, ItemId), Codes>> {
        let code = self.settings.autoencoder.code;
        let encoder = load_encoder(&self.paths, self.embedder()?.dimension(), code)?;
        let version = artifacts::version(encoder.contract());
        let mut written = HashMap::new();
        let take = |record: whyrank_plugin::ExplanationRecord| {
            if let (Some(codes), true) =
                (record.codes, record.code_version.as_deref() == Some(version.as_str()))
            {
                written.insert((record.user, record.item), codes);
            }
        };
        self.storage.each_explanation(None, take).await?;
        Ok(written)
    }

    fn predicted(
        &self,
        models: &RerankModels,
        known: &Known,
        pairs: &[Example],
        written: &HashMap<(UserId, ItemId), Codes>,
        liked: &[bool],
    ) -> Result<Predicted> {
        let (mut ratings, mut likes, mut losses) = (Vec::new(), Vec::new(), Vec::new());
        self.progress.begin("predicting held-back pairs", pairs.len() as u64);
        for (place, (pair, liked)) in pairs.iter().zip(liked).enumerate() {
            let (consumer, item, context) = self.inputs(known, pair)?;
            let user = known.learners[pair.user].record.id;
            let codes = match written.get(&(user, pair.entry.item)) {
                Some(codes) => codes.clone(),
                None => predict(&models.explainer, &consumer.vector, &item)?,
            };
            let candidate = CandidateInput {
                item: &item,
                positive: Some(&codes.positive),
                negative: Some(&codes.negative),
                context: &context,
            };
            let rows = consumer.history_rows();
            let score = models.ranker.score(&consumer.input(&rows), &[candidate])?;
            let score = score.first().copied().context("one candidate has one score")?;
            let probability = f64::from(models.ranker.probability(score));
            let given = if *liked { probability } else { 1.0 - probability };
            ratings.push(score.rating);
            likes.push(score.like);
            losses.push(-given.clamp(LEAST, 1.0).ln());
            self.progress.advance(place as u64 + 1);
        }
        self.progress.end();
        Ok(Predicted { ratings, likes, losses })
    }
}

/// NDCG of each consumer's own pairs, in the order of consumers; those with nothing to order are out.
fn orders(pairs: &[Example], likes: &[f32], liked: &[bool]) -> Vec<f64> {
    let mut by_consumer: BTreeMap<usize, Vec<(f32, bool)>> = BTreeMap::new();
    for ((pair, like), liked) in pairs.iter().zip(likes).zip(liked) {
        by_consumer.entry(pair.user).or_default().push((*like, *liked));
    }
    let ordered = by_consumer.into_values().filter_map(|mut own| {
        let total = own.iter().filter(|(_, liked)| *liked).count();
        if total == own.len() {
            return None;
        }
        own.sort_by(|(left, _), (right, _)| right.total_cmp(left));
        let relevant: Vec<bool> = own.into_iter().map(|(_, liked)| liked).collect();
        ndcg_at(&relevant, total, CUTOFF)
    });
    ordered.collect()
}
