//! Means with confidence intervals around them, by the bootstrap (Efron 1979): over single values, and over
//! values that come in clusters and were measured under several seeds.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// A mean with a confidence interval around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean of the values.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Interval {
    /// Whether zero lies outside.
    pub fn is_apart(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }

    /// Distance between the ends.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }
}

/// How an interval is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resampling {
    /// Share of the resamples that the interval holds, such as 0.95.
    pub confidence: f64,
    /// How often is drawn.
    pub resamples: usize,
    /// Decides the draws, so that an interval can be found again.
    pub seed: u64,
}

/// The mean of `values` (for example one per user) with its percentile bootstrap interval at
/// `confidence` (such as 0.95), from `resamples` draws with a fixed seed. `None` without values.
pub fn bootstrap(values: &[f64], confidence: f64, resamples: usize, seed: u64) -> Option<Interval> {
    let each: Vec<usize> = (0..values.len()).collect();
    clustered_bootstrap(&[values], &each, Resampling { confidence, resamples, seed })
}

/// The mean over seeds and values, with the percentile interval of a bootstrap that draws both seeds and
/// clusters with replacement (the pigeonhole bootstrap; Owen, "The pigeonhole bootstrap", 2007).
///
/// `values[seed][n]` is the value of pair `n` under a seed, and `clusters[n]` says what it belongs with: the
/// errors on the pairs of one consumer are not independent of each other, and neither are those of one
/// training. `None` without values, or if seeds have different numbers of them.
pub fn clustered_bootstrap<Values: AsRef<[f64]>>(
    values: &[Values],
    clusters: &[usize],
    settings: Resampling,
) -> Option<Interval> {
    let (seeds, pairs) = (values.len(), clusters.len());
    if seeds == 0 || pairs == 0 || settings.resamples == 0 {
        return None;
    }
    let values: Vec<&[f64]> = values.iter().map(AsRef::as_ref).collect();
    if values.iter().any(|values| values.len() != pairs) {
        return None;
    }
    let (sums, counts) = totals(&values, clusters);
    let mut random = StdRng::seed_from_u64(settings.seed);
    let mut weights = vec![0.0_f64; seeds];
    let mut means: Vec<f64> = (0..settings.resamples)
        .map(|_| {
            weights.fill(0.0);
            for _ in 0..seeds {
                weights[random.random_range(0..seeds)] += 1.0 / seeds as f64;
            }
            let (mut sum, mut count) = (0.0, 0.0);
            for _ in 0..counts.len() {
                let drawn = random.random_range(0..counts.len());
                let of_seeds = sums[drawn].iter().zip(&weights);
                sum += of_seeds.map(|(sum, weight)| sum * weight).sum::<f64>();
                count += counts[drawn];
            }
            sum / count
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - settings.confidence.clamp(0.0, 1.0)) / 2.0;
    let at = |share: f64| means[(share * (settings.resamples - 1) as f64).round() as usize];
    let all: f64 = values.iter().map(|values| values.iter().sum::<f64>()).sum();
    let mean = all / (seeds * pairs) as f64;
    Some(Interval { mean, low: at(tail), high: at(1.0 - tail) })
}

/// For each cluster the sum of its values under each seed, and how many it has.
fn totals(values: &[&[f64]], clusters: &[usize]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let mut places = std::collections::HashMap::new();
    let (mut sums, mut counts) = (Vec::new(), Vec::new());
    for (pair, cluster) in clusters.iter().enumerate() {
        let place = *places.entry(*cluster).or_insert_with(|| {
            sums.push(vec![0.0; values.len()]);
            counts.push(0.0);
            counts.len() - 1
        });
        counts[place] += 1.0;
        for (sum, values) in sums[place].iter_mut().zip(values) {
            *sum += values[pair];
        }
    }
    (sums, counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Resampling = Resampling { confidence: 0.95, resamples: 1_000, seed: 7 };

    #[test]
    fn bootstrap_repeats_for_a_seed_and_covers_the_mean() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i % 10)).collect();
        let interval = bootstrap(&values, 0.95, 1000, 7).unwrap();
        assert_eq!(Some(interval), bootstrap(&values, 0.95, 1000, 7));
        assert!((interval.mean - 4.5).abs() < 1e-9);
        assert!(interval.low < 4.5 && 4.5 < interval.high);
        // The standard error is 0.2031; 1.96 of them to each side.
        assert!((interval.width() - 0.796).abs() < 0.1, "{interval:?}");
        assert_eq!(bootstrap(&[], 0.95, 10, 1), None);
    }

    #[test]
    fn values_of_one_cluster_count_once() {
        // Ten clusters of twenty equal values: as uncertain as ten values.
        let values: Vec<f64> = (0..200).map(|i| f64::from(i / 20)).collect();
        let clusters: Vec<usize> = (0..200).map(|i| i / 20).collect();
        let clustered = clustered_bootstrap(&[values], &clusters, SETTINGS).unwrap();
        let few: Vec<f64> = (0..10).map(f64::from).collect();
        let few = bootstrap(&few, 0.95, 1000, 7).unwrap();
        assert!((clustered.width() - few.width()).abs() < 1e-9, "{clustered:?} {few:?}");
    }

    /// Regression: a difference that came from one training alone was told to be apart from zero.
    #[test]
    fn what_differs_from_seed_to_seed_is_not_apart() {
        let better = vec![0.1; 500];
        let worse = vec![-0.08; 500];
        let clusters: Vec<usize> = (0..500).collect();
        let of = |values: &[&Vec<f64>]| clustered_bootstrap(values, &clusters, SETTINGS).unwrap();
        let found = of(&[&better, &worse, &better, &worse]);
        assert!((found.mean - 0.01).abs() < 1e-9 && !found.is_apart(), "{found:?}");
        assert!(of(&[&better, &better]).is_apart());
    }

    #[test]
    fn seeds_of_different_lengths_have_no_mean() {
        assert_eq!(clustered_bootstrap(&[vec![1.0], vec![]], &[0], SETTINGS), None);
        assert_eq!(clustered_bootstrap::<Vec<f64>>(&[], &[0], SETTINGS), None);
    }
}
