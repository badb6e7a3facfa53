//! Trains the ranker: prepares the tables, runs the loop, measures the result.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ndarray::{Array2, Array3, ArrayView2, Axis, Slice};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::calibration::CalibrationReport;
use super::examples::{RankerExamples, RankerShape};
use super::export;
use super::linear::LinearStart;
use super::network::{Batch, Layout, RankerNetwork};
use super::{InputGroups, RankerSettings, TakeUp};
use crate::error::Result;
use crate::metrics;
use crate::network::TrainingReport;
use crate::network::check::{standardisation, standardise, tensor2, tensor3, values};
use crate::network::layers::cross_entropy;
use crate::network::training::{Trainable, fit};
use crate::onnx::builder::write_file;
use crate::progress::Progress;
use crate::settings::CheckedSettings;

/// Rows that a validation pass computes at once; bounds its memory.
const VALIDATION_ROWS: usize = 2048;

/// How well a trained ranker does on its validation part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankerReport {
    /// What the loop did; its measure is the RMSE in rating units.
    pub training: TrainingReport,
    /// Examples in the training part.
    pub training_examples: usize,
    /// Examples in the validation part.
    pub validation_examples: usize,
    /// Root mean squared error of the predicted rating, in rating units.
    pub rmse: f64,
    /// Mean absolute error of the predicted rating, in rating units.
    pub mae: f64,
    /// Area under the ROC curve of the like-probability; `None` if all or none were liked.
    pub auc: Option<f64>,
    /// The like-probability's calibration; `None` if all or none were liked.
    #[serde(default)]
    pub calibration: Option<CalibrationReport>,
    /// Whether consumers take items up at all; `None` if nobody asked for it.
    #[serde(default)]
    pub take_up: Option<TakeUp>,
    /// RMSE of always predicting the training mean, for comparison.
    pub mean_rmse: f64,
    /// The lowest and the highest rating of all examples; of a file that does not say so, `None`.
    #[serde(default)]
    pub ratings: Option<[f32; 2]>,
}

/// Means and scales of the training part, and what stands for an absent group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statistics {
    /// Mean of each feature column (user, item, product, codes, context).
    pub(super) feature_mean: Vec<f32>,
    pub(super) feature_scale: Vec<f32>,
    /// The same for history vectors and, last, the history rating.
    pub(super) key_mean: Vec<f32>,
    pub(super) key_scale: Vec<f32>,
    pub(super) rating_mean: f32,
    pub(super) rating_deviation: f32,
    pub(super) user: Vec<f32>,
    pub(super) item: Vec<f32>,
    pub(super) positive: Vec<f32>,
    pub(super) negative: Vec<f32>,
    pub(super) context: Vec<f32>,
}

/// A ranker that has learned and can be written to a file.
#[derive(Debug)]
pub struct TrainedRanker {
    pub(super) network: RankerNetwork,
    pub(super) statistics: Statistics,
    pub(super) shape: RankerShape,
    pub(super) settings: RankerSettings,
    pub(super) report: RankerReport,
    pub(super) fingerprint: String,
}

impl TrainedRanker {
    /// Trains on `training` and stops early on `validation`, which should be later in time; of the networks
    /// of several starts the one with the least validation error is kept.
    ///
    /// # Errors
    /// [`crate::Error::Empty`], [`crate::Error::Shape`], [`crate::Error::Setting`],
    /// [`crate::Error::Cancelled`], [`crate::Error::Diverged`].
    pub fn train(
        training: &RankerExamples,
        validation: &RankerExamples,
        settings: &RankerSettings,
        progress: &dyn Progress,
    ) -> Result<Self> {
        settings.check()?;
        let mut best: Option<Self> = None;
        for start in 0..settings.starts as u64 {
            let mut settings = settings.clone();
            // Far from the seeds that anybody else uses; the first start is the seed's own.
            settings.training.seed = settings.training.seed.wrapping_add(start << 32);
            let trained = Self::train_once(training, validation, &settings, progress)?;
            let better = |best: &Self| trained.report.training.best < best.report.training.best;
            if best.as_ref().is_none_or(better) {
                best = Some(trained);
            }
        }
        Ok(best.expect("the settings allow at least one start"))
    }

