//! What the ranker is given: one consumer with candidates, or many rated examples to learn from.

use ndarray::{Array2, ArrayView2, ArrayView3};

use crate::error::{Error, Result};
use crate::network::check::{self, Fingerprint};

/// The sizes of a ranker's inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankerShape {
    /// Width d of user, item and history vectors.
    pub vector: usize,
    /// Width k of an explanation code.
    pub code: usize,
    /// Names of the context features, in the order of their values; may be empty.
    pub context: Vec<String>,
}

/// The part of the input that all candidates of one consumer share.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerInput<'a> {
    /// User vector, `[d]`.
    pub user: &'a [f32],
    /// Item vector `[d]` and rating of past interactions, oldest first; may be empty. If there are
    /// more than the ranker's history length, the oldest are left out.
    pub history: &'a [(&'a [f32], f32)],
}

/// The part of the input that belongs to one candidate.
#[derive(Debug, Clone, Copy)]
pub struct CandidateInput<'a> {
    /// Item vector, `[d]`.
    pub item: &'a [f32],
    /// Code of the positive explanation, `[k]`; without one the training mean stands in.
    pub positive: Option<&'a [f32]>,
    /// Code of the negative explanation, `[k]`; without one the training mean stands in.
    pub negative: Option<&'a [f32]>,
    /// Context features in the order of [`RankerShape::context`].
    pub context: &'a [f32],
}

impl RankerShape {
    pub(crate) fn check_consumer(&self, consumer: &ConsumerInput<'_>) -> Result<()> {
        check::vector("the user vector", consumer.user, self.vector)?;
        for (position, (item, rating)) in consumer.history.iter().enumerate() {
            check::vector(&format!("history item {position}"), item, self.vector)?;
            check::vector(&format!("the rating of history item {position}"), &[*rating], 1)?;
        }
        Ok(())
    }

    pub(crate) fn check_candidate(&self, candidate: &CandidateInput<'_>) -> Result<()> {
        check::vector("the item vector", candidate.item, self.vector)?;
        if let Some(code) = candidate.positive {
            check::vector("the positive code", code, self.code)?;
        }
        if let Some(code) = candidate.negative {
            check::vector("the negative code", code, self.code)?;
        }
        check::vector("the context features", candidate.context, self.context.len())
    }
}

/// The history in the form that attention takes: vectors, ratings and mask, padded to a length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistoryRows {
    /// `[length, d]`, zero where absent.
    pub(crate) vectors: Vec<f32>,
    /// `[length]`, zero where absent.
    pub(crate) ratings: Vec<f32>,
    /// `[length]`, 1 where present.
    pub(crate) mask: Vec<f32>,
}

impl HistoryRows {
    pub(crate) fn new(history: &[(&[f32], f32)], length: usize, width: usize) -> Self {
        let mut rows = Self {
            vectors: vec![0.0; length * width],
            ratings: vec![0.0; length],
            mask: vec![0.0; length],
        };
        let recent = &history[history.len().saturating_sub(length)..];
        for (row, (vector, rating)) in recent.iter().enumerate() {
            rows.vectors[row * width..(row + 1) * width].copy_from_slice(vector);
            rows.ratings[row] = *rating;
            rows.mask[row] = 1.0;
        }
        rows
    }
}

/// Rated examples to train or validate a ranker on, kept as one table per input.
#[derive(Debug, Clone)]
pub struct RankerExamples {
    pub(crate) shape: RankerShape,
    pub(crate) history_length: usize,
    pub(crate) user: Vec<f32>,
    pub(crate) item: Vec<f32>,
    // A missing code is a row of NaN until the training mean is known.
    pub(crate) positive: Vec<f32>,
    pub(crate) negative: Vec<f32>,
    pub(crate) context: Vec<f32>,
    pub(crate) history: Vec<f32>,
    pub(crate) history_rating: Vec<f32>,
    pub(crate) history_mask: Vec<f32>,
    pub(crate) rating: Vec<f32>,
    pub(crate) like: Vec<f32>,
}

