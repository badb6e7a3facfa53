//! What an evaluation says: means over seeds, and whether an arm differs from the features alone and from
//! the controls, on the test pairs that all runs have predicted.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use whyrank_models::metrics::{Interval, Resampling, auc, clustered_bootstrap, mae, rmse};
use whyrank_models::ranker::calibration_error;

use super::paired::{Common, Predicted, Versus, over};
use super::{EvaluationSettings, FinishedRun, PeerAnswers, PeerSummary};
use crate::import::ImportedInteraction;
use crate::quality::QualityReport;
use crate::training::{Arm, Faithfulness, OrderOutcome, OrderingOutcome};

/// Share of the samples that an interval holds.
const CONFIDENCE: f64 = 0.95;
/// Decides the bootstrap's samples, so that a report can be made again.
const BOOTSTRAP_SEED: u64 = 2_502;

/// Equal parts of the probabilities that calibration is looked at in.
const CALIBRATION_BINS: usize = 10;

/// A whole evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// Version of the program.
    pub version: String,
    /// Digests of the programs that made the runs: more than one if some are older than others.
    pub programs: Vec<String>,
    /// Digest of data and settings.
    pub fingerprint: String,
    /// What wrote the explanations.
    pub generator: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// One for each share of the training data.
    pub shares: Vec<ShareSummary>,
    /// Models of others on all of the training data, if they were asked; the best RMSE first.
    #[serde(default)]
    pub peers: Vec<PeerComparison>,
}

/// Our own against a model of others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerComparison {
    /// How the other did.
    #[serde(flatten)]
    pub peer: PeerSummary,
    /// What of ours it is compared with: both explanations, or the features where only those were compared.
    pub arm: Arm,
    /// How much better that predicts the same test pairs.
    pub against_it: Option<Versus>,
}

/// All arms on one share of the training data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareSummary {
    /// Share of the training interactions.
    pub share: f32,
    /// Examples the rankers learned from, in the first seed's run.
    pub training_pairs: usize,
    /// Test pairs that all runs predicted; all figures are of these.
    pub test_pairs: usize,
    /// Pairs whose explanation an LLM wrote, in the first seed's run.
    pub written_by_llm: usize,
    /// Whether the accounts of scores are faithful, in the first seed's run.
    #[serde(default)]
    pub faithfulness: Option<Faithfulness>,
    /// How good the explanations are that an LLM was asked for, in the first seed's run.
    #[serde(default)]
    pub quality: Option<QualityReport>,
    /// One for each arm.
    pub arms: Vec<ArmSummary>,
    /// How retrieved candidates were ordered, unless that was left out.
    pub ordering: Option<OrderingSummary>,
}

/// How retrieved candidates were ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderingSummary {
    /// Consumers whom all seeds' runs asked for.
    pub consumers: usize,
    /// Places at the top that NDCG and recall look at.
    pub cutoff: usize,
    /// Share of the later liked items among all candidates: no order's recall exceeds it.
    pub found: f64,
    /// Retrieval's own order first, then each arm's.
    pub orders: Vec<OrderSummary>,
}

/// One order over all seeds; intervals are over consumers and seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderSummary {
    /// The arm that reranked; none for the order of retrieval itself.
    pub arm: Option<Arm>,
    /// Normalised discounted cumulative gain at the cutoff.
    pub ndcg: Interval,
    /// Recall at the cutoff.
    pub recall: Interval,
    /// How much greater the NDCG is than that of the order of retrieval, for the same consumers.
    #[serde(default)]
    pub ndcg_over_retrieval: Option<Interval>,
    /// The same against the features alone.
    pub ndcg_over_features: Option<Interval>,
}

/// Test pairs whose predicted probability of a like is alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Pairs over all seeds.
    pub pairs: usize,
    /// Their mean predicted probability.
    pub predicted: f64,
    /// Share of them that was liked.
    pub liked: f64,
}

/// One arm over all seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmSummary {
    /// What the ranker saw.
    pub arm: Arm,
    /// Mean over seeds.
    pub rmse: f64,
    /// Mean over seeds.
    pub mae: f64,
    /// Mean over the seeds that have one.
    pub auc: Option<f64>,
    /// Half the spread of the seeds' AUC: from the least to the greatest, halved.
    pub auc_spread: Option<f64>,
    /// Against the features alone; none for these themselves.
    pub versus_features: Option<Versus>,
    /// Against the shuffled explanations, and of forecasts against the misplaced ones; none for these themselves.
    pub versus_shuffled: Option<Versus>,
    /// Against the template's texts; none for these themselves and where no LLM wrote.
    pub versus_template: Option<Versus>,
    /// Against the plain profile texts; none for these themselves.
    pub versus_profile: Option<Versus>,
    /// Whether it predicts better than the features alone and than every control, apart from chance, by RMSE
    /// throughout or by AUC throughout; none for these, and where no control was compared.
    pub gain: Option<bool>,
    /// Predicted probabilities of a like against what was liked.
    pub calibration: Vec<CalibrationBin>,
    /// Expected calibration error of one seed's probabilities: the mean distance of both, weighted by pairs;
    /// mean over seeds.
    pub calibration_error: f64,
}