    fn train_once(
        training: &RankerExamples,
        validation: &RankerExamples,
        settings: &RankerSettings,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let shape = training.shape.clone();
        training.fits("the ranker's training part", &shape, settings.history_length)?;
        validation.fits("the ranker's validation part", &shape, settings.history_length)?;
        let layout =
            Layout { vector: shape.vector, code: shape.code, context: shape.context.len() };
        let mut random = StdRng::seed_from_u64(settings.training.seed);
        let statistics = Statistics::of(training, settings.groups);
        let network = RankerNetwork::new(layout, settings, &mut random)?;
        let prepared = Prepared::new(training, &statistics, settings.groups)?;
        network.start_linear(&prepared)?;
        let task = Task {
            training: prepared,
            validation: Prepared::new(validation, &statistics, settings.groups)?,
            network: &network,
            statistics: &statistics,
            like_weight: settings.like_weight,
        };
        let report = fit(
            "training the ranker",
            &task,
            &network.parameters,
            training.len(),
            &settings.training,
            &mut random,
            progress,
        )?;
        let all = training.rating.iter().chain(&validation.rating).copied();
        let report = RankerReport {
            ratings: all
                .map(|one| [one; 2])
                .reduce(|[low, high], [one, _]| [low.min(one), high.max(one)]),
            ..task.report(report, training.len(), validation)?
        };
        Ok(Self {
            statistics: statistics.clone(),
            shape,
            settings: settings.clone(),
            report,
            fingerprint: training.fingerprint(),
            network,
        })
    }

    /// How it did on the validation part.
    pub fn report(&self) -> &RankerReport {
        &self.report
    }

    /// Puts into the file, beside the network, whether consumers take items up at all.
    pub fn set_take_up(&mut self, take_up: TakeUp) {
        self.report.take_up = Some(take_up);
    }

    /// Writes the ONNX file with its contract.
    ///
    /// # Errors
    /// [`crate::Error::File`].
    pub fn export(&self, path: &Path) -> Result<()> {
        write_file(path, &export::to_onnx(self)?)
    }

    /// Rating and like-probability of complete examples, computed by the training network.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the examples have another shape than the training part.
    pub fn predict(&self, examples: &RankerExamples) -> Result<Vec<super::Score>> {
        examples.fits("the examples", &self.shape, self.settings.history_length)?;
        let prepared = Prepared::new(examples, &self.statistics, self.settings.groups)?;
        predict(&self.network, &prepared, &self.statistics)
    }
}

impl Statistics {
    fn of(training: &RankerExamples, groups: InputGroups) -> Self {
        let width = training.shape.vector;
        let mean = |values: &[f32], width: usize| -> Vec<f32> {
            training.table(values, width).mean_axis(Axis(0)).map_or(vec![], |mean| mean.to_vec())
        };
        let (rating_mean, rating_scale) = standardisation(training.table(&training.rating, 1));
        let mut keys = Vec::new();
        let present = training.history_mask.iter().enumerate().filter(|(_, mask)| **mask > 0.0);
        for (row, _) in present {
            keys.extend_from_slice(&training.history[row * width..(row + 1) * width]);
            keys.push(training.history_rating[row]);
        }
        let rows = keys.len() / (width + 1);
        let keys = Array2::from_shape_vec((rows, width + 1), keys).expect("whole rows were pushed");
        let (key_mean, key_scale) = standardisation(keys.view());
        let mut statistics = Self {
            feature_mean: vec![],
            feature_scale: vec![],
            key_mean,
            key_scale,
            rating_mean: rating_mean[0],
            rating_deviation: 1.0 / rating_scale[0],
            user: mean(&training.user, width),
            item: mean(&training.item, width),
            positive: training.mean_code(&training.positive),
            negative: training.mean_code(&training.negative),
            context: mean(&training.context, training.shape.context.len()),
        };
        let features = statistics.features(training, groups);
        (statistics.feature_mean, statistics.feature_scale) = standardisation(features.view());
        statistics
    }

