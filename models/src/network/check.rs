//! Checks of arrays before they enter a network, and the fingerprint of training data.

use candle_core::{Device, Tensor};
use ndarray::{ArrayView1, ArrayView2, ArrayView3};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Checks that `rows` has the given width and only finite numbers.
pub(crate) fn matrix(what: &str, rows: ArrayView2<'_, f32>, width: usize) -> Result<()> {
    if rows.ncols() != width {
        let got = format!("width {}", rows.ncols());
        return Err(Error::shape(what, format!("width {width}"), got));
    }
    for ((row, column), value) in rows.indexed_iter() {
        if !value.is_finite() {
            return Err(Error::NotFinite { what: what.to_owned(), value: *value, row, column });
        }
    }
    Ok(())
}

/// Checks that `values` holds only finite numbers; the position is reported as the column.
pub(crate) fn vector(what: &str, values: &[f32], width: usize) -> Result<()> {
    if values.len() != width {
        return Err(Error::shape(
            what,
            format!("width {width}"),
            format!("width {}", values.len()),
        ));
    }
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(column) => {
            Err(Error::NotFinite { what: what.to_owned(), value: values[column], row: 0, column })
        }
    }
}

/// Checks that `what` has as many rows as the examples it belongs to.
pub(crate) fn row_count(what: &str, got: usize, needed: usize) -> Result<()> {
    if got == needed {
        return Ok(());
    }
    Err(Error::shape(what, format!("{needed} rows"), format!("{got} rows")))
}

/// Mean and reciprocal standard deviation of each column; a constant column gets scale 1.
pub(crate) fn standardisation(rows: ArrayView2<'_, f32>) -> (Vec<f32>, Vec<f32>) {
    let count = rows.nrows().max(1) as f64;
    rows.columns()
        .into_iter()
        .map(|column| {
            let mean = column.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
            let variance =
                column.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
            let deviation = variance.sqrt();
            // Below this a column is constant up to rounding, and scaling would blow up the rounding.
            let scale = if deviation > 1e-6 { 1.0 / deviation } else { 1.0 };
            (mean as f32, scale as f32)
        })
        .unzip()
}

/// `(rows - mean) * scale`, column by column.
pub(crate) fn standardise(rows: &mut ndarray::ArrayViewMut2<'_, f32>, mean: &[f32], scale: &[f32]) {
    for mut row in rows.rows_mut() {
        for ((value, mean), scale) in row.iter_mut().zip(mean).zip(scale) {
            *value = (*value - mean) * scale;
        }
    }
}

/// A candle tensor with the numbers of a matrix.
pub(crate) fn tensor2(rows: ArrayView2<'_, f32>) -> Result<Tensor> {
    let values: Vec<f32> = rows.iter().copied().collect();
    Ok(Tensor::from_vec(values, rows.dim(), &Device::Cpu)?)
}

/// A candle tensor with the numbers of a stack of matrices.
pub(crate) fn tensor3(blocks: ArrayView3<'_, f32>) -> Result<Tensor> {
    let values: Vec<f32> = blocks.iter().copied().collect();
    Ok(Tensor::from_vec(values, blocks.dim(), &Device::Cpu)?)
}

/// The numbers of a matrix-shaped candle tensor, row-major.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
}

/// Digest of everything a model learned from; equal data in equal order gives an equal digest.
#[derive(Debug, Default)]
pub(crate) struct Fingerprint(Sha256);

impl Fingerprint {
    pub(crate) fn matrix(mut self, name: &str, rows: ArrayView2<'_, f32>) -> Self {
        self.0.update(format!("{name}:{:?}:", rows.dim()));
        for value in rows {
            self.0.update(value.to_le_bytes());
        }
        self
    }

    pub(crate) fn vector(self, name: &str, values: &[f32]) -> Self {
        self.matrix(name, ArrayView1::from(values).insert_axis(ndarray::Axis(0)))
    }

    pub(crate) fn finish(self) -> String {
        // 128 bits tell data sets apart; the digest is not a defence against forgery.
        self.0.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_wrong_width_and_a_nan_are_told_with_their_place() {
        let rows = array![[1.0, 2.0], [3.0, f32::NAN]];
        let wrong = matrix("user vectors", rows.view(), 3).unwrap_err().to_string();
        assert_eq!(wrong, "user vectors has width 2, but needs width 3");
        let nan = matrix("user vectors", rows.view(), 2).unwrap_err().to_string();
        assert!(nan.contains("NaN at row 1, column 1"), "{nan}");
        assert!(vector("history", &[f32::INFINITY], 1).is_err());
    }

    #[test]
    fn standardised_columns_have_mean_zero_and_deviation_one() {
        let mut rows = array![[1.0, 5.0], [3.0, 5.0]];
        let (mean, scale) = standardisation(rows.view());
        assert_eq!((mean.as_slice(), scale.as_slice()), (&[2.0, 5.0][..], &[1.0, 1.0][..]));
        standardise(&mut rows.view_mut(), &mean, &scale);
        assert_eq!(rows, array![[-1.0, 0.0], [1.0, 0.0]]);
    }

    #[test]
    fn a_fingerprint_depends_on_values_and_shape() {
        let print = |rows: ndarray::Array2<f32>| {
            Fingerprint::default().matrix("rows", rows.view()).finish()
        };
        assert_eq!(print(array![[1.0, 2.0]]), print(array![[1.0, 2.0]]));
        assert_ne!(print(array![[1.0, 2.0]]), print(array![[1.0], [2.0]]));
        assert_ne!(print(array![[1.0, 2.0]]), print(array![[1.0, 2.5]]));
    }
}
