//! What reasons do to an item's place: the ranker run again without them, and with others in their
//! place.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::publish::Publisher;
use super::request::{Effect, Estimate, Influence, WhatIf};
use crate::computation::Waited;
use crate::http::ApiError;
use crate::rerank::{Placed, Reconsidered, Reranker, Variant};

/// Share of the bootstrap samples that an interval holds.
pub(super) const CONFIDENCE: f64 = 0.95;
/// Half the width of that share, in standard deviations.
const DEVIATIONS: f64 = 1.96;
/// Decides the bootstrap's samples, so that an answer can be made again.
const BOOTSTRAP_SEED: u64 = 1_759;

/// How score and place change, as they are less as they would be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    pub(super) score: f64,
    pub(super) places: f64,
}

/// What the reasons do to the item's place with one consumer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moved {
    pub(super) positive: Change,
    pub(super) negative: Change,
    pub(super) both: Change,
}

/// The bounds of what changes, for means told to sellers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The greatest change of a score.
    pub(super) score: f64,
    /// The greatest change of a rank.
    pub(super) places: f64,
}

/// Runs the ranker without the reasons of one side, of the other, and of both.
pub(super) fn moved(
    reranker: &Reranker,
    placed: &[Placed],
    waited: &Waited,
) -> Result<Vec<Moved>, ApiError> {
    let without = |placed: &Placed| -> Result<Moved, ApiError> {
        waited.check()?;
        let codes = placed.codes.as_ref();
        let positive = codes.map(|codes| codes.positive.as_slice());
        let negative = codes.map(|codes| codes.negative.as_slice());
        let variants = [
            Variant { positive: None, negative },
            Variant { positive, negative: None },
            Variant { positive: None, negative: None },
        ];
        let values = reranker.with_reasons(placed, &variants)?;
        let change = |other: Reconsidered| Change {
            score: f64::from(placed.judgement - other.judgement),
            places: placed.rank_of(other.value) as f64 - placed.rank as f64,
        };
        Ok(Moved {
            positive: change(values[0]),
            negative: change(values[1]),
            both: change(values[2]),
        })
    };
    placed.iter().map(without).collect()
}

/// The mean over all consumers.
pub(super) fn influence(moved: &[Moved], publisher: &Publisher, bounds: Bounds) -> Influence {
    let effect = |side: &str, of: fn(&Moved) -> Change| {
        let scores: Vec<f64> = moved.iter().map(|moved| of(moved).score).collect();
        let places: Vec<f64> = moved.iter().map(|moved| of(moved).places).collect();
        let (score, place) = (bounds.score, bounds.places);
        Effect {
            score: publisher.mean(&format!("{side} score"), &scores, -score, score),
            places: publisher.mean(&format!("{side} places"), &places, -place, place),
        }
    };
    Influence {
        positive: effect("positive", |moved| moved.positive),
        negative: effect("negative", |moved| moved.negative),
        both: effect("both", |moved| moved.both),
    }
}

/// What changes with each consumer who holds an objection, for each answer in turn: the objections of
/// others in its place, or none where nobody has another. `[answers][consumers]`.
pub(super) fn answered(
    reranker: &Reranker,
    holders: &[&Placed],
    answers: &[Vec<f32>],
    waited: &Waited,
) -> Result<Vec<Vec<Change>>, ApiError> {
    let replaced: Vec<Option<&[f32]>> = if answers.is_empty() {
        vec![None]
    } else {
        answers.iter().map(|answer| Some(answer.as_slice())).collect()
    };
    let mut changes = vec![Vec::with_capacity(holders.len()); replaced.len()];
    for placed in holders {
        waited.check()?;
        let positive = placed.codes.as_ref().map(|codes| codes.positive.as_slice());
        let variants: Vec<Variant<'_>> =
            replaced.iter().map(|negative| Variant { positive, negative: *negative }).collect();
        let values = reranker.with_reasons(placed, &variants)?;
        for (changes, other) in changes.iter_mut().zip(values) {
            changes.push(Change {
                score: f64::from(other.judgement - placed.judgement),
                places: placed.rank as f64 - placed.rank_of(other.value) as f64,
            });
        }
    }
    Ok(changes)
}

/// The mean of the changes with its uncertainty: which consumers were asked, and which answer is given.
pub(super) fn what_if(
    label: &str,
    changes: &[Vec<Change>],
    resamples: usize,
    publisher: &Publisher,
    bounds: Bounds,
) -> Option<WhatIf> {
    let holders = changes.first().map_or(0, Vec::len);
    let consumers = publisher.count(&format!("{label} holders"), holders)?;
    if holders == 0 {
        return None;
    }
    let estimate = |what: &str, bound: f64, of: fn(&Change) -> f64| {
        let values: Vec<Vec<f64>> =
            changes.iter().map(|answer| answer.iter().map(of).collect()).collect();
        if publisher.hides() {
            told(&format!("{label} {what}"), &values, bound, publisher)
        } else {
            bootstrap(&values, resamples)
        }
    };
    let places = estimate("places", bounds.places, |change| change.places)?;
    let score = estimate("score", bounds.score, |change| change.score)?;
    let summary = format!(
        "an estimate: if it were answered, the item would {} {:.1} places ({:.1} to {:.1}) with the \
         consumers who hold it",
        if places.mean < 0.0 { "lose" } else { "gain" },
        places.mean.abs(),
        if places.mean < 0.0 { -places.high } else { places.low },
        if places.mean < 0.0 { -places.low } else { places.high },
    );
    Some(WhatIf { consumers, places, score, summary })
}

