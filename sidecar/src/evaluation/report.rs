//! What an evaluation says: means over seeds, intervals over test pairs, and whether an arm differs from
//! the features alone and from the shuffled control.

use serde::{Deserialize, Serialize};
use whyrank_models::metrics::{Interval, bootstrap};

use super::{EvaluationSettings, FinishedRun, PeerAnswers, PeerSummary};
use crate::training::{Arm, ArmOutcome, Faithfulness, OrderOutcome};

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
    /// Test pairs, in the first seed's run.
    pub test_pairs: usize,
    /// Pairs whose explanation an LLM wrote, in the first seed's run.
    pub written_by_llm: usize,
    /// Whether the accounts of scores are faithful, in the first seed's run.
    #[serde(default)]
    pub faithfulness: Option<Faithfulness>,
    /// One for each arm.
    pub arms: Vec<ArmSummary>,
    /// How retrieved candidates were ordered, unless that was left out.
    pub ordering: Option<OrderingSummary>,
}

/// How retrieved candidates were ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderingSummary {
    /// Consumers, in the first seed's run.
    pub consumers: usize,
    /// Places at the top that NDCG and recall look at.
    pub cutoff: usize,
    /// Share of the later liked items among all candidates: no order's recall exceeds it.
    pub found: f64,
    /// Retrieval's own order first, then each arm's.
    pub orders: Vec<OrderSummary>,
}

/// One order over all seeds; intervals are over consumers.
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
    /// Against the shuffled explanations; none for these themselves.
    pub versus_shuffled: Option<Versus>,
    /// Against the template's texts; none for these themselves and where no LLM wrote.
    pub versus_template: Option<Versus>,
    /// Predicted probabilities of a like against what was liked.
    pub calibration: Vec<CalibrationBin>,
    /// Expected calibration error: the mean distance of both, weighted by pairs.
    pub calibration_error: f64,
}

/// A paired comparison of squared errors on the same test pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    /// How much smaller the RMSE is, in percent of the other's; below zero if it is greater.
    pub rmse_better_percent: f64,
    /// How much smaller the squared error is for a test pair, mean over seeds, with the interval of a
    /// bootstrap over test pairs.
    pub squared_error_less: Interval,
    /// Whether that interval lies apart from zero.
    pub significant: bool,
}

impl EvaluationReport {
    /// Summarises finished runs.
    pub fn new(
        settings: &EvaluationSettings,
        generator: &str,
        fingerprint: &str,
        runs: &[FinishedRun],
        peers: &[PeerAnswers],
    ) -> Self {
        let whole: Vec<&FinishedRun> =
            runs.iter().filter(|run| (run.share - 1.0).abs() < f32::EPSILON).collect();
        let mut peers: Vec<PeerComparison> =
            peers.iter().filter_map(|peer| beside(peer, &whole, settings.resamples)).collect();
        peers.sort_by(|left, right| left.peer.rmse.total_cmp(&right.peer.rmse));
        let shares = settings.shares.iter().filter_map(|share| {
            let of_share: Vec<&FinishedRun> =
                runs.iter().filter(|run| run.share == *share).collect();
            summarise(*share, &of_share, settings)
        });
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fingerprint: fingerprint.to_owned(),
            generator: generator.to_owned(),
            seeds: settings.seeds.clone(),
            shares: shares.collect(),
            peers,
        }
    }
}

fn summarise(
    share: f32,
    runs: &[&FinishedRun],
    settings: &EvaluationSettings,
) -> Option<ShareSummary> {
    let first = &runs.first()?.outcome;
    let resamples = settings.resamples;
    let arms = first.arms.iter().map(|of_first| {
        let arm = of_first.arm;
        let outcomes = outcomes(runs, arm);
        let mean = |value: &dyn Fn(&ArmOutcome) -> f64| {
            outcomes.iter().map(|outcome| value(outcome)).sum::<f64>() / outcomes.len() as f64
        };
        let areas: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.auc).collect();
        let auc = (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64);
        let (least, most) = areas
            .iter()
            .fold((f64::MAX, f64::MIN), |(least, most), area| (least.min(*area), most.max(*area)));
        let versus =
            |other: Arm| (other != arm).then(|| compare(runs, arm, other, resamples)).flatten();
        let calibration = calibrate(runs, arm);
        ArmSummary {
            arm,
            rmse: mean(&|outcome| outcome.rmse),
            mae: mean(&|outcome| outcome.mae),
            auc,
            auc_spread: auc.map(|_| (most - least) / 2.0),
            versus_features: versus(Arm::Features),
            versus_shuffled: versus(Arm::Shuffled),
            versus_template: versus(Arm::Template),
            calibration_error: calibration_error(&calibration),
            calibration,
        }
    });
    Some(ShareSummary {
        share,
        training_pairs: first.training_pairs,
        test_pairs: first.test_pairs,
        written_by_llm: first.written_by_llm,
        faithfulness: first.arms.iter().find_map(|outcome| outcome.faithfulness.clone()),
        arms: arms.collect(),
        ordering: order(runs, settings),
    })
}

