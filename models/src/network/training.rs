//! The training loop: shuffled batches, AdamW, early stopping on a validation measure.

use candle_core::Tensor;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::{rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::network::layers::Parameters;
use crate::progress::Progress;
use crate::settings::{CheckedSettings, Faults, SettingFault};

/// How a network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSettings {
    /// Most passes over the training part.
    pub epochs: usize,
    /// Examples per optimiser step.
    pub batch: usize,
    /// Step size of AdamW at the start; it halves after each epoch without improvement.
    pub learning_rate: f64,
    /// Pull of all weights (not biases) to zero, per step and unit of step size.
    pub weight_decay: f64,
    /// Training stops after this many epochs in a row without improvement on the validation part.
    pub patience: usize,
    /// Seed of starting weights, shuffling and dropout.
    pub seed: u64,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self {
            epochs: 40,
            batch: 256,
            learning_rate: 2e-3,
            weight_decay: 0.02,
            patience: 4,
            seed: 42,
        }
    }
}

impl CheckedSettings for TrainingSettings {
    fn faults(&self) -> Vec<SettingFault> {
        let mut faults = Faults::default();
        let pass = "at least one pass over the data is needed";
        faults.unless(self.epochs > 0, "epochs", self.epochs, pass);
        faults.unless(self.batch > 0, "batch", self.batch, "a step needs at least one example");
        faults.unless_positive("learning_rate", self.learning_rate);
        faults.unless_weight("weight_decay", self.weight_decay);
        faults.0
    }
}

/// What a training run did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Epochs that ran.
    pub epochs: usize,
    /// The epoch whose weights were kept, counted from 1; 0 if no epoch improved on the start.
    pub best_epoch: usize,
    /// Validation measure of the kept weights; lower is better.
    pub best: f64,
    /// Validation measure before training and after each epoch.
    pub validation: Vec<f64>,
}

/// A network under training, as the loop sees it.
pub(crate) trait Trainable {
    /// Scalar loss of the given training examples.
    fn loss(&self, examples: &[u32], random: &mut StdRng) -> Result<Tensor>;
    /// Measure on the validation part; lower is better.
    fn validate(&self) -> Result<f64>;
}

/// Trains `network` on `examples` training examples and leaves it with the weights of its best epoch. Whoever
/// calls has checked the settings with those of the network.
pub(crate) fn fit(
    stage: &str,
    network: &impl Trainable,
    parameters: &Parameters,
    examples: usize,
    settings: &TrainingSettings,
    random: &mut StdRng,
    progress: &dyn Progress,
) -> Result<TrainingReport> {
    if examples == 0 {
        return Err(Error::empty(
            format!("the training part for {stage}"),
            "more examples are needed, or a smaller validation share",
        ));
    }
    let mut optimisers = [
        optimiser(&parameters.decayed, settings.learning_rate, settings.weight_decay)?,
        optimiser(&parameters.free, settings.learning_rate, 0.0)?,
    ];
    let mut order: Vec<u32> = (0..examples as u32).collect();
    let mut best = network.validate()?;
    let mut report = TrainingReport { epochs: 0, best_epoch: 0, best, validation: vec![best] };
    let mut kept = parameters.snapshot()?;
    progress.begin(stage, (settings.epochs * examples) as u64);
    for epoch in 1..=settings.epochs {
        order.shuffle(random);
        for (step, batch) in order.chunks(settings.batch).enumerate() {
            if progress.cancelled() {
                progress.end();
                return Err(Error::Cancelled { stage: stage.to_owned() });
            }
            let gradients = network.loss(batch, random)?.backward()?;
            for optimiser in &mut optimisers {
                optimiser.step(&gradients)?;
            }
            let done = (epoch - 1) * examples + step * settings.batch + batch.len();
            progress.advance(done as u64);
        }
        let measure = network.validate()?;
        if !measure.is_finite() {
            progress.end();
            return Err(Error::Diverged { stage: stage.to_owned(), epoch });
        }
        report.epochs = epoch;
        report.validation.push(measure);
        progress.note(&format!("{stage}: epoch {epoch}, validation {measure:.4}"));
        if measure < best {
            best = measure;
            report.best_epoch = epoch;
            kept = parameters.snapshot()?;
        } else if epoch - report.best_epoch >= settings.patience.max(1) {
            break;
        } else {
            for optimiser in &mut optimisers {
                let halved = optimiser.learning_rate() / 2.0;
                optimiser.set_learning_rate(halved);
            }
        }
    }
    parameters.restore(&kept)?;
    report.best = best;
    progress.end();
    Ok(report)
}

fn optimiser(vars: &[candle_core::Var], rate: f64, decay: f64) -> Result<AdamW> {
    let settings = ParamsAdamW { lr: rate, weight_decay: decay, ..ParamsAdamW::default() };
    Ok(AdamW::new(vars.to_vec(), settings)?)
}

/// Which examples validate: a share of all, drawn with the seed, at least one on each side.
pub(crate) fn hold_out(
    examples: usize,
    share: f64,
    what: &str,
    random: &mut StdRng,
) -> Result<(Vec<u32>, Vec<u32>)> {
    if examples < 2 {
        return Err(Error::empty(
            what,
            format!("{examples} examples were given, at least 2 are needed to train and validate"),
        ));
    }
    let mut order: Vec<u32> = (0..examples as u32).collect();
    order.shuffle(random);
    let held = ((examples as f64 * share).round() as usize).clamp(1, examples - 1);
    let training = order.split_off(held);
    Ok((training, order))
}
