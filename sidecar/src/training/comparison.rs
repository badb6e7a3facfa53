//! Trains one ranker for each kind of input on the same examples with the same budget, and predicts
//! the ratings of later pairs with each: what the comparisons of an evaluation are made of.
//!
//! The store holds nothing of the test part, so that no profile, prompt, vector or code can come from
//! it. The comparisons are those that the method's paper makes (arXiv 2502.16759): features alone, each
//! side, both, and controls that tell reasoning from more text.

use std::collections::HashMap;
use std::pin::pin;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use whyrank_models::autoencoder::Autoencoder;
use whyrank_models::metrics::{auc, mae, rmse};
use whyrank_models::ranker::{
    Calibration, InputGroups, RankerExamples, RankerSettings, Score, TrainedRanker,
};
use whyrank_plugin::{Codes, HistoryEntry, ItemId, ItemRecord, Source, UserId};

use super::expected::Forecasts;
use super::faithfulness::Faithfulness;
use super::known::{Example, Known, Learner, Population, Seen};
use super::ordering::{Ordering, OrderingOutcome, OrderingSettings};
use super::{Trainer, item_text, user_text};
use crate::features;
use crate::rerank::Bound;
use crate::split::earlier;
use crate::writing::{Pair, PairWriter};

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
        wanted: &[Arm],
        ordering: &OrderingSettings,
        seed: u64,
    ) -> Result<ComparisonOutcome> {
        let mut population = self.population().await?;
        let forecasts = std::mem::take(&mut population.described.forecasts);
        let examples = self.gather(&population, test)?;
        let items: HashMap<ItemId, ItemRecord> =
            self.storage.all_items().await?.into_iter().map(|item| (item.id, item)).collect();
        let codes = |texts: &[[String; 2]]| self.codes_of(texts, &examples, seed);
        // Most of the time that a comparison takes is that of texts.
        let texts = wanted.iter().any(|arm| arm.reads_explanations());
        let (explained, written_by_llm) = if !texts {
            (vec![self.no_codes(); examples.pairs.len()], 0)
        } else {
            let by_template = writer.is_template();
            let (explained, by_llm) =
                self.write_all(&examples, &items, writer, by_template).await?;
            (codes(&explained)?, by_llm)
        };
        let profiles = if wanted.contains(&Arm::Profile) {
            codes(&plain_profiles(&examples, &items, self)?)?
        } else {
            Vec::new()
        };
        let templates = if writer.is_template() || !wanted.contains(&Arm::Template) {
            None
        } else {
            Some(codes(&self.write_all(&examples, &items, writer, true).await?.0)?)
        };
        let shuffled = shuffled(&explained, &examples, seed);
        let tested = &examples.pairs[examples.test..];
        let actual: Vec<f32> = tested.iter().map(|example| example.entry.rating).collect();
        let like_from = self.settings.rating_scale().like_from;
        let liked: Vec<bool> = actual.iter().map(|rating| *rating >= like_from).collect();
        let mut ordering = Ordering::retrieve(ordering, self, &examples)?;
        let explainer = |codes: &[Codes]| self.explainer_of(&examples, codes, seed);
        let usual = if texts { Some(explainer(&explained)?) } else { None };
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
            let (codes, own) = match (arm, &templates) {
                (Arm::Template, None) => continue,
                (Arm::Template, Some(templates)) => (templates, Some(explainer(templates)?)),
                (Arm::Profile, _) => (&profiles, Some(explainer(&profiles)?)),
                (Arm::Shuffled, _) => (&shuffled, None),
                _ => (&explained, None),
            };
            let (outcome, ranker) = self.run_arm(arm, examples, codes, &actual, &liked, seed)?;
            arms.push(outcome);
            if let Some(ordering) = &mut ordering {
                let explainer = own.as_ref().or(usual.as_ref());
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

    /// The texts of all examples, positive and negative, and how many an LLM wrote. What the template says
    /// nobody needs in the store.
    async fn write_all(
        &self,
        examples: &Examples,
        items: &HashMap<ItemId, ItemRecord>,
        writer: &PairWriter,
        by_template: bool,
    ) -> Result<(Vec<[String; 2]>, usize)> {
        let (stage, kept) = match by_template {
            true => ("filling in the template", ""),
            false => ("writing explanations", "; what is written is kept"),
        };
        let one = |(place, example): (usize, &Example)| {
            let example = *example;
            async move {
                ensure!(!self.progress.cancelled(), "{stage} was stopped{kept}");
                let user = &examples.learner(place).record;
                let item = items.get(&example.entry.item).context("examples have an item")?;
                let pair = Pair { user, item, before: Some(example.entry.time) };
                if by_template {
                    return Ok((place, writer.template(pair).await?, false));
                }
                let record = writer.write(pair, None, CancellationToken::new()).await?.record;
                Ok((place, record.explanation, record.provenance.source == Source::Llm))
            }
        };
        let all = stream::iter(examples.pairs.iter().enumerate()).map(one);
        let mut written = pin!(all.buffer_unordered(writer.parallel()));
        let mut texts = vec![[String::new(), String::new()]; examples.pairs.len()];
        let (mut by_llm, mut done) = (0, 0);
        self.progress.begin(stage, examples.pairs.len() as u64);
        while let Some((place, explanation, llm)) = written.try_next().await? {
            texts[place] = [explanation.positive, explanation.negative];
            by_llm += usize::from(llm);
            done += 1;
            self.progress.advance(done);
        }
        self.progress.end();
        Ok((texts, by_llm))
    }

    /// Codes of two texts a pair, from an autoencoder that learned from the training pairs' texts only.
    fn codes_of(
        &self,
        texts: &[[String; 2]],
        examples: &Examples,
        seed: u64,
    ) -> Result<Vec<Codes>> {
        let side = |side: usize| -> Result<Array2<f32>> {
            let texts: Vec<&str> = texts.iter().map(|both| both[side].as_str()).collect();
            self.embed(&texts)
        };
        let sides = [side(0)?, side(1)?];
        let known = |table: &Array2<f32>| -> Vec<usize> {
            let training = 0..examples.test.min(table.nrows());
            training.filter(|place| !examples.pairs[*place].validation).collect()
        };
        let parts = sides.each_ref().map(|table| table.select(Axis(0), &known(table)));
        let training = concatenate(Axis(0), &[parts[0].view(), parts[1].view()])?;
        let mut settings = self.settings.autoencoder.clone();
        settings.pretrain.seed = seed;
        let mut autoencoder =
            Autoencoder::pretrain(training.view(), &settings, self.progress.as_ref())?;
        autoencoder.fine_tune(training.view(), self.progress.as_ref())?;
        let encode = |table: ArrayView2<'_, f32>| autoencoder.encode(table);
        let (positive, negative) = (encode(sides[0].view())?, encode(sides[1].view())?);
        let rows = positive.rows().into_iter().zip(negative.rows());
        Ok(rows.map(|(p, n)| Codes { positive: p.to_vec(), negative: n.to_vec() }).collect())
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
