//! Scores candidates with an exported ranker.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use super::examples::{CandidateInput, ConsumerInput, HistoryRows, RankerShape};
use super::{InputGroups, KIND, RankerSettings, TakeUp};
use crate::error::{Error, Result};
use crate::onnx::{Contract, OnnxModel, Value};

/// Most rows of one run of the model; bounds the memory of intermediate values.
const ROWS_PER_RUN: usize = 1024;

/// What the ranker predicts for one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Predicted rating, in the units of the training ratings; not clipped to their range.
    pub rating: f32,
    /// Predicted probability that the consumer likes the item.
    pub like: f32,
}

/// An exported ranker, ready to score candidates from any number of threads.
#[derive(Debug)]
pub struct Ranker {
    model: OnnxModel,
    shape: RankerShape,
    history_length: usize,
    groups: InputGroups,
    baseline: Baseline,
    calibration: Calibration,
    take_up: Option<TakeUp>,
    ratings: Option<[f32; 2]>,
}

/// The inputs that stand for groups that are absent: means of the training part.
#[derive(Debug)]
pub(super) struct Baseline {
    user: Vec<f32>,
    item: Vec<f32>,
    positive: Vec<f32>,
    negative: Vec<f32>,
    context: Vec<f32>,
    /// A history of one item.
    history: HistoryRows,
}

/// The rows of one run, gathered input by input.
#[derive(Debug, Default)]
pub(super) struct Rows {
    count: usize,
    user: Vec<f32>,
    item: Vec<f32>,
    positive: Vec<f32>,
    negative: Vec<f32>,
    context: Vec<f32>,
}

impl Ranker {
    /// Loads a file that [`super::TrainedRanker::export`] wrote.
    ///
    /// # Errors
    /// See [`OnnxModel::load`]; [`Error::Contract`] if the contract lacks what a ranker states.
    pub fn load(path: &Path) -> Result<Self> {
        let model = OnnxModel::load(path, KIND)?;
        let contract = model.contract();
        let shape = RankerShape {
            vector: contract.dimension("vector", path)?,
            code: contract.dimension("code", path)?,
            context: contract.context.clone(),
        };
        if shape.context.len() != contract.dimension("context", path)? {
            return Err(Error::contract(
                path,
                "it names another number of context features than it has",
            ));
        }
        let history_length = contract.dimension("history", path)?;
        let settings: RankerSettings = contract
            .training
            .get("settings")
            .cloned()
            .and_then(|settings| serde_json::from_value(settings).ok())
            .ok_or_else(|| Error::contract(path, "its contract states no ranker settings"))?;
        // A file of a version that did not calibrate keeps its own probabilities.
        let calibration = contract
            .training
            .pointer("/report/calibration/curve")
            .cloned()
            .and_then(|curve| serde_json::from_value(curve).ok())
            .unwrap_or(Calibration::IDENTITY);
        // Nor does it know who takes items up.
        let take_up = contract
            .training
            .pointer("/report/take_up")
            .cloned()
            .and_then(|take_up| serde_json::from_value::<Option<TakeUp>>(take_up).ok())
            .flatten();
        if let Some(take_up) = take_up.as_ref().filter(|one| one.width() != shape.context.len()) {
            let (own, context) = (take_up.width(), shape.context.len());
            return Err(Error::contract(
                path,
                format!("its model of take-up is for {own} context features, not {context}"),
            ));
        }
        let ratings = contract.training.pointer("/report/ratings").cloned();
        let ratings = ratings.and_then(|ratings| serde_json::from_value(ratings).ok()).flatten();
        let baseline = Baseline::of(contract, &shape, history_length, path)?;
        let groups = settings.groups;
        Ok(Self { model, shape, history_length, groups, baseline, calibration, take_up, ratings })
    }

    /// Checks that the ranker was made for vectors, codes and context features of this shape.
    ///
    /// # Errors
    /// [`Error::Contract`] naming the file and what differs.
    pub fn require(&self, shape: &RankerShape) -> Result<()> {
        let (contract, path) = (self.model.contract(), self.model.path());
        contract.require("vector", shape.vector, path)?;
        contract.require("code", shape.code, path)?;
        if self.shape.context == shape.context {
            return Ok(());
        }
        let reason = format!(
            "it was made for the context features {:?}, but {:?} are given",
            self.shape.context, shape.context
        );
        Err(Error::contract(path, reason))
    }

    /// The sizes of the inputs.
    pub fn shape(&self) -> &RankerShape {
        &self.shape
    }

    /// How many items of a history are used.
    pub fn history_length(&self) -> usize {
        self.history_length
    }

    /// What the file states about itself.
    pub fn contract(&self) -> &Contract {
        self.model.contract()
    }

    /// The lowest and the highest rating that it learned from; none if the file does not know.
    pub fn ratings(&self) -> Option<[f32; 2]> {
        self.ratings
    }

    /// The like-probability of a score, calibrated on pairs that were held back from training.
    pub fn probability(&self, score: Score) -> f32 {
        self.calibration.apply(score.like)
    }

    /// The probability that the consumer takes an item up, from the pair's context features; none if the
    /// file does not know.
    pub fn take_up(&self, context: &[f32]) -> Option<f32> {
        self.take_up.as_ref().map(|take_up| take_up.probability(context))
    }

