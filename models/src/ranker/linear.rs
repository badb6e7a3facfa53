//! Where the ranker's linear part starts: the ridge regression of ratings and likes on the context
//! features, solved in closed form, so that training begins from a sound predictor and the network
//! learns what a line cannot say.

use nalgebra::{Cholesky, DMatrix, DVector};
use ndarray::ArrayView2;

use crate::error::{Error, Result};

/// Pull of the weights to zero, in examples.
const RIDGE: f64 = 10.0;
/// Shares of likes nearer to 0 or 1 than this are held there, where the logit is still finite.
const RAREST: f64 = 1e-3;

/// The start of a layer from context features `[n, inputs]` to standardised rating and like logit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LinearStart {
    /// `[inputs, 2]`, row-major.
    pub(super) weight: Vec<f32>,
    /// `[2]`.
    pub(super) bias: Vec<f32>,
}

impl LinearStart {
    /// Solves for both. `features` and `ratings` are standardised, `likes` are 0 or 1.
    pub(super) fn of(
        features: ArrayView2<'_, f32>,
        ratings: &[f32],
        likes: &[f32],
    ) -> Result<Self> {
        let (examples, inputs) = features.dim();
        let share = likes.iter().map(|like| f64::from(*like)).sum::<f64>() / examples.max(1) as f64;
        let share = share.clamp(RAREST, 1.0 - RAREST);
        let mut system = DMatrix::from_diagonal_element(inputs, inputs, RIDGE);
        let mut right = DMatrix::zeros(inputs, 2);
        for ((row, rating), like) in features.rows().into_iter().zip(ratings).zip(likes) {
            let row = DVector::from_iterator(inputs, row.iter().map(|value| f64::from(*value)));
            system.syger(1.0, &row, &row, 1.0);
            right.column_mut(0).axpy(f64::from(*rating), &row, 1.0);
            right.column_mut(1).axpy(f64::from(*like) - share, &row, 1.0);
        }
        let factor = Cholesky::new(system)
            .ok_or_else(|| Error::Singular { what: "the ranker's linear part".to_owned() })?;
        factor.solve_mut(&mut right);
        // The slope of a probability is that of its logit times share · (1 - share).
        let slope = 1.0 / (share * (1.0 - share));
        let weight = (0..inputs)
            .flat_map(|input| [right[(input, 0)] as f32, (right[(input, 1)] * slope) as f32])
            .collect();
        Ok(Self { weight, bias: vec![0.0, (share / (1.0 - share)).ln() as f32] })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn a_line_is_found_and_the_mean_like_is_kept() {
        let values = [-1.5f32, -0.5, 0.5, 1.5];
        let rows: Vec<f32> = (0..400).flat_map(|n| [values[n % 4], values[n / 4 % 4]]).collect();
        let features = Array2::from_shape_vec((400, 2), rows).unwrap();
        let ratings: Vec<f32> =
            features.rows().into_iter().map(|row| 0.75 * row[0] - 0.25 * row[1]).collect();
        let likes: Vec<f32> =
            features.rows().into_iter().map(|row| f32::from(u8::from(row[0] > 1.0))).collect();
        let start = LinearStart::of(features.view(), &ratings, &likes).unwrap();
        assert!((start.weight[0] - 0.75).abs() < 0.05 && (start.weight[2] + 0.25).abs() < 0.05);
        assert!(start.weight[1] > 0.5 && start.weight[3].abs() < 1e-6, "{start:?}");
        assert!((start.bias[1] - (0.25f32 / 0.75).ln()).abs() < 1e-6);
    }

    #[test]
    fn likes_of_everything_stay_finite() {
        let features = Array2::<f32>::zeros((3, 1));
        let start = LinearStart::of(features.view(), &[0.0; 3], &[1.0; 3]).unwrap();
        assert!(start.weight.iter().chain(&start.bias).all(|value| value.is_finite()));
    }
}
