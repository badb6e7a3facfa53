//! Trains the autoencoder in two rounds and writes its halves.

use std::path::Path;

use candle_core::Tensor;
use ndarray::{Array2, ArrayView2, Axis};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::AutoencoderSettings;
use super::network::AutoencoderNetwork;
use crate::error::{Error, Result};
use crate::network::check::{Fingerprint, matrix, standardisation, tensor2, values};
use crate::network::layers::row_cosine;
use crate::network::training::{Trainable, fit, hold_out};
use crate::network::{TrainingReport, TrainingSettings};
use crate::onnx::builder::write_file;
use crate::progress::Progress;
use crate::settings::CheckedSettings;

/// How well the autoencoder brings back embeddings that it did not learn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AutoencoderReport {
    /// What the loop did; its measure is one minus the mean cosine, plus the squared error.
    pub training: TrainingReport,
    /// Mean cosine between held-out embeddings and their reconstructions.
    pub cosine: f64,
    /// Mean cosine between held-out embeddings and the mean embedding, for comparison.
    pub mean_cosine: f64,
}

/// An autoencoder under training.
#[derive(Debug)]
pub struct Autoencoder {
    network: AutoencoderNetwork,
    settings: AutoencoderSettings,
    reports: Vec<AutoencoderReport>,
    fingerprint: String,
}

impl Autoencoder {
    /// Trains a new autoencoder on text embeddings `[n, embedding]` of any texts.
    ///
    /// # Errors
    /// [`Error::Empty`] for fewer than two embeddings, [`Error::NotFinite`], [`Error::Setting`],
    /// [`Error::Cancelled`], [`Error::Diverged`].
    pub fn pretrain(
        embeddings: ArrayView2<'_, f32>,
        settings: &AutoencoderSettings,
        progress: &dyn Progress,
    ) -> Result<Self> {
        settings.check()?;
        if embeddings.is_empty() {
            return Err(Error::empty("the set of text embeddings", "give at least two texts"));
        }
        matrix("the text embeddings", embeddings, embeddings.ncols())?;
        let mut random = StdRng::seed_from_u64(settings.pretrain.seed);
        let network = AutoencoderNetwork::new(common_scale(embeddings), settings, &mut random)?;
        let mut autoencoder = Self {
            network,
            settings: settings.clone(),
            reports: Vec::new(),
            fingerprint: String::new(),
        };
        let loop_settings = settings.pretrain.clone();
        autoencoder.round("pretraining the autoencoder", embeddings, &loop_settings, progress)?;
        Ok(autoencoder)
    }

    /// Goes on training on the embeddings `[n, embedding]` of explanations.
    ///
    /// # Errors
    /// As [`Autoencoder::pretrain`], and [`Error::Shape`] for another embedding width.
    pub fn fine_tune(
        &mut self,
        embeddings: ArrayView2<'_, f32>,
        progress: &dyn Progress,
    ) -> Result<()> {
        if embeddings.is_empty() {
            let remedy = "write explanations first (`whyrank generate`)";
            return Err(Error::empty("the set of explanation embeddings", remedy));
        }
        let width = self.network.embedding();
        matrix("the explanation embeddings", embeddings, width)?;
        let loop_settings = self.settings.fine_tune.clone();
        self.round("fine-tuning the autoencoder", embeddings, &loop_settings, progress)
    }

    fn round(
        &mut self,
        stage: &str,
        embeddings: ArrayView2<'_, f32>,
        settings: &TrainingSettings,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut random = StdRng::seed_from_u64(settings.seed);
        let share = self.settings.validation_share;
        let (training, held) =
            hold_out(embeddings.nrows(), share, "the set of embeddings", &mut random)?;
        let rows = |index: &[u32]| {
            let index: Vec<usize> = index.iter().map(|i| *i as usize).collect();
            embeddings.select(Axis(0), &index)
        };
        let (training, held) = (rows(&training), rows(&held));
        let task = Task {
            network: &self.network,
            training: self.standardised(training.view())?,
            held: self.standardised(held.view())?,
            centre: tensor2(self.mean_row().view())?,
            factor: tensor2(self.factor_row().view())?,
        };
        let report = fit(
            stage,
            &task,
            &self.network.parameters,
            training.nrows(),
            settings,
            &mut random,
            progress,
        )?;
        let cosine = task.cosine()?;
        let mean_cosine = {
            let mean = training.mean_axis(Axis(0)).expect("the training part is not empty");
            let cosines = held.rows().into_iter().map(|row| {
                let row = row.to_vec();
                crate::metrics::cosine(&row, mean.as_slice().expect("a mean is contiguous"))
            });
            cosines.sum::<f64>() / held.nrows() as f64
        };
        self.reports.push(AutoencoderReport { training: report, cosine, mean_cosine });
        self.fingerprint = Fingerprint::default().matrix("embeddings", embeddings).finish();
        Ok(())
    }