impl EvaluationReport {
    /// Summarises finished runs on this test part.
    pub fn new(
        settings: &EvaluationSettings,
        generator: &str,
        fingerprint: &str,
        runs: &[FinishedRun],
        test: &[ImportedInteraction],
        peers: &[PeerAnswers],
    ) -> Self {
        let common = Common::of(&runs.iter().collect::<Vec<_>>(), test);
        let resampling = Resampling {
            confidence: CONFIDENCE,
            resamples: settings.resamples,
            seed: BOOTSTRAP_SEED,
        };
        let of_share = |share: f32| -> Vec<&FinishedRun> {
            runs.iter().filter(|run| (run.share - share).abs() < f32::EPSILON).collect()
        };
        let whole = of_share(1.0);
        // Those of others are of all data: what a smaller share has lost is not missing here.
        let of_whole = Common::of(&whole, test);
        let mut peers: Vec<PeerComparison> =
            peers.iter().filter_map(|peer| beside(peer, &whole, &of_whole, resampling)).collect();
        peers.sort_by(|left, right| left.peer.rmse.total_cmp(&right.peer.rmse));
        let shares = settings.shares.iter();
        let shares = shares.filter_map(|share| {
            let summary = Summary { common: &common, runs: of_share(*share), resampling };
            summary.of_share(*share, settings.ordering.cutoff)
        });
        let programs: BTreeSet<&str> = runs.iter().map(|run| run.program.as_str()).collect();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            programs: programs.into_iter().map(str::to_owned).collect(),
            fingerprint: fingerprint.to_owned(),
            generator: generator.to_owned(),
            seeds: settings.seeds.clone(),
            shares: shares.collect(),
            peers,
        }
    }
}

/// What a share's runs are summarised from.
struct Summary<'a> {
    common: &'a Common,
    runs: Vec<&'a FinishedRun>,
    resampling: Resampling,
}

