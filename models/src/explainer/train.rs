//! Trains the amortized explainer on written pairs.

use std::path::Path;

use candle_core::Tensor;
use ndarray::{Array2, ArrayView2, Axis};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ExplainerSettings;
use super::network::{ExplainerNetwork, features};
use super::run::Codes;
use crate::error::{Error, Result};
use crate::metrics;
use crate::network::TrainingReport;
use crate::network::check::{
    Fingerprint, matrix, row_count, standardisation, standardise, tensor2, values,
};
use crate::network::layers::row_cosine;
use crate::network::training::{Trainable, fit, hold_out};
use crate::onnx::builder::write_file;
use crate::progress::Progress;
use crate::settings::CheckedSettings;

/// Written pairs: row i of each table belongs to pair i.
#[derive(Debug, Clone, Copy)]
pub struct ExplainerExamples<'a> {
    /// User vectors, `[n, d]`.
    pub user: ArrayView2<'a, f32>,
    /// Item vectors, `[n, d]`.
    pub item: ArrayView2<'a, f32>,
    /// Codes of the positive explanations, `[n, k]`.
    pub positive: ArrayView2<'a, f32>,
    /// Codes of the negative explanations, `[n, k]`.
    pub negative: ArrayView2<'a, f32>,
}

impl ExplainerExamples<'_> {
    fn check(&self) -> Result<()> {
        let rows = self.user.nrows();
        if rows == 0 {
            let remedy = "write explanations first (`whyrank generate`)";
            return Err(Error::empty("the set of written pairs", remedy));
        }
        matrix("the user vectors", self.user, self.user.ncols())?;
        matrix("the item vectors", self.item, self.user.ncols())?;
        matrix("the positive codes", self.positive, self.positive.ncols())?;
        matrix("the negative codes", self.negative, self.positive.ncols())?;
        row_count("the table of item vectors", self.item.nrows(), rows)?;
        row_count("the table of positive codes", self.positive.nrows(), rows)?;
        row_count("the table of negative codes", self.negative.nrows(), rows)
    }

    fn fingerprint(&self) -> String {
        Fingerprint::default()
            .matrix("user", self.user)
            .matrix("item", self.item)
            .matrix("positive", self.positive)
            .matrix("negative", self.negative)
            .finish()
    }
}

/// How close predicted codes come to written ones, on pairs that were held out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainerReport {
    /// What the loop did; its measure is one minus the mean cosine of both sides.
    pub training: TrainingReport,
    /// Pairs that were held out.
    pub held_out: usize,
    /// Mean cosine of predicted and written positive codes.
    pub positive_cosine: f64,
    /// Mean cosine of predicted and written negative codes.
    pub negative_cosine: f64,
    /// Mean cosine of the mean positive code and the written ones.
    pub mean_positive_cosine: f64,
    /// Mean cosine of the mean negative code and the written ones.
    pub mean_negative_cosine: f64,
}

/// An explainer that has learned and can be written to a file.
#[derive(Debug)]
pub struct TrainedExplainer {
    network: ExplainerNetwork,
    vector: usize,
    mean: Vec<f32>,
    scale: Vec<f32>,
    settings: ExplainerSettings,
    report: ExplainerReport,
    fingerprint: String,
}

impl TrainedExplainer {
    /// Trains on written pairs; a share of them is held out to stop early and to report.
    ///
    /// # Errors
    /// [`Error::Empty`] for fewer than two pairs, [`Error::Shape`], [`Error::NotFinite`],
    /// [`Error::Setting`], [`Error::Cancelled`], [`Error::Diverged`].
    pub fn train(
        examples: &ExplainerExamples<'_>,
        settings: &ExplainerSettings,
        progress: &dyn Progress,
    ) -> Result<Self> {
        settings.check()?;
        examples.check()?;
        let mut random = StdRng::seed_from_u64(settings.training.seed);
        let (training, held) = hold_out(
            examples.user.nrows(),
            settings.validation_share,
            "the set of written pairs",
            &mut random,
        )?;
        let training_part = Part::new(examples, &training);
        let held_part = Part::new(examples, &held);
        let (mean, scale) = standardisation(training_part.features.view());
        let mean_codes = ndarray::concatenate(
            Axis(0),
            &[
                training_part.mean(&training_part.positive),
                training_part.mean(&training_part.negative),
            ]
            .each_ref()
            .map(|mean| mean.view()),
        )
        .expect("means are vectors")
        .insert_axis(Axis(0));
        let vector = examples.user.ncols();
        let network =
            ExplainerNetwork::new(vector, tensor2(mean_codes.view())?, settings, &mut random)?;
        let task = Task {
            network: &network,
            training: Prepared::new(&training_part, &mean, &scale)?,
            held: Prepared::new(&held_part, &mean, &scale)?,
        };
        let report = fit(
            "training the explainer",
            &task,
            &network.parameters,
            training.len(),
            &settings.training,
            &mut random,
            progress,
        )?;
        let (positive_cosine, negative_cosine) = task.cosines()?;
        let report = ExplainerReport {
            training: report,
            held_out: held.len(),
            positive_cosine,
            negative_cosine,
            mean_positive_cosine: training_part
                .mean_cosine(&training_part.positive, &held_part.positive),
            mean_negative_cosine: training_part
                .mean_cosine(&training_part.negative, &held_part.negative),
        };
        let fingerprint = examples.fingerprint();
        let settings = settings.clone();
        Ok(Self { network, vector, mean, scale, settings, report, fingerprint })
    }