    /// The table of raw features, groups that are off held at their mean.
    fn features(&self, examples: &RankerExamples, groups: InputGroups) -> Array2<f32> {
        let shape = &examples.shape;
        let rows = examples.len();
        let held = |table: ArrayView2<'_, f32>, mean: &[f32], on: bool| -> Array2<f32> {
            if on {
                return table.to_owned();
            }
            let mean = ArrayView2::from_shape((1, mean.len()), mean).expect("one row");
            mean.broadcast((rows, mean.ncols())).expect("one row broadcasts").to_owned()
        };
        let user = held(examples.table(&examples.user, shape.vector), &self.user, groups.user_item);
        let item = held(examples.table(&examples.item, shape.vector), &self.item, groups.user_item);
        let positive = examples.filled_codes(&examples.positive, &self.positive);
        let negative = examples.filled_codes(&examples.negative, &self.negative);
        let context = examples.table(&examples.context, shape.context.len());
        ndarray::concatenate(
            Axis(1),
            &[
                user.view(),
                item.view(),
                (&user * &item).view(),
                held(positive.view(), &self.positive, groups.positive).view(),
                held(negative.view(), &self.negative, groups.negative).view(),
                held(context, &self.context, groups.context).view(),
            ],
        )
        .expect("all tables have one row per example")
    }
}

/// One part of the data, standardised, as tensors.
struct Prepared {
    whole: Batch,
    /// Standardised ratings, `[n, 1]`.
    rating: Tensor,
    /// 0 or 1, `[n, 1]`.
    like: Tensor,
}

impl Prepared {
    fn new(
        examples: &RankerExamples,
        statistics: &Statistics,
        groups: InputGroups,
    ) -> Result<Self> {
        let mut features = statistics.features(examples, groups);
        standardise(&mut features.view_mut(), &statistics.feature_mean, &statistics.feature_scale);
        let width = examples.shape.vector;
        let length = examples.history_length;
        let mut keys = Array3::<f32>::zeros((examples.len(), length, width + 1));
        let mut mask = examples.table(&examples.history_mask, length).to_owned();
        if groups.history {
            keys.slice_axis_mut(Axis(2), Slice::from(..width)).assign(&examples.histories());
            let ratings = examples.table(&examples.history_rating, length);
            keys.index_axis_mut(Axis(2), width).assign(&ratings);
            let rows = (examples.len() * length, width + 1);
            let mut flat =
                keys.view_mut().into_shape_with_order(rows).expect("keys are contiguous");
            standardise(&mut flat, &statistics.key_mean, &statistics.key_scale);
        } else {
            // The mean history item, which standardises to zero, alone.
            mask.fill(0.0);
            mask.column_mut(0).fill(1.0);
        }
        let rating: Vec<f32> = examples
            .rating
            .iter()
            .map(|rating| (rating - statistics.rating_mean) / statistics.rating_deviation)
            .collect();
        Ok(Self {
            whole: Batch {
                features: tensor2(features.view())?,
                keys: tensor3(keys.view())?,
                mask: tensor2(mask.view())?,
            },
            rating: Tensor::from_vec(rating, (examples.len(), 1), &Device::Cpu)?,
            like: Tensor::from_slice(&examples.like, (examples.len(), 1), &Device::Cpu)?,
        })
    }

    fn len(&self) -> usize {
        self.rating.dims()[0]
    }

    fn rows(&self, index: &Tensor) -> candle_core::Result<Batch> {
        Ok(Batch {
            features: self.whole.features.index_select(index, 0)?,
            keys: self.whole.keys.index_select(index, 0)?,
            mask: self.whole.mask.index_select(index, 0)?,
        })
    }
}

