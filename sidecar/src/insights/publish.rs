//! What of an answer is told to whom. An operator is told everything. To a seller every number passes
//! here and is changed so that it does not give one consumer away, neither by itself nor by what differs
//! between two answers:
//!
//! - Counts get noise from a Laplace distribution, are withheld unless they lie well above the least
//!   number of consumers, and are rounded down to a multiple of it. Means are of bounded values, with
//!   noise. That makes every number differentially private.
//! - The noise is made from a secret and from all the data that the answer stands on. The same data give
//!   the same answer however often it is asked for; data that differ in one consumer give other noise in
//!   every number, so that what differs does not say who. How often data that change make a new answer is
//!   bounded by time (see [`super::releases`]), so that noise cannot be averaged away.
//! - What a seller asks never decides which consumers an answer stands on: every answer about an item is
//!   cut out of one and the same release.

use sha2::{Digest, Sha256};

/// The probability that something is told which fewer than the least number of consumers hold, before
/// the certain check forbids it: the delta of differential privacy.
const DELTA: f64 = 1e-3;

/// What of an answer is told.
#[derive(Debug, Clone)]
pub(super) enum Publisher {
    /// Everything.
    Whole,
    /// What does not give single consumers away.
    Anonymous(Noise),
}

/// The noise of one answer.
#[derive(Debug, Clone)]
pub(super) struct Noise {
    minimum: usize,
    epsilon: f64,
    seed: [u8; 32],
}

impl Noise {
    /// Noise for an answer that stands on the data of this digest.
    pub(super) fn new(minimum: usize, epsilon: f64, secret: &str, data: &[u8]) -> Self {
        let mut hash = Sha256::new();
        // The length keeps secret and data apart.
        hash.update((secret.len() as u64).to_le_bytes());
        hash.update(secret);
        hash.update(data);
        Self { minimum, epsilon, seed: hash.finalize().into() }
    }

    /// Noise for numbers that stand on further data too.
    fn over<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new().chain_update(self.seed);
        for text in texts {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        Self { seed: hash.finalize().into(), ..self.clone() }
    }

    /// A number from the Laplace distribution of this scale; the same for the same label.
    fn laplace(&self, label: &str, scale: f64) -> f64 {
        let digest = Sha256::new().chain_update(self.seed).chain_update(label).finalize();
        let mut bytes = [0_u8; 8];
        bytes.copy_from_slice(&digest[..8]);
        // 53 bits, in the middle of their step: strictly between 0 and 1.
        let uniform = ((u64::from_le_bytes(bytes) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let centred = uniform - 0.5;
        -scale * centred.signum() * (1.0 - 2.0 * centred.abs()).ln()
    }

    fn count(&self, label: &str, count: usize) -> Option<usize> {
        let noisy = count as f64 + self.laplace(label, 1.0 / self.epsilon);
        let margin = (1.0 / (2.0 * DELTA)).ln() / self.epsilon;
        let told = count >= self.minimum && noisy >= self.minimum as f64 + margin;
        told.then(|| (noisy / self.minimum as f64).floor() as usize * self.minimum)
    }

    fn mean(&self, label: &str, values: &[f64], low: f64, high: f64) -> Option<f64> {
        self.count(&format!("{label}: whether"), values.len())?;
        let middle = (low + high) / 2.0;
        let sum: f64 = values.iter().map(|value| value.clamp(low, high) - middle).sum();
        let sum = sum + self.laplace(label, (high - low) / 2.0 / self.epsilon);
        let number =
            values.len() as f64 + self.laplace(&format!("{label}: of"), 1.0 / self.epsilon);
        Some((middle + sum / number.max(self.minimum as f64)).clamp(low, high))
    }
}

impl Publisher {
    /// What of numbers is told that stand on further texts too.
    pub(super) fn over<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Self {
        match self {
            Self::Whole => Self::Whole,
            Self::Anonymous(noise) => Self::Anonymous(noise.over(texts)),
        }
    }

    /// How many consumers; `None` where that is withheld.
    pub(super) fn count(&self, label: &str, count: usize) -> Option<usize> {
        match self {
            Self::Whole => Some(count),
            Self::Anonymous(noise) => noise.count(label, count),
        }
    }

    /// Whether something that so many consumers have in common may be told.
    pub(super) fn common(&self, label: &str, holders: usize) -> bool {
        self.count(label, holders).is_some()
    }

    /// The mean of one value a consumer; for a seller of values cut at the bounds. `None` where it is
    /// withheld, or there are no values.
    pub(super) fn mean(&self, label: &str, values: &[f64], low: f64, high: f64) -> Option<f64> {
        match self {
            Self::Whole => {
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            }
            Self::Anonymous(noise) => noise.mean(label, values, low, high),
        }
    }

    /// How far noise moves a mean of so many values, as a standard deviation.
    pub(super) fn deviation(&self, values: usize, low: f64, high: f64) -> f64 {
        match self {
            Self::Whole => 0.0,
            Self::Anonymous(noise) => {
                2_f64.sqrt() * (high - low) / 2.0 / noise.epsilon / values.max(1) as f64
            }
        }
    }

    /// The least number of consumers, if single ones are hidden.
    pub(super) fn minimum(&self) -> Option<usize> {
        match self {
            Self::Whole => None,
            Self::Anonymous(noise) => Some(noise.minimum),
        }
    }

    /// Whether single consumers are hidden.
    pub(super) fn hides(&self) -> bool {
        self.minimum().is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(data: &[u8]) -> Noise {
        Noise::new(10, 1.0, "secret", data)
    }

    proptest! {
        #[test]
        fn fewer_than_the_minimum_are_never_told(count in 0_usize..10, data in any::<u64>()) {
            let noise = noise(&data.to_le_bytes());
            prop_assert_eq!(noise.count("theme", count), None);
            prop_assert_eq!(noise.mean("mean", &vec![0.5; count], 0.0, 1.0), None);
        }

        #[test]
        fn a_count_is_a_multiple_of_the_minimum_near_the_truth(
            count in 40_usize..1_000, data in any::<u64>()
        ) {
            let told = noise(&data.to_le_bytes()).count("theme", count).expect("far above");
            prop_assert_eq!(told % 10, 0);
            prop_assert!((told as f64 - count as f64).abs() < 10.0 + 40.0);
        }
    }

    #[test]
    fn the_same_data_have_the_same_noise_and_others_have_other() {
        let values = vec![0.25; 400];
        let mean = |data: &[u8]| noise(data).mean("mean", &values, 0.0, 1.0).expect("enough");
        assert_eq!(mean(b"a").to_bits(), mean(b"a").to_bits());
        assert_ne!(mean(b"a").to_bits(), mean(b"b").to_bits());
        assert!((mean(b"a") - 0.25).abs() < 0.05);
    }

    #[test]
    fn the_noise_is_spread_as_it_should_be() {
        let noise = noise(b"data");
        let drawn: Vec<f64> = (0..20_000).map(|n| noise.laplace(&n.to_string(), 2.0)).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let spread = drawn.iter().map(|value| value.abs()).sum::<f64>() / drawn.len() as f64;
        assert!(mean.abs() < 0.1 && (spread - 2.0).abs() < 0.1, "{mean} {spread}");
    }
}
