//! The autoencoder's candle network and its form as ONNX graphs.

use candle_core::Tensor;
use rand::rngs::StdRng;
use serde_json::Value;

use super::{AutoencoderSettings, DECODER_KIND, ENCODER_KIND};
use crate::error::Result;
use crate::network::layers::{Dense, LENGTH_EPSILON, Parameters, Start, normalise};
use crate::onnx::builder::GraphBuilder;
use crate::onnx::{Contract, Port};

/// One hidden layer on each side of the code, each with a linear path beside it: the linear path
/// finds the main axes at once and the hidden layer learns what they miss.
#[derive(Debug)]
pub(super) struct AutoencoderNetwork {
    pub(super) parameters: Parameters,
    encoder: Half,
    decoder: Half,
    embedding: usize,
    code: usize,
    /// Mean and scale of the embeddings that were pretrained on.
    mean: Vec<f32>,
    scale: Vec<f32>,
}

#[derive(Debug)]
struct Half {
    hidden: Dense,
    output: Dense,
    linear: Dense,
}

impl Half {
    fn new(
        [input, hidden, output]: [usize; 3],
        random: &mut StdRng,
        parameters: &mut Parameters,
    ) -> Result<Self> {
        Ok(Self {
            hidden: Dense::new(input, hidden, Start::Rectified, random, parameters)?,
            output: Dense::new(hidden, output, Start::Zero, random, parameters)?,
            linear: Dense::new(input, output, Start::Linear, random, parameters)?,
        })
    }

    fn forward(&self, input: &Tensor) -> candle_core::Result<Tensor> {
        let hidden = self.hidden.forward(input)?.relu()?;
        self.output.forward(&hidden)? + self.linear.forward(input)?
    }

    /// Writes this half; `prepare` adapts the two layers that see the input.
    fn export(
        &self,
        graph: &mut GraphBuilder,
        input: &str,
        result: &str,
        standardisation: Option<(&[f32], &[f32])>,
        scale: Option<(&[f32], &[f32])>,
    ) -> Result<String> {
        let prepare = |layer: &Dense| -> Result<_> {
            let weights = layer.weights()?;
            Ok(match standardisation {
                Some((mean, scale)) => weights.absorb_standardisation(mean, scale),
                None => weights,
            })
        };
        let finish = |mut layer: crate::onnx::builder::LayerWeights, mean: bool| {
            if let Some((centre, factor)) = scale {
                let rows = layer.weight.chunks_exact_mut(factor.len());
                for row in rows.chain([layer.bias.as_mut_slice()]) {
                    row.iter_mut().zip(factor).for_each(|(value, factor)| *value /= factor);
                }
                if mean {
                    layer.bias.iter_mut().zip(centre).for_each(|(bias, mean)| *bias += mean);
                }
            }
            layer
        };
        let hidden = graph.dense(&format!("{result}_hidden"), input, &prepare(&self.hidden)?);
        let hidden = graph.unary("Relu", &format!("{result}_rectified"), &hidden);
        let output = finish(self.output.weights()?, true);
        let output = graph.dense(&format!("{result}_bent"), &hidden, &output);
        let linear = finish(prepare(&self.linear)?, false);
        let linear = graph.dense(&format!("{result}_straight"), input, &linear);
        Ok(graph.binary("Add", result, &output, &linear))
    }
}

impl AutoencoderNetwork {
    pub(super) fn new(
        (mean, scale): (Vec<f32>, Vec<f32>),
        settings: &AutoencoderSettings,
        random: &mut StdRng,
    ) -> Result<Self> {
        let mut parameters = Parameters::default();
        let (embedding, code) = (mean.len(), settings.code);
        let encoder = Half::new([embedding, settings.hidden, code], random, &mut parameters)?;
        let decoder = Half::new([code, settings.hidden, embedding], random, &mut parameters)?;
        Ok(Self { parameters, encoder, decoder, embedding, code, mean, scale })
    }

    pub(super) fn embedding(&self) -> usize {
        self.embedding
    }

    pub(super) fn standardisation(&self) -> (&[f32], &[f32]) {
        (&self.mean, &self.scale)
    }

    /// Standardised embeddings `[batch, embedding]` -> codes `[batch, code]` of length 1.
    pub(super) fn encode(&self, standardised: &Tensor) -> candle_core::Result<Tensor> {
        normalise(&self.encoder.forward(standardised)?)
    }

    /// Codes `[batch, code]` -> standardised embeddings `[batch, embedding]`.
    pub(super) fn decode(&self, codes: &Tensor) -> candle_core::Result<Tensor> {
        self.decoder.forward(codes)
    }

    pub(super) fn encoder_onnx(&self, fingerprint: String, training: Value) -> Result<Vec<u8>> {
        let mut graph = GraphBuilder::new();
        let raw = self.encoder.export(
            &mut graph,
            "embedding",
            "raw_code",
            Some((&self.mean, &self.scale)),
            None,
        )?;
        graph.normalise("code", &raw, LENGTH_EPSILON);
        let mut contract = self.contract(ENCODER_KIND, fingerprint, training);
        contract.inputs = vec![Port::rows("embedding", self.embedding)];
        contract.outputs = vec![Port::rows("code", self.code)];
        Ok(graph.finish(&contract))
    }

    pub(super) fn decoder_onnx(&self, fingerprint: String, training: Value) -> Result<Vec<u8>> {
        let mut graph = GraphBuilder::new();
        let output = Some((self.mean.as_slice(), self.scale.as_slice()));
        self.decoder.export(&mut graph, "code", "embedding", None, output)?;
        let mut contract = self.contract(DECODER_KIND, fingerprint, training);
        contract.inputs = vec![Port::rows("code", self.code)];
        contract.outputs = vec![Port::rows("embedding", self.embedding)];
        Ok(graph.finish(&contract))
    }

    fn contract(&self, kind: &str, fingerprint: String, training: Value) -> Contract {
        let mut contract = Contract::new(kind, fingerprint);
        contract.dimensions =
            [("embedding".to_owned(), self.embedding), ("code".to_owned(), self.code)].into();
        contract.training = training;
        contract
    }
}
