//! Audiences find more of those who will like an item than the consumers who like most do, and no fewer than
//! the nearest user vectors: the short form of the example of the same name.

use anyhow::{Result, ensure};
use whyrank_tests::audience_precision::{CUTS, METHODS, Plan, measure};

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_is_better_than_popularity_and_no_worse_than_vectors() -> Result<()> {
    let plan = Plan { explanations: 300, maximum_pairs: 10_000, least_likers: 20 };
    let found = measure(&plan).await?;
    ensure!(found.precision[0][0].len() > 50, "{} items", found.precision[0][0].len());
    for (cut, size) in CUTS.into_iter().enumerate() {
        let popularity = found.better_than(2, cut)?;
        ensure!(popularity.low > 0.0, "{} at {size}: {popularity:?}", METHODS[2]);
        let vectors = found.better_than(1, cut)?;
        ensure!(vectors.high > 0.0, "{} at {size}: {vectors:?}", METHODS[1]);
    }
    Ok(())
}
