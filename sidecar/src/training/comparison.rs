//! Trains one ranker for each kind of input on the same examples with the same budget, and predicts
//! the ratings of later pairs with each: what the comparisons of an evaluation are made of.
//!
//! The store holds nothing of the test part, so that no profile, prompt, vector or code can come from
//! it. The comparisons are those that the method's paper makes (arXiv 2502.16759): features alone, each
//! side, both, and controls that tell reasoning from more text.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use whyrank_models::metrics::{auc, mae, rmse};
use whyrank_models::ranker::{
    Calibration, InputGroups, RankerExamples, RankerSettings, Score, TrainedRanker,
};
use whyrank_plugin::{Codes, HistoryEntry, ItemId, ItemRecord, UserId};

use super::expected::Forecasts;
use super::faithfulness::Faithfulness;
use super::known::{Example, Known, Learner, Population, Seen};
use super::ordering::{Ordering, OrderingOutcome};
use super::ranking::NO_VECTOR;
use super::{Trainer, item_text, user_text};
use crate::evaluation::EvaluationSettings;
use crate::features;
use crate::rerank::Bound;
use crate::split::earlier;
use crate::writing::PairWriter;

/// Titles of each kind that a plain profile names.
const PROFILE_TITLES: usize = 5;

/// What one ranker of a comparison may see besides vectors, history and context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// No explanation.
    Features,
    /// The code of the positive explanation.
    Positive,
    /// The code of the negative explanation.
    Negative,
    /// Both codes: the method.
    Both,
    /// No code, and what an LLM foresees of how people rate the item.
    Forecast,
    /// Both codes, each of another pair: what survives this is not reasoning.
    Shuffled,
    /// No code, and each forecast that of another item: what survives this is not knowledge of the item.
    Misplaced,
    /// Both codes, of the template's texts: what the evidence gives without an LLM's words. Only where an
    /// LLM writes the others.
    Template,
    /// Codes of the consumer's and the item's plain profile text instead: what more text alone gives.
    Profile,
}

impl Arm {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::Features,
        Self::Positive,
        Self::Negative,
        Self::Both,
        Self::Forecast,
        Self::Shuffled,
        Self::Misplaced,
        Self::Template,
        Self::Profile,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Both => "both",
            Self::Forecast => "forecast",
            Self::Shuffled => "shuffled",
            Self::Misplaced => "misplaced",
            Self::Template => "template",
            Self::Profile => "profile",
        }
    }

    /// Whether it needs what is written about pairs.
    pub fn reads_explanations(self) -> bool {
        matches!(self, Self::Positive | Self::Negative | Self::Both | Self::Shuffled)
    }

    /// Whether it needs what an LLM foresees of items.
    pub fn reads_forecasts(self) -> bool {
        matches!(self, Self::Forecast | Self::Misplaced)
    }

    fn groups(self) -> InputGroups {
        let (positive, negative) = match self {
            Self::Features | Self::Forecast | Self::Misplaced => (false, false),
            Self::Positive => (true, false),
            Self::Negative => (false, true),
            Self::Both | Self::Shuffled | Self::Template | Self::Profile => (true, true),
        };
        InputGroups { positive, negative, ..InputGroups::default() }
    }
}

/// How one arm predicted the test pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmOutcome {
    /// What it saw.
    pub arm: Arm,
    /// Root of the mean squared error of the ratings.
    pub rmse: f64,
    /// Mean absolute error of the ratings.
    pub mae: f64,
    /// Area under the ROC curve of the likes; none if all or none were liked.
    pub auc: Option<f64>,
    /// Predicted ratings, in the order of the test pairs.
    pub ratings: Vec<f32>,
    /// Predicted probabilities of a like, calibrated as those of audiences are, in the same order.
    pub likes: Vec<f32>,
    /// Whether the accounts of scores are faithful; of the full method only.
    #[serde(default)]
    pub faithfulness: Option<Faithfulness>,
}

/// All arms on one training part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonOutcome {
    /// Examples that the rankers learned from.
    pub training_pairs: usize,
    /// Examples that stopped their training.
    pub validation_pairs: usize,
    /// Test pairs that were predicted.
    pub test_pairs: usize,
    /// Pairs whose explanation an LLM wrote; the template wrote the others.
    pub written_by_llm: usize,
    /// The place of each test pair among those that were given; some are of unknown items.
    pub places: Vec<usize>,
    /// What the test pairs were rated, in their order.
    pub actual: Vec<f32>,
    /// Whether they were liked.
    pub liked: Vec<bool>,
    /// One for each arm.
    pub arms: Vec<ArmOutcome>,
    /// How retrieved candidates were ordered, unless that is left out.
    pub ordering: Option<OrderingOutcome>,
}

