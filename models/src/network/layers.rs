//! Linear layers whose weights start from a seed, and the operations that candle lacks.

use candle_core::{Device, Tensor, Var};
use rand::{Rng, rngs::StdRng};

use crate::error::Result;
use crate::network::check;
use crate::onnx::builder::LayerWeights;

/// The trainable numbers of one network, in the order of their making.
///
/// candle's own `VarMap` draws its starting weights from a generator that cannot be seeded on CPU.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// Weights, which weight decay pulls to zero.
    pub(crate) decayed: Vec<Var>,
    /// Biases, which it does not.
    pub(crate) free: Vec<Var>,
}

impl Parameters {
    fn all(&self) -> impl Iterator<Item = &Var> {
        self.decayed.iter().chain(&self.free)
    }

    /// A copy of all present values.
    pub(crate) fn snapshot(&self) -> Result<Vec<Tensor>> {
        Ok(self.all().map(|var| var.as_tensor().copy()).collect::<candle_core::Result<_>>()?)
    }

    /// Sets all values to those of a snapshot of the same parameters.
    pub(crate) fn restore(&self, snapshot: &[Tensor]) -> Result<()> {
        for (var, saved) in self.all().zip(snapshot) {
            var.set(saved)?;
        }
        Ok(())
    }
}

/// How the weights of a layer start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Start {
    /// Uniform, with the variance that keeps a signal's size through a rectified layer.
    Rectified,
    /// Uniform, with the variance that keeps a signal's size through a linear layer.
    Linear,
    /// The identity scaled by a factor, on as many axes as both sides have.
    Identity(f32),
    /// Zero, for a layer that starts by changing nothing.
    Zero,
}

/// `input · weight + bias`.
#[derive(Debug)]
pub(crate) struct Dense {
    weight: Var,
    bias: Var,
}

impl Dense {
    pub(crate) fn new(
        inputs: usize,
        outputs: usize,
        start: Start,
        random: &mut StdRng,
        parameters: &mut Parameters,
    ) -> Result<Self> {
        let uniform = |random: &mut StdRng, gain: f32| {
            let bound = (gain / inputs.max(1) as f32).sqrt();
            (0..inputs * outputs).map(|_| random.random_range(-bound..=bound)).collect()
        };
        let values: Vec<f32> = match start {
            Start::Rectified => uniform(random, 6.0),
            Start::Linear => uniform(random, 3.0),
            Start::Zero => vec![0.0; inputs * outputs],
            Start::Identity(scale) => (0..inputs * outputs)
                .map(|i| if i / outputs == i % outputs { scale } else { 0.0 })
                .collect(),
        };
        let weight = Var::from_tensor(&Tensor::from_vec(values, (inputs, outputs), &Device::Cpu)?)?;
        let bias =
            Var::from_tensor(&Tensor::from_vec(vec![0f32; outputs], outputs, &Device::Cpu)?)?;
        parameters.decayed.push(weight.clone());
        parameters.free.push(bias.clone());
        Ok(Self { weight, bias })
    }

    /// Replaces the present numbers: `[inputs, outputs]`, row-major, and `[outputs]`.
    pub(crate) fn set(&self, weight: Vec<f32>, bias: Vec<f32>) -> Result<()> {
        self.weight.set(&Tensor::from_vec(weight, self.weight.dims2()?, &Device::Cpu)?)?;
        let outputs = bias.len();
        self.bias.set(&Tensor::from_vec(bias, outputs, &Device::Cpu)?)?;
        Ok(())
    }

    /// `[batch, inputs]` -> `[batch, outputs]`.
    pub(crate) fn forward(&self, input: &Tensor) -> candle_core::Result<Tensor> {
        input.matmul(&self.weight)?.broadcast_add(&self.bias)
    }

    /// The present numbers, for export.
    pub(crate) fn weights(&self) -> Result<LayerWeights> {
        let (inputs, outputs) = self.weight.dims2()?;
        Ok(LayerWeights {
            inputs,
            outputs,
            weight: check::values(&self.weight)?,
            bias: check::values(&self.bias)?,
        })
    }
}

/// Sets each number to zero with probability `rate` and scales the others up, so that the mean stays.
pub(crate) fn dropout(
    input: &Tensor,
    rate: f32,
    random: Option<&mut StdRng>,
) -> candle_core::Result<Tensor> {
    let Some(random) = random.filter(|_| rate > 0.0) else {
        return Ok(input.clone());
    };
    let keep = 1.0 / (1.0 - rate);
    let mask: Vec<f32> = (0..input.elem_count())
        .map(|_| if random.random::<f32>() < rate { 0.0 } else { keep })
        .collect();
    input * Tensor::from_vec(mask, input.shape(), input.device())?
}

/// Added to a length before dividing by it, here and in the exported graph.
pub(crate) const LENGTH_EPSILON: f32 = 1e-6;

/// Scales every row of `[batch, n]` to length 1; a row of zeros stays zero.
pub(crate) fn normalise(rows: &Tensor) -> candle_core::Result<Tensor> {
    // The gradient of the square root at exactly zero is infinite; the tiny summand keeps it finite.
    let squared = (rows.sqr()?.sum_keepdim(1)? + 1e-20)?;
    rows.broadcast_div(&(squared.sqrt()? + f64::from(LENGTH_EPSILON))?)
}

/// Cosine between the rows of two `[batch, n]` tensors: `[batch, 1]`.
pub(crate) fn row_cosine(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    (normalise(a)? * normalise(b)?)?.sum_keepdim(1)
}

/// Mean binary cross-entropy of `[batch, 1]` logits; candle's own overflows for large logits.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
    let rest = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    ((logits.relu()? - (logits * targets)?)? + rest)?.mean_all()
}
