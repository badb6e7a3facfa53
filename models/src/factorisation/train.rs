//! Learns the vectors by solving users, items and the maps from text in turn.

use nalgebra::DMatrix;
use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rayon::prelude::*;

use super::prior::{TextRegression, projection};
use super::solve::OtherSide;
use super::{FactorisationSettings, FoldIn, TextProjection};
use crate::error::{Error, Result};
use crate::network::check::{self, Fingerprint};
use crate::progress::Progress;
use crate::settings::CheckedSettings;

/// Rounds in which vectors forget interactions: after one, the others' vectors still have seen them.
const REFRESHING_ROUNDS: usize = 2;

/// One rating of one item by one user, by their row numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interaction {
    /// Row of the user, from 0.
    pub user: u32,
    /// Row of the item, from 0.
    pub item: u32,
    /// The rating, in any unit; [`FactorisationSettings::like_threshold`] tells likes.
    pub rating: f32,
}

/// What the vectors are learned from.
#[derive(Debug, Clone, Copy)]
pub struct FactorisationData<'a> {
    /// How many users there are.
    pub users: usize,
    /// How many items there are.
    pub items: usize,
    /// Ratings; where a pair appears more than once, the last one counts.
    pub interactions: &'a [Interaction],
    /// Text embeddings of the items, `[items, text]`; a row of zeros means no text.
    pub item_texts: Option<ArrayView2<'a, f32>>,
    /// Text embeddings of the users' profiles, `[users, text]`; a row of zeros means no text.
    pub user_texts: Option<ArrayView2<'a, f32>>,
}

/// Learned vectors, the maps from text, and what is needed to fold in new users.
#[derive(Debug, Clone, PartialEq)]
pub struct Factorisation {
    pub(super) item_vectors: Array2<f32>,
    pub(super) user_vectors: Array2<f32>,
    pub(super) item_texts: Option<TextProjection>,
    pub(super) user_texts: Option<TextProjection>,
    /// Where each item's text pulls its vector, `[items, d]`; none without texts.
    pub(super) item_priors: Option<Array2<f32>>,
    pub(super) fold_in: FoldIn,
    pub(super) fingerprint: String,
}

impl Factorisation {
    /// Learns the vectors. The same data, settings and seed give the same vectors.
    ///
    /// # Errors
    /// [`Error::Empty`] without interactions, [`Error::Shape`] for a row number out of range or
    /// texts of another row count, [`Error::NotFinite`], [`Error::Setting`], [`Error::Cancelled`].
    pub fn train(
        data: &FactorisationData<'_>,
        settings: &FactorisationSettings,
        progress: &dyn Progress,
    ) -> Result<Self> {
        settings.check()?;
        data.check()?;
        let pairs = data.distinct_pairs();
        let mut random = StdRng::seed_from_u64(settings.seed);
        let mut users =
            Side::new(data.users, pairs.iter().map(|p| (p.user, p.item, p.rating)), settings);
        let mut items =
            Side::new(data.items, pairs.iter().map(|p| (p.item, p.user, p.rating)), settings);
        items.start(&mut random, settings.dimension);
        let stage = "learning user and item vectors";
        progress.begin(stage, settings.iterations as u64);
        let user_regression = users.regression(data.user_texts, data.items, settings)?;
        let item_regression = items.regression(data.item_texts, data.users, settings)?;
        let (mut user_map, mut item_map) = (None, None);
        for round in 1..=settings.iterations {
            if progress.cancelled() {
                progress.end();
                return Err(Error::Cancelled { stage: stage.to_owned() });
            }
            users.solve(&items, settings)?;
            user_map = users.fit_text(user_regression.as_ref(), data.user_texts);
            items.solve(&users, settings)?;
            item_map = items.fit_text(item_regression.as_ref(), data.item_texts);
            progress.advance(round as u64);
        }
        // Users last, so that folding in a known user's pairs gives the known user's vector.
        items.place_unmet();
        users.solve(&items, settings)?;
        users.place_unmet();
        progress.end();
        Ok(Self {
            fold_in: FoldIn::from_side(items.seen_by_others(), settings.clone()),
            item_vectors: items.table(),
            user_vectors: users.table(),
            item_texts: item_map.as_ref().map(projection),
            user_texts: user_map.as_ref().map(projection),
            item_priors: item_map.is_some().then(|| table(&items.priors)),
            fingerprint: data.fingerprint(&pairs),
        })
    }

