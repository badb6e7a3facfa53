//! How ranks and scores are spread over consumers.

use super::publish::Publisher;
use super::request::{Bucket, Distribution};

/// Where ranges of ranks end, as far as there are candidates.
const RANKS: [f64; 8] = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0];
/// Ranges of scores.
const SCORES: usize = 10;

/// The distribution of ranks from 1 to `most`.
pub(super) fn ranks(values: &[f64], most: f64, publisher: &Publisher) -> Distribution {
    let mut from = 1.0;
    let mut edges = Vec::new();
    for end in RANKS.into_iter().filter(|end| *end < most).chain([most]) {
        edges.push((from, end));
        from = end + 1.0;
    }
    let within = |value: f64, (from, end): (f64, f64)| (from..=end).contains(&value);
    distribution("rank", values, &edges, within, publisher)
}

/// The distribution of scores between two bounds. Scores outside of them stand in the outermost ranges.
pub(super) fn scores(values: &[f64], low: f64, high: f64, publisher: &Publisher) -> Distribution {
    let edge = |number: usize| low + (high - low) * number as f64 / SCORES as f64;
    let edges: Vec<(f64, f64)> =
        (0..SCORES).map(|number| (edge(number), edge(number + 1))).collect();
    let within = |value: f64, (from, end): (f64, f64)| {
        (value >= from || from == low) && (value < end || end == high)
    };
    distribution("score", values, &edges, within, publisher)
}

fn distribution(
    label: &str,
    values: &[f64],
    edges: &[(f64, f64)],
    within: impl Fn(f64, (f64, f64)) -> bool,
    publisher: &Publisher,
) -> Distribution {
    let (low, high) = (edges[0].0, edges[edges.len() - 1].1);
    let buckets = edges.iter().filter_map(|edge| {
        let count = values.iter().filter(|value| within(**value, *edge)).count();
        let consumers = publisher.count(&format!("{label} from {}", edge.0), count)?;
        Some(Bucket { from: edge.0, to: edge.1, consumers })
    });
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    // A quartile is the number of a single consumer.
    let quartiles =
        (!publisher.hides() && !sorted.is_empty()).then(|| [at(0.25), at(0.5), at(0.75)]);
    Distribution {
        mean: publisher.mean(&format!("{label} mean"), values, low, high),
        quartiles,
        buckets: buckets.collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_rank_and_score_stands_in_one_range(
            ranks in prop::collection::vec(1_u32..=200, 1..100),
            scores in prop::collection::vec(-0.2_f64..1.2, 1..100),
        ) {
            let ranks: Vec<f64> = ranks.into_iter().map(f64::from).collect();
            let found = super::ranks(&ranks, 200.0, &Publisher::Whole);
            prop_assert_eq!(found.buckets.iter().map(|b| b.consumers).sum::<usize>(), ranks.len());
            let found = super::scores(&scores, 0.0, 1.0, &Publisher::Whole);
            prop_assert_eq!(found.buckets.iter().map(|b| b.consumers).sum::<usize>(), scores.len());
        }
    }

    #[test]
    fn an_item_that_is_nobody_s_candidate_has_an_empty_distribution() {
        let found = ranks(&[], 200.0, &Publisher::Whole);
        assert_eq!((found.mean, found.quartiles), (None, None));
    }
}