/// Ten parts of equal width, without the empty ones.
fn calibrate(runs: &[&FinishedRun], arm: Arm) -> Vec<CalibrationBin> {
    let mut sums = [(0_usize, 0.0_f64, 0_usize); CALIBRATION_BINS];
    for (run, outcome) in runs.iter().zip(outcomes(runs, arm)) {
        for (predicted, liked) in outcome.likes.iter().zip(&run.outcome.liked) {
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

fn calibration_error(bins: &[CalibrationBin]) -> f64 {
    let pairs: usize = bins.iter().map(|bin| bin.pairs).sum();
    let weighted = bins.iter().map(|bin| bin.pairs as f64 * (bin.predicted - bin.liked).abs());
    weighted.sum::<f64>() / pairs.max(1) as f64
}

/// Consumers are the unit: a seed's figure for a consumer is not independent of another's, so that
/// their mean is one value. All runs of a share ask the same consumers.
fn order(runs: &[&FinishedRun], settings: &EvaluationSettings) -> Option<OrderingSummary> {
    let outcomes: Vec<_> =
        runs.iter().map(|run| run.outcome.ordering.as_ref()).collect::<Option<_>>()?;
    let consumers =
        outcomes.iter().flat_map(|one| one.orders.iter().map(|order| order.ndcg.len())).min()?;
    let mean = |place: usize, figure: fn(&OrderOutcome) -> &Vec<f64>| -> Vec<f64> {
        let of =
            |consumer: usize| outcomes.iter().map(move |one| figure(&one.orders[place])[consumer]);
        (0..consumers).map(|consumer| of(consumer).sum::<f64>() / outcomes.len() as f64).collect()
    };
    let interval =
        |values: &[f64]| bootstrap(values, CONFIDENCE, settings.resamples, BOOTSTRAP_SEED);
    let arms: Vec<Option<Arm>> = outcomes.first()?.orders.iter().map(|order| order.arm).collect();
    let ndcg = |place: usize| mean(place, |order| &order.ndcg);
    let over = |place: usize, other: Option<Arm>| {
        let base = arms.iter().position(|arm| *arm == other).filter(|base| *base != place)?;
        let both = ndcg(place).into_iter().zip(ndcg(base));
        interval(&both.map(|(our, their)| our - their).collect::<Vec<f64>>())
    };
    let orders = arms.iter().enumerate().filter_map(|(place, arm)| {
        Some(OrderSummary {
            arm: *arm,
            ndcg: interval(&ndcg(place))?,
            recall: interval(&mean(place, |order| &order.recall))?,
            ndcg_over_retrieval: over(place, None),
            ndcg_over_features: over(place, Some(Arm::Features)),
        })
    });
    Some(OrderingSummary {
        consumers,
        cutoff: settings.ordering.cutoff,
        found: outcomes.iter().map(|one| one.found).sum::<f64>() / outcomes.len() as f64,
        orders: orders.collect(),
    })
}

fn outcomes<'a>(runs: &[&'a FinishedRun], arm: Arm) -> Vec<&'a ArmOutcome> {
    runs.iter().flat_map(|run| run.outcome.arms.iter().filter(move |one| one.arm == arm)).collect()
}