    /// One report a round: pretraining, then each fine-tuning.
    pub fn reports(&self) -> &[AutoencoderReport] {
        &self.reports
    }

    /// Writes encoder and decoder as ONNX files with their contracts.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn export(&self, encoder: &Path, decoder: &Path) -> Result<()> {
        let training = json!({ "settings": self.settings, "reports": self.reports });
        let fingerprint = &self.fingerprint;
        write_file(encoder, &self.network.encoder_onnx(fingerprint.clone(), training.clone())?)?;
        write_file(decoder, &self.network.decoder_onnx(fingerprint.clone(), training)?)
    }

    /// Codes `[n, code]` of embeddings `[n, embedding]`, computed by the training network.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`].
    pub fn encode(&self, embeddings: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        matrix("the embeddings", embeddings, self.network.embedding())?;
        to_array(&self.network.encode(&self.standardised(embeddings)?)?)
    }

    /// Embeddings `[n, embedding]` of codes `[n, code]`, computed by the training network.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`].
    pub fn decode(&self, codes: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        matrix("the codes", codes, self.settings.code)?;
        let standardised = to_array(&self.network.decode(&tensor2(codes)?)?)?;
        Ok(standardised * self.factor_row() + self.mean_row())
    }

    fn mean_row(&self) -> Array2<f32> {
        let mean = self.network.standardisation().0;
        Array2::from_shape_fn((1, mean.len()), |(_, column)| mean[column])
    }

    fn factor_row(&self) -> Array2<f32> {
        let scale = self.network.standardisation().1;
        Array2::from_shape_fn((1, scale.len()), |(_, column)| 1.0 / scale[column])
    }

    fn standardised(&self, embeddings: ArrayView2<'_, f32>) -> Result<Tensor> {
        let rows = (&embeddings - &self.mean_row()) / self.factor_row();
        tensor2(rows.view())
    }
}

/// Mean of each column, and one scale for all: the columns of an embedding share one unit.
fn common_scale(embeddings: ArrayView2<'_, f32>) -> (Vec<f32>, Vec<f32>) {
    let (mean, _) = standardisation(embeddings);
    let mut centred = embeddings.to_owned();
    for mut row in centred.rows_mut() {
        row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
    }
    let squares: f64 = centred.iter().map(|value| f64::from(*value).powi(2)).sum();
    let deviation = (squares / centred.len() as f64).sqrt();
    let scale = if deviation > 1e-6 { (1.0 / deviation) as f32 } else { 1.0 };
    let scale = vec![scale; mean.len()];
    (mean, scale)
}

struct Task<'a> {
    network: &'a AutoencoderNetwork,
    training: Tensor,
    held: Tensor,
    centre: Tensor,
    factor: Tensor,
}

impl Task<'_> {
    /// One minus the cosine in the space of embeddings, plus the squared error in units of the
    /// embeddings' variance.
    fn loss_of(&self, standardised: &Tensor) -> candle_core::Result<Tensor> {
        let decoded = self.network.decode(&self.network.encode(standardised)?)?;
        let error = (&decoded - standardised)?.sqr()?.mean_all()?;
        let cosine = row_cosine(&self.embedding(&decoded)?, &self.embedding(standardised)?)?;
        (error - cosine.mean_all()?)? + 1.0
    }

    fn embedding(&self, standardised: &Tensor) -> candle_core::Result<Tensor> {
        standardised.broadcast_mul(&self.factor)?.broadcast_add(&self.centre)
    }

    fn cosine(&self) -> Result<f64> {
        let decoded = self.network.decode(&self.network.encode(&self.held)?)?;
        let cosine = row_cosine(&self.embedding(&decoded)?, &self.embedding(&self.held)?)?;
        Ok(f64::from(cosine.mean_all()?.to_scalar::<f32>()?))
    }
}

impl Trainable for Task<'_> {
    fn loss(&self, examples: &[u32], _random: &mut StdRng) -> Result<Tensor> {
        let index = Tensor::from_slice(examples, examples.len(), self.training.device())?;
        Ok(self.loss_of(&self.training.index_select(&index, 0)?)?)
    }

    fn validate(&self) -> Result<f64> {
        Ok(f64::from(self.loss_of(&self.held)?.to_scalar::<f32>()?))
    }
}

fn to_array(tensor: &Tensor) -> Result<Array2<f32>> {
    let shape = tensor.dims2()?;
    Ok(Array2::from_shape_vec(shape, values(tensor)?).expect("a tensor has the size of its shape"))
}
