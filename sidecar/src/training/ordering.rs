//! How well a comparison's rankers order what retrieval finds: the nearest items to a consumer's vector,
//! reranked by each arm, against the items that the consumer liked later.
//!
//! Nothing is written for these candidates: an arm with codes gets them from an amortized explainer that
//! learned from the training pairs' codes, as an answer does whose pairs the LLM has not reached.

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use whyrank_models::explainer::TrainedExplainer;
use whyrank_models::metrics::{ndcg_at, recall_at};
use whyrank_models::ranker::{RankerExamples, TrainedRanker};
use whyrank_plugin::{Codes, ItemId};

use super::Trainer;
use super::comparison::{Arm, Examples};
use super::known::Example;
use super::told::predict_all;
use crate::features;
use crate::rerank::ScoreKind;

/// What retrieved candidates are judged by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrderingSettings {
    /// Consumers with a liked item in the test part who are asked for, a random choice of a fixed seed;
    /// 0 leaves the ordering out.
    pub consumers: usize,
    /// Items that retrieval finds for each, without those that the consumer has rated before.
    pub candidates: usize,
    /// Places at the top that NDCG and recall look at.
    pub cutoff: usize,
}

impl Default for OrderingSettings {
    fn default() -> Self {
        Self { consumers: 200, candidates: 200, cutoff: 10 }
    }
}

/// How one order of the candidates did, a figure for each consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderOutcome {
    /// The arm that reranked; none for the order of retrieval itself.
    pub arm: Option<Arm>,
    /// Normalised discounted cumulative gain at the cutoff.
    pub ndcg: Vec<f64>,
    /// Share of the later liked items at the cutoff.
    pub recall: Vec<f64>,
}

/// All orders of one run's candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderingOutcome {
    /// Share of the later liked items among all candidates, mean over consumers: what no order exceeds.
    pub found: f64,
    /// The consumers, by the ids that the data gave, in the order of the figures.
    pub consumers: Vec<String>,
    /// Retrieval's own order first, then each arm's.
    pub orders: Vec<OrderOutcome>,
}

/// One consumer with candidates in the order of retrieval.
struct Query {
    user: usize,
    candidates: Vec<ItemId>,
    /// Whether each candidate was liked later.
    liked: Vec<bool>,
    /// Whether the consumer takes each candidate up; none where that was not learned.
    take_ups: Vec<Option<f32>>,
    /// Items liked later, found or not.
    total: usize,
}

/// Retrieves once and has every arm order the same candidates.
pub(super) struct Ordering {
    settings: OrderingSettings,
    /// What is ordered by, as an answer would be.
    kind: ScoreKind,
    consumers: Vec<String>,
    queries: Vec<Query>,
    orders: Vec<OrderOutcome>,
}

impl Ordering {
    /// Retrieves for consumers of the test part; none if nobody liked anything there.
    pub(super) fn retrieve(
        settings: &OrderingSettings,
        trainer: &Trainer,
        examples: &Examples,
    ) -> Result<Option<Self>> {
        let kind = trainer.settings.rerank.score;
        let like_from = trainer.settings.rating_scale().like_from;
        let take_up = match kind {
            ScoreKind::Response if settings.consumers > 0 => {
                let training = &examples.pairs[..examples.test];
                let kept = examples.validation_kept;
                let (latest, complete) = (examples.latest(), examples.complete());
                trainer.learn_take_up(latest, complete, training, kept)?.map(|(model, _)| model)
            }
            _ => None,
        };
        let mut later: std::collections::BTreeMap<usize, Vec<ItemId>> =
            std::collections::BTreeMap::new();
        for example in &examples.pairs[examples.test..] {
            if example.entry.rating >= like_from {
                later.entry(example.user).or_default().push(example.entry.item);
            }
        }
        let mut users: Vec<usize> = later.keys().copied().collect();
        // By a hash of each one's id: another part of the data asks for the same, as far as they are in it.
        let name = |user: &usize| &examples.complete().learners[*user].record.external_id;
        users.sort_by_cached_key(|user| Sha256::digest(name(user)));
        users.truncate(settings.consumers);
        let consumers = users.iter().map(|user| name(user).clone()).collect();
        let mut queries: Vec<Query> = users
            .into_iter()
            .map(|user| query(examples, user, &later[&user], settings.candidates))
            .collect();
        if let Some(take_up) = take_up {
            for query in &mut queries {
                let pairs = trainer.pairs_of(examples, query);
                let contexts = pairs.iter().map(|pair| trainer.inputs(examples.complete(), pair));
                query.take_ups = contexts
                    .map(|inputs| inputs.map(|(_, _, context)| Some(take_up.probability(&context))))
                    .collect::<Result<_>>()?;
            }
        }
        let own = outcome(settings, &queries, None, |_| Ok(None))?;
        Ok((!queries.is_empty()).then(|| Self {
            settings: settings.clone(),
            kind,
            consumers,
            queries,
            orders: vec![own],
        }))
    }

