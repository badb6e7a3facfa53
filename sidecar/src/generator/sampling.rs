//! Sampling that repeats for a seed.
//!
//! mistralrs 0.8.1 draws all requests from one random generator with a fixed seed, so what a request
//! gets depends on the requests before it. Here each request draws from its own seed and position:
//! the Gumbel-max trick picks one token, and all others are ruled out before the engine samples.

use mistralrs::{CustomLogitsProcessor, Result, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Draws tokens by temperature and minimal probability, from a seed.
#[derive(Debug, Clone)]
pub(crate) struct SeededSampling {
    pub(crate) seed: u64,
    /// Above 0.
    pub(crate) temperature: f64,
    pub(crate) min_probability: f64,
}

impl CustomLogitsProcessor for SeededSampling {
    fn apply(&self, logits: &Tensor, context: &[u32]) -> Result<Tensor> {
        let values = logits.to_vec1::<f32>()?;
        let mut only = vec![f32::NEG_INFINITY; values.len()];
        if let Some(token) = self.draw(&values, context.len() as u64) {
            only[token] = 0.0;
            return Tensor::from_vec(only, logits.shape(), logits.device());
        }
        // Nothing finite to choose from: the engine reports it better.
        Ok(logits.clone())
    }
}

impl SeededSampling {
    /// The token at `position`, drawn from the softmax of `logits`; absent if none is finite.
    fn draw(&self, logits: &[f32], position: u64) -> Option<usize> {
        let best = logits
            .iter()
            .copied()
            .filter(|logit| logit.is_finite())
            .fold(f32::NEG_INFINITY, f32::max);
        let floor = f64::from(best) + self.min_probability.max(1e-9).ln() * self.temperature;
        // Odd multiplier: distinct positions never share a seed.
        let mut random =
            StdRng::seed_from_u64(self.seed ^ position.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let noisy = |logit: f32, random: &mut StdRng| {
            let uniform: f64 = random.random_range(f64::MIN_POSITIVE..1.0);
            f64::from(logit) / self.temperature - (-uniform.ln()).ln()
        };
        logits
            .iter()
            .enumerate()
            .filter(|(_, logit)| logit.is_finite() && f64::from(**logit) >= floor)
            .map(|(token, logit)| (token, noisy(*logit, &mut random)))
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .map(|(token, _)| token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_for_a_seed_and_follow_the_probabilities() {
        let logits = [(0.7f32).ln(), (0.25f32).ln(), (0.05f32).ln(), f32::NEG_INFINITY];
        let mut counts = [0usize; 4];
        for seed in 0..4000 {
            let sampling = SeededSampling { seed, temperature: 1.0, min_probability: 0.1 };
            let token = sampling.draw(&logits, 9).unwrap();
            assert_eq!(Some(token), sampling.draw(&logits, 9));
            counts[token] += 1;
        }
        // 0.05 is less than a tenth of 0.7, so only two tokens remain, 0.737 to 0.263.
        let share = counts[0] as f64 / 4000.0;
        assert!((share - 0.737).abs() < 0.03, "{counts:?}");
        assert_eq!((counts[2], counts[3]), (0, 0));
    }

    #[test]
    fn nothing_finite_draws_nothing() {
        let sampling = SeededSampling { seed: 1, temperature: 0.7, min_probability: 0.1 };
        assert_eq!(sampling.draw(&[f32::NAN, f32::NEG_INFINITY], 0), None);
    }
}