    /// Item vectors, `[items, d]`.
    pub fn item_vectors(&self) -> ArrayView2<'_, f32> {
        self.item_vectors.view()
    }

    /// User vectors, `[users, d]`.
    pub fn user_vectors(&self) -> ArrayView2<'_, f32> {
        self.user_vectors.view()
    }

    /// Digest of the data that the vectors were learned from.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Folds users in against these item vectors; see [`FoldIn::fold_in`].
    pub fn folder(&self) -> &FoldIn {
        &self.fold_in
    }

    /// The vector `[d]` of a user who was not there at training, or who has new interactions: from
    /// item vectors with ratings, and from the profile's text embedding if there is one.
    ///
    /// # Errors
    /// As [`FoldIn::fold_in`]; [`Error::Empty`] if a profile text is given but none was learned from.
    pub fn fold_in(
        &self,
        history: &[(&[f32], f32)],
        profile_text: Option<&[f32]>,
    ) -> Result<Vec<f32>> {
        let prior =
            profile_text.map(|text| project(&self.user_texts, "users", text)).transpose()?;
        self.fold_in.fold_in(history, prior.as_deref())
    }

    /// The vector `[d]` of an item that has only a text.
    ///
    /// # Errors
    /// [`Error::Empty`] if no item texts were learned from; [`Error::Shape`], [`Error::NotFinite`].
    pub fn item_from_text(&self, embedding: &[f32]) -> Result<Vec<f32>> {
        project(&self.item_texts, "items", embedding)
    }

    /// Item vectors `[items, d]` in the same space as if only these interactions of `users` users were known:
    /// both sides are solved again, starting from the learned item vectors. Without a pair that they were
    /// learned from, what remains of it is what the other vectors once took from it.
    ///
    /// `user_texts` are the users' profiles, `[users, text]`, where those were learned from.
    ///
    /// # Errors
    /// As [`Factorisation::train`].
    pub fn items_as_known_from(
        &self,
        users: usize,
        interactions: &[Interaction],
        user_texts: Option<ArrayView2<'_, f32>>,
    ) -> Result<Array2<f32>> {
        let settings = &self.fold_in.settings;
        let rows = self.item_vectors.nrows();
        let data = FactorisationData {
            users,
            items: rows,
            interactions,
            item_texts: None,
            user_texts: user_texts.filter(|_| self.knows_user_texts()),
        };
        data.check()?;
        let pairs = data.distinct_pairs();
        let mut known =
            Side::new(users, pairs.iter().map(|p| (p.user, p.item, p.rating)), settings);
        let mut items = Side::new(rows, pairs.iter().map(|p| (p.item, p.user, p.rating)), settings);
        if let (Some(map), Some(texts)) = (&self.user_texts, data.user_texts) {
            for (prior, text) in known.priors.iter_mut().zip(texts.rows()) {
                *prior = map.project(&text.to_vec())?.into_iter().map(f64::from).collect();
            }
        }
        fill(&mut items.vectors, &self.item_vectors);
        if let Some(priors) = &self.item_priors {
            fill(&mut items.priors, priors);
        }
        for _ in 0..REFRESHING_ROUNDS {
            known.solve(&items, settings)?;
            items.solve(&known, settings)?;
        }
        items.place_unmet();
        Ok(items.table())
    }

    /// Whether profile texts were learned from, so that [`Factorisation::fold_in`] takes one.
    pub fn knows_user_texts(&self) -> bool {
        self.user_texts.is_some()
    }
}

fn project(map: &Option<TextProjection>, side: &str, text: &[f32]) -> Result<Vec<f32>> {
    map.as_ref()
        .ok_or_else(|| {
            let remedy = format!("train with texts of {side}, or give no text");
            Error::empty(format!("the map from texts of {side} to vectors"), remedy)
        })?
        .project(text)
}

impl FactorisationData<'_> {
    fn check(&self) -> Result<()> {
        if self.interactions.is_empty() {
            let remedy = "import ratings before learning vectors (`whyrank import`)";
            return Err(Error::empty("the list of interactions", remedy));
        }
        for (row, pair) in self.interactions.iter().enumerate() {
            if pair.user as usize >= self.users || pair.item as usize >= self.items {
                return Err(Error::shape(
                    format!("interaction {row}"),
                    format!("a user below {} and an item below {}", self.users, self.items),
                    format!("user {} and item {}", pair.user, pair.item),
                ));
            }
            if !pair.rating.is_finite() {
                let what = "the list of ratings".to_owned();
                return Err(Error::NotFinite { what, value: pair.rating, row, column: 0 });
            }
        }
        for (what, texts, rows) in [
            ("the table of item texts", self.item_texts, self.items),
            ("the table of user texts", self.user_texts, self.users),
        ] {
            if let Some(texts) = texts {
                check::row_count(what, texts.nrows(), rows)?;
                check::matrix(what, texts, texts.ncols())?;
            }
        }
        Ok(())
    }

    /// Every pair once, in the order of user and item.
    fn distinct_pairs(&self) -> Vec<Interaction> {
        let mut pairs = self.interactions.to_vec();
        pairs.sort_by_key(|pair| (pair.user, pair.item));
        let mut distinct: Vec<Interaction> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match distinct.last_mut() {
                Some(last) if (last.user, last.item) == (pair.user, pair.item) => *last = pair,
                _ => distinct.push(pair),
            }
        }
        distinct
    }

    fn fingerprint(&self, pairs: &[Interaction]) -> String {
        let ratings: Vec<f32> = pairs
            .iter()
            .flat_map(|pair| [f32::from_bits(pair.user), f32::from_bits(pair.item), pair.rating])
            .collect();
        let mut print = Fingerprint::default().vector("pairs", &ratings);
        for (name, texts) in [("item texts", self.item_texts), ("user texts", self.user_texts)] {
            if let Some(texts) = texts {
                print = print.matrix(name, texts);
            }
        }
        print.finish()
    }
}

