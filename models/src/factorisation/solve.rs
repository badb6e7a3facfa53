//! The closed-form solution of one row: a small ridge regression solved by Cholesky.

use nalgebra::{Cholesky, DMatrix, DVector};

use super::FactorisationSettings;
use crate::error::{Error, Result};

/// What all rows of one side share: the other side's vectors as far as unobserved pairs see them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OtherSide {
    /// Sum of v·vᵀ over the vectors of the other side, `[d, d]`.
    pub(super) gram: DMatrix<f64>,
    /// How many vectors were summed.
    pub(super) count: usize,
}

impl OtherSide {
    /// Sums up the vectors, `[n, d]` row-major.
    pub(super) fn of<'a>(vectors: impl Iterator<Item = &'a [f64]>, dimension: usize) -> Self {
        let mut gram = DMatrix::zeros(dimension, dimension);
        let mut count = 0;
        for vector in vectors {
            add_outer(&mut gram, vector, 1.0);
            count += 1;
        }
        Self { gram: mirrored(gram), count }
    }

    /// The vector that fits best to `observed` pairs (other side's vector, target), to a target of
    /// zero for all others, and to the prior.
    pub(super) fn solve<'a>(
        &self,
        observed: impl Iterator<Item = (&'a [f64], f64)>,
        prior: Option<&[f64]>,
        settings: &FactorisationSettings,
    ) -> Result<Vec<f64>> {
        let dimension = self.gram.nrows();
        let unobserved = settings.unobserved_weight;
        let mut system = &self.gram * unobserved;
        let mut right = DVector::zeros(dimension);
        let mut pairs = 0usize;
        for (vector, target) in observed {
            // The Gram matrix has counted the pair as unobserved already.
            add_outer(&mut system, vector, 1.0 - unobserved);
            right.iter_mut().zip(vector).for_each(|(sum, value)| *sum += target * value);
            pairs += 1;
        }
        let pull = self.pull(pairs, settings);
        for axis in 0..dimension {
            system[(axis, axis)] += pull;
        }
        if let Some(prior) = prior {
            right.iter_mut().zip(prior).for_each(|(sum, value)| *sum += pull * value);
        }
        // Cholesky reads the lower triangle only, the one that `add_outer` keeps.
        let factor = Cholesky::new(system)
            .ok_or_else(|| Error::Singular { what: "a row of the factorisation".to_owned() })?;
        factor.solve_mut(&mut right);
        Ok(right.as_slice().to_vec())
    }

    /// The regularisation of a row grows with the weight of its pairs, unobserved ones included.
    pub(super) fn pull(&self, pairs: usize, settings: &FactorisationSettings) -> f64 {
        settings.regularisation
            * (pairs as f64 + settings.unobserved_weight * self.count as f64).max(1.0)
    }
}

/// Adds `weight`·v·vᵀ to the lower triangle.
fn add_outer(matrix: &mut DMatrix<f64>, vector: &[f64], weight: f64) {
    for (column, value) in vector.iter().enumerate() {
        let scaled = weight * value;
        let rows = &mut matrix.column_mut(column);
        let lower = &mut rows.as_mut_slice()[column..];
        lower.iter_mut().zip(&vector[column..]).for_each(|(sum, v)| *sum += scaled * v);
    }
}

fn mirrored(mut matrix: DMatrix<f64>) -> DMatrix<f64> {
    matrix.fill_upper_triangle_with_lower_triangle();
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_solves_its_normal_equations() {
        let vectors = [[1.0, 0.0], [0.5, 2.0], [-1.0, 1.0]];
        let settings = FactorisationSettings {
            unobserved_weight: 0.25,
            regularisation: 0.1,
            ..Default::default()
        };
        let side = OtherSide::of(vectors.iter().map(|v| v.as_slice()), 2);
        let prior = [0.3, -0.2];
        let observed = [(vectors[0].as_slice(), 1.0), (vectors[1].as_slice(), 0.0)];
        let solution = side.solve(observed.into_iter(), Some(&prior), &settings).unwrap();
        // The gradient of the objective, written out pair by pair, vanishes at the solution.
        let pull = 0.1 * (2.0 + 0.25 * 3.0);
        let weights = [(1.0, 1.0), (1.0, 0.0), (0.25, 0.0)];
        for axis in 0..2 {
            let mut gradient = pull * (solution[axis] - prior[axis]);
            for (vector, (weight, target)) in vectors.iter().zip(weights) {
                let score = vector[0] * solution[0] + vector[1] * solution[1];
                gradient += weight * (score - target) * vector[axis];
            }
            assert!(gradient.abs() < 1e-12, "gradient {gradient} on axis {axis}");
        }
    }
}