/// The full method, or features alone where only those were compared, beside a model of others, on the test
/// pairs that all runs have.
fn beside(peer: &PeerAnswers, runs: &[&FinishedRun], resamples: usize) -> Option<PeerComparison> {
    let first = &runs.first()?.outcome;
    let places = &first.places;
    if runs.iter().any(|run| run.outcome.places != *places) {
        return None;
    }
    let summary = peer.summary(places, &first.actual, &first.liked);
    let arm =
        [Arm::Both, Arm::Features].into_iter().find(|arm| !outcomes(runs, *arm).is_empty())?;
    let own = outcomes(runs, arm);
    let theirs = peer.squared_errors(places, &first.actual);
    let less: Vec<f64> = theirs
        .iter()
        .enumerate()
        .map(|(pair, theirs)| {
            let actual = f64::from(first.actual[pair]);
            let ours = own.iter().map(|one| (f64::from(one.ratings[pair]) - actual).powi(2));
            theirs - ours.sum::<f64>() / own.len() as f64
        })
        .collect();
    let ours = own.iter().map(|one| one.rmse).sum::<f64>() / own.len() as f64;
    let against_it = versus(ours, summary.rmse, &less, resamples);
    Some(PeerComparison { peer: summary, arm, against_it })
}

/// Pairs are the unit of the bootstrap: a seed's error on a pair is not independent of another's, so
/// that their mean is one value.
fn compare(runs: &[&FinishedRun], arm: Arm, other: Arm, resamples: usize) -> Option<Versus> {
    let pairs = runs.iter().map(|run| run.outcome.actual.len()).min()?;
    let (ours, theirs) = (outcomes(runs, arm), outcomes(runs, other));
    if ours.is_empty() || theirs.is_empty() {
        return None;
    }
    let less: Vec<f64> = (0..pairs)
        .map(|pair| {
            let of_seed = runs.iter().zip(ours.iter().zip(&theirs)).map(|(run, (our, their))| {
                let actual = f64::from(run.outcome.actual[pair]);
                let squared =
                    |outcome: &ArmOutcome| (f64::from(outcome.ratings[pair]) - actual).powi(2);
                squared(their) - squared(our)
            });
            of_seed.sum::<f64>() / runs.len() as f64
        })
        .collect();
    let mean = |outcomes: &[&ArmOutcome]| {
        outcomes.iter().map(|outcome| outcome.rmse).sum::<f64>() / outcomes.len() as f64
    };
    versus(mean(&ours), mean(&theirs), &less, resamples)
}

