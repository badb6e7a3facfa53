//! Whether a consumer takes an item up at all, before the question whether they like it: a logistic
//! regression on the context features.
//!
//! The ranker learns from rated pairs only, so that it knows who likes what they rate. Whom a campaign
//! reaches needs both: the probability that somebody takes it up, times that of liking it then.
//!
//! Four or eight weights are solved by Newton's method in a few steps; a library for it would be larger
//! than the rest of this crate's linear algebra.

use nalgebra::{Cholesky, DMatrix, DVector};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::network::check::{self, standardisation, standardise};

/// Pull of the weights to zero, in examples.
const RIDGE: f64 = 1.0;
/// Newton's method stops when no weight moves further than this.
const SETTLED: f64 = 1e-6;
/// Steps at most; it settles in fewer than ten.
const STEPS: usize = 50;

/// Pairs that were taken up, and a sample of those that were not, as context features.
#[derive(Debug, Clone)]
pub struct TakeUpExamples {
    /// Context features, `[n, features]`.
    pub features: Array2<f32>,
    /// Whether each was taken up.
    pub taken: Vec<bool>,
    /// Share of the pairs that were not taken up which are in the sample, above 0 and at most 1.
    pub sampled: f64,
    /// Share of the pairs that were taken up which are here, above 0 and at most 1.
    pub kept: f64,
}

/// The probability that a consumer takes an item up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TakeUp {
    /// The columns of the context features that count.
    columns: Vec<usize>,
    /// How many context features there are.
    width: usize,
    mean: Vec<f32>,
    scale: Vec<f32>,
    weights: Vec<f64>,
    intercept: f64,
}

impl TakeUp {
    /// Learns from these columns of the features.
    ///
    /// # Errors
    /// [`Error::Empty`] if all or none were taken up; [`Error::Shape`], [`Error::NotFinite`].
    pub fn learn(examples: &TakeUpExamples, columns: &[usize]) -> Result<Self> {
        let width = examples.features.ncols();
        check::matrix("the features of take-up", examples.features.view(), width)?;
        check::row_count(
            "the answers of take-up",
            examples.taken.len(),
            examples.features.nrows(),
        )?;
        let taken = examples.taken.iter().filter(|taken| **taken).count();
        if taken == 0 || taken == examples.taken.len() {
            let remedy = "pairs that were taken up are needed, and others that were not";
            return Err(Error::empty("the examples of take-up", remedy));
        }
        let mut table = examples.features.select(ndarray::Axis(1), columns);
        let (mean, scale) = standardisation(table.view());
        standardise(&mut table.view_mut(), &mean, &scale);
        let solution = newton(table.view(), &examples.taken)?;
        // The sample has the pairs that were not taken up too rarely: the odds shrink by its share. They grow
        // by what is missing of those that were.
        let intercept = solution[columns.len()] + (examples.sampled / examples.kept).ln();
        let weights = solution.as_slice()[..columns.len()].to_vec();
        Ok(Self { columns: columns.to_vec(), width, mean, scale, weights, intercept })
    }

    /// How many context features it takes.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The probability for a pair with these context features; zero if they are of another number.
    pub fn probability(&self, features: &[f32]) -> f32 {
        if features.len() != self.width {
            return 0.0;
        }
        let columns = self.columns.iter().zip(&self.mean).zip(&self.scale).zip(&self.weights);
        let sum: f64 = columns
            .map(|(((column, mean), scale), weight)| {
                f64::from((features[*column] - mean) * scale) * weight
            })
            .sum();
        self.at(sum)
    }

    /// The probability for a pair with the mean features of the examples.
    pub fn usual(&self) -> f32 {
        self.at(0.0)
    }

    /// The probability at a weighted sum of standardised features.
    fn at(&self, sum: f64) -> f32 {
        (1.0 / (1.0 + (-(sum + self.intercept)).exp())) as f32
    }
}