impl RankerExamples {
    /// No examples yet. `history_length` must be the one of the ranker's settings.
    pub fn new(shape: RankerShape, history_length: usize) -> Self {
        Self {
            shape,
            history_length,
            user: Vec::new(),
            item: Vec::new(),
            positive: Vec::new(),
            negative: Vec::new(),
            context: Vec::new(),
            history: Vec::new(),
            history_rating: Vec::new(),
            history_mask: Vec::new(),
            rating: Vec::new(),
            like: Vec::new(),
        }
    }

    /// Adds an example: what was known before the consumer met the candidate, and what came of it.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::NotFinite`] naming the input at fault; nothing is added then.
    pub fn push(
        &mut self,
        consumer: &ConsumerInput<'_>,
        candidate: &CandidateInput<'_>,
        rating: f32,
        like: bool,
    ) -> Result<()> {
        self.shape.check_consumer(consumer)?;
        self.shape.check_candidate(candidate)?;
        check::vector("the rating", &[rating], 1)?;
        let missing = vec![f32::NAN; self.shape.code];
        self.user.extend_from_slice(consumer.user);
        self.item.extend_from_slice(candidate.item);
        self.positive.extend_from_slice(candidate.positive.unwrap_or(&missing));
        self.negative.extend_from_slice(candidate.negative.unwrap_or(&missing));
        self.context.extend_from_slice(candidate.context);
        let rows = HistoryRows::new(consumer.history, self.history_length, self.shape.vector);
        self.history.extend(rows.vectors);
        self.history_rating.extend(rows.ratings);
        self.history_mask.extend(rows.mask);
        self.rating.push(rating);
        self.like.push(f32::from(u8::from(like)));
        Ok(())
    }

    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.rating.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rating.is_empty()
    }

    pub(crate) fn table<'a>(&self, values: &'a [f32], width: usize) -> ArrayView2<'a, f32> {
        ArrayView2::from_shape((self.len(), width), values).expect("push keeps all tables in step")
    }

    pub(crate) fn histories(&self) -> ArrayView3<'_, f32> {
        let shape = (self.len(), self.history_length, self.shape.vector);
        ArrayView3::from_shape(shape, &self.history).expect("push keeps all tables in step")
    }

    /// Checks that these examples can be used beside a ranker of the given shape and length.
    pub(crate) fn fits(
        &self,
        what: &str,
        shape: &RankerShape,
        history_length: usize,
    ) -> Result<()> {
        if self.is_empty() {
            return Err(Error::empty(what, "at least one rated example is needed"));
        }
        if self.shape == *shape && self.history_length == history_length {
            return Ok(());
        }
        let describe =
            |shape: &RankerShape, length: usize| format!("{shape:?} with history length {length}");
        Err(Error::shape(
            what,
            describe(shape, history_length),
            describe(&self.shape, self.history_length),
        ))
    }

    /// Mean code over the rows that have one; zero if none has.
    pub(crate) fn mean_code(&self, codes: &[f32]) -> Vec<f32> {
        let width = self.shape.code;
        let mut sum = vec![0f64; width];
        let mut present = 0usize;
        for row in codes.chunks_exact(width).filter(|row| !row[0].is_nan()) {
            present += 1;
            row.iter().zip(&mut sum).for_each(|(value, sum)| *sum += f64::from(*value));
        }
        sum.iter().map(|sum| (sum / present.max(1) as f64) as f32).collect()
    }

    /// Codes with the mean in place of the missing ones.
    pub(crate) fn filled_codes(&self, codes: &[f32], mean: &[f32]) -> Array2<f32> {
        let mut filled = self.table(codes, self.shape.code).to_owned();
        for mut row in filled.rows_mut() {
            if row[0].is_nan() {
                row.iter_mut().zip(mean).for_each(|(value, mean)| *value = *mean);
            }
        }
        filled
    }

    pub(crate) fn fingerprint(&self) -> String {
        let vector = self.shape.vector;
        Fingerprint::default()
            .matrix("user", self.table(&self.user, vector))
            .matrix("item", self.table(&self.item, vector))
            .matrix("positive", self.table(&self.positive, self.shape.code))
            .matrix("negative", self.table(&self.negative, self.shape.code))
            .matrix("context", self.table(&self.context, self.shape.context.len()))
            .vector("history", &self.history)
            .vector("history_rating", &self.history_rating)
            .vector("rating", &self.rating)
            .vector("like", &self.like)
            .finish()
    }
}