/// The examples of one comparison: training and validation first, the test after them.
pub(super) struct Examples {
    /// What is known across folds, then by the training part, and last by everything.
    pub(super) known: Vec<Known>,
    pub(super) pairs: Vec<Example>,
    /// The first place of the test.
    pub(super) test: usize,
    /// Share of the validation part's pairs that the limit left.
    pub(super) validation_kept: f64,
    /// The place of each test pair among those that were given.
    places: Vec<usize>,
}

impl Examples {
    pub(super) fn known(&self, place: usize) -> &Known {
        &self.known[self.pairs[place].known]
    }

    pub(super) fn learner(&self, place: usize) -> &Learner {
        &self.known(place).learners[self.pairs[place].user]
    }

    /// The user's and the item's vector `[d]` of a pair.
    pub(super) fn vectors(&self, place: usize) -> Result<(&[f32], &[f32])> {
        let user = self.learner(place).vector.as_deref();
        let item = self.known(place).item(self.pairs[place].entry.item);
        let (item, _) = item.context(NO_VECTOR)?;
        Ok((user.context("examples have a user vector")?, item))
    }

    /// Whether rankers learn from the pair: it is of neither the validation nor the test part.
    pub(super) fn is_learned_from(&self, place: usize) -> bool {
        place < self.test && !self.pairs[place].validation
    }

    /// The places of the pairs that explanations are written for: at most so many that rankers learn from, or
    /// all pairs for 0. As far as they are among the pairs, they are the same for every seed.
    fn written(&self, most: usize) -> Vec<usize> {
        if most == 0 {
            return (0..self.pairs.len()).collect();
        }
        let mut places: Vec<usize> =
            (0..self.test).filter(|place| self.is_learned_from(*place)).collect();
        places.sort_by_cached_key(|place| {
            let user = &self.learner(*place).record.external_id;
            Sha256::digest(format!("{user} {}", self.pairs[*place].entry.item.point()))
        });
        places.truncate(most);
        places
    }

    /// What the whole training part tells.
    pub(super) fn latest(&self) -> &Known {
        &self.known[self.known.len() - 2]
    }

    /// What all interactions but those of the test tell.
    pub(super) fn complete(&self) -> &Known {
        &self.known[self.known.len() - 1]
    }
}