/// Draws an answer and, with replacement, consumers; the interval holds the middle of the means.
fn bootstrap(values: &[Vec<f64>], resamples: usize) -> Option<Estimate> {
    let holders = values.first()?.len();
    let mut random = StdRng::seed_from_u64(BOOTSTRAP_SEED);
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| {
            let answer = &values[random.random_range(0..values.len())];
            let sum: f64 = (0..holders).map(|_| answer[random.random_range(0..holders)]).sum();
            sum / holders as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let at = |share: f64| means[(share * (means.len() - 1) as f64).round() as usize];
    let mean = values.iter().flatten().sum::<f64>() / (values.len() * holders) as f64;
    Some(Estimate { mean, low: at(tail), high: at(1.0 - tail), confidence: CONFIDENCE })
}

/// The same where every number must hide single consumers: the interval is made of published means and
/// squares, and is as much wider as noise moves them.
fn told(label: &str, values: &[Vec<f64>], bound: f64, publisher: &Publisher) -> Option<Estimate> {
    let (answers, holders) = (values.len() as f64, values.first()?.len());
    let of_consumer = |consumer: usize| values.iter().map(move |answer| answer[consumer]);
    let means: Vec<f64> =
        (0..holders).map(|consumer| of_consumer(consumer).sum::<f64>() / answers).collect();
    let squares: Vec<f64> = (0..holders)
        .map(|consumer| of_consumer(consumer).map(|value| value * value).sum::<f64>() / answers)
        .collect();
    let mean = publisher.mean(label, &means, -bound, bound)?;
    let square = publisher.mean(&format!("{label} squared"), &squares, 0.0, bound * bound)?;
    // Of the answers' own spread nothing is lost by asking more consumers, so that it stays whole.
    let number = publisher.count(&format!("{label} number"), holders)?;
    let spread = (square - mean * mean).max(0.0) / (number as f64).min(answers).max(1.0);
    let noise = publisher.deviation(number, -bound, bound);
    let half = DEVIATIONS * (spread + noise * noise).sqrt();
    Some(Estimate { mean, low: mean - half, high: mean + half, confidence: CONFIDENCE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insights::publish::Noise;

    const BOUNDS: Bounds = Bounds { score: 1.0, places: 100.0 };

    fn changes(answers: &[f64], holders: usize) -> Vec<Vec<Change>> {
        let one = |places: f64, holder: usize| Change {
            score: places / 100.0,
            places: places + (holder % 3) as f64 - 1.0,
        };
        let of = |places: &f64| (0..holders).map(|holder| one(*places, holder)).collect();
        answers.iter().map(of).collect()
    }

    #[test]
    fn the_interval_holds_what_the_answers_differ_by() {
        let found = what_if("a", &changes(&[4.0, 10.0], 60), 1_000, &Publisher::Whole, BOUNDS);
        let found = found.expect("there are holders");
        assert!((found.places.mean - 7.0).abs() < 1e-9, "{found:?}");
        assert!(found.places.low < 4.2 && found.places.high > 9.8, "{found:?}");
        assert!(found.summary.contains("gain 7.0 places"), "{}", found.summary);
        let same = what_if("a", &changes(&[7.0], 60), 1_000, &Publisher::Whole, BOUNDS);
        let same = same.expect("there are holders");
        assert!(same.places.high - same.places.low < 0.6, "{same:?}");
        assert_eq!(what_if("a", &changes(&[7.0], 0), 100, &Publisher::Whole, BOUNDS), None);
    }

    #[test]
    fn a_loss_is_told_as_one() {
        let found = what_if("a", &changes(&[-4.0], 60), 500, &Publisher::Whole, BOUNDS);
        assert!(found.is_some_and(|found| found.summary.contains("lose 4.0 places (3.")));
    }

    #[test]
    fn a_seller_s_interval_is_wider_and_holds_the_truth() {
        let publisher = Publisher::Anonymous(Noise::new(10, 1.0, "secret", b"data"));
        let found = what_if("a", &changes(&[4.0, 10.0], 200), 500, &publisher, BOUNDS);
        let found = found.expect("enough holders");
        assert!(found.places.low < 7.0 && found.places.high > 7.0, "{found:?}");
        assert!(found.places.high - found.places.low > 2.0, "{found:?}");
        assert_eq!(what_if("a", &changes(&[4.0], 9), 500, &publisher, BOUNDS), None);
    }
}
