//! A candidate model in the shadow of the live one: it ranks a share of the live requests off their
//! path, and metrics tell how far both agree. No answer is ever the candidate's.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::observe::{Observed, drawn};
use super::{Reranker, rank};
use crate::artifacts::RerankModels;
use crate::metrics::Metrics;

/// Hands rankings to the candidate. Cheap to clone; the candidate stops when all are gone.
#[derive(Debug, Clone)]
pub(crate) struct Shadow {
    version: Arc<str>,
    share: f32,
    queue: mpsc::Sender<Arc<Observed>>,
    metrics: Metrics,
}

impl Shadow {
    /// Starts ranking with `candidate`; `length` rankings wait at most, further ones are dropped and
    /// counted.
    pub(super) fn start(
        reranker: Reranker,
        candidate: RerankModels,
        share: f32,
        length: usize,
    ) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Arc<Observed>>(length);
        let metrics = reranker.metrics.clone();
        let shadow = Self {
            version: candidate.version.as_str().into(),
            share,
            queue,
            metrics: metrics.clone(),
        };
        let candidate = Arc::new(candidate);
        tokio::spawn(async move {
            // One at a time: the candidate takes one core at most from the requests.
            while let Some(observed) = waiting.recv().await {
                let (reranker, candidate) = (reranker.clone(), candidate.clone());
                let work = move || compared(&reranker, &candidate, &observed);
                let outcome = match tokio::task::spawn_blocking(work).await {
                    Ok(Ok(agreement)) => {
                        agreement.tell(&metrics);
                        "scored"
                    }
                    Ok(Err(message)) => {
                        tracing::warn!(message, "the candidate model could not rank");
                        "failed"
                    }
                    Err(error) => {
                        tracing::error!(%error, "the candidate model ended badly");
                        "failed"
                    }
                };
                metrics.shadow_model_rankings.with_label_values(&[outcome]).inc();
            }
        });
        shadow
    }

    /// Whether the next ranking of the live version is the candidate's too; never when it is live itself.
    pub(super) fn draws(&self, live: &str) -> bool {
        *self.version != *live && drawn(self.share)
    }

    pub(super) fn offer(&self, observed: Arc<Observed>) {
        if self.queue.try_send(observed).is_err() {
            self.metrics.shadow_model_rankings.with_label_values(&["dropped"]).inc();
        }
    }
}

/// How far two models agree about the candidates of one request.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Agreement {
    /// Spearman's rank correlation, -1 to 1; none of fewer than two candidates or equal scores.
    correlation: Option<f64>,
    same_top: bool,
    /// Mean absolute difference of the numbers that are ordered by.
    difference: f64,
}

impl Agreement {
    fn tell(self, metrics: &Metrics) {
        if let Some(correlation) = self.correlation {
            metrics.shadow_model_correlation.with_label_values::<&str>(&[]).observe(correlation);
        }
        let top = if self.same_top { "same" } else { "other" };
        metrics.shadow_model_top.with_label_values(&[top]).inc();
        metrics.shadow_model_difference.with_label_values::<&str>(&[]).observe(self.difference);
    }
}

fn compared(
    reranker: &Reranker,
    candidate: &RerankModels,
    observed: &Observed,
) -> Result<Agreement, String> {
    let stored = observed.stored.clone();
    let ranking = rank::rank_recalled(reranker, candidate, &observed.retrieved, stored, 0);
    let ranking = ranking.map_err(|fault| fault.message)?;
    let same_top = ranking.order.first() == observed.order.first();
    let pairs = observed.values.iter().zip(&ranking.values);
    let sum: f64 = pairs.map(|(live, other)| f64::from((live - other).abs())).sum();
    let difference = sum / observed.values.len().max(1) as f64;
    let correlation = spearman(&observed.values, &ranking.values);
    Ok(Agreement { correlation, same_top, difference })
}

/// Spearman's rank correlation; equal values share the mean of their ranks.
pub(crate) fn spearman(left: &[f32], right: &[f32]) -> Option<f64> {
    let (left, right) = (ranks(left), ranks(right));
    let mean = (left.len() as f64 - 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let spread = product(&left, &left) * product(&right, &right);
    (spread > 0.0).then(|| product(&left, &right) / spread.sqrt())
}

fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        let equal = |place: &usize| values[order[*place]] == values[order[first]];
        let end = (first..order.len()).take_while(equal).count() + first;
        let shared = (first + end - 1) as f64 / 2.0;
        for place in &order[first..end] {
            ranks[*place] = shared;
        }
        // A value that is not a number equals nothing, not even itself.
        first = end.max(first + 1);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_agree_from_one_to_minus_one() {
        let check = |left: &[f32], right: &[f32], expected: Option<f64>| {
            let found = spearman(left, right);
            let near = found.zip(expected).map(|(found, expected)| (found - expected).abs() < 1e-9);
            assert!(near.unwrap_or(found == expected), "{found:?} instead of {expected:?}");
        };
        check(&[1.0, 2.0, 3.0], &[10.0, 20.0, 90.0], Some(1.0));
        check(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0], Some(-1.0));
        check(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0], Some(0.75_f64.sqrt()));
        check(&[1.0, 1.0], &[1.0, 2.0], None);
        check(&[1.0], &[2.0], None);
        check(&[], &[], None);
    }
}