    /// How it did on the pairs that were held out.
    pub fn report(&self) -> &ExplainerReport {
        &self.report
    }

    /// Writes the ONNX file with its contract.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn export(&self, path: &Path) -> Result<()> {
        let training = json!({ "settings": self.settings, "report": self.report });
        let standardisation = (self.mean.as_slice(), self.scale.as_slice());
        let fingerprint = self.fingerprint.clone();
        let bytes = self.network.to_onnx(self.vector, standardisation, fingerprint, training)?;
        write_file(path, &bytes)
    }

    /// Both codes of each pair of rows, computed by the training network.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`].
    pub fn predict(&self, user: ArrayView2<'_, f32>, item: ArrayView2<'_, f32>) -> Result<Codes> {
        matrix("the user vectors", user, self.vector)?;
        matrix("the item vectors", item, self.vector)?;
        row_count("the table of item vectors", item.nrows(), user.nrows())?;
        let mut rows = features(user, item);
        standardise(&mut rows.view_mut(), &self.mean, &self.scale);
        let (positive, negative) = self.network.forward(&tensor2(rows.view())?, None)?;
        let array = |codes: &Tensor| -> Result<Array2<f32>> {
            let shape = codes.dims2()?;
            Ok(Array2::from_shape_vec(shape, values(codes)?).expect("one code a row"))
        };
        Ok(Codes { positive: array(&positive)?, negative: array(&negative)? })
    }
}

/// The rows of one part of the pairs.
struct Part {
    features: Array2<f32>,
    positive: Array2<f32>,
    negative: Array2<f32>,
}

impl Part {
    fn new(examples: &ExplainerExamples<'_>, index: &[u32]) -> Self {
        let index: Vec<usize> = index.iter().map(|i| *i as usize).collect();
        let rows = |table: ArrayView2<'_, f32>| table.select(Axis(0), &index);
        Self {
            features: features(rows(examples.user).view(), rows(examples.item).view()),
            positive: rows(examples.positive),
            negative: rows(examples.negative),
        }
    }

    fn mean(&self, codes: &Array2<f32>) -> ndarray::Array1<f32> {
        codes.mean_axis(Axis(0)).expect("a part is not empty")
    }

    /// Mean cosine of this part's mean code and the codes of another.
    fn mean_cosine(&self, mine: &Array2<f32>, others: &Array2<f32>) -> f64 {
        let mean = self.mean(mine).to_vec();
        let sum: f64 =
            others.rows().into_iter().map(|row| metrics::cosine(&mean, &row.to_vec())).sum();
        sum / others.nrows() as f64
    }
}

struct Prepared {
    features: Tensor,
    positive: Tensor,
    negative: Tensor,
}

impl Prepared {
    fn new(part: &Part, mean: &[f32], scale: &[f32]) -> Result<Self> {
        let mut rows = part.features.clone();
        standardise(&mut rows.view_mut(), mean, scale);
        Ok(Self {
            features: tensor2(rows.view())?,
            positive: tensor2(part.positive.view())?,
            negative: tensor2(part.negative.view())?,
        })
    }
}

struct Task<'a> {
    network: &'a ExplainerNetwork,
    training: Prepared,
    held: Prepared,
}

impl Task<'_> {
    fn cosines(&self) -> Result<(f64, f64)> {
        let (positive, negative) = self.network.forward(&self.held.features, None)?;
        let mean = |predicted: &Tensor, written: &Tensor| -> Result<f64> {
            let cosine = row_cosine(predicted, written)?.mean_all()?;
            Ok(f64::from(cosine.to_scalar::<f32>()?))
        };
        Ok((mean(&positive, &self.held.positive)?, mean(&negative, &self.held.negative)?))
    }
}

impl Trainable for Task<'_> {
    fn loss(&self, examples: &[u32], random: &mut StdRng) -> Result<Tensor> {
        let index = Tensor::from_slice(examples, examples.len(), self.training.features.device())?;
        let rows = |table: &Tensor| table.index_select(&index, 0);
        let (positive, negative) =
            self.network.forward(&rows(&self.training.features)?, Some(random))?;
        let positive = row_cosine(&positive, &rows(&self.training.positive)?)?.mean_all()?;
        let negative = row_cosine(&negative, &rows(&self.training.negative)?)?.mean_all()?;
        Ok(((positive + negative)? * -0.5)?)
    }

    fn validate(&self) -> Result<f64> {
        let (positive, negative) = self.cosines()?;
        Ok(1.0 - (positive + negative) / 2.0)
    }
}