    /// Reranks with one arm; without an explainer it must be one that looks at no codes.
    pub(super) fn rerank(
        &mut self,
        trainer: &Trainer,
        examples: &Examples,
        arm: Arm,
        ranker: &TrainedRanker,
        explainer: Option<&TrainedExplainer>,
        seed: u64,
    ) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        let order = outcome(&self.settings, &self.queries, Some(arm), |query| {
            let mut codes = match explainer {
                Some(explainer) => predicted(explainer, examples, query)?,
                None => vec![trainer.no_codes(); query.candidates.len()],
            };
            if arm == Arm::Shuffled {
                codes.shuffle(&mut random);
            }
            trainer.values(examples, query, self.kind, &codes, ranker).map(Some)
        })?;
        self.orders.push(order);
        Ok(())
    }

    pub(super) fn finish(self) -> OrderingOutcome {
        let found = |query: &Query| {
            query.liked.iter().filter(|liked| **liked).count() as f64 / query.total as f64
        };
        let found = self.queries.iter().map(found).sum::<f64>() / self.queries.len() as f64;
        OrderingOutcome { found, consumers: self.consumers, orders: self.orders }
    }
}

fn query(examples: &Examples, user: usize, later: &[ItemId], candidates: usize) -> Query {
    let learner = &examples.complete().learners[user];
    let vector = learner.vector.as_deref().unwrap_or_default();
    let rated: std::collections::HashSet<ItemId> =
        learner.history.iter().map(|entry| entry.item).collect();
    let mut near: Vec<(f32, ItemId)> = examples
        .complete()
        .items()
        .filter(|(id, _)| !rated.contains(id))
        .map(|(id, item)| (vector.iter().zip(item).map(|(u, i)| u * i).sum(), id))
        .collect();
    near.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
    near.truncate(candidates);
    let candidates: Vec<ItemId> = near.into_iter().map(|(_, id)| id).collect();
    let liked = candidates.iter().map(|id| later.contains(id)).collect();
    let take_ups = vec![None; candidates.len()];
    Query { user, candidates, liked, take_ups, total: later.len() }
}

/// Judges one order; `scores` gives none for that of retrieval.
fn outcome(
    settings: &OrderingSettings,
    queries: &[Query],
    arm: Option<Arm>,
    mut scores: impl FnMut(&Query) -> Result<Option<Vec<f32>>>,
) -> Result<OrderOutcome> {
    let (mut ndcg, mut recall) = (Vec::new(), Vec::new());
    for query in queries {
        let mut order: Vec<usize> = (0..query.candidates.len()).collect();
        if let Some(scores) = scores(query)? {
            // Stable: equal scores keep the order of retrieval.
            order.sort_by(|left, right| scores[*right].total_cmp(&scores[*left]));
        }
        let relevant: Vec<bool> = order.into_iter().map(|place| query.liked[place]).collect();
        ndcg.extend(ndcg_at(&relevant, query.total, settings.cutoff));
        recall.extend(recall_at(&relevant, query.total, settings.cutoff));
    }
    Ok(OrderOutcome { arm, ndcg, recall })
}

/// Codes of a query's candidates, in their order.
fn predicted(
    explainer: &TrainedExplainer,
    examples: &Examples,
    query: &Query,
) -> Result<Vec<Codes>> {
    let complete = examples.complete();
    let user = complete.learners[query.user].vector.as_deref();
    let user = user.context("queries are of consumers with a vector")?;
    let items = query.candidates.iter().filter_map(|id| complete.item(*id));
    predict_all(explainer, items.map(|(item, _)| (user, item)))
}

impl Trainer {
    /// The query's candidates as pairs.
    fn pairs_of(&self, examples: &Examples, query: &Query) -> Vec<Example> {
        let known = examples.known.len() - 1;
        let items = query.candidates.iter();
        items.map(|item| Example::unrated(known, query.user, *item)).collect()
    }

    /// What each candidate is ordered by.
    fn values(
        &self,
        examples: &Examples,
        query: &Query,
        kind: ScoreKind,
        codes: &[Codes],
        ranker: &TrainedRanker,
    ) -> Result<Vec<f32>> {
        let shape = features::shape(
            self.settings.vectors.factorisation.dimension,
            self.settings.autoencoder.code,
        );
        let length = self.settings.ranker.history_length;
        let mut rows = RankerExamples::new(shape.clone(), length);
        let mut without_codes = RankerExamples::new(shape, length);
        for (pair, codes) in self.pairs_of(examples, query).iter().zip(codes) {
            self.push(&mut rows, examples.complete(), pair, Some(codes))?;
            self.push(&mut without_codes, examples.complete(), pair, None)?;
        }
        let scores = self.bounded(ranker, &rows, &without_codes)?.into_iter().zip(&query.take_ups);
        Ok(scores.map(|(score, take_up)| kind.of(score, *take_up)).collect())
    }
}