impl Trainer {
    /// Compares arms on the store's interactions against `test`. Vectors must be learned and indexed;
    /// explanations that are missing are written with `writer`.
    ///
    /// # Errors
    /// When there are too few pairs, the store or the writer fails, or a stop was asked for.
    pub async fn compare(
        &self,
        test: &[(UserId, HistoryEntry)],
        writer: &PairWriter,
        plan: &EvaluationSettings,
        seed: u64,
    ) -> Result<ComparisonOutcome> {
        let wanted = &plan.arms;
        let mut population = self.population().await?;
        let forecasts = std::mem::take(&mut population.described.forecasts);
        let examples = self.gather(&population, test)?;
        let items: HashMap<ItemId, ItemRecord> =
            self.storage.all_items().await?.into_iter().map(|item| (item.id, item)).collect();
        let places = examples.written(plan.written_pairs);
        let told =
            |texts: &[[String; 2]], places: &[usize]| self.told_in(texts, places, &examples, seed);
        // Most of the time that a comparison takes is that of texts.
        let (mut explained, mut written_by_llm) = (None, 0);
        if wanted.iter().any(|arm| arm.reads_explanations()) {
            let by_template = writer.is_template();
            let (texts, by_llm) =
                self.write_all(&examples, &places, &items, writer, by_template).await?;
            (explained, written_by_llm) = (Some(told(&texts, &places)?), by_llm);
        }
        let profiles = if wanted.contains(&Arm::Profile) {
            let all: Vec<usize> = (0..examples.pairs.len()).collect();
            Some(told(&plain_profiles(&examples, &items, self)?, &all)?)
        } else {
            None
        };
        let templates = if writer.is_template() || !wanted.contains(&Arm::Template) {
            None
        } else {
            let (texts, _) = self.write_all(&examples, &places, &items, writer, true).await?;
            Some(told(&texts, &places)?)
        };
        let shuffled = explained.as_ref().map(|told| shuffled(&told.codes, &examples, seed));
        let nothing = vec![self.no_codes(); examples.pairs.len()];
        let tested = &examples.pairs[examples.test..];
        let actual: Vec<f32> = tested.iter().map(|example| example.entry.rating).collect();
        let like_from = self.settings.rating_scale().like_from;
        let liked: Vec<bool> = actual.iter().map(|rating| *rating >= like_from).collect();
        let mut ordering = Ordering::retrieve(&plan.ordering, self, &examples)?;
        let mut arms = Vec::with_capacity(wanted.len());
        for arm in Arm::ALL.into_iter().filter(|arm| wanted.contains(arm)) {
            let foreseen = if arm.reads_forecasts() {
                if forecasts.is_empty() {
                    continue;
                }
                population.described.forecasts = match arm {
                    Arm::Misplaced => misplaced(&forecasts, seed),
                    _ => forecasts.clone(),
                };
                Some(self.gather(&population, test)?)
            } else {
                None
            };
            let examples = foreseen.as_ref().unwrap_or(&examples);
            let told = match arm {
                Arm::Template if templates.is_none() => continue,
                Arm::Template => &templates,
                Arm::Profile => &profiles,
                _ => &explained,
            };
            let codes = match (arm, &shuffled, told) {
                (Arm::Shuffled, Some(shuffled), _) => shuffled,
                (_, _, Some(told)) => &told.codes,
                _ => &nothing,
            };
            let (outcome, ranker) = self.run_arm(arm, examples, codes, &actual, &liked, seed)?;
            arms.push(outcome);
            if let Some(ordering) = &mut ordering {
                let explainer = told.as_ref().map(|told| &told.explainer);
                ordering.rerank(self, examples, arm, &ranker, explainer, seed)?;
            }
        }
        let validation_pairs = examples.pairs.iter().filter(|example| example.validation).count();
        Ok(ComparisonOutcome {
            training_pairs: examples.test - validation_pairs,
            validation_pairs,
            test_pairs: actual.len(),
            written_by_llm,
            places: examples.places.clone(),
            actual,
            liked,
            arms,
            ordering: ordering.map(Ordering::finish),
        })
    }

    /// Codes that nobody looks at.
    pub(super) fn no_codes(&self) -> Codes {
        let none = vec![0.0; self.settings.autoencoder.code];
        Codes { positive: none.clone(), negative: none }
    }

    fn gather(&self, population: &Population, test: &[(UserId, HistoryEntry)]) -> Result<Examples> {
        let mut known = self.across_folds(population)?;
        let (mut pairs, validation_kept) = self.examples(population, &known);
        let first = pairs.len();
        let complete = self.known(population, Seen::Everything)?;
        let users: HashMap<UserId, usize> = complete
            .learners
            .iter()
            .enumerate()
            .map(|(place, learner)| (learner.record.id, place))
            .collect();
        let mut places = Vec::with_capacity(test.len());
        for (number, (user, entry)) in test.iter().enumerate() {
            let Some(user) = users.get(user).copied() else { continue };
            if complete.learners[user].vector.is_some() && complete.item(entry.item).is_some() {
                pairs.push(Example { known: known.len(), user, entry: *entry, validation: false });
                places.push(number);
            }
        }
        known.push(complete);
        let validation = pairs.iter().filter(|example| example.validation).count();
        let (training, test) = (first - validation, pairs.len() - first);
        ensure!(
            training > 1 && validation > 1 && test > 1,
            "there are {training} pairs to train on, {validation} to stop training and {test} to test; \
             each part needs more: see `split` and `training.maximum_pairs`"
        );
        Ok(Examples { known, pairs, test: first, validation_kept, places })
    }

    /// What a ranker says of examples, bounded as answers are by what it says of the same without codes.
    pub(super) fn bounded(
        &self,
        ranker: &TrainedRanker,
        examples: &RankerExamples,
        without_codes: &RankerExamples,
    ) -> Result<Vec<Score>> {
        let most = self.settings.rerank.maximum_text_influence;
        let bound = Bound::new(most, self.settings.rating_scale());
        Ok(bound.all_limited(ranker.predict(examples)?, &ranker.predict(without_codes)?))
    }