/// The weights, and last the intercept.
fn newton(table: ArrayView2<'_, f32>, taken: &[bool]) -> Result<DVector<f64>> {
    let inputs = table.ncols() + 1;
    let mut solution = DVector::zeros(inputs);
    for _ in 0..STEPS {
        let mut system = DMatrix::from_diagonal_element(inputs, inputs, RIDGE);
        system[(inputs - 1, inputs - 1)] = 1e-9;
        let mut gradient = DVector::from_iterator(
            inputs,
            solution.iter().take(inputs - 1).map(|w: &f64| -RIDGE * w).chain([0.0]),
        );
        for (row, taken) in table.rows().into_iter().zip(taken) {
            let row = DVector::from_iterator(
                inputs,
                row.iter().map(|value| f64::from(*value)).chain([1.0]),
            );
            let probability = 1.0 / (1.0 + (-solution.dot(&row)).exp());
            system.syger(probability * (1.0 - probability), &row, &row, 1.0);
            gradient.axpy(f64::from(u8::from(*taken)) - probability, &row, 1.0);
        }
        let factor = Cholesky::new(system)
            .ok_or_else(|| Error::Singular { what: "the model of take-up".to_owned() })?;
        let step = factor.solve(&gradient);
        // Long steps overshoot where classes are far apart.
        let longest = step.amax();
        solution.axpy((5.0 / longest.max(1e-12)).min(1.0), &step, 1.0);
        if longest < SETTLED {
            break;
        }
    }
    Ok(solution)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    /// Pairs whose probability of being taken up is known.
    fn truth(features: &[f32]) -> f64 {
        1.0 / (1.0 + (-(1.5 * f64::from(features[0]) - 4.0)).exp())
    }

    #[test]
    fn probabilities_are_those_of_all_pairs_though_few_others_are_seen() {
        let mut random = StdRng::seed_from_u64(3);
        let (mut rows, mut taken) = (Vec::new(), Vec::new());
        for _ in 0..200_000 {
            let features = [random.random_range(-2.0..2.0_f32), random.random_range(-2.0..2.0)];
            let yes = random.random::<f64>() < truth(&features);
            // Regression: pairs that were taken up were rarer in the sample than among all, and nobody asked.
            if random.random::<f64>() < if yes { 0.5 } else { 0.1 } {
                rows.extend(features);
                taken.push(yes);
            }
        }
        let features = Array2::from_shape_vec((taken.len(), 2), rows).unwrap();
        let examples = TakeUpExamples { features, taken, sampled: 0.1, kept: 0.5 };
        for columns in [vec![0], vec![0, 1]] {
            let model = TakeUp::learn(&examples, &columns).unwrap();
            for first in [-1.0, 0.0, 1.0, 2.0] {
                let (found, wanted) = (model.probability(&[first, 0.5]), truth(&[first, 0.5]));
                assert!(
                    (f64::from(found) / wanted - 1.0).abs() < 0.15,
                    "{first}: {found} {wanted}"
                );
            }
            assert_eq!(model.probability(&[1.0]), 0.0, "another number of features");
            let usual = [model.mean[0], model.mean.last().copied().unwrap()];
            assert!((model.probability(&usual) - model.usual()).abs() < 1e-6);
        }
    }

    #[test]
    fn classes_that_are_apart_stay_finite_and_one_class_is_refused() {
        let features = Array2::from_shape_vec((4, 1), vec![-1.0, -0.9, 0.9, 1.0]).unwrap();
        let taken = vec![false, false, true, true];
        let examples = TakeUpExamples { features, taken, sampled: 0.5, kept: 1.0 };
        let model = TakeUp::learn(&examples, &[0]).unwrap();
        assert!(model.probability(&[1.0]) > model.probability(&[-1.0]));
        let one = TakeUpExamples { taken: vec![true; 4], ..examples };
        assert!(TakeUp::learn(&one, &[0]).unwrap_err().to_string().contains("taken up"));
    }
}