impl RankerNetwork {
    /// Solves for the linear part, over the training part.
    fn start_linear(&self, training: &Prepared) -> Result<()> {
        let Some(linear) = &self.linear else { return Ok(()) };
        let (columns, width) = (self.layout.before_context(), self.layout.context);
        let context = values(&training.whole.features.narrow(1, columns, width)?)?;
        let context = ArrayView2::from_shape((training.len(), width), &context)
            .expect("narrowing leaves all rows");
        let (ratings, likes) = (values(&training.rating)?, values(&training.like)?);
        let LinearStart { weight, bias } = LinearStart::of(context, &ratings, &likes)?;
        linear.set(weight, bias)
    }
}

struct Task<'a> {
    training: Prepared,
    validation: Prepared,
    network: &'a RankerNetwork,
    statistics: &'a Statistics,
    like_weight: f64,
}

impl Trainable for Task<'_> {
    fn loss(&self, examples: &[u32], random: &mut StdRng) -> Result<Tensor> {
        let index = Tensor::from_slice(examples, examples.len(), &Device::Cpu)?;
        let output = self.network.forward(&self.training.rows(&index)?, Some(random))?;
        let rating = self.training.rating.index_select(&index, 0)?;
        let like = self.training.like.index_select(&index, 0)?;
        let squared = (output.narrow(1, 0, 1)? - rating)?.sqr()?.mean_all()?;
        let entropy = cross_entropy(&output.narrow(1, 1, 1)?.contiguous()?, &like)?;
        Ok((squared + (entropy * self.like_weight)?)?)
    }

    fn validate(&self) -> Result<f64> {
        let scores = predict(self.network, &self.validation, self.statistics)?;
        let predicted: Vec<f32> = scores.iter().map(|score| score.rating).collect();
        Ok(metrics::rmse(&predicted, &self.actual()?))
    }
}

impl Task<'_> {
    /// The validation part's ratings in their own units.
    fn actual(&self) -> Result<Vec<f32>> {
        let Statistics { rating_mean, rating_deviation, .. } = *self.statistics;
        let ratings = values(&self.validation.rating)?;
        Ok(ratings.iter().map(|rating| rating * rating_deviation + rating_mean).collect())
    }

    fn report(
        &self,
        training: TrainingReport,
        training_examples: usize,
        validation: &RankerExamples,
    ) -> Result<RankerReport> {
        let scores = predict(self.network, &self.validation, self.statistics)?;
        let rating: Vec<f32> = scores.iter().map(|score| score.rating).collect();
        let like: Vec<f32> = scores.iter().map(|score| score.like).collect();
        let liked: Vec<bool> = validation.like.iter().map(|like| *like > 0.5).collect();
        let mean = vec![self.statistics.rating_mean; rating.len()];
        Ok(RankerReport {
            training,
            training_examples,
            validation_examples: validation.len(),
            rmse: metrics::rmse(&rating, &validation.rating),
            mae: metrics::mae(&rating, &validation.rating),
            auc: metrics::auc(&like, &liked),
            calibration: CalibrationReport::of(&scores, &liked),
            take_up: None,
            mean_rmse: metrics::rmse(&mean, &validation.rating),
            ratings: None,
        })
    }
}

fn predict(
    network: &RankerNetwork,
    prepared: &Prepared,
    statistics: &Statistics,
) -> Result<Vec<super::Score>> {
    let mut scores = Vec::with_capacity(prepared.len());
    for start in (0..prepared.len()).step_by(VALIDATION_ROWS) {
        let end = (start + VALIDATION_ROWS).min(prepared.len());
        let index = Tensor::arange(start as u32, end as u32, &Device::Cpu)?;
        let output = network.forward(&prepared.rows(&index)?, None)?.to_dtype(DType::F32)?;
        scores.extend(values(&output)?.chunks_exact(2).map(|row| super::Score {
            rating: row[0] * statistics.rating_deviation + statistics.rating_mean,
            like: 1.0 / (1.0 + (-row[1]).exp()),
        }));
    }
    Ok(scores)
}