    /// The same for a pair with the mean features of those it was learned from.
    pub fn usual_take_up(&self) -> Option<f32> {
        self.take_up.as_ref().map(TakeUp::usual)
    }

    /// Rating and like-probability of each candidate, in the order given.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::NotFinite`] naming the input at fault; [`Error::Inference`].
    pub fn score(
        &self,
        consumer: &ConsumerInput<'_>,
        candidates: &[CandidateInput<'_>],
    ) -> Result<Vec<Score>> {
        self.score_with(consumer, candidates, self.groups)
    }

    /// The same with only these input groups, the others at their training mean: what an account of a
    /// score is checked against.
    ///
    /// # Errors
    /// As [`Ranker::score`].
    pub fn score_with(
        &self,
        consumer: &ConsumerInput<'_>,
        candidates: &[CandidateInput<'_>],
        groups: InputGroups,
    ) -> Result<Vec<Score>> {
        self.check(consumer, candidates)?;
        let groups = groups.and(self.groups);
        let history = self.history(consumer, groups);
        let mut scores = Vec::with_capacity(candidates.len());
        for part in candidates.chunks(ROWS_PER_RUN) {
            let mut rows = Rows::default();
            for candidate in part {
                self.gather(&mut rows, consumer, candidate, groups);
            }
            scores.extend(self.run(&rows, &history)?);
        }
        Ok(scores)
    }

    pub(super) fn check(
        &self,
        consumer: &ConsumerInput<'_>,
        candidates: &[CandidateInput<'_>],
    ) -> Result<()> {
        self.shape.check_consumer(consumer)?;
        candidates.iter().try_for_each(|candidate| self.shape.check_candidate(candidate))
    }

    /// The groups that the network was allowed to see.
    pub(super) fn groups(&self) -> InputGroups {
        self.groups
    }

    pub(super) fn history(&self, consumer: &ConsumerInput<'_>, groups: InputGroups) -> HistoryRows {
        if groups.history {
            HistoryRows::new(consumer.history, self.history_length, self.shape.vector)
        } else {
            self.baseline.history.clone()
        }
    }

    /// Appends a candidate, with the baseline in place of the groups that are off.
    pub(super) fn gather(
        &self,
        rows: &mut Rows,
        consumer: &ConsumerInput<'_>,
        candidate: &CandidateInput<'_>,
        groups: InputGroups,
    ) {
        let baseline = &self.baseline;
        let (user, item) = if groups.user_item {
            (consumer.user, candidate.item)
        } else {
            (baseline.user.as_slice(), baseline.item.as_slice())
        };
        rows.count += 1;
        rows.user.extend_from_slice(user);
        rows.item.extend_from_slice(item);
        let positive = candidate.positive.filter(|_| groups.positive);
        rows.positive.extend_from_slice(positive.unwrap_or(&baseline.positive));
        let negative = candidate.negative.filter(|_| groups.negative);
        rows.negative.extend_from_slice(negative.unwrap_or(&baseline.negative));
        let context = if groups.context { candidate.context } else { &baseline.context };
        rows.context.extend_from_slice(context);
    }

    pub(super) fn run(&self, rows: &Rows, history: &HistoryRows) -> Result<Vec<Score>> {
        let (vector, code) = ([rows.count, self.shape.vector], [rows.count, self.shape.code]);
        let context = [rows.count, self.shape.context.len()];
        let history_shape = [self.history_length, self.shape.vector];
        let (rating_shape, mask_shape) = ([self.history_length, 1], [1, self.history_length]);
        let mut inputs = vec![
            Value { shape: &vector, data: &rows.user },
            Value { shape: &vector, data: &rows.item },
            Value { shape: &code, data: &rows.positive },
            Value { shape: &code, data: &rows.negative },
        ];
        if !self.shape.context.is_empty() {
            inputs.push(Value { shape: &context, data: &rows.context });
        }
        inputs.extend([
            Value { shape: &history_shape, data: &history.vectors },
            Value { shape: &rating_shape, data: &history.ratings },
            Value { shape: &mask_shape, data: &history.mask },
        ]);
        let outputs = self.model.run(&inputs)?;
        Ok(outputs[0]
            .iter()
            .zip(&outputs[1])
            .map(|(rating, like)| Score { rating: *rating, like: *like })
            .collect())
    }
}

impl Baseline {
    fn of(
        contract: &Contract,
        shape: &RankerShape,
        history_length: usize,
        path: &Path,
    ) -> Result<Self> {
        let mean = |name: &str, width: usize| match contract.baseline.get(name) {
            Some(mean) if mean.len() == width => Ok(mean.clone()),
            _ => Err(Error::contract(
                path,
                format!("its contract has no baseline `{name}` of width {width}"),
            )),
        };
        let history = mean("history", shape.vector + 1)?;
        let (vector, rating) = history.split_at(shape.vector);
        Ok(Self {
            user: mean("user", shape.vector)?,
            item: mean("item", shape.vector)?,
            positive: mean("positive", shape.code)?,
            negative: mean("negative", shape.code)?,
            context: mean("context", shape.context.len())?,
            history: HistoryRows::new(&[(vector, rating[0])], history_length, shape.vector),
        })
    }
}
