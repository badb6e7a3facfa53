//! Whether a consumer takes an item up at all, before the question whether they like it: a logistic
//! regression on the context features.
//!
//! The ranker learns from rated pairs only, so that it knows who likes what they rate. Whom a campaign
//! reaches needs both: the probability that somebody takes it up, times that of liking it then.
//!
//! Four or eight weights are solved by Newton's method in a few steps; a library for it would be larger
//! than the rest of this crate's linear algebra.

use nalgebra::{Cholesky, DMatrix, DVector};
use ndarray::{Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::network::check::{self, standardisation, standardise};

/// Pull of the weights to zero, in examples.
const RIDGE: f64 = 1.0;
/// Newton's method stops when no weight moves further than this.
const SETTLED: f64 = 1e-6;
/// Steps at most; it settles in fewer than ten.
const STEPS: usize = 50;
/// How far an intercept is moved at most to expect as many as are to be.
const FURTHEST: f64 = 20.0;

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

    /// The same with another intercept: so that as many as `taken` of `pairs` pairs are expected to be taken up,
    /// of which `sample` `[n, features]` are some. What it learned from may have other features than the
    /// pairs that it is asked about have by then.
    ///
    /// It stays as it is where no intercept can do that.
    ///
    /// # Errors
    /// [`Error::Empty`] without a sample; [`Error::Shape`], [`Error::NotFinite`].
    pub fn expecting(
        mut self,
        taken: f64,
        pairs: f64,
        sample: ArrayView2<'_, f32>,
    ) -> Result<Self> {
        check::matrix("the features of pairs to take up", sample, self.width)?;
        if sample.nrows() == 0 {
            let remedy = "some pairs are needed to know what to expect of them";
            return Err(Error::empty("the sample of pairs to take up", remedy));
        }
        let wanted = taken / pairs;
        if !(wanted > 0.0 && wanted < 1.0) {
            return Ok(self);
        }
        let sums: Vec<f64> = sample.rows().into_iter().map(|row| self.sum(row)).collect();
        let (mut low, mut high) = (self.intercept - FURTHEST, self.intercept + FURTHEST);
        while high - low > SETTLED {
            self.intercept = f64::midpoint(low, high);
            let all: f64 = sums.iter().map(|sum| f64::from(self.at(*sum))).sum();
            if all / (sums.len() as f64) < wanted {
                low = self.intercept;
            } else {
                high = self.intercept;
            }
        }
        Ok(self)
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
        self.at(self.sum(ArrayView1::from(features)))
    }

    /// The weighted sum of standardised features.
    fn sum(&self, features: ArrayView1<'_, f32>) -> f64 {
        let columns = self.columns.iter().zip(&self.mean).zip(&self.scale).zip(&self.weights);
        columns
            .map(|(((column, mean), scale), weight)| {
                f64::from((features[*column] - mean) * scale) * weight
            })
            .sum()
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
    fn as_many_are_expected_as_are_to_be_whatever_the_features_became() {
        let features = Array2::from_shape_fn((1_000, 2), |(row, column)| {
            (row as f32 / 500.0 - 1.0) * (column as f32 + 1.0)
        });
        let taken = (0..1_000).map(|row| row % 7 == 0 || row > 900).collect();
        let examples = TakeUpExamples { features, taken, sampled: 1.0, kept: 1.0 };
        let model = TakeUp::learn(&examples, &[0, 1]).unwrap();
        // Regression: consumers of whom more is known stand nearer to everything, and a third too much was expected.
        let later = examples.features.mapv(|value| value + 0.5);
        let expected = |model: &TakeUp| -> f64 {
            later.rows().into_iter().map(|row| f64::from(model.probability(&row.to_vec()))).sum()
        };
        let before = expected(&model);
        let model = model.expecting(5_000.0, 50_000.0, later.view()).unwrap();
        assert!(before > 200.0, "{before}");
        assert!((expected(&model) - 100.0).abs() < 0.1, "{}", expected(&model));
        assert!(model.probability(&[1.0, 1.0]) > model.probability(&[0.0, 0.0]));
        let same = model.clone().expecting(2.0, 1.0, later.view()).unwrap();
        assert_eq!(same, model, "more than all");
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
