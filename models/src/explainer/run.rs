//! Runs an exported explainer.

use std::path::Path;

use ndarray::{Array2, ArrayView2};

use super::KIND;
use crate::error::{Error, Result};
use crate::network::check::{matrix, row_count};
use crate::onnx::{Contract, OnnxModel, Value};

/// Rows of one run of the model; bounds the memory of intermediate values.
const ROWS_PER_RUN: usize = 1024;

/// Both explanation codes of a number of pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// Codes of the positive explanations, `[n, k]`, each of length 1.
    pub positive: Array2<f32>,
    /// Codes of the negative explanations, `[n, k]`, each of length 1.
    pub negative: Array2<f32>,
}

/// Predicts explanation codes; usable from any number of threads.
#[derive(Debug)]
pub struct Explainer {
    model: OnnxModel,
    vector: usize,
    code: usize,
}

impl Explainer {
    /// Loads a file that [`super::TrainedExplainer::export`] wrote, for vectors and codes of the
    /// given widths.
    ///
    /// # Errors
    /// See [`OnnxModel::load`]; [`Error::Contract`] if it was made for other widths.
    pub fn load(path: &Path, vector: usize, code: usize) -> Result<Self> {
        let model = OnnxModel::load(path, KIND)?;
        model.contract().require("vector", vector, path)?;
        model.contract().require("code", code, path)?;
        Ok(Self { model, vector, code })
    }

    /// What the file states about itself.
    pub fn contract(&self) -> &Contract {
        self.model.contract()
    }

    /// Codes of one user for many items: user vector `[d]`, item vectors `[n, d]`.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`], [`Error::Inference`].
    pub fn predict_for(&self, user: &[f32], items: ArrayView2<'_, f32>) -> Result<Codes> {
        let user = ArrayView2::from_shape((1, user.len()), user).expect("one row");
        let users = user.broadcast((items.nrows(), user.ncols())).expect("one row broadcasts");
        self.predict(users, items)
    }

    /// Codes of pairs: row i of `users` `[n, d]` with row i of `items` `[n, d]`.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`], [`Error::Inference`].
    pub fn predict(&self, users: ArrayView2<'_, f32>, items: ArrayView2<'_, f32>) -> Result<Codes> {
        matrix("the user vectors", users, self.vector)?;
        matrix("the item vectors", items, self.vector)?;
        row_count("the table of item vectors", items.nrows(), users.nrows())?;
        let (users, items) = (users.as_standard_layout(), items.as_standard_layout());
        let slice = "the standard layout is contiguous";
        let (user_values, item_values) =
            (users.as_slice().expect(slice), items.as_slice().expect(slice));
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        let run = ROWS_PER_RUN * self.vector;
        for (user, item) in user_values.chunks(run).zip(item_values.chunks(run)) {
            let shape = [user.len() / self.vector, self.vector];
            let outputs = self
                .model
                .run(&[Value { shape: &shape, data: user }, Value { shape: &shape, data: item }])?;
            positive.extend_from_slice(&outputs[0]);
            negative.extend_from_slice(&outputs[1]);
        }
        let array = |codes: Vec<f32>| {
            Array2::from_shape_vec((users.nrows(), self.code), codes).map_err(|error| {
                Error::Inference { path: self.model.path().to_owned(), reason: error.to_string() }
            })
        };
        Ok(Codes { positive: array(positive)?, negative: array(negative)? })
    }
}
