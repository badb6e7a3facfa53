//! The measures by which models are compared: errors, ranking quality, confidence intervals.

mod intervals;

pub use intervals::{Interval, Resampling, bootstrap, clustered_bootstrap};

/// Root of the mean squared difference; `NaN` if there are no pairs.
///
/// # Panics
/// If the slices differ in length, as every measure over pairs here does.
pub fn rmse(predicted: &[f32], actual: &[f32]) -> f64 {
    mean_over_pairs(predicted, actual, |difference| difference * difference).sqrt()
}

/// Mean absolute difference; `NaN` if there are no pairs.
pub fn mae(predicted: &[f32], actual: &[f32]) -> f64 {
    mean_over_pairs(predicted, actual, f64::abs)
}

fn mean_over_pairs(predicted: &[f32], actual: &[f32], measure: impl Fn(f64) -> f64) -> f64 {
    assert_eq!(predicted.len(), actual.len(), "one prediction is needed for each actual value");
    let sum: f64 =
        predicted.iter().zip(actual).map(|(p, a)| measure(f64::from(*p) - f64::from(*a))).sum();
    sum / predicted.len() as f64
}

/// Area under the ROC curve: the share of (positive, negative) pairs that the scores order rightly,
/// equal scores counting one half. `None` if one of the classes is absent.
pub fn auc(scores: &[f32], positive: &[bool]) -> Option<f64> {
    let values = auc_values(scores, positive)?;
    Some(values.iter().sum::<f64>() / values.len() as f64)
}

/// What each score adds to the area under the ROC curve: the mean of the values is the area, and they differ
/// from it as the area would move if there were more scores like this one. So an interval of their mean is one
/// of the area (the structural components of DeLong et al., "Comparing the areas under two or more correlated
/// receiver operating characteristic curves", 1988). `None` if one of the classes is absent.
pub fn auc_values(scores: &[f32], positive: &[bool]) -> Option<Vec<f64>> {
    assert_eq!(scores.len(), positive.len(), "one score is needed for each label");
    let positives = positive.iter().filter(|p| **p).count() as f64;
    let negatives = positive.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    // The share of the other class that each score stands rightly to; equal scores share one half.
    let mut rightly = vec![0.0; scores.len()];
    let (mut negatives_below, mut positives_below, mut start) = (0.0, 0.0, 0);
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && scores[order[end]] == scores[order[start]] {
            end += 1;
        }
        let alike = &order[start..end];
        let of_class = |class: bool| alike.iter().filter(|i| positive[**i] == class).count() as f64;
        let (equal_negatives, equal_positives) = (of_class(false), of_class(true));
        for place in alike {
            rightly[*place] = if positive[*place] {
                (negatives_below + equal_negatives / 2.0) / negatives
            } else {
                (positives - positives_below - equal_positives / 2.0) / positives
            };
        }
        negatives_below += equal_negatives;
        positives_below += equal_positives;
        start = end;
    }
    let area =
        rightly.iter().zip(positive).filter(|(_, p)| **p).map(|(r, _)| r).sum::<f64>() / positives;
    let all = scores.len() as f64;
    let values = rightly.iter().zip(positive).map(|(rightly, positive)| {
        let share = if *positive { positives / all } else { negatives / all };
        area + (rightly - area) / share
    });
    Some(values.collect())
}

/// Share of the `relevant_total` relevant items that are among the first `k` of a ranking.
///
/// `relevant[r]` says whether the item at rank `r` (from 0) is relevant. `None` if nothing is
/// relevant.
pub fn recall_at(relevant: &[bool], relevant_total: usize, k: usize) -> Option<f64> {
    (relevant_total > 0)
        .then(|| relevant.iter().take(k).filter(|r| **r).count() as f64 / relevant_total as f64)
}