fn versus(ours: f64, theirs: f64, less: &[f64], resamples: usize) -> Option<Versus> {
    let interval = bootstrap(less, CONFIDENCE, resamples, BOOTSTRAP_SEED)?;
    Some(Versus {
        rmse_better_percent: 100.0 * (theirs - ours) / theirs,
        significant: interval.low > 0.0 || interval.high < 0.0,
        squared_error_less: interval,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{ComparisonOutcome, OrderingOutcome};

    fn run(seed: u64, error: impl Fn(Arm, usize) -> f32) -> FinishedRun {
        let actual = vec![3.0_f32; 200];
        let arms = Arm::ALL.map(|arm| {
            let ratings: Vec<f32> = (0..200).map(|pair| 3.0 + error(arm, pair)).collect();
            let rmse = whyrank_models::metrics::rmse(&ratings, &actual);
            ArmOutcome {
                arm,
                rmse,
                mae: 0.0,
                auc: Some(0.5),
                ratings,
                // A quarter of the pairs is liked; every arm says a half.
                likes: vec![0.5; 200],
                faithfulness: None,
            }
        });
        let outcome = ComparisonOutcome {
            training_pairs: 1,
            validation_pairs: 1,
            test_pairs: 200,
            written_by_llm: 0,
            places: (0..200).collect(),
            actual,
            liked: (0..200).map(|pair| pair % 4 == 0).collect(),
            arms: arms.to_vec(),
            ordering: Some(ordering(arms.iter().map(|arm| arm.arm))),
        };
        FinishedRun { fingerprint: String::new(), share: 1.0, seed, outcome }
    }

    /// Ten consumers; every arm but the features gets all right, these half of it.
    fn ordering(arms: impl Iterator<Item = Arm>) -> OrderingOutcome {
        let order = |arm: Option<Arm>| {
            let value = if arm.is_none_or(|arm| arm == Arm::Features) { 0.5 } else { 1.0 };
            OrderOutcome { arm, ndcg: vec![value; 10], recall: vec![value; 10] }
        };
        let orders = std::iter::once(None).chain(arms.map(Some)).map(order).collect();
        OrderingOutcome { found: 1.0, orders }
    }

    #[test]
    fn orders_and_calibration_match_hand_values() {
        let runs: Vec<_> = (1..3).map(|seed| run(seed, |_, _| 0.1)).collect();
        let settings = EvaluationSettings { shares: vec![1.0], ..EvaluationSettings::default() };
        let report = EvaluationReport::new(&settings, "template", "", &runs, &[]);
        let ordering = report.shares[0].ordering.as_ref().expect("asked for");
        assert_eq!((ordering.consumers, ordering.orders.len()), (10, 1 + Arm::ALL.len()));
        let of = |arm| ordering.orders.iter().find(|order| order.arm == arm).expect("there");
        let gain = of(Some(Arm::Both)).ndcg_over_features.expect("not itself");
        assert_eq!((gain.low, gain.high), (0.5, 0.5));
        assert!(of(Some(Arm::Features)).ndcg_over_features.is_none());
        let over = |arm| of(arm).ndcg_over_retrieval.map(|over| over.mean);
        assert_eq!((over(Some(Arm::Both)), over(None)), (Some(0.5), None));
        assert_eq!(of(None).recall.mean, 0.5);
        let both = arm(&report, Arm::Both);
        let bin = CalibrationBin { pairs: 400, predicted: 0.5, liked: 0.25 };
        assert_eq!((&both.calibration, both.calibration_error), (&vec![bin], 0.25));
    }

    /// Regression: the plot of what is compared with the features was drawn over nothing, without end.
    #[test]
    fn the_features_alone_make_a_report_and_a_page() {
        let mut runs: Vec<_> = (1..3).map(|seed| run(seed, |_, _| 0.1)).collect();
        for run in &mut runs {
            run.outcome.arms.retain(|one| one.arm == Arm::Features);
            let ordering = run.outcome.ordering.as_mut().expect("there");
            ordering.orders.retain(|one| one.arm.is_none_or(|arm| arm == Arm::Features));
        }
        let settings = EvaluationSettings { shares: vec![1.0], ..EvaluationSettings::default() };
        let report = EvaluationReport::new(&settings, "template", "", &runs, &[]);
        assert_eq!(report.shares[0].arms.len(), 1);
        let page = crate::evaluation::page(&report).expect("a page");
        assert!(page.contains("features") && page.contains("<svg"), "{page}");
    }

    fn arm(report: &EvaluationReport, arm: Arm) -> &ArmSummary {
        report.shares[0].arms.iter().find(|one| one.arm == arm).expect("every arm is there")
    }

    #[test]
    fn a_real_difference_is_found_and_noise_is_not() {
        let noise = |pair: usize, by: usize| if (pair * by) % 7 < 3 { 1.0 } else { 0.8 };
        let runs: Vec<_> = (1..3)
            .map(|seed| {
                run(seed, |arm, pair| match arm {
                    Arm::Both => 0.5 * noise(pair, 1),
                    Arm::Shuffled => noise(pair, 1) + if pair % 2 == 0 { 0.01 } else { -0.01 },
                    _ => noise(pair, 1),
                })
            })
            .collect();
        let settings = EvaluationSettings { shares: vec![1.0], ..EvaluationSettings::default() };
        let report = EvaluationReport::new(&settings, "template", "", &runs, &[]);
        let both = arm(&report, Arm::Both).versus_features.as_ref().expect("not itself");
        assert!(both.significant && (both.rmse_better_percent - 50.0).abs() < 1e-3, "{both:?}");
        let shuffled = arm(&report, Arm::Shuffled).versus_features.as_ref().expect("not itself");
        assert!(!shuffled.significant, "{shuffled:?}");
        assert!(arm(&report, Arm::Features).versus_features.is_none());
    }

    #[test]
    fn the_method_is_set_beside_the_best_of_others_first() {
        let runs: Vec<_> = (1..3).map(|seed| run(seed, |_, _| 0.5)).collect();
        let settings = EvaluationSettings { shares: vec![1.0], ..EvaluationSettings::default() };
        let peer = |name: &str, error: f32| PeerAnswers {
            name: name.to_owned(),
            package: "p 1".to_owned(),
            ratings: vec![vec![3.0 + error; 200]],
        };
        let peers = [peer("worse", 1.0), peer("better", 0.25)];
        let report = EvaluationReport::new(&settings, "template", "", &runs, &peers);
        let names: Vec<&str> = report.peers.iter().map(|one| one.peer.name.as_str()).collect();
        assert_eq!(names, ["better", "worse"]);
        let percent = |place: usize| {
            let versus = report.peers[place].against_it.as_ref().expect("200 pairs");
            assert!(versus.significant);
            versus.rmse_better_percent
        };
        assert!((percent(0) + 100.0).abs() < 1e-3 && (percent(1) - 50.0).abs() < 1e-3);
    }
}
