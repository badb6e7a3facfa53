//! Runs an exported encoder or decoder.

use std::path::Path;

use ndarray::{Array2, ArrayView2};

use super::{DECODER_KIND, ENCODER_KIND};
use crate::error::{Error, Result};
use crate::network::check::matrix;
use crate::onnx::{Contract, OnnxModel, Value};

/// Rows of one run of the model; bounds the memory of intermediate values.
const ROWS_PER_RUN: usize = 1024;

/// Turns text embeddings into explanation codes; usable from any number of threads.
#[derive(Debug)]
pub struct Encoder(Half);

/// Turns explanation codes back into text embeddings; usable from any number of threads.
#[derive(Debug)]
pub struct Decoder(Half);

#[derive(Debug)]
struct Half {
    model: OnnxModel,
    input: usize,
    output: usize,
}

impl Encoder {
    /// Loads an encoder for embeddings of the given width.
    ///
    /// # Errors
    /// See [`OnnxModel::load`]; [`Error::Contract`] if it was made for another embedding width.
    pub fn load(path: &Path, embedding: usize) -> Result<Self> {
        let half = Half::load(path, ENCODER_KIND, "embedding", "code")?;
        half.model.contract().require("embedding", embedding, path)?;
        Ok(Self(half))
    }

    /// Embeddings `[n, embedding]` -> codes `[n, code]`, each of length 1.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`], [`Error::Inference`].
    pub fn encode(&self, embeddings: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.0.run("the embeddings", embeddings)
    }

    /// Width k of the codes.
    pub fn code(&self) -> usize {
        self.0.output
    }

    /// What the file states about itself.
    pub fn contract(&self) -> &Contract {
        self.0.model.contract()
    }
}

impl Decoder {
    /// Loads a decoder for codes of the given width.
    ///
    /// # Errors
    /// See [`OnnxModel::load`]; [`Error::Contract`] if it was made for another code width.
    pub fn load(path: &Path, code: usize) -> Result<Self> {
        let half = Half::load(path, DECODER_KIND, "code", "embedding")?;
        half.model.contract().require("code", code, path)?;
        Ok(Self(half))
    }

    /// Codes `[n, code]` -> embeddings `[n, embedding]`.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`], [`Error::Inference`].
    pub fn decode(&self, codes: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.0.run("the codes", codes)
    }

    /// What the file states about itself.
    pub fn contract(&self) -> &Contract {
        self.0.model.contract()
    }
}

impl Half {
    fn load(path: &Path, kind: &str, input: &str, output: &str) -> Result<Self> {
        let model = OnnxModel::load(path, kind)?;
        let input = model.contract().dimension(input, path)?;
        let output = model.contract().dimension(output, path)?;
        Ok(Self { model, input, output })
    }

    fn run(&self, what: &str, rows: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        matrix(what, rows, self.input)?;
        let rows = rows.as_standard_layout();
        let values = rows.as_slice().expect("the standard layout is contiguous");
        let mut outputs = Vec::with_capacity(rows.nrows() * self.output);
        for part in values.chunks(ROWS_PER_RUN * self.input) {
            let shape = [part.len() / self.input, self.input];
            let result = self.model.run(&[Value { shape: &shape, data: part }])?;
            outputs.extend_from_slice(&result[0]);
        }
        let shape = (rows.nrows(), self.output);
        Array2::from_shape_vec(shape, outputs).map_err(|error| Error::Inference {
            path: self.model.path().to_owned(),
            reason: error.to_string(),
        })
    }
}