/// Normalised discounted cumulative gain of the first `k` of a ranking with binary relevance; the
/// ideal ranking has `relevant_total` relevant items first. `None` if nothing is relevant.
pub fn ndcg_at(relevant: &[bool], relevant_total: usize, k: usize) -> Option<f64> {
    let discount = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    (relevant_total > 0 && k > 0).then(|| {
        let gain: f64 = relevant
            .iter()
            .take(k)
            .enumerate()
            .filter(|(_, r)| **r)
            .map(|(i, _)| discount(i))
            .sum();
        gain / (0..relevant_total.min(k)).map(discount).sum::<f64>()
    })
}

/// Cosine of the angle between two vectors; 0 if one of them is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of one space have one length");
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOLERANCE: f64 = 1e-9;

    fn check(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < TOLERANCE, "{actual} is not {expected}");
    }

    #[test]
    fn errors_match_hand_values() {
        check(rmse(&[1.0, 2.0, 3.0], &[1.0, 4.0, 2.0]), (5.0f64 / 3.0).sqrt());
        check(mae(&[1.0, 2.0, 3.0], &[1.0, 4.0, 2.0]), 1.0);
        assert!(rmse(&[], &[]).is_nan());
    }

    #[test]
    fn auc_counts_ties_as_one_half() {
        check(auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]).unwrap(), 0.75);
        check(auc(&[0.5, 0.5, 0.5], &[false, true, true]).unwrap(), 0.5);
        check(auc(&[0.2, 0.5, 0.5, 0.9], &[false, false, true, true]).unwrap(), 0.875);
        assert_eq!(auc(&[0.5, 0.7], &[true, true]), None);
    }

    #[test]
    fn a_score_that_stands_wrongly_pulls_the_area_down() {
        let values = auc_values(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]).unwrap();
        // The area is 0.75; of each class, which is half of all, one stands rightly to all of the other.
        for (value, expected) in values.iter().zip([1.25, 0.25, 0.25, 1.25]) {
            check(*value, expected);
        }
    }

    #[test]
    fn ranking_measures_match_hand_values() {
        let relevant = [true, false, true, false];
        check(recall_at(&relevant, 3, 2).unwrap(), 1.0 / 3.0);
        check(recall_at(&relevant, 3, 10).unwrap(), 2.0 / 3.0);
        let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5;
        check(ndcg_at(&relevant, 3, 10).unwrap(), 1.5 / ideal);
        check(ndcg_at(&relevant, 3, 1).unwrap(), 1.0);
        assert_eq!(ndcg_at(&relevant, 0, 10), None);
        assert_eq!(recall_at(&relevant, 0, 10), None);
    }

    #[test]
    fn cosine_matches_hand_values() {
        check(cosine(&[1.0, 0.0], &[2.0, 0.0]), 1.0);
        check(cosine(&[1.0, 0.0], &[0.0, 3.0]), 0.0);
        check(cosine(&[0.0, 0.0], &[0.0, 3.0]), 0.0);
        check(cosine(&[3.0, 4.0], &[4.0, 3.0]), 0.96);
    }

    proptest! {
        #[test]
        fn auc_is_the_share_of_rightly_ordered_pairs(
            pairs in prop::collection::vec((0u8..6, any::<bool>()), 2..40)
        ) {
            let scores: Vec<f32> = pairs.iter().map(|p| f32::from(p.0)).collect();
            let positive: Vec<bool> = pairs.iter().map(|p| p.1).collect();
            let (mut right, mut total) = (0.0, 0.0);
            for (i, a) in pairs.iter().enumerate().filter(|(_, p)| p.1) {
                for (j, b) in pairs.iter().enumerate().filter(|(_, p)| !p.1) {
                    prop_assert!(i != j);
                    total += 1.0;
                    right += if a.0 > b.0 { 1.0 } else if a.0 == b.0 { 0.5 } else { 0.0 };
                }
            }
            match auc(&scores, &positive) {
                Some(area) => prop_assert!((area - right / total).abs() < TOLERANCE),
                None => prop_assert_eq!(total, 0.0),
            }
        }
    }
}
