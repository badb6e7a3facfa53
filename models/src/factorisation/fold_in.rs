//! Vectors for users who were not there at training, against any item vectors.

use ndarray::ArrayView2;

use super::FactorisationSettings;
use super::solve::OtherSide;
use crate::error::{Error, Result};
use crate::network::check;
use crate::settings::CheckedSettings;

/// Solves for a user's vector from the item vectors and ratings of a history.
///
/// Works against learned item vectors and against those that a search team brings: all it needs to
/// know of them is their Gram matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldIn {
    pub(super) items: OtherSide,
    pub(super) settings: FactorisationSettings,
}

impl FoldIn {
    /// Prepares fold-in against given item vectors `[items, d]`; a sample of them will do.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::NotFinite`], [`Error::Setting`].
    pub fn new(
        item_vectors: ArrayView2<'_, f32>,
        settings: &FactorisationSettings,
    ) -> Result<Self> {
        let settings =
            FactorisationSettings { dimension: item_vectors.ncols(), ..settings.clone() };
        settings.check()?;
        if item_vectors.nrows() == 0 {
            let remedy = "fold-in needs at least one item vector";
            return Err(Error::empty("the table of item vectors", remedy));
        }
        check::matrix("the item vectors", item_vectors, settings.dimension)?;
        let rows: Vec<Vec<f64>> = item_vectors
            .rows()
            .into_iter()
            .map(|row| row.iter().map(|value| f64::from(*value)).collect())
            .collect();
        let items = OtherSide::of(rows.iter().map(Vec::as_slice), settings.dimension);
        Ok(Self { items, settings })
    }

    pub(super) fn from_side(items: OtherSide, settings: FactorisationSettings) -> Self {
        Self { items, settings }
    }

    /// Width d of the vectors.
    pub fn dimension(&self) -> usize {
        self.items.gram.nrows()
    }

    /// The vector `[d]` of a user with this history of (item vector `[d]`, rating), pulled to
    /// `prior` `[d]` if there is one. An empty history gives the prior itself.
    ///
    /// A history without any like and without a prior gives the zero vector, which ranks all
    /// items alike.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is neither a history nor a prior; [`Error::Shape`],
    /// [`Error::NotFinite`].
    pub fn fold_in(&self, history: &[(&[f32], f32)], prior: Option<&[f32]>) -> Result<Vec<f32>> {
        let dimension = self.dimension();
        if let Some(prior) = prior {
            check::vector("the prior of the user vector", prior, dimension)?;
            if history.is_empty() {
                return Ok(prior.to_vec());
            }
        } else if history.is_empty() {
            let remedy = "a user vector needs at least one rated item, or a profile text";
            return Err(Error::empty("the history", remedy));
        }
        let mut rows = Vec::with_capacity(history.len());
        for (position, (vector, rating)) in history.iter().enumerate() {
            check::vector(&format!("history item {position}"), vector, dimension)?;
            check::vector(&format!("the rating of history item {position}"), &[*rating], 1)?;
            let vector: Vec<f64> = vector.iter().map(|value| f64::from(*value)).collect();
            rows.push((vector, self.settings.target(*rating)));
        }
        let prior: Option<Vec<f64>> =
            prior.map(|prior| prior.iter().map(|value| f64::from(*value)).collect());
        let observed = rows.iter().map(|(vector, target)| (vector.as_slice(), *target));
        let solved = self.items.solve(observed, prior.as_deref(), &self.settings)?;
        Ok(solved.iter().map(|value| *value as f32).collect())
    }
}