/// Users or items: their vectors, their pairs, and what their texts say.
struct Side {
    vectors: Vec<Vec<f64>>,
    priors: Vec<Vec<f64>>,
    /// For each row, the other side's row and the target.
    pairs: Vec<Vec<(u32, f64)>>,
}

impl Side {
    fn new(
        rows: usize,
        pairs: impl Iterator<Item = (u32, u32, f32)>,
        settings: &FactorisationSettings,
    ) -> Self {
        let zero = vec![vec![0.0; settings.dimension]; rows];
        let mut side = Self { vectors: zero.clone(), priors: zero, pairs: vec![Vec::new(); rows] };
        for (row, other, rating) in pairs {
            side.pairs[row as usize].push((other, settings.target(rating)));
        }
        side
    }

    fn start(&mut self, random: &mut StdRng, dimension: usize) {
        let bound = 0.1 * (3.0 / dimension as f64).sqrt();
        for value in self.vectors.iter_mut().flatten() {
            *value = random.random_range(-bound..=bound);
        }
    }

    /// Only rows that have pairs count as unobserved for the others: what nobody has met was not
    /// on offer, and taking it for disliked would push new items away.
    fn seen_by_others(&self) -> OtherSide {
        let dimension = self.vectors.first().map_or(0, Vec::len);
        let met = self.vectors.iter().zip(&self.pairs).filter(|(_, pairs)| !pairs.is_empty());
        OtherSide::of(met.map(|(vector, _)| vector.as_slice()), dimension)
    }

    fn solve(&mut self, other: &Side, settings: &FactorisationSettings) -> Result<()> {
        let shared = other.seen_by_others();
        let (pairs, priors) = (&self.pairs, &self.priors);
        self.vectors.par_iter_mut().enumerate().try_for_each(|(row, vector)| {
            if !pairs[row].is_empty() {
                let observed = pairs[row]
                    .iter()
                    .map(|(index, target)| (other.vectors[*index as usize].as_slice(), *target));
                *vector = shared.solve(observed, Some(&priors[row]), settings)?;
            }
            Ok(())
        })
    }

    fn regression(
        &self,
        texts: Option<ArrayView2<'_, f32>>,
        others: usize,
        settings: &FactorisationSettings,
    ) -> Result<Option<TextRegression>> {
        let base = settings.unobserved_weight * others as f64;
        let weights: Vec<f64> = self
            .pairs
            .iter()
            .map(|pairs| if pairs.is_empty() { 0.0 } else { pairs.len() as f64 + base })
            .collect();
        texts
            .map(|texts| TextRegression::new(texts, &weights, settings.text_regularisation))
            .transpose()
    }

    fn fit_text(
        &mut self,
        regression: Option<&TextRegression>,
        texts: Option<ArrayView2<'_, f32>>,
    ) -> Option<DMatrix<f64>> {
        let (regression, texts) = (regression?, texts?);
        Some(regression.fit(&self.vectors, texts, &mut self.priors))
    }

    /// Rows without pairs stand where their text says.
    fn place_unmet(&mut self) {
        let rows = self.vectors.iter_mut().zip(&self.pairs).zip(&self.priors);
        for ((vector, _), prior) in rows.filter(|((_, pairs), _)| pairs.is_empty()) {
            vector.clone_from(prior);
        }
    }

    fn table(&self) -> Array2<f32> {
        table(&self.vectors)
    }
}

fn table(rows: &[Vec<f64>]) -> Array2<f32> {
    let width = rows.first().map_or(0, Vec::len);
    Array2::from_shape_fn((rows.len(), width), |(row, axis)| rows[row][axis] as f32)
}

fn fill(rows: &mut [Vec<f64>], table: &Array2<f32>) {
    for (row, values) in rows.iter_mut().zip(table.rows()) {
        *row = values.iter().map(|value| f64::from(*value)).collect();
    }
}
