//! The linear map from text embeddings to vectors, fitted by ridge regression.

use nalgebra::{Cholesky, DMatrix, Dyn};
use ndarray::{Array2, ArrayView2};

use crate::error::{Error, Result};
use crate::network::check;

/// A linear map from a text embedding to a vector, with an offset.
#[derive(Debug, Clone, PartialEq)]
pub struct TextProjection {
    /// `[text + 1, d]`; the last row is the offset.
    pub(super) weights: Array2<f32>,
}

impl TextProjection {
    /// Width of the text embeddings.
    pub fn text(&self) -> usize {
        self.weights.nrows() - 1
    }

    /// The vector `[d]` that a text embedding `[text]` stands for.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`].
    pub fn project(&self, embedding: &[f32]) -> Result<Vec<f32>> {
        check::vector("the text embedding", embedding, self.text())?;
        let mut vector = self.weights.row(self.text()).to_vec();
        for (value, weights) in embedding.iter().zip(self.weights.rows()) {
            vector.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
        }
        Ok(vector)
    }
}

/// The normal equations of the regression; the texts do not change, so they are factored once.
pub(super) struct TextRegression {
    /// Row-wise embeddings with a 1 appended, weighted; `[n, text + 1]`.
    weighted: DMatrix<f64>,
    plain: DMatrix<f64>,
    factor: Cholesky<f64, Dyn>,
    /// Which rows of the table take part: those with text and with pairs.
    rows: Vec<usize>,
    has_text: Vec<bool>,
}

impl TextRegression {
    /// `weights[row]` is how much a row counts; a row of zeros in `texts` means that it has no text.
    pub(super) fn new(
        texts: ArrayView2<'_, f32>,
        weights: &[f64],
        regularisation: f64,
    ) -> Result<Self> {
        let has_text: Vec<bool> =
            texts.rows().into_iter().map(|row| row.iter().any(|value| *value != 0.0)).collect();
        let rows: Vec<usize> =
            (0..weights.len()).filter(|row| has_text[*row] && weights[*row] > 0.0).collect();
        let width = texts.ncols();
        let plain = DMatrix::from_fn(rows.len(), width + 1, |row, column| {
            if column < width { f64::from(texts[(rows[row], column)]) } else { 1.0 }
        });
        let mut weighted = plain.clone();
        for (mut row, index) in weighted.row_iter_mut().zip(&rows) {
            row *= weights[*index];
        }
        let mut system = weighted.tr_mul(&plain);
        // Relative to the features' own size, so that one setting serves any embedding.
        let size = (0..width).map(|axis| system[(axis, axis)]).sum::<f64>() / width.max(1) as f64;
        for axis in 0..width {
            system[(axis, axis)] += regularisation * size.max(f64::MIN_POSITIVE);
        }
        system[(width, width)] += 1e-9 + f64::MIN_POSITIVE;
        let factor = Cholesky::new(system)
            .ok_or_else(|| Error::Singular { what: "the map from text to vectors".to_owned() })?;
        Ok(Self { weighted, plain, factor, rows, has_text })
    }

    /// Fits the map to the present vectors and writes every row's image to `priors`; rows without
    /// text keep a prior of zero. Returns the map, `[text + 1, d]`.
    pub(super) fn fit(
        &self,
        vectors: &[Vec<f64>],
        texts: ArrayView2<'_, f32>,
        priors: &mut [Vec<f64>],
    ) -> DMatrix<f64> {
        let dimension = priors.first().map_or(0, Vec::len);
        let targets =
            DMatrix::from_fn(self.rows.len(), dimension, |row, axis| vectors[self.rows[row]][axis]);
        let mut map = self.weighted.tr_mul(&targets);
        self.factor.solve_mut(&mut map);
        let images = &self.plain * &map;
        for (position, row) in self.rows.iter().enumerate() {
            priors[*row] = images.row(position).iter().copied().collect();
        }
        // Rows that took no part in the fit, because they have no pairs, still have an image.
        let mut taken = vec![false; priors.len()];
        self.rows.iter().for_each(|row| taken[*row] = true);
        for row in (0..priors.len()).filter(|row| self.has_text[*row] && !taken[*row]) {
            let mut image: Vec<f64> = map.row(texts.ncols()).iter().copied().collect();
            for (feature, value) in texts.row(row).iter().enumerate() {
                for (axis, sum) in image.iter_mut().enumerate() {
                    *sum += f64::from(*value) * map[(feature, axis)];
                }
            }
            priors[row] = image;
        }
        map
    }
}

/// The map in the form that is kept.
pub(super) fn projection(map: &DMatrix<f64>) -> TextProjection {
    TextProjection {
        weights: Array2::from_shape_fn(map.shape(), |(row, column)| map[(row, column)] as f32),
    }
}
