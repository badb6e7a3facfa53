//! What an evaluation says: means over seeds, intervals over test pairs, and whether an arm differs from
//! the features alone and from the shuffled control.

use serde::{Deserialize, Serialize};
use whyrank_models::metrics::{Interval, bootstrap};

use super::{EvaluationSettings, FinishedRun};
use crate::training::{Arm, ArmOutcome, Faithfulness};

/// Share of the samples that an interval holds.
const CONFIDENCE: f64 = 0.95;
/// Decides the bootstrap's samples, so that a report can be made again.
const BOOTSTRAP_SEED: u64 = 2_502;

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
    ) -> Self {
        let shares = settings.shares.iter().filter_map(|share| {
            let of_share: Vec<&FinishedRun> =
                runs.iter().filter(|run| run.share == *share).collect();
            summarise(*share, &of_share, settings.resamples)
        });
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fingerprint: fingerprint.to_owned(),
            generator: generator.to_owned(),
            seeds: settings.seeds.clone(),
            shares: shares.collect(),
        }
    }
}

fn summarise(share: f32, runs: &[&FinishedRun], resamples: usize) -> Option<ShareSummary> {
    let first = &runs.first()?.outcome;
    let arms = Arm::ALL.map(|arm| {
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
        ArmSummary {
            arm,
            rmse: mean(&|outcome| outcome.rmse),
            mae: mean(&|outcome| outcome.mae),
            auc,
            auc_spread: auc.map(|_| (most - least) / 2.0),
            versus_features: versus(Arm::Features),
            versus_shuffled: versus(Arm::Shuffled),
        }
    });
    Some(ShareSummary {
        share,
        training_pairs: first.training_pairs,
        test_pairs: first.test_pairs,
        written_by_llm: first.written_by_llm,
        faithfulness: first.arms.iter().find_map(|outcome| outcome.faithfulness.clone()),
        arms: arms.to_vec(),
    })
}

fn outcomes<'a>(runs: &[&'a FinishedRun], arm: Arm) -> Vec<&'a ArmOutcome> {
    runs.iter().flat_map(|run| run.outcome.arms.iter().filter(move |one| one.arm == arm)).collect()
}

/// Pairs are the unit of the bootstrap: a seed's error on a pair is not independent of another's, so
/// that their mean is one value.
fn compare(runs: &[&FinishedRun], arm: Arm, other: Arm, resamples: usize) -> Option<Versus> {
    let pairs = runs.iter().map(|run| run.outcome.actual.len()).min()?;
    let (ours, theirs) = (outcomes(runs, arm), outcomes(runs, other));
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
    let interval = bootstrap(&less, CONFIDENCE, resamples, BOOTSTRAP_SEED)?;
    let mean = |outcomes: &[&ArmOutcome]| {
        outcomes.iter().map(|outcome| outcome.rmse).sum::<f64>() / outcomes.len() as f64
    };
    let (ours, theirs) = (mean(&ours), mean(&theirs));
    Some(Versus {
        rmse_better_percent: 100.0 * (theirs - ours) / theirs,
        significant: interval.low > 0.0 || interval.high < 0.0,
        squared_error_less: interval,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::ComparisonOutcome;

    fn run(seed: u64, error: impl Fn(Arm, usize) -> f32) -> FinishedRun {
        let actual = vec![3.0_f32; 200];
        let arms = Arm::ALL.map(|arm| {
            let ratings: Vec<f32> = (0..200).map(|pair| 3.0 + error(arm, pair)).collect();
            let rmse = whyrank_models::metrics::rmse(&ratings, &actual);
            ArmOutcome { arm, rmse, mae: 0.0, auc: Some(0.5), ratings, faithfulness: None }
        });
        let outcome = ComparisonOutcome {
            training_pairs: 1,
            validation_pairs: 1,
            test_pairs: 200,
            written_by_llm: 0,
            actual,
            arms: arms.to_vec(),
        };
        FinishedRun { fingerprint: String::new(), share: 1.0, seed, outcome }
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
        let report = EvaluationReport::new(&settings, "template", "", &runs);
        let both = arm(&report, Arm::Both).versus_features.as_ref().expect("not itself");
        assert!(both.significant && (both.rmse_better_percent - 50.0).abs() < 1e-3, "{both:?}");
        let shuffled = arm(&report, Arm::Shuffled).versus_features.as_ref().expect("not itself");
        assert!(!shuffled.significant, "{shuffled:?}");
        assert!(arm(&report, Arm::Features).versus_features.is_none());
    }
}
