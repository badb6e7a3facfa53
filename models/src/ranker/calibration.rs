//! Calibration: turns the ranker's like-probability into one that can be counted on, so that of the
//! pairs given 0.3 about three in ten are liked. Platt scaling, fitted on held-back pairs: two numbers
//! need few pairs, and a rising curve keeps every order.

use serde::{Deserialize, Serialize};

use super::run::Score;

/// Newton steps at most; the fit is convex and takes a few.
const STEPS: usize = 100;
/// Ranges that the calibration error is measured in.
const BINS: usize = 10;
/// A step below this ends the fit.
const TOLERANCE: f64 = 1e-9;
/// Probabilities are kept this far from 0 and 1, where the logarithm of the odds is infinite.
const EDGE: f64 = 1e-6;
/// The curve rises at least this steeply: a falling one would turn the ranker's order around.
const LEAST_SLOPE: f64 = 1e-2;

/// A rising curve from the ranker's like-probability to a calibrated one:
/// `sigmoid(slope * logit(like) + offset)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Above 0.
    pub slope: f64,
    /// Added to the scaled logarithm of the odds.
    pub offset: f64,
}

/// A fitted curve and what it is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// The curve, fitted on all held-back pairs.
    pub curve: Calibration,
    /// Held-back pairs.
    pub pairs: usize,
    /// Expected calibration error of the ranker's own probabilities: the mean distance between what is
    /// predicted and the share that is liked, over ten ranges weighted by their pairs.
    pub error_before: f64,
    /// The same with curves that were fitted on one half of the pairs and measured on the other.
    pub error_after: f64,
    /// Mean squared difference between the ranker's own probabilities and what was liked.
    pub brier_before: f64,
    /// The same with curves fitted on one half and measured on the other.
    pub brier_after: f64,
}

impl Calibration {
    /// The curve that changes nothing.
    pub const IDENTITY: Self = Self { slope: 1.0, offset: 0.0 };

    /// The calibrated probability.
    pub fn apply(&self, like: f32) -> f32 {
        sigmoid(self.slope * logit(like) + self.offset) as f32
    }

    /// The curve of greatest likelihood, with Platt's targets, which keep it finite where likes and
    /// dislikes can be told apart.
    fn fit(likes: &[f32], liked: &[bool]) -> Self {
        let positives = liked.iter().filter(|liked| **liked).count() as f64;
        let negatives = liked.len() as f64 - positives;
        let target = |liked: bool| match liked {
            true => (positives + 1.0) / (positives + 2.0),
            false => 1.0 / (negatives + 2.0),
        };
        let (mut slope, mut offset) = (1.0, 0.0);
        let loss = |slope: f64, offset: f64| -> f64 {
            let pairs = likes.iter().zip(liked);
            let of = pairs.map(|(like, liked)| {
                let (odds, target) = (slope * logit(*like) + offset, target(*liked));
                // log(1 + e^odds) without overflow.
                odds.max(0.0) + (-odds.abs()).exp().ln_1p() - target * odds
            });
            of.sum()
        };
        for _ in 0..STEPS {
            let (mut g1, mut g2, mut h11, mut h12, mut h22) = (0.0, 0.0, EDGE, 0.0, EDGE);
            for (like, liked) in likes.iter().zip(liked) {
                let odds = logit(*like);
                let found = sigmoid(slope * odds + offset);
                let (difference, weight) = (found - target(*liked), found * (1.0 - found));
                g1 += difference * odds;
                g2 += difference;
                h11 += weight * odds * odds;
                h12 += weight * odds;
                h22 += weight;
            }
            let determinant = h11 * h22 - h12 * h12;
            let step = if determinant > EDGE * EDGE {
                ((h22 * g1 - h12 * g2) / determinant, (h11 * g2 - h12 * g1) / determinant)
            } else {
                // Odds that are all alike say nothing about the slope.
                (0.0, g2 / h22)
            };
            let (mut share, before) = (1.0, loss(slope, offset));
            while share > TOLERANCE
                && loss(slope - share * step.0, offset - share * step.1) > before
            {
                share /= 2.0;
            }
            slope -= share * step.0;
            offset -= share * step.1;
            if share * (step.0.abs() + step.1.abs()) < TOLERANCE {
                break;
            }
        }
        Self { slope: slope.max(LEAST_SLOPE), offset }
    }
}

