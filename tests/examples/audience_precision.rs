//! Whether audiences find those who will like an item, on MovieLens-100k, with intervals:
//!
//! `cargo run --release -p whyrank-tests --example audience_precision -- [PAIRS]` where `PAIRS` are the
//! explanations that the template writes for training (3000). Needs the binary: `make test` builds it.
#![allow(clippy::print_stdout)]

use anyhow::{Context, Result};
use whyrank_tests::audience_precision::{CUTS, METHODS, Plan, measure};

#[tokio::main]
async fn main() -> Result<()> {
    let explanations = match std::env::args().nth(1) {
        Some(given) => given.parse().context("PAIRS is a number")?,
        None => 3_000,
    };
    let plan = Plan { explanations, maximum_pairs: 50_000, least_likers: 5 };
    let found = measure(&plan).await?;
    let items = found.precision[0][0].len();
    println!("{items} items with {} or more held-back likers", plan.least_likers);
    for (cut, size) in CUTS.into_iter().enumerate() {
        for (method, name) in METHODS.iter().enumerate() {
            let (mean, less) = (found.mean(method, cut)?, found.better_than(method, cut)?);
            println!(
                "precision at {size:>3}: {name:<18} {:.4} ({:.4} to {:.4}); the audience is better by \
                 {:+.4} ({:+.4} to {:+.4})",
                mean.mean, mean.low, mean.high, less.mean, less.low, less.high
            );
        }
    }
    println!(
        "expected to take an item up and like it: {:.0}; who did in the part held back: {}",
        found.expected, found.came
    );
    let [before, after] = found.calibration_errors;
    println!(
        "calibration error on {} held-back ratings: {before:.4} before, {after:.4} after calibration",
        found.ratings
    );
    Ok(())
}