impl Summary<'_> {
    fn of_share(&self, share: f32, cutoff: usize) -> Option<ShareSummary> {
        let FinishedRun { outcome: first, quality, .. } = self.runs.first()?;
        let arms = Arm::ALL.into_iter();
        let arms = arms.filter_map(|arm| Some((arm, self.common.of_arm(&self.runs, arm)?)));
        let predicted: Vec<(Arm, Predicted)> = arms.collect();
        Some(ShareSummary {
            share,
            training_pairs: first.training_pairs,
            test_pairs: self.common.places.len(),
            written_by_llm: first.written_by_llm,
            faithfulness: first.arms.iter().find_map(|outcome| outcome.faithfulness.clone()),
            quality: quality.clone(),
            arms: predicted.iter().map(|(arm, own)| self.of_arm(*arm, own, &predicted)).collect(),
            ordering: self.ordering(cutoff),
        })
    }

    fn of_arm(&self, arm: Arm, own: &Predicted, all: &[(Arm, Predicted)]) -> ArmSummary {
        let Common { actual, liked, .. } = self.common;
        let areas: Option<Vec<f64>> = own.likes.iter().map(|likes| auc(likes, liked)).collect();
        let versus = |other: Arm| {
            let (_, theirs) = all.iter().find(|(one, _)| *one == other && other != arm)?;
            self.common.versus(own, theirs, self.resampling)
        };
        let of_others = if arm == Arm::Forecast { Arm::Misplaced } else { Arm::Shuffled };
        let (versus_features, versus_shuffled) = (versus(Arm::Features), versus(of_others));
        let (versus_template, versus_profile) = (versus(Arm::Template), versus(Arm::Profile));
        let controls = [&versus_shuffled, &versus_template, &versus_profile];
        let explains = matches!(arm, Arm::Positive | Arm::Negative | Arm::Both | Arm::Forecast);
        let controlled = explains && controls.iter().any(|control| control.is_some());
        let gain = versus_features.as_ref().filter(|_| controlled).map(|features| {
            let mut comparisons = vec![features];
            comparisons.extend(controls.into_iter().flatten());
            Versus::are_gains(&comparisons)
        });
        ArmSummary {
            arm,
            rmse: mean(own.ratings.iter().map(|ratings| rmse(ratings, actual))),
            mae: mean(own.ratings.iter().map(|ratings| mae(ratings, actual))),
            auc: areas.as_ref().map(|areas| mean(areas.iter().copied())),
            auc_spread: areas.as_ref().map(|areas| spread(areas) / 2.0),
            versus_features,
            versus_shuffled,
            versus_template,
            versus_profile,
            gain,
            calibration_error: mean(own.likes.iter().map(|likes| calibration_error(likes, liked))),
            calibration: calibrate(&own.likes, liked),
        }
    }

    /// A seed's figures of a consumer are not independent of another's: the intervals draw both.
    fn ordering(&self, cutoff: usize) -> Option<OrderingSummary> {
        let outcomes = self.runs.iter().map(|run| run.outcome.ordering.as_ref());
        let outcomes: Vec<&OrderingOutcome> = outcomes.collect::<Option<_>>()?;
        let first = outcomes.first()?;
        let places: Vec<HashMap<&str, usize>> = outcomes
            .iter()
            .map(|one| one.consumers.iter().enumerate().map(|(n, id)| (id.as_str(), n)).collect())
            .collect();
        let asked = |id: &&String| places.iter().all(|places| places.contains_key(id.as_str()));
        let consumers: Vec<&str> =
            first.consumers.iter().filter(asked).map(String::as_str).collect();
        let arms: Vec<Option<Arm>> = first.orders.iter().map(|order| order.arm).collect();
        let figures = |order: usize, figure: fn(&OrderOutcome) -> &Vec<f64>| -> Vec<Vec<f64>> {
            let of_seed = |(one, places): (&&OrderingOutcome, &HashMap<&str, usize>)| {
                let values = figure(&one.orders[order]);
                consumers.iter().map(|id| values[places[id]]).collect()
            };
            outcomes.iter().zip(&places).map(of_seed).collect()
        };
        let each: Vec<usize> = (0..consumers.len()).collect();
        let interval = |values: &[Vec<f64>]| clustered_bootstrap(values, &each, self.resampling);
        let ndcg = |order: usize| figures(order, |order| &order.ndcg);
        let ndcg_over = |order: usize, other: Option<Arm>| {
            let base = arms.iter().position(|arm| *arm == other).filter(|base| *base != order)?;
            interval(&over(&ndcg(order), &ndcg(base)))
        };
        let orders = arms.iter().enumerate().filter_map(|(order, arm)| {
            Some(OrderSummary {
                arm: *arm,
                ndcg: interval(&ndcg(order))?,
                recall: interval(&figures(order, |order| &order.recall))?,
                ndcg_over_retrieval: ndcg_over(order, None),
                ndcg_over_features: ndcg_over(order, Some(Arm::Features)),
            })
        });
        Some(OrderingSummary {
            consumers: consumers.len(),
            cutoff,
            found: mean(outcomes.iter().map(|one| one.found)),
            orders: orders.collect(),
        })
    }
}

/// The full method, or features alone where only those were compared, beside a model of others.
fn beside(
    peer: &PeerAnswers,
    runs: &[&FinishedRun],
    common: &Common,
    resampling: Resampling,
) -> Option<PeerComparison> {
    let arms = [Arm::Both, Arm::Features].into_iter();
    let (arm, own) = arms.filter_map(|arm| Some((arm, common.of_arm(runs, arm)?))).next()?;
    let theirs = peer.at(&common.places);
    let against_it = common.versus(&own, &theirs, resampling);
    Some(PeerComparison { peer: peer.summary(common, &theirs), arm, against_it })
}

/// Ten parts of equal width, without the empty ones.
fn calibrate(seeds: &[Vec<f32>], liked: &[bool]) -> Vec<CalibrationBin> {
    let mut sums = [(0_usize, 0.0_f64, 0_usize); CALIBRATION_BINS];
    for likes in seeds {
        for (predicted, liked) in likes.iter().zip(liked) {
            let bin = (predicted * CALIBRATION_BINS as f32) as usize;
            let (pairs, sum, likes) = &mut sums[bin.min(CALIBRATION_BINS - 1)];
            *pairs += 1;
            *sum += f64::from(*predicted);
            *likes += usize::from(*liked);
        }
    }
    let filled = sums.into_iter().filter(|(pairs, ..)| *pairs > 0);
    filled
        .map(|(pairs, sum, likes)| CalibrationBin {
            pairs,
            predicted: sum / pairs as f64,
            liked: likes as f64 / pairs as f64,
        })
        .collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len();
    values.sum::<f64>() / count as f64
}

/// From the least to the greatest.
fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    most - values.iter().copied().fold(f64::MAX, f64::min)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