impl CalibrationReport {
    /// Fits a curve and measures it; `None` if all or none were liked.
    pub(super) fn of(scores: &[Score], liked: &[bool]) -> Option<Self> {
        let likes: Vec<f32> = scores.iter().map(|score| score.like).collect();
        if liked.iter().all(|liked| *liked) || !liked.iter().any(|liked| *liked) {
            return None;
        }
        let half = |odd: bool| -> (Vec<f32>, Vec<bool>) {
            let pairs = likes.iter().zip(liked).enumerate();
            pairs.filter(|(n, _)| (n % 2 == 1) == odd).map(|(_, (like, l))| (*like, *l)).unzip()
        };
        let halves = [half(false), half(true)];
        let (mut crossed, mut of) = (Vec::new(), Vec::new());
        for (fitted, measured) in [(0, 1), (1, 0)] {
            let curve = Calibration::fit(&halves[fitted].0, &halves[fitted].1);
            crossed.extend(halves[measured].0.iter().map(|like| curve.apply(*like)));
            of.extend_from_slice(&halves[measured].1);
        }
        Some(Self {
            curve: Calibration::fit(&likes, liked),
            pairs: likes.len(),
            error_before: calibration_error(&likes, liked),
            error_after: calibration_error(&crossed, &of),
            brier_before: brier(&likes, liked),
            brier_after: brier(&crossed, &of),
        })
    }
}

fn sigmoid(odds: f64) -> f64 {
    1.0 / (1.0 + (-odds).exp())
}

fn logit(probability: f32) -> f64 {
    let probability = f64::from(probability).clamp(EDGE, 1.0 - EDGE);
    (probability / (1.0 - probability)).ln()
}

fn brier(likes: &[f32], liked: &[bool]) -> f64 {
    let sum: f64 = likes
        .iter()
        .zip(liked)
        .map(|(like, liked)| (f64::from(*like) - f64::from(u8::from(*liked))).powi(2))
        .sum();
    sum / likes.len().max(1) as f64
}

/// Expected calibration error: over equal ranges of the probability, the distance between the mean
/// prediction and the share that is liked, weighted by the pairs in the range.
pub fn calibration_error(likes: &[f32], liked: &[bool]) -> f64 {
    let mut bins = [(0.0_f64, 0.0_f64); BINS];
    for (like, liked) in likes.iter().zip(liked) {
        let bin = ((f64::from(*like) * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += f64::from(*like);
        bins[bin].1 += f64::from(u8::from(*liked));
    }
    let distance: f64 = bins.iter().map(|(predicted, liked)| (predicted - liked).abs()).sum();
    distance / likes.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Pairs that are liked as often as `truth` of the prediction says.
    fn pairs(count: usize, truth: impl Fn(f64) -> f64) -> (Vec<Score>, Vec<bool>) {
        let mut random = StdRng::seed_from_u64(5);
        (0..count)
            .map(|_| {
                let like: f64 = random.random_range(0.02..0.98);
                let liked = random.random_range(0.0..1.0) < truth(like);
                (Score { rating: 0.0, like: like as f32 }, liked)
            })
            .unzip()
    }

    #[test]
    fn predictions_that_are_too_bold_are_brought_back() {
        // Odds that are three times too extreme, and shifted.
        let truth = |like: f64| sigmoid(logit(like as f32) / 3.0 - 0.5);
        let (scores, liked) = pairs(4_000, truth);
        let report = CalibrationReport::of(&scores, &liked).unwrap();
        assert!((report.curve.slope - 1.0 / 3.0).abs() < 0.05, "{report:?}");
        assert!((report.curve.offset + 0.5).abs() < 0.1, "{report:?}");
        assert!(report.error_before > 0.1 && report.error_after < 0.03, "{report:?}");
        assert!(report.brier_after < report.brier_before, "{report:?}");
    }

    #[test]
    fn what_is_calibrated_stays() {
        let (scores, liked) = pairs(4_000, |like| like);
        let curve = CalibrationReport::of(&scores, &liked).unwrap().curve;
        assert!((curve.apply(0.3) - 0.3).abs() < 0.04, "{curve:?}");
        assert_eq!(Calibration::IDENTITY.apply(0.25), 0.25);
    }

    #[test]
    fn one_class_alone_gives_no_curve() {
        let (scores, _) = pairs(20, |like| like);
        assert_eq!(CalibrationReport::of(&scores, &[true; 20]), None);
        assert_eq!(CalibrationReport::of(&[], &[]), None);
    }

    #[test]
    fn an_error_is_the_distance_from_what_happens() {
        assert!((calibration_error(&[0.8; 10], &[true; 10]) - 0.2).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn a_curve_keeps_the_order_and_stays_a_probability(
            pairs in prop::collection::vec((0f32..=1.0, any::<bool>()), 2..60),
            a in 0f32..=1.0, b in 0f32..=1.0,
        ) {
            let (likes, liked): (Vec<f32>, Vec<bool>) = pairs.into_iter().unzip();
            let scores: Vec<Score> =
                likes.iter().map(|like| Score { rating: 0.0, like: *like }).collect();
            if let Some(report) = CalibrationReport::of(&scores, &liked) {
                let (low, high) = (report.curve.apply(a.min(b)), report.curve.apply(a.max(b)));
                prop_assert!((0.0..=1.0).contains(&low) && low <= high, "{:?}", report);
            }
        }
    }
}
