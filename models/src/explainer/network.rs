//! The explainer's candle network and its form as an ONNX graph.

use candle_core::Tensor;
use ndarray::{Array2, ArrayView2, Axis};
use rand::rngs::StdRng;

use super::{ExplainerSettings, KIND};
use crate::error::Result;
use crate::network::layers::{Dense, LENGTH_EPSILON, Parameters, Start, dropout, normalise};
use crate::onnx::builder::GraphBuilder;
use crate::onnx::{Contract, Port};

/// Two hidden layers over user, item and their product; the output is added to the mean codes.
#[derive(Debug)]
pub(super) struct ExplainerNetwork {
    pub(super) parameters: Parameters,
    first: Dense,
    second: Dense,
    output: Dense,
    /// Mean positive and negative code, one after the other, `[1, 2k]`.
    mean_codes: Tensor,
    dropout: f32,
    code: usize,
}

/// `[n, 3d]`: user, item, product.
pub(super) fn features(user: ArrayView2<'_, f32>, item: ArrayView2<'_, f32>) -> Array2<f32> {
    let product = &user * &item;
    ndarray::concatenate(Axis(1), &[user, item, product.view()])
        .expect("user and item have the same shape")
}

impl ExplainerNetwork {
    pub(super) fn new(
        vector: usize,
        mean_codes: Tensor,
        settings: &ExplainerSettings,
        random: &mut StdRng,
    ) -> Result<Self> {
        let mut parameters = Parameters::default();
        let mut dense =
            |inputs, outputs, start| Dense::new(inputs, outputs, start, random, &mut parameters);
        let [first_width, second_width] = settings.hidden;
        let codes = mean_codes.dims()[1];
        let first = dense(3 * vector, first_width, Start::Rectified)?;
        let second = dense(first_width, second_width, Start::Rectified)?;
        // Zero: the first prediction is the mean code, so training starts from the baseline.
        let output = dense(second_width, codes, Start::Zero)?;
        let dropout = settings.dropout;
        Ok(Self { parameters, first, second, output, mean_codes, dropout, code: codes / 2 })
    }

    /// Standardised features `[batch, 3d]` -> positive and negative codes `[batch, k]` of length 1.
    pub(super) fn forward(
        &self,
        features: &Tensor,
        mut random: Option<&mut StdRng>,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let hidden = self.first.forward(features)?.relu()?;
        let hidden = dropout(&hidden, self.dropout, random.as_deref_mut())?;
        let hidden = self.second.forward(&hidden)?.relu()?;
        let hidden = dropout(&hidden, self.dropout, random)?;
        let codes = self.output.forward(&hidden)?.broadcast_add(&self.mean_codes)?;
        let positive = codes.narrow(1, 0, self.code)?.contiguous()?;
        let negative = codes.narrow(1, self.code, self.code)?.contiguous()?;
        Ok((normalise(&positive)?, normalise(&negative)?))
    }

    pub(super) fn to_onnx(
        &self,
        vector: usize,
        (mean, scale): (&[f32], &[f32]),
        fingerprint: String,
        training: serde_json::Value,
    ) -> Result<Vec<u8>> {
        let mut graph = GraphBuilder::new();
        let product = graph.binary("Mul", "user_item", "user", "item");
        let features = graph.concat("raw_features", &["user", "item", &product]);
        let features = graph.bound("features", &features);
        let first = self.first.weights()?.absorb_standardisation(mean, scale);
        let hidden = graph.dense("first", &features, &first);
        let hidden = graph.unary("Relu", "first_hidden", &hidden);
        let hidden = graph.dense("second", &hidden, &self.second.weights()?);
        let hidden = graph.unary("Relu", "second_hidden", &hidden);
        let mut output = self.output.weights()?;
        let mean_codes = crate::network::check::values(&self.mean_codes)?;
        output.bias.iter_mut().zip(&mean_codes).for_each(|(bias, mean)| *bias += mean);
        let codes = graph.dense("codes", &hidden, &output);
        graph.split(&codes, &[("raw_positive", self.code), ("raw_negative", self.code)]);
        graph.normalise("positive", "raw_positive", LENGTH_EPSILON);
        graph.normalise("negative", "raw_negative", LENGTH_EPSILON);
        let mut contract = Contract::new(KIND, fingerprint);
        contract.dimensions =
            [("vector".to_owned(), vector), ("code".to_owned(), self.code)].into();
        contract.inputs = vec![Port::rows("user", vector), Port::rows("item", vector)];
        contract.outputs =
            vec![Port::rows("positive", self.code), Port::rows("negative", self.code)];
        contract.training = training;
        Ok(graph.finish(&contract))
    }
}
