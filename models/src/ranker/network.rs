//! The ranker's candle network over complete examples, used for training.

use candle_core::{D, Tensor};
use candle_nn::ops::softmax;
use rand::rngs::StdRng;

use super::RankerSettings;
use crate::error::Result;
use crate::network::layers::{Dense, Parameters, Start, dropout};

/// Subtracted from the attention scores of absent history items, here and in the exported graph.
pub(super) const ABSENT: f32 = 1e4;

/// Columns of the standardised feature table: user, item, product, both codes, context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) vector: usize,
    pub(super) code: usize,
    pub(super) context: usize,
}

impl Layout {
    pub(super) fn width(self) -> usize {
        self.before_context() + self.context
    }

    /// The column of the first context feature.
    pub(super) fn before_context(self) -> usize {
        3 * self.vector + 2 * self.code
    }

    /// An attention key: a history item's vector and its rating.
    pub(super) fn key(self) -> usize {
        self.vector + 1
    }

    /// What attention hands on: the mean key, and the mean key weighted by its rating.
    pub(super) fn attended(self) -> usize {
        2 * self.key()
    }
}

/// Examples in the form that the network computes with.
#[derive(Debug)]
pub(super) struct Batch {
    /// Standardised features, `[batch, width]`.
    pub(super) features: Tensor,
    /// Standardised keys, `[batch, history, key]`.
    pub(super) keys: Tensor,
    /// 1 where a history item is present, `[batch, history]`.
    pub(super) mask: Tensor,
}

/// Attention over the history, then two hidden layers, then rating and like logit; a linear part beside
/// them.
#[derive(Debug)]
pub(super) struct RankerNetwork {
    pub(super) layout: Layout,
    pub(super) parameters: Parameters,
    pub(super) query: Dense,
    pub(super) first: Dense,
    pub(super) second: Dense,
    pub(super) output: Dense,
    /// From the context features straight to the output; none where there are none.
    pub(super) linear: Option<Dense>,
    dropout: f32,
}

impl RankerNetwork {
    pub(super) fn new(
        layout: Layout,
        settings: &RankerSettings,
        random: &mut StdRng,
    ) -> Result<Self> {
        let mut parameters = Parameters::default();
        let mut dense =
            |inputs, outputs, start| Dense::new(inputs, outputs, start, random, &mut parameters);
        let [first_width, second_width] = settings.hidden;
        // The identity makes attention start as plain similarity between candidate and history.
        let query = dense(layout.vector, layout.key(), Start::Identity(1.0))?;
        let inputs = layout.width() + layout.attended();
        let first = dense(inputs, first_width, Start::Rectified)?;
        let second = dense(first_width, second_width, Start::Rectified)?;
        // Zero: the first prediction is the mean rating, so training starts from the baseline.
        let output = dense(second_width, 2, Start::Zero)?;
        let linear = match layout.context {
            0 => None,
            context => Some(dense(context, 2, Start::Zero)?),
        };
        let dropout = settings.dropout;
        Ok(Self { layout, parameters, query, first, second, output, linear, dropout })
    }

    /// `[batch, 2]`: standardised rating and like logit. Dropout applies if `random` is given.
    pub(super) fn forward(
        &self,
        batch: &Batch,
        mut random: Option<&mut StdRng>,
    ) -> candle_core::Result<Tensor> {
        let attended = self.attend(batch)?;
        let input = Tensor::cat(&[&batch.features, &attended], 1)?;
        let hidden = self.first.forward(&input)?.relu()?;
        let hidden = dropout(&hidden, self.dropout, random.as_deref_mut())?;
        let hidden = self.second.forward(&hidden)?.relu()?;
        let hidden = dropout(&hidden, self.dropout, random)?;
        let output = self.output.forward(&hidden)?;
        let Some(linear) = &self.linear else { return Ok(output) };
        let layout = self.layout;
        let context = batch.features.narrow(1, layout.before_context(), layout.context)?;
        output + linear.forward(&context.contiguous()?)?
    }

    /// Scaled dot-product attention of the candidate over the history: `[batch, attended]`.
    fn attend(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let item = batch.features.narrow(1, self.layout.vector, self.layout.vector)?;
        let query = self.query.forward(&item.contiguous()?)?;
        let query = (query / (self.layout.key() as f64).sqrt())?;
        let scores = batch.keys.matmul(&query.unsqueeze(2)?)?.squeeze(2)?;
        let absence = ((&batch.mask - 1.0)? * f64::from(ABSENT))?;
        // Without any history all weights are equal; the mask then turns them all to zero.
        let weights = (softmax(&(scores + absence)?, D::Minus1)? * &batch.mask)?;
        let ratings = batch.keys.narrow(2, self.layout.vector, 1)?.squeeze(2)?;
        let rated = (&weights * ratings)?;
        let weights = Tensor::stack(&[&weights, &rated], 1)?;
        weights.matmul(&batch.keys)?.flatten_from(1)
    }
}
