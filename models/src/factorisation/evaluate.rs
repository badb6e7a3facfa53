//! How well vectors retrieve what users liked later.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::metrics::{ndcg_at, recall_at};

/// Means over all users who liked something later.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetrievalReport {
    /// Users that were measured.
    pub users: usize,
    /// Share of the later liked items among the first 10.
    pub recall_at_10: f64,
    /// Normalised discounted cumulative gain of the first 10.
    pub ndcg_at_10: f64,
    /// Share of the later liked items among the first 200: what a reranker can work with.
    pub recall_at_200: f64,
}

/// Ranks all items but the `seen` ones for each user by `score(user)` (one number an item, higher is
/// better) and compares with the items `liked` later. `None` if nobody liked anything later.
pub fn retrieval(
    score: impl Fn(usize) -> Vec<f32> + Sync,
    seen: &[Vec<u32>],
    liked: &[Vec<u32>],
) -> Option<RetrievalReport> {
    let measured: Vec<[f64; 3]> = (0..liked.len())
        .into_par_iter()
        .filter(|user| !liked[*user].is_empty())
        .filter_map(|user| {
            let mut scores = score(user);
            for item in &seen[user] {
                scores[*item as usize] = f32::NEG_INFINITY;
            }
            let mut order: Vec<u32> = (0..scores.len() as u32)
                .filter(|item| scores[*item as usize] > f32::NEG_INFINITY)
                .collect();
            order
                .sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
            let relevant: Vec<bool> =
                order.iter().take(200).map(|item| liked[user].contains(item)).collect();
            let total = liked[user].len();
            Some([
                recall_at(&relevant, total, 10)?,
                ndcg_at(&relevant, total, 10)?,
                recall_at(&relevant, total, 200)?,
            ])
        })
        .collect();
    let mean =
        |index: usize| measured.iter().map(|m| m[index]).sum::<f64>() / measured.len() as f64;
    (!measured.is_empty()).then(|| RetrievalReport {
        users: measured.len(),
        recall_at_10: mean(0),
        ndcg_at_10: mean(1),
        recall_at_200: mean(2),
    })
}

/// How many users liked each item: the scores of the recommender that every other must beat.
pub fn popularity(items: usize, liked: impl Iterator<Item = u32>) -> Vec<f32> {
    let mut counts = vec![0.0; items];
    liked.for_each(|item| counts[item as usize] += 1.0);
    counts
}