    fn run_arm(
        &self,
        arm: Arm,
        examples: &Examples,
        codes: &[Codes],
        actual: &[f32],
        liked: &[bool],
        seed: u64,
    ) -> Result<(ArmOutcome, TrainedRanker)> {
        let code = self.settings.autoencoder.code;
        let shape = features::shape(self.settings.vectors.factorisation.dimension, code);
        let length = self.settings.ranker.history_length;
        let empty = || RankerExamples::new(shape.clone(), length);
        let (mut training, mut validation, mut test) = (empty(), empty(), empty());
        let mut without_codes = empty();
        for (place, (example, codes)) in examples.pairs.iter().zip(codes).enumerate() {
            let part = match (place >= examples.test, example.validation) {
                (true, _) => &mut test,
                (false, true) => &mut validation,
                (false, false) => &mut training,
            };
            self.push(part, examples.known(place), example, Some(codes))?;
            if place >= examples.test {
                self.push(&mut without_codes, examples.known(place), example, None)?;
            }
        }
        let mut settings = RankerSettings { groups: arm.groups(), ..self.settings.ranker.clone() };
        settings.training.seed = seed;
        let progress = self.progress.as_ref();
        let trained = TrainedRanker::train(&training, &validation, &settings, progress)?;
        let faithfulness = match arm {
            Arm::Both => self.faithfulness(&trained, examples, codes, seed)?,
            _ => None,
        };
        let scores = self.bounded(&trained, &test, &without_codes)?;
        let ratings: Vec<f32> = scores.iter().map(|score| score.rating).collect();
        let curve = trained.report().calibration.as_ref();
        let curve = curve.map_or(Calibration::IDENTITY, |calibration| calibration.curve);
        let likes: Vec<f32> = scores.iter().map(|score| curve.apply(score.like)).collect();
        let outcome = ArmOutcome {
            arm,
            rmse: rmse(&ratings, actual),
            mae: mae(&ratings, actual),
            auc: auc(&likes, liked),
            ratings,
            likes,
            faithfulness,
        };
        Ok((outcome, trained))
    }
}

/// The codes, each of another pair of the same part.
fn shuffled(codes: &[Codes], examples: &Examples, seed: u64) -> Vec<Codes> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut shuffled = codes.to_vec();
    let (learned, test) = shuffled.split_at_mut(examples.test);
    learned.shuffle(&mut random);
    test.shuffle(&mut random);
    shuffled
}

/// The forecasts, each of another item.
fn misplaced(forecasts: &Forecasts, seed: u64) -> Forecasts {
    let mut items: Vec<ItemId> = forecasts.keys().copied().collect();
    items.sort_unstable();
    let mut ratings: Vec<f32> = items.iter().map(|item| forecasts[item]).collect();
    ratings.shuffle(&mut StdRng::seed_from_u64(seed));
    items.into_iter().zip(ratings).collect()
}

/// What stands in for explanations in the arm `profile`: the consumer's own profile with the latest
/// titles that they rated, and the item's text. What is told of the consumer is what explanations are told:
/// all that came before the pair, and never the pair itself.
fn plain_profiles(
    examples: &Examples,
    items: &HashMap<ItemId, ItemRecord>,
    trainer: &Trainer,
) -> Result<Vec<[String; 2]>> {
    let scale = trainer.settings.rating_scale();
    let mut texts = Vec::with_capacity(examples.pairs.len());
    for (place, example) in examples.pairs.iter().enumerate() {
        let titles = |wanted: &dyn Fn(f32) -> bool| -> String {
            let known = &examples.complete().learners[example.user].history;
            let before = earlier(known, example.entry.time).iter().rev();
            let latest =
                before.filter(|entry| entry.item != example.entry.item && wanted(entry.rating));
            let titles = latest.filter_map(|entry| items.get(&entry.item));
            let titles: Vec<&str> =
                titles.take(PROFILE_TITLES).map(|item| item.title.as_str()).collect();
            titles.join("; ")
        };
        let liked = titles(&|rating| rating >= scale.like_from);
        let disliked = titles(&|rating| rating <= scale.dislike_to);
        let profile = user_text(&examples.learner(place).record);
        let item = items.get(&example.entry.item).context("examples have an item")?;
        texts.push([format!("{profile}. Liked: {liked}. Disliked: {disliked}."), item_text(item)]);
    }
    Ok(texts)
}
